//! The closure of the target: every object that the dynamic linker maps at start-up, in its lookup order, then what the
//! program opens later.
//!
//! ```text
//! --lib FILE                  wins, by soname or file name; one that nothing needs is opened with RTLD_GLOBAL
//! DT_RPATH of the object      unless it has DT_RUNPATH; then that of the executable
//! DT_RUNPATH of the object    $ORIGIN = directory of the object
//! /etc/ld.so.conf             (musl: /etc/ld-musl-x86_64.path) what ld.so.cache is made from
//! default directories
//!                             (or preloaded; or it is a program that uses the target, a library: see `interpose`)
//! --module FILE               opened with RTLD_LOCAL, and with it what it needs
//! ```
//! Files of one name are builds of one object: the first decides where it stands, the needs of all are followed.
//! `glibc-hwcaps` directories depend on the processor of the target's machine: name such a library with --lib.
//! LD_LIBRARY_PATH and LD_PRELOAD belong to a process, not to a file: witness slots cover them at run time.
//! Source: ld.so(8), "DESCRIPTION"; musl `ldso/dynlink.c`.

use super::elf::Object;
use super::root::Root;
use super::{ReadError, base_name, debug};
use crate::finding::{Explain, Findings};
use lpb::limits;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// Why the closure is not complete.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    #[error("library {name}, needed by {by}, was not found{}", places(searched))]
    Missing { name: String, by: String, searched: Vec<PathBuf> },
    #[error("the target needs more than {} objects", limits::MODULES)]
    TooMany,
}

impl Explain for SearchError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Missing { .. } => "name it with --lib, or the root of the target's machine with --sysroot".to_owned(),
            Self::TooMany => "this is more than any program loads: check the libraries".to_owned(),
        })
    }
}

fn places(searched: &[PathBuf]) -> String {
    let mut dirs: Vec<String> = Vec::new();
    for dir in searched.iter().map(|d| d.display().to_string()) {
        if !dirs.contains(&dir) {
            dirs.push(dir);
        }
    }
    if dirs.is_empty() { String::new() } else { format!(" in {}", dirs.join(", ")) }
}

const GLIBC_DIRS: [&str; 6] =
    ["/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64", "/lib", "/usr/lib"];
const MUSL_DIRS: [&str; 3] = ["/lib", "/usr/local/lib", "/usr/lib"];
const MUSL_LOADER: &str = "/lib/ld-musl-x86_64.so.1";

fn is_musl_libc(name: &str) -> bool {
    name == "libc.so" || name.starts_with("libc.musl-")
}

/// The builds of one object, at least one.
pub type Builds = Vec<Object>;

/// Files that the user names.
#[derive(Debug)]
pub struct Given<'a> {
    /// `--target`, at least one.
    pub targets: &'a [PathBuf],
    /// `--lib`
    pub libs: &'a [PathBuf],
    /// `--module`
    pub modules: &'a [PathBuf],
}

/// Finds and reads the whole closure of the target, the target first. Missing libraries become findings.
pub fn closure(given: &Given<'_>, root: &Root, findings: &mut Findings) -> Result<Vec<Builds>, ReadError> {
    let open = |paths: &[PathBuf]| paths.iter().map(|path| Object::open(path)).collect::<Result<Vec<_>, _>>();
    let (targets, modules) = (distinct(open(given.targets)?), grouped(open(given.modules)?));
    same_object(&targets)?;
    let first = targets.first();
    // A library names no interpreter, but musl's libc has a name of its own.
    let musl = |t: &&Object| t.dynamic.needed.iter().any(|n| is_musl_libc(n));
    let interpreter = first.and_then(|t| t.interpreter.clone());
    let interpreter = interpreter.or(first.filter(musl).map(|_| MUSL_LOADER.to_owned()));
    let mut walk = Walk {
        root,
        given: grouped(open(given.libs)?),
        system: system_dirs(root, interpreter.as_deref()),
        interpreter: interpreter.clone(),
        global_rpath: first.map(|t| rpath_dirs(t, root)).unwrap_or_default(),
        known: HashSet::new(),
        objects: vec![targets],
        followed: 0,
    };
    walk.follow(findings, |_| {})?;
    if let Some(path) = interpreter {
        walk.add(&path, &[], |_| {})?;
        walk.follow(findings, |_| {})?;
    }
    // A library that nothing needs is one that the process opens later.
    let global = |o: &mut Object| o.at_startup = false;
    let local = |o: &mut Object| (o.at_startup, o.private) = (false, true);
    for builds in std::mem::take(&mut walk.given) {
        walk.push(builds, global);
        walk.follow(findings, global)?;
    }
    for builds in modules {
        walk.push(builds, local);
        walk.follow(findings, local)?;
    }
    Ok(walk.objects)
}

