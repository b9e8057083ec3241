//! Which functions of the patch use a slot: a message about `.got.plt+0x18` says little, one about `fresh` says enough.
//!
//! ```text
//! fresh:  call puts@plt ──► .plt:  jmp *[rip+slot] ──► slot
//!         mov rax, [rip+slot] ───────────────────────► slot
//! ```

use super::graph::functions;
use super::prologue::{branch_target, decode};
use crate::read::ReadError;
use crate::read::elf::Object;
use iced_x86::Instruction;
use lpb::LinkAddr;
use lpb::addr::to_usize;
use object::elf;
use std::collections::HashMap;

/// A patch with more code than this is not searched; its messages name sections only.
pub(super) const MOST: u64 = 64 << 20;

/// Functions by the data that their instructions refer to.
#[derive(Debug, Default)]
pub struct Users(HashMap<LinkAddr, Vec<String>>);

impl Users {
    /// Decodes every function of the patch once.
    pub fn find(patch: &Object) -> Result<Self, ReadError> {
        let mut users = Self::default();
        for load in patch.loads.iter().filter(|s| s.flags & elf::PF_X.0 != 0 && s.filesz <= MOST) {
            let code = patch.memory(load.vaddr, load.filesz)?;
            let bytes = |at: LinkAddr| code.get(to_usize(at.since(load.vaddr)?)..);
            for (start, size, name) in functions(patch, load.vaddr, load.filesz) {
                let body = bytes(start).and_then(|b| b.get(..to_usize(size))).unwrap_or_default();
                for i in decode(body, start) {
                    let stub = branch_target(&i).and_then(|to| stub_slot(bytes(to)?, to));
                    if let Some(place) = reference(&i).or(stub) {
                        users.add(place, &name.to_string());
                    }
                }
            }
        }
        Ok(users)
    }

    fn add(&mut self, place: LinkAddr, name: &str) {
        let names = self.0.entry(place).or_default();
        if names.last().is_none_or(|last| last != name) {
            names.push(name.to_owned());
        }
    }

    /// The functions that use any part of a range, sorted by name.
    pub fn within(&self, start: LinkAddr, size: u64) -> Vec<String> {
        let inside = |at: &LinkAddr| at.since(start).is_some_and(|n| n < size);
        let mut all: Vec<String> =
            self.0.iter().filter(|(at, _)| inside(at)).flat_map(|(_, names)| names.iter().cloned()).collect();
        all.sort();
        all.dedup();
        all
    }

    /// The functions that use a place, in order of address.
    pub fn of(&self, place: LinkAddr) -> &[String] {
        self.0.get(&place).map(Vec::as_slice).unwrap_or_default()
    }
}

pub(super) fn reference(i: &Instruction) -> Option<LinkAddr> {
    i.is_ip_rel_memory_operand().then(|| LinkAddr(i.ip_rel_memory_address()))
}

/// The slot that a PLT stub jumps through: the stub is that jump, at most behind an `endbr64`.
pub(super) fn stub_slot(code: &[u8], at: LinkAddr) -> Option<LinkAddr> {
    const LONGEST: usize = 16;
    let stub = code.get(..LONGEST.min(code.len()))?;
    let jump = decode(stub, at).take(2).find(Instruction::is_jmp_near_indirect)?;
    reference(&jump)
}
