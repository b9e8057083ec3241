//! Symbols and debug information of a stripped object, from its separate debug file.
//!
//! ```text
//! --debug-file FILE                              must have the build-id of an object that is patched
//! /usr/lib/debug/.build-id/xx/rest.debug         by build-id
//! .gnu_debuglink NAME + CRC32                    DIR/NAME, DIR/.debug/NAME, /usr/lib/debug/DIR/NAME
//! ```
//! Only addresses are taken from a debug file: its file offsets mean nothing (the loaded sections are SHT_NOBITS).
//! Source: GDB manual, "Debugging Information in Separate Files".

use super::dwarf::Dwarf;
use super::elf::Object;
use super::root::Root;
use super::{ReadError, Source};
use lpb::FileOff;
use lpb::addr::to_u64;
use std::path::{Path, PathBuf};

/// Where debug files are looked for.
#[derive(Debug)]
pub struct DebugFiles {
    /// `--debug-file`
    pub named: Vec<PathBuf>,
    pub root: Root,
}

impl DebugFiles {
    /// Whether each file that was named can be read, and is that of one of these objects.
    ///
    /// # Errors
    /// The first that is not.
    pub fn check<'a>(&self, objects: impl Iterator<Item = &'a Object> + Clone) -> Result<(), ReadError> {
        for path in &self.named {
            let debug = Object::open(path)?;
            if !objects.clone().any(|object| same_build(object, &debug)) {
                return Err(ReadError::Unfit {
                    path: path.clone(),
                    what: "it is the debug file of another build: no object of the target has its build-id".to_owned(),
                    hint: "take the debug file that was made together with the target",
                });
            }
        }
        Ok(())
    }

    /// Gives `object` its symbols: its own `.symtab`, else that of the first debug file that fits.
    ///
    /// # Errors
    /// Only for files that were named by the user or that are `object` itself; a debug file on the way that cannot be
    /// read is one that does not fit.
    pub fn load_symbols(&self, object: &mut Object) -> Result<(), ReadError> {
        object.load_symtab()?;
        if !object.symtab.is_empty() {
            return Ok(());
        }
        if let Some(mut debug) = self.of(object)? {
            debug.load_symtab()?;
            object.symtab = debug.symtab;
        }
        Ok(())
    }

    /// The debug information of `object`: its own, else that of the first debug file that fits.
    pub fn dwarf<'a>(&self, object: &'a Object) -> Option<&'a Dwarf> {
        let read = || {
            let own = object.section(".debug_info").filter(|s| s.size != 0);
            match own {
                Some(_) => Dwarf::of(object),
                // A debug file that cannot be read has been reported when the symbols were looked for.
                None => Dwarf::of(&self.of(object).ok().flatten()?),
            }
        };
        object.dwarf.get_or_init(read).as_ref()
    }

    fn of(&self, object: &Object) -> Result<Option<Object>, ReadError> {
        for path in &self.named {
            let debug = Object::open(path)?;
            if same_build(object, &debug) {
                return Ok(Some(debug));
            }
        }
        Ok(by_build_id(object, &self.root).or_else(|| by_link(object, &self.root)))
    }
}

/// Whether a debug file was made from this object.
pub fn same_build(object: &Object, debug: &Object) -> bool {
    match (&object.build_id, &debug.build_id) {
        (Some((_, a)), Some((_, b))) => a == b,
        _ => false,
    }
}

fn by_build_id(object: &Object, root: &Root) -> Option<Object> {
    let (_, id) = object.build_id.as_ref()?;
    let hex: String = id.iter().map(|b| format!("{b:02x}")).collect();
    let (head, rest) = hex.split_at_checked(2)?;
    let path = root.file(Path::new(&format!("/usr/lib/debug/.build-id/{head}/{rest}.debug")))?;
    Object::open(&path).ok().filter(|debug| same_build(object, debug))
}

fn by_link(object: &Object, root: &Root) -> Option<Object> {
    let section = object.section(".gnu_debuglink")?;
    let bytes = object.section_bytes(section).ok()?;
    let name_len = bytes.iter().position(|b| *b == 0)?;
    let name = std::str::from_utf8(bytes.get(..name_len)?).ok().filter(|n| !n.is_empty() && !n.contains('/'))?;
    let crc_at = name_len.checked_add(1)?.checked_next_multiple_of(4)?;
    let crc = u32::from_le_bytes(bytes.get(crc_at..)?.first_chunk().copied()?);
    let full = std::fs::canonicalize(object.path()).ok()?;
    let dir = full.parent()?;
    let inner = root.inner(&full).and_then(|p| p.parent().map(Path::to_owned)).unwrap_or(dir.to_owned());
    let global = Path::new("/usr/lib/debug").join(inner.strip_prefix("/").unwrap_or(&inner)).join(name);
    let places = [Some(dir.join(name)), Some(dir.join(".debug").join(name)), root.file(&global)];
    let fits = |path: &PathBuf| *path != full && path.is_file() && crc_of(path) == Some(crc);
    places.into_iter().flatten().find(fits).and_then(|path| Object::open(&path).ok())
}

/// CRC-32 of a file, as zlib computes it.
fn crc_of(path: &Path) -> Option<u32> {
    const CHUNK: u64 = 1 << 20;
    let source = Source::open(path).ok()?;
    let mut hasher = crc32fast::Hasher::new();
    let mut at = FileOff(0);
    while at.0 < source.len() {
        let bytes = source.bytes(at, source.len().saturating_sub(at.0).min(CHUNK)).ok()?;
        hasher.update(&bytes);
        at = at.plus(to_u64(bytes.len()))?;
    }
    Some(hasher.finalize())
}
