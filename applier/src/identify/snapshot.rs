//! All that the plan is made from, as it is at one moment.
//!
//! The kernel's exec maps a program piece by piece, and so does the dynamic linker each of its libraries. A program that is
//! only starting therefore looks as if it lacked a library, or had another build of it. So such a verdict is given only of a
//! process whose mappings stay as they are for a while.

use super::maps::{Mapping, Maps};
use super::modules::{self, Found, Missing, PROT_EXEC};
use super::strangers::{self, Stranger};
use super::stub::{self, StubPlace};
use super::{IdentifyError, NAP, Target, hex};
use crate::progress;
use lpb::{Module, Patch};

/// So many looks at the mappings must show the same until a module counts as missing: 100 ms. They are counted, since time
/// goes by unseen while others have the processor.
const LOOKS: u32 = 20;

/// What the patch meets in the process.
#[derive(Debug)]
pub struct Snapshot {
    /// Mappings.
    pub maps: Maps,
    /// The modules of the patch, in their order; `None`: an optional one that is not there.
    pub modules: Vec<Option<Found>>,
    /// Modules that the patch does not expect.
    pub strangers: Vec<Stranger>,
    /// Where the stub goes.
    pub stub: StubPlace,
}

/// Matches the patch with the process, giving one that is only starting the time to load what is missing.
/// `allowed`: names of unexpected files that the user accepts.
pub fn snapshot(target: &Target, patch: &Patch<'_>, allowed: &[String]) -> Result<Snapshot, IdentifyError> {
    let (maps, (modules, stub)) = settled(target, Some(patch), |maps| {
        let modules = find_modules(target, patch, maps)?;
        let stub = find_stub(target, Some((patch, &modules)), maps)?;
        Ok((modules, stub))
    })?;
    let strangers = strangers::find(patch, &modules, &maps, allowed);
    Ok(Snapshot { maps, modules, strangers, stub })
}

/// Where the stub goes. `patch`: vouches for the text of its modules, if the process has them.
pub fn stub_place(target: &Target, patch: Option<&Patch<'_>>) -> Result<StubPlace, IdentifyError> {
    let found = settled(target, patch, |maps| {
        let vouching = patch.and_then(|patch| Some((patch, find_modules(target, patch, maps).ok()?)));
        find_stub(target, vouching.as_ref().map(|(patch, modules)| (*patch, modules.as_slice())), maps)
    });
    found.map(|(_, place)| place)
}

/// What `judge` says of the mappings, once it finds all or they have come to rest.
fn settled<T>(
    target: &Target,
    patch: Option<&Patch<'_>>,
    judge: impl Fn(&Maps) -> Result<T, IdentifyError>,
) -> Result<(Maps, T), IdentifyError> {
    let mut maps = target.maps()?;
    let mut alike: u32 = 0;
    loop {
        match judge(&maps) {
            Ok(found) => return Ok((maps, found)),
            Err(missing) if !may_come(&missing) || alike == LOOKS || target.patience.is_over() => return Err(missing),
            Err(missing) => progress::waiting(target.process.pid, target.patience, || missing.to_string()),
        }
        std::thread::sleep(NAP);
        let now = target.maps()?;
        // What has become another program would be compared with the memory of the first one, in vain.
        target.still_there()?;
        alike = if loading(&now, patch).eq(loading(&maps, patch)) { alike.saturating_add(1) } else { 0 };
        maps = now;
    }
}

fn find_stub(
    target: &Target,
    vouching: Option<(&Patch<'_>, &[Option<Found>])>,
    maps: &Maps,
) -> Result<StubPlace, IdentifyError> {
    let place = stub::find(vouching, maps, |at, len| target.read(at, len));
    place.ok_or(IdentifyError::NoStubPlace { pid: target.process.pid })
}

/// The modules of the patch as the process has loaded them, in the patch's order.
fn find_modules(target: &Target, patch: &Patch<'_>, maps: &Maps) -> Result<Vec<Option<Found>>, IdentifyError> {
    let found = patch.modules.iter().map(|m| match modules::find(m, maps, |at, len| target.read(at, len)) {
        Ok(found) => Ok(Some(found)),
        Err(_) if m.optional => Ok(None),
        Err(missing) => Err(error(target.process.pid, m, missing)),
    });
    found.collect()
}

fn error(pid: i32, m: &Module<'_>, missing: Missing) -> IdentifyError {
    let module = m.name.clone().into_owned();
    match missing {
        Missing::NotLoaded => IdentifyError::NotLoaded { pid, module },
        Missing::Ambiguous(biases) => IdentifyError::Ambiguous { pid, module, biases },
        Missing::OtherBuild(None) => IdentifyError::Unlike { pid, module },
        Missing::OtherBuild(Some(id)) => {
            let known = m.builds.iter().map(|b| hex(&b.build_id)).collect::<Vec<_>>().join(", ");
            IdentifyError::OtherBuild { pid, module, found: hex(&id), known }
        }
    }
}

/// Whether the kernel's exec or the dynamic linker may still bring what is missing.
fn may_come(missing: &IdentifyError) -> bool {
    use IdentifyError::{NoStubPlace, NotLoaded, Unlike};
    matches!(missing, NotLoaded { .. } | Unlike { .. } | NoStubPlace { .. })
}

/// The mappings that change while programs and libraries are loaded; those of heaps, data files and compiled scripts may never
/// come to rest.
fn loading<'m>(maps: &'m Maps, patch: Option<&Patch<'_>>) -> impl Iterator<Item = &'m Mapping> {
    let awaited =
        move |m: &Mapping| patch.is_some_and(|patch| patch.modules.iter().any(|module| module.name == m.file_name()));
    let named = |m: &&Mapping| !m.path.is_empty() && !m.path.starts_with("/memfd:");
    maps.iter().filter(named).filter(move |m| m.prot & PROT_EXEC != 0 || m.inode != 0 && awaited(m))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_while_a_program_is_loaded() {
        let maps = "10000-11000 r--p 0 fe:01 7 /bin/prog\n11000-12000 r-xp 0 fe:01 7 /bin/prog\n\
                    20000-21000 rw-p 0 00:00 0 [heap]\n30000-31000 r-xp 0 00:00 0\n\
                    40000-41000 r-xs 0 00:01 9 /memfd:doublemapper (deleted)\n50000-51000 r-xp 0 00:00 0 [vdso]\n";
        let maps = Maps::parse(maps);
        let starts = |patch| loading(&maps, patch).map(|m| m.start.0).collect::<Vec<_>>();
        assert_eq!(starts(None), [0x11000, 0x50000]);
        let module = Module { name: "prog".into(), optional: false, builds: vec![] };
        let patch = Patch {
            name: "p".into(),
            replace: false,
            gate: None,
            modules: vec![module],
            areas: vec![],
            fixups: vec![],
            redirects: vec![],
            unwind: vec![],
            meta: "".into(),
        };
        assert_eq!(starts(Some(&patch)), [0x10000, 0x11000, 0x50000]);
    }
}
