//! The value of a candidate list in one process. Pure: what the process holds comes in through `read`.

use crate::identify::Found;
use lpb::addr::to_usize;
use lpb::{Candidate, Change, LoadBias, ModuleId, Patch, Redirect, RunAddr, Value};

/// What values are computed from.
pub struct Context<'a, R> {
    /// The patch.
    pub patch: &'a Patch<'a>,
    /// Its modules in this process; `None`: an optional one that is not there.
    pub modules: &'a [Option<Found>],
    /// Only modules are there that the patch expects or the user accepts.
    pub expected_only: bool,
    /// Bases of its areas.
    pub bases: &'a [RunAddr],
    /// For each redirect the load bias, if it is in force in this process.
    pub in_force: &'a [Option<LoadBias>],
    /// A word of the process.
    pub read_u64: R,
}

/// Why a candidate does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// For another build.
    #[error("it is for another build")]
    OtherBuild,
    /// In an optional module.
    #[error("no build of {0} that the patch knows is loaded")]
    NotLoaded(String),
    /// Found by a lookup that an unexpected module may have answered otherwise.
    #[error("an unexpected module may define it")]
    Closed,
    /// The slot is 0.
    #[error("the slot at {0} of {1} is 0")]
    Empty(RunAddr, String),
    /// The slot is not bound yet.
    #[error("the slot at {0} of {1} is not bound yet")]
    Unbound(RunAddr, String),
    /// The slot cannot be read.
    #[error("the slot at {0} of {1} cannot be read")]
    Unreadable(RunAddr, String),
    /// The old code of a function that is not replaced in this process.
    #[error("another implementation is the chosen one")]
    NotChosen,
    /// The patch refers to something that it does not have.
    #[error("it names a module or area that the patch does not have")]
    NoSuchPart,
}

