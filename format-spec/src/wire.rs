//! The records of a bundle, byte for byte as `SPEC.md` lists them. Everything is little-endian and unaligned, so a
//! record can be viewed in place in any buffer.
//!
//! These types stay inside the crate: the rest of the project sees [`crate::Patch`], whose enums cannot hold a kind
//! number that means nothing.

use zerocopy::little_endian::{I64, U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// First eight bytes of a bundle. The high bit, CR LF and ^Z catch transfers that were not binary.
pub(crate) const MAGIC: [u8; 8] = *b"\x89LPB\r\n\x1a\n";
/// Version of the layout; a reader refuses any other.
pub(crate) const VERSION: u16 = 1;
/// `EM_X86_64` of the gABI.
pub(crate) const EM_X86_64: u16 = 62;
/// Flag of a section that a reader must understand to use the bundle.
pub(crate) const CRITICAL: u32 = 1;
/// "None" in a 16-bit index field.
pub(crate) const NONE16: u16 = u16::MAX;
/// "None" in a 64-bit offset field.
pub(crate) const NONE64: u64 = u64::MAX;
/// First eight bytes of a signature block.
pub(crate) const SIGNATURE_MAGIC: [u8; 8] = *b"LPB-SIG\0";

/// Section kinds, in the order in which the sections stand in a file.
pub(crate) mod kind {
    pub const PATCH: u32 = 1;
    pub const MODULES: u32 = 2;
    pub const BUILDS: u32 = 3;
    pub const SEGMENTS: u32 = 4;
    pub const AREAS: u32 = 5;
    pub const IMAGE_SEGMENTS: u32 = 6;
    pub const IMAGE: u32 = 7;
    pub const FIXUPS: u32 = 8;
    pub const CANDIDATES: u32 = 9;
    pub const REDIRECTS: u32 = 10;
    pub const FRAGMENTS: u32 = 11;
    pub const UNWIND: u32 = 12;
    pub const STRINGS: u32 = 13;
    pub const BYTES: u32 = 14;
    pub const META: u32 = 0x100;
}

/// Layout of one record: its name, and each field's name, offset and size. Tests compare it with the tables of `SPEC.md`.
#[cfg(test)]
pub(crate) type Layout = (&'static str, &'static [(&'static str, usize, usize)]);

macro_rules! records {
    ($($(#[$doc:meta])* $name:ident = $size:literal { $($(#[$fdoc:meta])* $field:ident: $ty:ty,)* })*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
            #[repr(C)]
            pub(crate) struct $name { $($(#[$fdoc])* pub $field: $ty,)* }
            const _: () = assert!(size_of::<$name>() == $size);
        )*
        /// The records above, for the comparison with `SPEC.md`.
        #[cfg(test)]
        pub(crate) const LAYOUTS: &[$crate::wire::Layout] = &[
            $((stringify!($name), &[$((stringify!($field), std::mem::offset_of!($name, $field), size_of::<$ty>()),)*]),)*
        ];
    };
}
pub(crate) use records;

records! {
    /// Start of the file.
    Header = 64 {
        magic: [u8; 8],
        version: U16,
        machine: U16,
        /// Entries of the section table, which follows at offset 64.
        section_count: U16,
        reserved: U16,
        /// Bytes that the digest and a signature cover, from offset 0; a multiple of 8.
        signed_len: U64,
        reserved2: U64,
        /// SHA-256 of `[0, signed_len)` with this field taken as zeroes.
        digest: [u8; 32],
    }
    /// One row of the section table.
    Section = 32 {
        kind: U32,
        flags: U32,
        /// From the start of the file; a multiple of 8.
        offset: U64,
        /// In bytes, without the padding that follows.
        len: U64,
        /// Size of one record of a table; 1 for a blob.
        record_size: U32,
        reserved: U32,
    }
    /// `len` bytes at `off` of STRINGS or BYTES.
    Ref = 8 { off: U32, len: U32, }
    /// `count` records from number `first` of the table that the field names.
    Span = 8 { first: U32, count: U32, }
    /// The patch as a whole.
    PatchRec = 32 {
        name: Ref,
        flags: U32,
        gate_area: U16,
        reserved: U16,
        gate_off: U64,
        reserved2: U64,
    }
    /// One ELF object of the target.
    ModuleRec = 24 {
        name: Ref,
        builds: Span,
        flags: U32,
        reserved: U32,
    }
    /// One build of a module.
    BuildRec = 56 {
        build_id: Ref,
        /// Link address of the build-id's bytes (the note's descriptor).
        build_id_addr: U64,
        segments: Span,
        e_type: U16,
        reserved: U16,
        reserved2: U32,
        /// Bytes that must stand at `proof_addr`, for objects without a build-id.
        proof: Ref,
        proof_addr: U64,
        reserved3: U64,
    }
    /// One `PT_LOAD`.
    SegmentRec = 40 {
        vaddr: U64,
        offset: U64,
        filesz: U64,
        memsz: U64,
        flags: U32,
        reserved: U32,
    }
    /// One contiguous range that lp-apply maps into the target.
    AreaRec = 32 {
        near: U16,
        reserved: U16,
        reserved2: U32,
        size: U64,
        segments: Span,
        reserved3: U64,
    }
    /// One mapping inside an area.
    ImageSegmentRec = 40 {
        off: U64,
        size: U64,
        data_off: U64,
        data_len: U64,
        prot: U32,
        reserved: U32,
    }
    /// One word of the image that depends on the process.
    FixupRec = 32 {
        place: U64,
        name: Ref,
        candidates: Span,
        area: U16,
        form: u8,
        reserved: u8,
        reserved2: U32,
    }
    /// One way to get a value.
    CandidateRec = 32 {
        kind: u8,
        flags: u8,
        /// Module (`Module`, `Witness`), area (`Patch`), or `NONE16`.
        index: U16,
        guard_module: U16,
        guard_build: U16,
        value: U64,
        delta: I64,
        unbound: U64,
    }
    /// One change to the target's own memory.
    RedirectRec = 104 {
        kind: u8,
        consistency: u8,
        module: U16,
        build: U16,
        reserved: U16,
        name: Ref,
        addr: U64,
        site: U64,
        fragments: Span,
        expected: Ref,
        new_value: Span,
        new_bytes: Ref,
        island: U16,
        reserved2: U16,
        reserved3: U32,
        original: U64,
        gate: U64,
        far: U64,
        expected_value: Span,
    }
    /// One contiguous part of a replaced function.
    FragmentRec = 32 {
        addr: U64,
        size: U64,
        bytes: Ref,
        name: Ref,
    }
    /// One unwind table of the image and the code that makes it known to an unwinder.
    UnwindRec = 48 {
        area: U16,
        provider: U16,
        reserved: U32,
        enter: U64,
        leave: U64,
        done: U64,
        eh_frame: U64,
        eh_frame_len: U64,
    }
    /// In front of each signature, after the signed bytes.
    SignatureRec = 16 {
        magic: [u8; 8],
        kind: U32,
        len: U32,
    }
}
