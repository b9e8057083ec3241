//! Reading ELF files: only the ranges that are asked for, every length checked against the file before it is believed.
//!
//! ```text
//! Source   a file, read by position          Object   one ELF file: segments, tables, memory as the loader would map it
//! tables   symbols, versions, relocations    search   DT_NEEDED -> files, as ld.so finds them
//! debug    separate debug files              patch    what a patch .so brings and what it must not bring
//! dwarf    source files of symbols           frames   the patch's unwind table
//! ```

pub mod bodies;
pub mod debug;
pub mod dwarf;
pub mod dynamic;
pub mod elf;
pub mod frames;
pub mod notes;
pub mod patch;
pub mod root;
pub mod search;
pub mod sections;
pub mod symbols;

use crate::finding::Explain;
use lpb::FileOff;
use lpb::addr::to_usize;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Why an input file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("cannot read {}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{} is not an ELF file", path.display())]
    NotElf { path: PathBuf },
    #[error("{} is {what}; this version handles 64-bit little-endian x86-64 executables and shared objects", path.display())]
    Foreign { path: PathBuf, what: String },
    #[error("{} is damaged: {what}", path.display())]
    Damaged { path: PathBuf, what: &'static str },
    #[error("{}: {what}", path.display())]
    Unfit { path: PathBuf, what: String, hint: &'static str },
}

impl Explain for ReadError {
    fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Io { .. } => "check the path and its permissions",
            Self::NotElf { .. } => "name the program or library itself, not a script or linker script",
            Self::Foreign { .. } => "build patch and target for x86-64 Linux",
            Self::Damaged { .. } => "copy the file again from where it was built",
            Self::Unfit { hint, .. } => hint,
        };
        Some(text.to_owned())
    }
}

/// A file that is read by position.
#[derive(Debug)]
pub struct Source {
    file: File,
    len: u64,
    path: PathBuf,
}

impl Source {
    /// Opens a regular file; anything else (a FIFO would block) is an error.
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        let fail = |source| ReadError::Io { path: path.to_owned(), source };
        let meta = std::fs::metadata(path).map_err(fail)?;
        if !meta.is_file() {
            return Err(fail(io::Error::other("it is not a regular file")));
        }
        let file = File::open(path).map_err(fail)?;
        let len = file.metadata().map_err(fail)?.len();
        Ok(Self { file, len, path: path.to_owned() })
    }

    /// `len` bytes at `at`; a range outside the file is an error before anything is allocated.
    pub fn bytes(&self, at: FileOff, len: u64) -> Result<Vec<u8>, ReadError> {
        if at.plus(len).is_none_or(|end| end.0 > self.len) {
            return Err(self.damaged("it ends before the data that its headers announce"));
        }
        let mut buf = vec![0; to_usize(len)];
        let fail = |source| ReadError::Io { path: self.path.clone(), source };
        self.file.read_exact_at(&mut buf, at.0).map_err(fail)?;
        Ok(buf)
    }

    /// The whole file.
    pub fn all(&self) -> Result<Vec<u8>, ReadError> {
        self.bytes(FileOff(0), self.len)
    }

    /// Bytes in the file.
    pub fn len(&self) -> u64 {
        self.len
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn damaged(&self, what: &'static str) -> ReadError {
        ReadError::Damaged { path: self.path.clone(), what }
    }
}

/// The last component of a path, for names in messages and bundles.
pub fn base_name(path: &Path) -> String {
    path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
}
