//! The bundle file: read once into memory, and trusted or not.

use lpb::{ReadError, limits};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

/// Where trusted keys are installed.
const TRUSTED: &str = "/etc/livepatch/trusted.d";

/// Why a bundle cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The file cannot be read.
    #[error("{name} cannot be read: {source}")]
    Io {
        /// As named on the command line.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// The bytes are no bundle.
    #[error("{name}: {source}")]
    Bad {
        /// As named on the command line.
        name: String,
        /// Why.
        source: ReadError,
    },
    /// Signatures are demanded.
    #[error("{name} cannot be trusted: {TRUSTED} holds keys, and this version of lp-apply cannot verify signatures")]
    Untrusted {
        /// As named on the command line.
        name: String,
    },
}

impl BundleError {
    /// What to do next.
    pub fn hint(&self) -> String {
        match self {
            Self::Io { .. } => "name a file made by `lp-compile build`, or - for standard input".into(),
            Self::Bad { source, .. } => source.hint().into(),
            Self::Untrusted { .. } => {
                format!("use an lp-apply that verifies signatures, or remove the keys from {TRUSTED}")
            }
        }
    }
}

/// The name for messages.
pub fn shown(name: &OsStr) -> String {
    if name == "-" { "standard input".into() } else { name.to_string_lossy().replace(char::is_control, "?") }
}

/// Reads the whole file, at most one byte more than the longest bundle.
pub fn load(name: &OsStr) -> Result<Vec<u8>, BundleError> {
    let fail = |source| BundleError::Io { name: shown(name), source };
    let limit = limits::BUNDLE.saturating_add(1);
    let mut bytes = Vec::new();
    if name == "-" {
        io::stdin().lock().take(limit).read_to_end(&mut bytes).map_err(fail)?;
        return Ok(bytes);
    }
    let (file, len) = open(name).map_err(fail)?;
    if len > limits::BUNDLE {
        return Err(BundleError::Bad { name: shown(name), source: ReadError::TooLong { len } });
    }
    file.take(limit).read_to_end(&mut bytes).map_err(fail)?;
    Ok(bytes)
}

/// Opens a regular file; returns its length too. Others might never end, or have the run wait for somebody to write; opening without blocking looks
/// at them only.
fn open(name: &OsStr) -> io::Result<(File, u64)> {
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(name)?;
    let kind = file.metadata()?;
    let what = match kind.file_type() {
        t if t.is_file() => return Ok((file, kind.len())),
        t if t.is_dir() => "a directory",
        t if t.is_fifo() => "a pipe",
        _ => "a device",
    };
    Err(io::Error::other(format!("it is {what}, not a file")))
}

/// Checks the bytes, and that the host does not demand what this version cannot do.
pub fn check<'a>(name: &OsStr, bytes: &'a [u8]) -> Result<lpb::Bundle<'a>, BundleError> {
    let bundle = lpb::read(bytes).map_err(|source| BundleError::Bad { name: shown(name), source })?;
    if demands_signatures(Path::new(TRUSTED)) { Err(BundleError::Untrusted { name: shown(name) }) } else { Ok(bundle) }
}

/// Whether any key is installed; a directory that cannot be read counts as one.
fn demands_signatures(dir: &Path) -> bool {
    match fs::read_dir(dir) {
        Ok(entries) => entries.into_iter().any(|e| e.is_ok_and(|e| e.path().extension().is_some_and(|x| x == "pub"))),
        Err(e) => e.kind() != io::ErrorKind::NotFound,
    }
}
