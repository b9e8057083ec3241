//! How large anything in a bundle may be. A reader refuses more, so hostile input costs bounded time and memory.
//!
//! The figures are far above real patches (the largest executables have under 100,000 functions); `SPEC.md` repeats them.

/// Bytes of a whole bundle file.
pub const BUNDLE: u64 = 256 << 20;
/// Entries of the section table.
pub const SECTIONS: usize = 64;
/// Bytes of one string.
pub const STRING: u64 = 4096;
/// Modules of a patch.
pub const MODULES: usize = 1024;
/// Builds of all modules together.
pub const BUILDS: usize = 16_384;
/// `PT_LOAD`s of one build.
pub const SEGMENTS_PER_BUILD: usize = 64;
/// Bytes of a build-id.
pub const BUILD_ID: usize = 64;
/// Bytes that prove a build without a build-id.
pub const PROOF: usize = 4096;
/// Areas of a patch.
pub const AREAS: usize = 1024;
/// Mappings of all areas together.
pub const IMAGE_SEGMENTS: usize = 4096;
/// Bytes of address space of all areas together.
pub const AREA_BYTES: u64 = 1 << 30;
/// Fix-ups of a patch.
pub const FIXUPS: usize = 1 << 20;
/// Candidates of one value.
pub const CANDIDATES_PER_VALUE: usize = 4096;
/// Redirects of a patch, all builds together.
pub const REDIRECTS: usize = 1 << 16;
/// Fragments of one function.
pub const FRAGMENTS_PER_FUNCTION: usize = 256;
/// Bytes of one fragment or of one data write.
pub const FRAGMENT: u64 = 16 << 20;
/// Unwind tables of a patch.
pub const UNWIND: usize = 64;
/// Signatures of a bundle.
pub const SIGNATURES: usize = 16;
/// Bytes of one signature.
pub const SIGNATURE: usize = 8192;
/// Bytes of one page; areas and image segments are multiples of it.
pub const PAGE: u64 = 4096;
