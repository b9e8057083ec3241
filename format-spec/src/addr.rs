//! Places in a program: kinds of number that must never meet unconverted.
//!
//! ```text
//! file on disk            ELF object               process (/proc/PID/maps)
//! FileOff ---PT_LOAD---> LinkAddr ---LoadBias---> RunAddr
//!                         AreaOff ---area base--->
//! ```
//! Source: ELF gABI ch. 5, "Program Header" (`p_offset`, `p_vaddr`) and "Base Address".

use std::fmt;

macro_rules! address {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(transparent))]
        pub struct $name(pub u64);

        impl $name {
            /// The place `n` bytes further; `None` if it wraps, so an input is corrupt.
            pub fn plus(self, n: u64) -> Option<Self> {
                self.0.checked_add(n).map(Self)
            }

            /// The place `n` bytes before; `None` if it wraps.
            pub fn minus(self, n: u64) -> Option<Self> {
                self.0.checked_sub(n).map(Self)
            }

            /// Bytes from `start` up to here; `None` if `start` lies behind.
            pub fn since(self, start: Self) -> Option<u64> {
                self.0.checked_sub(start.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:#x})"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }
    };
}

address! {
    /// Bytes from the start of a file on disk (`p_offset`, `sh_offset`).
    FileOff
}
address! {
    /// Address as written in the ELF file (`st_value`, `p_vaddr`, `r_offset`).
    LinkAddr
}
address! {
    /// Address inside one running process.
    RunAddr
}
address! {
    /// Bytes from the base of one of the patch's own areas.
    AreaOff
}

/// `RunAddr - LinkAddr` of one loaded object, in bytes; 0 for `ET_EXEC`.
///
/// An object linked above its run address (prelink) has a "negative" bias, so the sum is taken modulo 2^64, as the
/// dynamic linker takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LoadBias(pub u64);

impl LinkAddr {
    /// The only road from link time to run time.
    pub fn loaded_at(self, bias: LoadBias) -> RunAddr {
        RunAddr(self.0.wrapping_add(bias.0))
    }
}

impl RunAddr {
    /// The bias that puts `link` here.
    pub fn bias_of(self, link: LinkAddr) -> LoadBias {
        LoadBias(self.0.wrapping_sub(link.0))
    }

    /// The link address of this place in an object loaded at `bias`.
    pub fn unloaded(self, bias: LoadBias) -> LinkAddr {
        LinkAddr(self.0.wrapping_sub(bias.0))
    }
}

impl AreaOff {
    /// The place in the process, once the area has its base.
    pub fn placed_at(self, base: RunAddr) -> Option<RunAddr> {
        base.plus(self.0)
    }
}

/// `usize` to `u64`, which never loses anything on the 64-bit targets this project is for.
#[allow(clippy::as_conversions, reason = "usize is 64 bits wide here, asserted below")]
pub const fn to_u64(n: usize) -> u64 {
    n as u64
}

/// `u64` to `usize`, which never loses anything on the 64-bit targets this project is for.
#[allow(clippy::as_conversions, reason = "usize is 64 bits wide here, asserted below")]
pub const fn to_usize(n: u64) -> usize {
    n as usize
}

const _: () = assert!(usize::BITS == 64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bias_goes_there_and_back() {
        // The second row is a library linked high (p_vaddr 0x7000000) and loaded low: the bias wraps.
        for (link, run) in [(0x1139, 0x5555_5555_5139), (0x0700_1000, 0x0001_0000)] {
            let bias = RunAddr(run).bias_of(LinkAddr(link));
            assert_eq!(LinkAddr(link).loaded_at(bias), RunAddr(run));
            assert_eq!(RunAddr(run).unloaded(bias), LinkAddr(link));
        }
    }
}