/// Without those that are the same build again.
fn distinct(objects: Vec<Object>) -> Builds {
    let mut builds: Builds = Vec::new();
    for object in objects {
        let id = object.build_id.as_ref().map(|(_, id)| id);
        let known = builds.iter().any(|b| b.path() == object.path() || debug::same_build(b, &object) && id.is_some());
        if !known {
            builds.push(object);
        }
    }
    builds
}

/// Files of one name are builds of one object.
fn grouped(objects: Vec<Object>) -> Vec<Builds> {
    let mut groups: Vec<Vec<Object>> = Vec::new();
    for object in objects {
        match groups.iter_mut().find(|g| g.first().is_some_and(|o| o.name == object.name)) {
            Some(group) => group.push(object),
            None => groups.push(vec![object]),
        }
    }
    groups.into_iter().map(distinct).collect()
}

/// Several targets must be builds of one program or of one library.
fn same_object(targets: &[Object]) -> Result<(), ReadError> {
    let Some((first, others)) = targets.split_first() else { return Ok(()) };
    let differs = |o: &&Object| {
        let both_programs = first.is_program() && o.is_program();
        !both_programs && (first.is_program() != o.is_program() || first.name != o.name)
    };
    match others.iter().find(differs) {
        Some(other) => Err(ReadError::Unfit {
            path: other.path(),
            what: format!("it is no other build of {}", first.path().display()),
            hint: "several --target are builds of one program, or of one library with one soname",
        }),
        None => Ok(()),
    }
}

struct Walk<'a> {
    root: &'a Root,
    given: Vec<Builds>,
    system: Vec<PathBuf>,
    interpreter: Option<String>,
    global_rpath: Vec<PathBuf>,
    /// Names that were asked for and found.
    known: HashSet<String>,
    objects: Vec<Builds>,
    /// Objects whose needs have been looked at.
    followed: usize,
}

impl Walk<'_> {
    /// Adds what the objects need, breadth first. `mark` says how what is found comes into the process.
    fn follow(&mut self, findings: &mut Findings, mark: impl Fn(&mut Object) + Copy) -> Result<(), ReadError> {
        while let Some(builds) = self.objects.get(self.followed) {
            let needs = |o: &Object| (o.dynamic.needed.clone(), o.name.clone(), self.dirs(o));
            for (needed, by, dirs) in builds.iter().map(needs).collect::<Vec<_>>() {
                for name in needed {
                    if !self.add(&name, &dirs, mark)? {
                        findings.add(SearchError::Missing { name, by: by.clone(), searched: dirs.clone() });
                    }
                }
            }
            if self.objects.len() > limits::MODULES {
                findings.add(SearchError::TooMany);
                break;
            }
            self.followed = self.followed.saturating_add(1);
        }
        Ok(())
    }

    fn push(&mut self, mut builds: Builds, mark: impl Fn(&mut Object)) {
        builds.iter_mut().for_each(mark);
        self.objects.push(builds);
    }

    /// Directories (of this machine or of the sysroot) for what an object needs.
    fn dirs(&self, object: &Object) -> Vec<PathBuf> {
        let mut dirs = Vec::new();
        match &object.dynamic.runpath {
            Some(list) => dirs.extend(expand(list, object, self.root)),
            None => {
                dirs.extend(rpath_dirs(object, self.root));
                dirs.extend(self.global_rpath.iter().cloned());
            }
        }
        dirs.extend(self.system.iter().cloned());
        dirs
    }

    /// Adds the object of this name, unless it is there. `false`: not found.
    fn add(&mut self, name: &str, dirs: &[PathBuf], mark: impl Fn(&mut Object)) -> Result<bool, ReadError> {
        let wanted = base_name(Path::new(name));
        let one = |o: &Object| o.name == name || o.name == wanted || o.file_name == wanted;
        let same = |builds: &Builds| builds.iter().any(one);
        // Nothing needs a program, though its file may have a library's name.
        let library = |builds: &&Builds| !builds.iter().any(Object::is_program);
        if self.known.contains(name) || self.objects.iter().filter(library).any(same) {
            return Ok(true);
        }
        let builds = match self.given.iter().position(same) {
            Some(index) => Some(self.given.swap_remove(index)),
            None => self.find(name, dirs)?.map(|o| vec![o]),
        };
        let Some(builds) = builds else { return Ok(false) };
        self.known.insert(name.to_owned());
        // One file may be asked for by several names.
        let path = |o: &Object| std::fs::canonicalize(o.path()).unwrap_or_else(|_| o.path());
        let here = builds.first().map(path);
        if !self.objects.iter().any(|known| known.first().map(path) == here) {
            self.push(builds, mark);
        }
        Ok(true)
    }

    fn find(&self, name: &str, dirs: &[PathBuf]) -> Result<Option<Object>, ReadError> {
        // musl's loader is its libc, whatever name that is asked for by.
        let musl = self.interpreter.as_deref().filter(|i| i.contains("ld-musl"));
        let mut places: Vec<PathBuf> = match musl.filter(|_| is_musl_libc(name)) {
            Some(interpreter) => vec![interpreter.into()],
            None if name.contains('/') => vec![name.into()],
            None => dirs.iter().map(|d| d.join(name)).collect(),
        };
        places.retain(|p| p.is_absolute());
        for place in places {
            let Some(path) = self.root.file(&place) else { continue };
            match Object::open(&path) {
                Ok(object) => return Ok(Some(object)),
                // ld.so goes on past files of another kind, such as linker scripts.
                Err(ReadError::NotElf { .. } | ReadError::Foreign { .. }) => {}
                Err(other) => return Err(other),
            }
        }
        Ok(None)
    }
}

