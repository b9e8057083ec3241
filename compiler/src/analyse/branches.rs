//! What leads into the bytes that a jump will overwrite: branches of other functions, addresses in data and in code, tables.

use super::function::Function;
use super::graph::instruction_text;
use super::pointers::{relative_table, section_name};
use super::{AnalyseError, Study, prologue};
use crate::finding::Findings;
use crate::read::elf::{Object, Range};
use iced_x86::{FlowControl, Instruction, Mnemonic, OpKind};
use lpb::{ElfType, JUMP_LEN, LinkAddr};

/// Looks for all that leads behind the first of the overwritten bytes.
pub fn check(study: &Study<'_>, findings: &mut Findings) {
    for f in &study.functions {
        let Some(second) = f.site.plus(1) else { continue };
        let inside = Range { start: second, size: JUMP_LEN.saturating_sub(1) };
        for edge in study.graph.branches_to(inside.start, inside.size) {
            let by = study.graph.node(edge).map(|n| n.name.clone()).unwrap_or_default();
            let text = instruction_text(study.object, edge.at);
            findings.add(AnalyseError::Entered { name: f.name.clone(), by, at: edge.at, text });
        }
        for (to, place) in study.pointers.within(inside.start, inside.size) {
            let by = format!("the word at {place} ({})", section_name(study.object, *place));
            findings.add(AnalyseError::Pointed { name: f.name.clone(), by, to: *to });
        }
        addresses(study, f, inside).into_iter().for_each(|e| findings.add(e));
    }
}

/// Addresses that the function itself computes: of a label, or of a table of offsets to labels.
fn addresses(study: &Study<'_>, f: &Function, inside: Range) -> Vec<AnalyseError> {
    let code = code(f);
    let named = code.iter().filter_map(|i| Some((named_address(study.object, i)?, i)));
    let mut named: Vec<(LinkAddr, &Instruction)> = named.filter(|(to, _)| inside.contains(*to)).collect();
    named.sort_unstable_by_key(|(to, i)| (*to, i.ip()));
    named.dedup_by_key(|(to, _)| *to);
    let pointed = |(to, i): (LinkAddr, &Instruction)| {
        let by = format!("`{}` at {}", prologue::text(i), LinkAddr(i.ip()));
        AnalyseError::Pointed { name: f.name.clone(), by, to }
    };
    let mut found: Vec<AnalyseError> = named.into_iter().map(pointed).collect();
    let label = |at: LinkAddr| inside.contains(at) && code.iter().any(|i| i.ip() == at.0);
    for Table { at, cases } in cases(study, f, &code) {
        let case = cases.into_iter().find(|(_, target)| label(*target));
        found.extend(case.map(|(place, target)| AnalyseError::Pointed {
            name: f.name.clone(),
            by: format!("the table at {at} ({}), in its entry at {place}", section_name(study.object, at)),
            to: target,
        }));
    }
    found
}

/// The instructions of a function and its parts.
pub fn code(f: &Function) -> Vec<Instruction> {
    f.fragments.iter().flat_map(|p| prologue::decode(&p.bytes, p.addr)).collect()
}

/// A table of offsets to labels.
pub struct Table {
    pub at: LinkAddr,
    /// Where each entry is, and where it leads.
    pub cases: Vec<(LinkAddr, LinkAddr)>,
}

/// The tables by which a function may jump.
pub fn cases(study: &Study<'_>, f: &Function, code: &[Instruction]) -> Vec<Table> {
    if !code.iter().any(|i| i.flow_control() == FlowControl::IndirectBranch) {
        return Vec::new();
    }
    let mut named: Vec<LinkAddr> = code.iter().filter_map(|i| named_address(study.object, i)).collect();
    named.sort_unstable();
    // So that no word of a table is read twice.
    named.dedup();
    // A case that cannot happen may lead right behind the code.
    let is_code = |at: LinkAddr| f.holds(at) || at.0.checked_sub(1).is_some_and(|last| f.holds(LinkAddr(last)));
    let ends = named.iter().skip(1).copied().map(Some).chain([None]);
    let tables = named.iter().copied().zip(ends).filter(|(at, _)| !study.object.is_executable(*at));
    tables.map(|(at, end)| Table { at, cases: relative_table(study.object, at, end, is_code) }).collect()
}

/// The address that an instruction puts into a register: `lea` relative to rip, or a constant where the module has a fixed one.
fn named_address(object: &Object, i: &Instruction) -> Option<LinkAddr> {
    if i.mnemonic() == Mnemonic::Lea && i.is_ip_rel_memory_operand() {
        return Some(LinkAddr(i.ip_rel_memory_address()));
    }
    let constant = matches!(i.try_op_kind(1), Ok(OpKind::Immediate32 | OpKind::Immediate32to64 | OpKind::Immediate64));
    let fixed = object.e_type == ElfType::Exec && i.mnemonic() == Mnemonic::Mov && i.op0_kind() == OpKind::Register;
    (fixed && constant).then(|| LinkAddr(i.immediate(1)))
}
