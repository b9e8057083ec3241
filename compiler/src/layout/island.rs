//! The island of a module: for each replaced function, code within reach of its `jmp rel32`.
//!
//! ```text
//! ┌───────────────────────┬──────────────────────┬────────────────────┐  each 16-aligned,
//! │ original              │ gate                 │ far                │  int3 between
//! │ moved prologue, jump  │ if gate != 0: new    │ jmp *[slot]; slot  │
//! │ back to the old body  │ else: original       │                    │
//! └───────────────────────┴──────────────────────┴────────────────────┘
//! ```
//! The gate is there only if the patch has several jumps: it makes one store switch all of them. Every build of a module
//! has its own pieces in the module's one island.

use crate::analyse::Function;
use crate::arch::x86_64 as arch;
use crate::layout::image::IMAGE;
use crate::resolve::Modules;
use crate::resolve::scope::ObjectId;
use lpb::addr::{to_u64, to_usize};
use lpb::{Area, AreaId, AreaOff, Candidate, Fixup, Form, ImageSegment, Prot, Value, limits};
use std::borrow::Cow;

/// Where the pieces of one function lie.
#[derive(Clone, Copy, Debug)]
pub struct Placed {
    pub area: AreaId,
    pub original: AreaOff,
    pub gate: Option<AreaOff>,
    pub far: AreaOff,
}

/// The islands of all patched modules.
#[derive(Debug, Default)]
pub struct Islands {
    /// Areas 1, 2, ...
    pub areas: Vec<Area<'static>>,
    /// One per function, in the same order.
    pub placed: Vec<Placed>,
    pub fixups: Vec<Fixup<'static>>,
}

/// Lays out the islands. `new`: area-0 offset of each replacement's new code; `gate`: the gate word, if there is one.
pub fn build(functions: &[Function], new: &[AreaOff], gate: Option<AreaOff>, modules: &mut Modules) -> Islands {
    let mut islands = Islands::default();
    let mut open: Vec<(ObjectId, Code)> = Vec::new();
    for function in functions {
        let Some(new) = new.get(function.number) else { continue };
        let index = open.iter().position(|(o, _)| *o == function.object).unwrap_or_else(|| {
            let number = u16::try_from(open.len().saturating_add(1)).unwrap_or(u16::MAX);
            open.push((function.object, Code { area: AreaId(number), bytes: Vec::new() }));
            open.len().saturating_sub(1)
        });
        let Some((_, code)) = open.get_mut(index) else { continue };
        let placed = code.function(function, *new, gate, modules, &mut islands.fixups);
        islands.placed.push(placed);
    }
    for (object, code) in open {
        let near = Some(modules.id(object));
        let size = to_u64(code.bytes.len()).next_multiple_of(limits::PAGE);
        let mut bytes = code.bytes;
        bytes.resize(to_usize(size), arch::INT3);
        let segment = ImageSegment { off: AreaOff(0), size, prot: Prot::ReadExec, data: Cow::Owned(bytes) };
        islands.areas.push(Area { near, size, segments: vec![segment] });
    }
    islands
}

/// An island under construction.
struct Code {
    area: AreaId,
    bytes: Vec<u8>,
}

impl Code {
    /// The next 16-aligned place.
    fn align(&mut self) -> AreaOff {
        self.bytes.resize(self.bytes.len().next_multiple_of(16), arch::INT3);
        AreaOff(to_u64(self.bytes.len()))
    }

    fn function(
        &mut self,
        function: &Function,
        new: AreaOff,
        gate_word: Option<AreaOff>,
        modules: &mut Modules,
        fixups: &mut Vec<Fixup<'static>>,
    ) -> Placed {
        let original = self.align();
        if function.landing_pad {
            self.bytes.extend_from_slice(&arch::ENDBR64);
        }
        let module = modules.id(function.object);
        for fix in &function.prologue.fixups {
            let place = AreaOff(to_u64(self.bytes.len().saturating_add(fix.at)));
            let value = Value::Module { module, addr: fix.target };
            let candidate = Candidate { delta: fix.delta, ..Candidate::of(value) };
            fixups.push(self.fixup(place, Form::Rel32, candidate));
        }
        self.bytes.extend_from_slice(&function.prologue.code);
        let to_new = Candidate::of(Value::Patch { area: IMAGE, off: new });
        let gate = gate_word.map(|word| {
            let gate = self.align();
            let back = original.0.wrapping_sub(gate.0).cast_signed();
            self.bytes.extend_from_slice(&arch::gate_thunk(i32::try_from(back).unwrap_or(0)));
            let word = Candidate::of(Value::Patch { area: IMAGE, off: word });
            fixups.push(self.fixup(after(gate, arch::GATE_WORD), Form::Abs64, word));
            fixups.push(self.fixup(after(gate, arch::GATE_SLOT), Form::Abs64, to_new));
            gate
        });
        let far = self.align();
        self.bytes.extend_from_slice(&arch::far_thunk());
        fixups.push(self.fixup(after(far, arch::FAR_SLOT), Form::Abs64, to_new));
        Placed { area: self.area, original, gate, far }
    }

    fn fixup(&self, place: AreaOff, form: Form, candidate: Candidate) -> Fixup<'static> {
        Fixup { area: self.area, place, form, name: Cow::Borrowed(""), candidates: vec![candidate] }
    }
}

fn after(at: AreaOff, n: u64) -> AreaOff {
    AreaOff(at.0.saturating_add(n))
}