fn rpath_dirs(object: &Object, root: &Root) -> Vec<PathBuf> {
    match (&object.dynamic.rpath, &object.dynamic.runpath) {
        (Some(list), None) => expand(list, object, root),
        _ => Vec::new(),
    }
}

/// The directories of a DT_RPATH or DT_RUNPATH, absolute on the target's machine.
fn expand(list: &str, object: &Object, root: &Root) -> Vec<PathBuf> {
    let path = root.inner(&object.path()).or_else(|| std::fs::canonicalize(object.path()).ok());
    let origin = path.as_deref().and_then(Path::parent).unwrap_or(Path::new("/")).to_string_lossy().into_owned();
    let expand = |dir: &str| {
        let dir = dir.replace("${ORIGIN}", &origin).replace("$ORIGIN", &origin);
        PathBuf::from(dir.replace("${LIB}", "lib/x86_64-linux-gnu").replace("$LIB", "lib/x86_64-linux-gnu"))
    };
    list.split(':').filter(|d| !d.is_empty()).map(expand).collect()
}

fn system_dirs(root: &Root, interpreter: Option<&str>) -> Vec<PathBuf> {
    if interpreter.is_some_and(|i| i.contains("ld-musl")) {
        let text = root.file(Path::new("/etc/ld-musl-x86_64.path")).and_then(|p| std::fs::read_to_string(p).ok());
        return match text {
            Some(text) => text.split([':', '\n']).filter(|d| d.starts_with('/')).map(PathBuf::from).collect(),
            None => MUSL_DIRS.map(PathBuf::from).to_vec(),
        };
    }
    let mut dirs = Vec::new();
    conf(root, Path::new("/etc/ld.so.conf"), 0, &mut dirs);
    dirs.extend(GLIBC_DIRS.map(PathBuf::from));
    dirs
}

/// Directories of an ld.so.conf; `include` takes a pattern whose last component may hold `*`.
fn conf(root: &Root, path: &Path, depth: u32, dirs: &mut Vec<PathBuf>) {
    let Some(text) = root.file(path).and_then(|p| std::fs::read_to_string(p).ok()) else { return };
    for line in text.lines().map(|l| l.split('#').next().unwrap_or_default().trim()) {
        if let Some(pattern) = line.strip_prefix("include").filter(|p| p.starts_with([' ', '\t'])) {
            if depth < 8 {
                let base = path.parent().unwrap_or(Path::new("/"));
                for file in matches(root, &base.join(pattern.trim())) {
                    conf(root, &file, depth.saturating_add(1), dirs);
                }
            }
        } else if line.starts_with('/') {
            dirs.push(PathBuf::from(line));
        }
    }
}

/// Files that a pattern with `*` in its last component names, sorted, as paths on the target's machine.
fn matches(root: &Root, pattern: &Path) -> Vec<PathBuf> {
    let (Some(dir), name) = (pattern.parent(), base_name(pattern)) else { return Vec::new() };
    let Some((head, tail)) = name.split_once('*') else { return vec![pattern.to_owned()] };
    let Some(inside) = root.directory(dir) else { return Vec::new() };
    let Ok(entries) = std::fs::read_dir(inside) else { return Vec::new() };
    let fits =
        |n: &String| n.len() >= head.len().saturating_add(tail.len()) && n.starts_with(head) && n.ends_with(tail);
    let mut names: Vec<_> =
        entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).filter(fits).collect();
    names.sort();
    names.into_iter().map(|n| dir.join(n)).collect()
}
