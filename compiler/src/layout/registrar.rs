//! Pages of the image with the code that registers its unwind table, once for each unwinder of the target.
//!
//! ```text
//! R-X  ┌ slot of register, of deregister │ enter │ leave ┐ next unwinder ...     each 16-aligned, int3 between
//! RW   ┌ storage for the unwinder, 64 bytes │ done │ storage for the second table ┐ next unwinder ...    192 bytes each
//! ```
//! The second table is that of thunks which lp-compile has added, if there are any.

use super::image::{IMAGE, Image};
use super::preserve;
use crate::arch::x86_64::{self as arch, registrar};
use crate::resolve::Modules;
use crate::unwind::{DEREGISTER, Functions, Plan, Provider, REGISTER, VERSION};
use lpb::addr::to_u64;
use lpb::{AreaOff, BuildIdx, Candidate, Fixup, Form, LinkAddr, Prot, Unwind, Value};
use std::borrow::Cow;

/// Bytes for one unwinder in the RW pages: libgcc's `struct object` has 48 in GCC 12, and the done word follows 64.
const STORAGE: usize = 192;
const DONE: u64 = 64;
const SECOND: u64 = 128;

/// What a bundle says about them.
#[derive(Debug, Default)]
pub struct Registrars {
    pub unwind: Vec<Unwind>,
    pub fixups: Vec<Fixup<'static>>,
}

/// Appends the pages to the image. `thunks`: the table of what was added to the patch.
pub fn add(image: &mut Image, plan: &Plan, thunks: preserve::Table, modules: &mut Modules) -> Registrars {
    let mut made = Registrars::default();
    let place = plan.table.and_then(|t| Some((image.offset(t.table.start)?, t.table.size)));
    let Some((eh_frame, eh_frame_len)) = place.filter(|_| !plan.providers.is_empty()) else { return made };
    let storage = image.append(Prot::ReadWrite, vec![0; STORAGE.saturating_mul(plan.providers.len())]);
    let page = AreaOff(image.size);
    let mut bytes = Vec::new();
    for (number, provider) in plan.providers.iter().enumerate() {
        let object = after(storage, to_u64(number.saturating_mul(STORAGE)));
        let done = after(object, DONE);
        let slots = align(&mut bytes, page);
        bytes.extend_from_slice(&[0; 16]);
        let mut put = |slot: AreaOff, value: u32| {
            let code = align(&mut bytes, page);
            let second = thunks.map(|(table, _)| (table, after(object, SECOND)));
            let tables = std::iter::once((eh_frame, object)).chain(second).collect();
            bytes.extend(registrar::code(&registrar::Places { code, tables, slot, done }, value));
            code
        };
        let (enter, leave) = (put(slots, 1), put(after(slots, 8), 0));
        made.fixups.push(slot(slots, REGISTER, provider, |f| f.register, modules));
        made.fixups.push(slot(after(slots, 8), DEREGISTER, provider, |f| f.deregister, modules));
        let provider = provider.separate.then(|| modules.id(provider.object));
        made.unwind.push(Unwind { area: IMAGE, provider, enter, leave, done, eh_frame, eh_frame_len });
    }
    image.append(Prot::ReadExec, bytes);
    made
}

fn slot(
    place: AreaOff,
    name: &str,
    provider: &Provider,
    function: fn(&Functions) -> LinkAddr,
    modules: &mut Modules,
) -> Fixup<'static> {
    let module = modules.id(provider.object);
    let several = provider.builds.len() > 1;
    let candidate = |(build, functions): (u16, &Functions)| Candidate {
        guard: several.then_some((module, BuildIdx(build))),
        ..Candidate::of(Value::Module { module, addr: function(functions) })
    };
    let candidates = (0_u16..).zip(&provider.builds).map(candidate).collect();
    Fixup { area: IMAGE, place, form: Form::Abs64, name: Cow::Owned(format!("{name}@{VERSION}")), candidates }
}

fn after(at: AreaOff, n: u64) -> AreaOff {
    AreaOff(at.0.saturating_add(n))
}

/// The next 16-aligned place.
fn align(bytes: &mut Vec<u8>, page: AreaOff) -> AreaOff {
    bytes.resize(bytes.len().next_multiple_of(16), arch::INT3);
    after(page, to_u64(bytes.len()))
}
