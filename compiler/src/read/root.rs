//! Paths inside a sysroot: symbolic links are followed as a process chrooted there would follow them.

use super::ReadError;
use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

/// The directory that stands for `/` of the target's machine.
#[derive(Clone, Debug)]
pub struct Root(PathBuf);

impl Root {
    /// `None`: this machine.
    ///
    /// # Errors
    /// If there is no such directory: everything in it would be missing.
    pub fn new(sysroot: Option<&Path>) -> Result<Self, ReadError> {
        let path = sysroot.unwrap_or(Path::new("/")).to_owned();
        if path.is_dir() {
            return Ok(Self(path));
        }
        let hint = "--sysroot takes the directory that has the target's /lib and /usr";
        Err(ReadError::Unfit { path, what: "it is not a directory".to_owned(), hint })
    }

    /// The file of this machine that `path`, absolute on the target's machine, names; `None` if there is none.
    pub fn file(&self, path: &Path) -> Option<PathBuf> {
        self.follow(path).filter(|p| p.is_file())
    }

    /// As [`Root::file`], for a directory.
    pub fn directory(&self, path: &Path) -> Option<PathBuf> {
        self.follow(path).filter(|p| p.is_dir())
    }

    fn follow(&self, path: &Path) -> Option<PathBuf> {
        let mut todo: VecDeque<OsString> = parts(path);
        let mut done: Vec<OsString> = Vec::new();
        let mut links = 0_u32;
        while let Some(part) = todo.pop_front() {
            if part == ".." {
                done.pop();
                continue;
            }
            done.push(part);
            let here = self.join(&done);
            if let Ok(link) = std::fs::read_link(&here) {
                links = links.checked_add(1).filter(|n| *n <= 40)?;
                done.pop();
                if link.is_absolute() {
                    done.clear();
                }
                parts(&link).into_iter().rev().for_each(|p| todo.push_front(p));
            }
        }
        Some(self.join(&done))
    }

    /// The path on the target's machine of a file of this machine, if it lies inside.
    pub fn inner(&self, path: &Path) -> Option<PathBuf> {
        let base = std::fs::canonicalize(&self.0).ok()?;
        let full = std::fs::canonicalize(path).ok()?;
        full.strip_prefix(base).ok().map(|rest| Path::new("/").join(rest))
    }

    fn join(&self, parts: &[OsString]) -> PathBuf {
        let mut path = self.0.clone();
        path.extend(parts);
        path
    }
}

fn parts(path: &Path) -> VecDeque<OsString> {
    let keep = |c: Component<'_>| match c {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    };
    path.components().filter_map(keep).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_stay_inside() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("usr/lib")).unwrap();
        std::fs::write(dir.path().join("usr/lib/libx.so.1.2"), b"").unwrap();
        symlink("usr/lib", dir.path().join("lib")).unwrap();
        symlink("/lib/libx.so.1.2", dir.path().join("usr/lib/libx.so.1")).unwrap();
        symlink("../../../../usr/lib/libx.so.1", dir.path().join("usr/lib/up.so")).unwrap();
        symlink("loop.so", dir.path().join("usr/lib/loop.so")).unwrap();
        assert!(Root::new(Some(&dir.path().join("none"))).is_err());
        let root = Root::new(Some(dir.path())).unwrap();
        let real = Some(dir.path().join("usr/lib/libx.so.1.2"));
        for (path, want) in [
            ("/lib/libx.so.1", real.clone()),
            ("/usr/lib/libx.so.1.2", real.clone()),
            ("/lib/up.so", real.clone()),
            ("/lib/loop.so", None),
            ("/lib", None),
            ("/lib/none.so", None),
        ] {
            assert_eq!(root.file(Path::new(path)), want, "{path}");
        }
    }
}