impl<R: Fn(RunAddr) -> Option<u64>> Context<'_, R> {
    /// The first candidate that holds, or why none does.
    pub fn value(&self, candidates: &[Candidate]) -> Result<u64, Vec<Unfit>> {
        let mut unfit = Vec::new();
        for c in candidates {
            match self.candidate(c) {
                Ok(value) => return Ok(value),
                Err(why) => unfit.push(why),
            }
        }
        Err(unfit)
    }

    fn candidate(&self, c: &Candidate) -> Result<u64, Unfit> {
        if let Some((module, build)) = c.guard
            && self.found(module)?.build != build
        {
            return Err(Unfit::OtherBuild);
        }
        if c.closed && !self.expected_only {
            return Err(Unfit::Closed);
        }
        let base = match c.value {
            Value::Abs(value) => value,
            Value::Patch { area, off } => {
                let base = self.bases.get(area.index()).ok_or(Unfit::NoSuchPart)?;
                off.placed_at(*base).ok_or(Unfit::NoSuchPart)?.0
            }
            Value::Module { module, addr } => addr.loaded_at(self.found(module)?.bias).0,
            Value::Witness { module, slot, unbound } => {
                let bias = self.found(module)?.bias;
                let name = self.name(module);
                let at = slot.loaded_at(bias);
                match (self.read_u64)(at) {
                    None => return Err(Unfit::Unreadable(at, name)),
                    Some(0) => return Err(Unfit::Empty(at, name)),
                    // The second: the dynamic linker has not come there yet, as the program is only starting.
                    Some(word) if [bias.0.wrapping_add(unbound), unbound].contains(&word) => {
                        return Err(Unfit::Unbound(at, name));
                    }
                    Some(word) => word,
                }
            }
            Value::Original { redirect } => self.original(to_usize(redirect.into()))?.0,
        };
        Ok(base.wrapping_add_signed(c.delta))
    }

    /// The load bias for a redirect of the build that was found.
    pub fn of_build(&self, r: &Redirect<'_>) -> Option<LoadBias> {
        self.modules.get(r.module.index())?.filter(|f| f.build == r.build).map(|f| f.bias)
    }

    /// The relocated prologue of a redirect that is in force.
    fn original(&self, redirect: usize) -> Result<RunAddr, Unfit> {
        let r = self.patch.redirects.get(redirect).ok_or(Unfit::NoSuchPart)?;
        self.of_build(r).ok_or(Unfit::OtherBuild)?;
        self.in_force.get(redirect).copied().flatten().ok_or(Unfit::NotChosen)?;
        let Change::Jump(j) = &r.change else { return Err(Unfit::NoSuchPart) };
        let base = self.bases.get(j.island.index()).ok_or(Unfit::NoSuchPart)?;
        j.original.and_then(|off| off.placed_at(*base)).ok_or(Unfit::NoSuchPart)
    }

    fn found(&self, module: ModuleId) -> Result<Found, Unfit> {
        self.modules.get(module.index()).ok_or(Unfit::NoSuchPart)?.ok_or_else(|| Unfit::NotLoaded(self.name(module)))
    }

    fn name(&self, module: ModuleId) -> String {
        self.patch.modules.get(module.index()).map(|m| m.name.clone().into_owned()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lpb::{AreaId, AreaOff, BuildIdx, LinkAddr, LoadBias, Module};

    #[test]
    fn the_first_that_holds_is_taken() {
        let patch = Patch {
            name: "p".into(),
            replace: false,
            gate: None,
            modules: ["m", "o"]
                .map(|name| Module { name: name.into(), optional: name == "o", builds: vec![] })
                .to_vec(),
            areas: vec![],
            fixups: vec![],
            redirects: vec![],
            unwind: vec![],
            meta: "".into(),
        };
        let modules = [Some(Found { build: BuildIdx(1), bias: LoadBias(0x1000) }), None];
        let bases = [RunAddr(0x7000)];
        let words = |at: RunAddr| match at.0 {
            0x1010 => Some(0),
            0x1018 => Some(0x1046),
            0x1020 => Some(0x9999),
            0x1030 => Some(0x46),
            _ => None,
        };
        let cx = |expected_only| Context {
            patch: &patch,
            modules: &modules,
            expected_only,
            bases: &bases,
            in_force: &[],
            read_u64: words,
        };
        let (m, o) = (ModuleId(0), ModuleId(1));
        let witness = |slot| Candidate::of(Value::Witness { module: m, slot: LinkAddr(slot), unbound: 0x46 });
        let module = Candidate::of(Value::Module { module: m, addr: LinkAddr(0x20) });
        let guarded = |build| Candidate { guard: Some((m, BuildIdx(build))), ..module };
        let area = Candidate { delta: -4, ..Candidate::of(Value::Patch { area: AreaId(0), off: AreaOff(8) }) };
        let closed = |value| Candidate { closed: true, ..Candidate::of(value) };
        let absent = Candidate::of(Value::Module { module: o, addr: LinkAddr(0x20) });
        let absent_guard = Candidate { guard: Some((o, BuildIdx(0))), ..module };
        for (why, list, want) in [
            ("constant", vec![Candidate::of(Value::Abs(5))], Ok(5)),
            ("patch with addend", vec![area], Ok(0x7004)),
            ("bound slot", vec![witness(0x20), module], Ok(0x9999)),
            ("empty slot, then address", vec![witness(0x10), module], Ok(0x1020)),
            ("unbound slot, then address", vec![witness(0x18), module], Ok(0x1020)),
            ("slot as in the file, then address", vec![witness(0x30), module], Ok(0x1020)),
            ("guard for this build", vec![guarded(0), guarded(1)], Ok(0x1020)),
            ("nothing holds", vec![guarded(0)], Err(vec![Unfit::OtherBuild])),
            ("closed, and nothing unexpected", vec![closed(Value::Abs(7))], Ok(7)),
            ("not loaded, then address", vec![absent, module], Ok(0x1020)),
            ("not loaded", vec![absent, absent_guard], Err(vec![Unfit::NotLoaded("o".into()); 2])),
            ("no slot", vec![witness(0x28)], Err(vec![Unfit::Unreadable(RunAddr(0x1028), "m".into())])),
        ] {
            assert_eq!(cx(true).value(&list), want, "{why}");
        }
        let cx = cx(false);
        for (why, list, want) in [
            ("a slot tells", vec![witness(0x20), closed(module.value)], Ok(0x9999)),
            ("an open one after a closed one", vec![closed(module.value), Candidate::of(Value::Abs(5))], Ok(5)),
            ("only a closed one", vec![closed(module.value)], Err(vec![Unfit::Closed])),
        ] {
            assert_eq!(cx.value(&list), want, "with strangers: {why}");
        }
    }
}
