//! The `.lpb` bundle: one file that tells `lp-apply` everything it needs to patch a running process.
//!
//! `SPEC.md` beside this crate defines every byte; here are the types, the checked reader and the writer. There is no
//! I/O and no `unsafe`. [`read`] takes hostile bytes: it allocates at most a small multiple of the file's size and
//! never panics. [`write()`] is deterministic, and there is exactly one encoding of a patch, so
//! `write(read(bytes)) == bytes`.
//!
//! ```text
//! addr     FileOff, LinkAddr, RunAddr, AreaOff, LoadBias
//! model    what a bundle says                  (Patch and all below it)
//! check    what must hold between its parts    (both directions run it)
//! wire     the records, byte for byte
//! frame    header, sections, signatures
//! read     bytes -> model        write    model -> bytes
//! life     the record page that an applied patch keeps in the target
//! ```

pub mod addr;
mod check;
mod frame;
pub mod life;
pub mod limits;
mod model;
mod read;
#[cfg(test)]
mod spec;
mod wire;
mod write;

pub use addr::{AreaOff, FileOff, LinkAddr, LoadBias, RunAddr};
pub use check::CheckError;
pub use model::*;
pub use read::{Bundle, ReadError, Signature, read};
pub use write::{WriteError, write};

/// SHA-256 of a bundle's signed bytes; the identity of a patch.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The first 16 hex digits: what people type and read.
    pub fn short(&self) -> String {
        self.to_string().chars().take(16).collect()
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Digest({self})")
    }
}
