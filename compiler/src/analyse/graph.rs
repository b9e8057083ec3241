//! Who branches to a function.
//!
//! ```text
//! node    a function: start, size, name (aliases have the same bytes: the first name stands for all)
//! edge    a direct call or jump, from an instruction of a node to one of the places that were asked for
//! ```

use super::prologue::{self, branch_target};
use crate::read::ReadError;
use crate::read::elf::{Object, Range};
use crate::read::symbols::printable;
use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction};
use lpb::LinkAddr;
use object::elf;
use std::collections::HashSet;

/// One function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub start: LinkAddr,
    pub size: u64,
    pub name: String,
}

/// What a branch does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Call,
    /// Conditional or not; into another function, a tail call.
    Jump,
}

/// One direct branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edge {
    pub at: LinkAddr,
    pub to: LinkAddr,
    pub kind: Kind,
    /// Index of the node that it stands in.
    pub from: usize,
}

/// The direct branches of a module into some places, and the functions that make them.
#[derive(Debug, Default)]
pub struct Graph {
    /// Ascending by start.
    nodes: Vec<Node>,
    /// Ascending by target.
    edges: Vec<Edge>,
}

impl Graph {
    /// Finds the branches into `places`. Only functions that have a word which may be the displacement of such a branch are
    /// decoded, and those near enough for a short one: most code of a large module is only looked through.
    pub fn toward(object: &Object, places: &[Range]) -> Result<Self, ReadError> {
        let places = Places::of(places);
        let mut graph = Self::default();
        for load in object.loads.iter().filter(|s| s.flags & elf::PF_X.0 != 0) {
            let code = Range { start: load.vaddr, size: load.filesz };
            let suspects = places.suspects_of(object, code)?;
            let mut last_end = load.vaddr;
            for (start, size, name) in functions(object, load.vaddr, load.filesz) {
                // Aliases have the same bytes.
                if start < last_end {
                    continue;
                }
                let body = Range { start, size };
                last_end = start.plus(size).unwrap_or(start);
                let first = suspects.partition_point(|at| *at < start);
                if !suspects.get(first).is_some_and(|at| body.contains(*at)) && !places.near(body) {
                    continue;
                }
                if code.holds(start, size) {
                    graph.add(Node { start, size, name: name.to_string() }, &object.memory(start, size)?, &places);
                }
            }
        }
        graph.edges.sort_unstable_by_key(|e| (e.to, e.at));
        Ok(graph)
    }

    fn add(&mut self, node: Node, body: &[u8], places: &Places) {
        let from = self.nodes.len();
        let mut decoder = Decoder::with_ip(64, body, node.start.0, DecoderOptions::NONE);
        let mut i = Instruction::default();
        while decoder.can_decode() {
            decoder.decode_out(&mut i);
            let Some(to) = branch_target(&i).filter(|to| places.hold(*to)) else { continue };
            let kind = if i.flow_control() == FlowControl::Call { Kind::Call } else { Kind::Jump };
            self.edges.push(Edge { at: LinkAddr(i.ip()), to, kind, from });
        }
        self.nodes.push(node);
    }

    /// Branches to any address of `[start, start + len)`, ascending by target.
    pub fn branches_to(&self, start: LinkAddr, len: u64) -> &[Edge] {
        let end = LinkAddr(start.0.saturating_add(len));
        let [from, to] = [start, end].map(|at| self.edges.partition_point(|e| e.to < at));
        self.edges.get(from..to).unwrap_or_default()
    }

    /// Branches to the entry of the function at `start`, from other functions.
    pub fn callers(&self, start: LinkAddr) -> impl Iterator<Item = (&Node, &Edge)> {
        let edges = self.branches_to(start, 1).iter();
        edges.filter_map(|e| Some((self.node(e)?, e))).filter(move |(node, _)| node.start != start)
    }

    /// The function that a branch stands in.
    pub fn node(&self, edge: &Edge) -> Option<&Node> {
        self.nodes.get(edge.from)
    }
}

/// Places that branches are looked for into: ascending, not overlapping.
#[derive(Debug)]
struct Places(Vec<Range>);

impl Places {
    fn of(given: &[Range]) -> Self {
        let mut sorted: Vec<Range> = given.iter().copied().filter(|r| r.size != 0).collect();
        sorted.sort_unstable_by_key(|r| r.start);
        let mut merged: Vec<Range> = Vec::new();
        for r in sorted {
            let end = r.start.0.saturating_add(r.size);
            match merged.last_mut() {
                Some(last) if last.start.0.saturating_add(last.size) >= r.start.0 => {
                    last.size = last.size.max(end.saturating_sub(last.start.0));
                }
                _ => merged.push(r),
            }
        }
        Self(merged)
    }

    fn hold(&self, at: LinkAddr) -> bool {
        let behind = self.0.partition_point(|r| r.start <= at);
        behind.checked_sub(1).and_then(|i| self.0.get(i)).is_some_and(|r| r.contains(at))
    }

    /// Whether a branch with a displacement of one byte may come from this function.
    fn near(&self, function: Range) -> bool {
        const REACH: u64 = 128;
        let low = LinkAddr(function.start.0.saturating_sub(REACH));
        let high = function.start.0.saturating_add(function.size).saturating_add(REACH);
        let first = self.0.partition_point(|r| r.start.0.saturating_add(r.size) <= low.0);
        self.0.get(first).is_some_and(|r| r.start.0 < high)
    }

    /// Suspects in a range of an object, which is read piece by piece.
    fn suspects_of(&self, object: &Object, code: Range) -> Result<Vec<LinkAddr>, ReadError> {
        const PIECE: u64 = 1 << 18;
        const OVERLAP: u64 = 3;
        let mut found = Vec::new();
        let mut done = 0;
        while done < code.size {
            let Some(start) = code.start.plus(done) else { break };
            let len = code.size.saturating_sub(done).min(PIECE.saturating_add(OVERLAP));
            found.extend(self.suspects(&object.memory(start, len)?, start));
            done = done.saturating_add(PIECE);
        }
        Ok(found)
    }

    /// Where `code`, which lies at `start`, has four bytes that lead into a place if they are the end of a branch.
    fn suspects(&self, code: &[u8], start: LinkAddr) -> Vec<LinkAddr> {
        let (Some(first), Some(last)) = (self.0.first(), self.0.last()) else { return Vec::new() };
        let span = last.start.0.wrapping_add(last.size).wrapping_sub(first.start.0);
        let mut found = Vec::new();
        for (at, word) in (start.0..).zip(code.windows(4)) {
            let displacement = i32::from_le_bytes(word.try_into().unwrap_or_default());
            let to = at.wrapping_add(4).wrapping_add_signed(i64::from(displacement));
            if to.wrapping_sub(first.start.0) < span && self.hold(LinkAddr(to)) {
                found.push(LinkAddr(at));
            }
        }
        found
    }
}

/// The text of the instruction at `at`, for messages.
pub fn instruction_text(object: &Object, at: LinkAddr) -> String {
    const LONGEST: u64 = 15;
    let room = object.load_of(at, 1).and_then(|s| s.vaddr.plus(s.filesz)?.since(at)).unwrap_or(0);
    let bytes = object.memory(at, LONGEST.min(room)).unwrap_or_default();
    prologue::decode(&bytes, at).next().map(|i| prologue::text(&i)).unwrap_or_default()
}

/// What a function is called in messages. The text is made when it is asked for: a large module has 100,000 functions.
#[derive(Clone, Copy, Debug)]
pub enum Name<'a> {
    Symbol(&'a [u8]),
    /// Only the unwind table tells of it.
    At(LinkAddr),
}

impl std::fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Symbol(name) => f.write_str(&printable(name)),
            Self::At(at) => write!(f, "a function at {at}"),
        }
    }
}

/// Start, size and name of every function in a range, ascending.
pub fn functions(object: &Object, start: LinkAddr, len: u64) -> Vec<(LinkAddr, u64, Name<'_>)> {
    let stripped = object.symtab.is_empty();
    let table = if stripped { &object.dynamic.symbols } else { &object.symtab };
    let inside = |at: LinkAddr| at.since(start).is_some_and(|n| n < len);
    let all = table.from(start).take_while(|s| inside(s.value)).filter(|s| s.is_function() && s.size != 0);
    let mut all: Vec<_> = all.map(|s| (s.value, s.size, Name::Symbol(table.name(s)))).collect();
    if stripped {
        // What is not exported only the unwind table tells of, as far as it can be read.
        let known: HashSet<LinkAddr> = all.iter().map(|(at, ..)| *at).collect();
        let bodies = object.bodies().iter().map(|b| b.range);
        let more = bodies.filter(|r| inside(r.start) && !known.contains(&r.start));
        all.extend(more.map(|r| (r.start, r.size, Name::At(r.start))));
        all.sort_by_key(|(at, ..)| *at);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use lpb::addr::to_u64;

    const fn range(start: u64, size: u64) -> Range {
        Range { start: LinkAddr(start), size }
    }

    #[test]
    fn edges_are_found_by_target() {
        let mut graph = Graph::default();
        // 0x100: call 0x200; jne 0x202; ret        0x200: nop x 16; jmp 0x20f; jmp 0x201
        let caller = [0xe8, 0xfb, 0, 0, 0, 0x0f, 0x85, 0xf7, 0, 0, 0, 0xc3];
        let mut callee = vec![0x90; 16];
        callee.extend([0xeb, 0xfd, 0xeb, 0xed]);
        let places = Places::of(&[range(0x200, 5)]);
        assert_eq!(places.suspects(&caller, LinkAddr(0x100)), [LinkAddr(0x101), LinkAddr(0x107)]);
        for (start, name, body) in [(0x100, "caller", &caller[..]), (0x200, "callee", &callee)] {
            let size = to_u64(body.len());
            graph.add(Node { start: LinkAddr(start), size, name: name.into() }, body, &places);
        }
        graph.edges.sort_unstable_by_key(|e| (e.to, e.at));
        let edges = |at, len| -> Vec<(u64, u64, Kind)> {
            graph.branches_to(LinkAddr(at), len).iter().map(|e| (e.at.0, e.to.0, e.kind)).collect()
        };
        assert_eq!(edges(0x200, 1), [(0x100, 0x200, Kind::Call)]);
        assert_eq!(edges(0x201, 4), [(0x212, 0x201, Kind::Jump), (0x105, 0x202, Kind::Jump)]);
        assert_eq!(edges(0x20f, 1), [], "not asked for");
        let callers: Vec<&str> = graph.callers(LinkAddr(0x200)).map(|(n, _)| n.name.as_str()).collect();
        assert_eq!(callers, ["caller"]);
    }

    #[test]
    fn places_hold_what_they_were_made_of() {
        let places = Places::of(&[range(0x300, 5), range(0x100, 8), range(0x104, 8), range(0x200, 0)]);
        for (at, want) in [(0xff, false), (0x100, true), (0x10b, true), (0x10c, false), (0x200, false), (0x304, true)] {
            assert_eq!(places.hold(LinkAddr(at)), want, "{at:#x}");
        }
        let near = |start, size| places.near(range(start, size));
        assert!(near(0x310, 8) && near(0x280, 8) && near(0x0, 0x1000));
        assert!(!near(0x400, 8) && !near(0x18c, 8));
    }
}
