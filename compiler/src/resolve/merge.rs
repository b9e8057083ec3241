//! One list of candidates from what each build gave.
//!
//! ```text
//!              first builds      libx build 1      libc build 1          merged
//! puts         libc+0x10         libc+0x10         libc+0x20        ─►   libc+0x10 [libc 0], libc+0x20 [libc 1]
//! foo          slot exe+0x8      slot exe+0x8      slot exe+0x8     ─►   slot exe+0x8
//! ```
//! What holds everywhere needs no guard. What depends on the builds of two objects at once cannot be said.

use super::scope::Scope;
use super::{Binding, Import, Modules};
use crate::finding::{Explain, Findings};
use crate::set::Write;
use lpb::{BuildIdx, Candidate, Change, ModuleId, Slot};
use std::collections::{BTreeMap, HashSet};

/// What the builds do not agree on.
#[derive(Debug, thiserror::Error)]
enum MergeError {
    #[error("the value of {name} depends on the builds of several objects at once: {}", objects.join(", "))]
    Entangled { name: String, objects: Vec<String> },
}

impl Explain for MergeError {
    fn hint(&self) -> Option<String> {
        Some("make one bundle for each build of all but one of them".to_owned())
    }
}

/// What resolution gave in one scope.
#[derive(Debug, Default)]
pub struct Answer {
    pub imports: Vec<Import>,
    pub writes: Vec<Write>,
}

/// Puts the answers of all scopes together; `answers`: one for each of `scopes`.
pub fn merge(scopes: &[Scope<'_>], answers: Vec<Answer>, modules: &mut Modules, findings: &mut Findings) -> Answer {
    let mut merger = Merger { scopes, modules, findings };
    let (imports, writes): (Vec<_>, Vec<_>) = answers.into_iter().map(|a| (a.imports, a.writes)).unzip();
    Answer { imports: merger.imports(imports), writes: merger.writes(writes) }
}

struct Merger<'a, 'b> {
    scopes: &'a [Scope<'a>],
    modules: &'b mut Modules,
    findings: &'b mut Findings,
}

impl Merger<'_, '_> {
    fn imports(&mut self, answers: Vec<Vec<Import>>) -> Vec<Import> {
        let mut by_place: BTreeMap<_, (Import, Vec<Vec<Candidate>>)> = BTreeMap::new();
        for (number, imports) in answers.into_iter().enumerate() {
            for import in imports {
                let list = match &import.binding {
                    Binding::Candidates(list) => list.clone(),
                    Binding::Original(_) => Vec::new(),
                };
                let (_, lists) = by_place.entry(import.place).or_insert_with(|| (import, Vec::new()));
                lists.resize(number, Vec::new());
                lists.push(list);
            }
        }
        let mut all = Vec::new();
        for (mut import, lists) in by_place.into_values() {
            if let Binding::Candidates(list) = &mut import.binding {
                *list = self.candidates(&import.name, lists);
            }
            all.push(import);
        }
        all
    }

    /// One write for each build of the object that is written to, its pointers good for all builds of all others.
    fn writes(&mut self, answers: Vec<Vec<Write>>) -> Vec<Write> {
        let expected = self.slots(&answers, |slot| &slot.expected);
        let new = self.slots(&answers, |slot| &slot.new);
        let mut all = Vec::new();
        for (scope, writes) in self.scopes.iter().zip(answers) {
            for mut write in writes.into_iter().filter(|w| scope.introduces(w.object)) {
                if let Change::Slot(slot) = &mut write.change {
                    slot.expected = expected.get(&write.number).cloned().unwrap_or_default();
                    slot.new = new.get(&write.number).cloned().unwrap_or_default();
                }
                all.push(write);
            }
        }
        all.sort_by_key(|w| w.number);
        all
    }

    /// One of the lists of every slot that is written, by the number of the write.
    fn slots(&mut self, answers: &[Vec<Write>], list: fn(&Slot) -> &Vec<Candidate>) -> BTreeMap<usize, Vec<Candidate>> {
        let mut found: BTreeMap<usize, (&str, Vec<Vec<Candidate>>)> = BTreeMap::new();
        for (scope, write) in answers.iter().enumerate().flat_map(|(n, writes)| writes.iter().map(move |w| (n, w))) {
            if let Change::Slot(slot) = &write.change {
                let (_, lists) = found.entry(write.number).or_insert((&write.name, Vec::new()));
                // All slots of one number have the same lists.
                lists.resize(scope.max(lists.len()), Vec::new());
                if lists.len() == scope {
                    lists.push(list(slot).clone());
                }
            }
        }
        found.into_iter().map(|(number, (name, lists))| (number, self.candidates(name, lists))).collect()
    }

    /// `lists`: one for each scope.
    fn candidates(&mut self, name: &str, lists: Vec<Vec<Candidate>>) -> Vec<Candidate> {
        let mut merged = Vec::new();
        for candidate in ordered(&lists) {
            if candidate.guard.is_some() {
                merged.push(candidate); // it says itself where it holds
                continue;
            }
            let held: Vec<bool> = self.scopes.iter().enumerate().map(|(n, _)| has(&lists, n, &candidate)).collect();
            match self.guards(&held) {
                Ok(guards) => merged.extend(guards.into_iter().map(|guard| Candidate { guard, ..candidate })),
                Err(objects) => self.findings.add(MergeError::Entangled { name: name.to_owned(), objects }),
            }
        }
        merged
    }

    /// The guards under which something is true that is true in these scopes; the first scope has the first builds.
    /// `Err`: the objects that it depends on, if these are several.
    fn guards(&mut self, held: &[bool]) -> Result<Vec<Option<(ModuleId, BuildIdx)>>, Vec<String>> {
        let first = held.first() == Some(&true);
        let scopes = self.scopes;
        // Scopes in which it is otherwise than in the first one.
        let deviant = scopes.iter().zip(held).filter(|(_, h)| **h != first).filter_map(|(s, _)| s.other());
        let objects: HashSet<_> = deviant.clone().map(|(object, _)| object).collect();
        match (first, objects.iter().next()) {
            (false, _) => Ok(deviant.map(|(object, build)| Some((self.modules.id(object), build))).collect()),
            (true, None) => Ok(vec![None]),
            (true, Some(object)) if objects.len() == 1 => {
                let module = self.modules.id(*object);
                let builds = scopes.iter().zip(held).filter(|(s, h)| **h && s.introduces(*object));
                Ok(builds.map(|(s, _)| Some((module, s.build(*object)))).collect())
            }
            (true, Some(_)) => {
                let mut names: Vec<String> =
                    objects.iter().filter_map(|id| scopes.first().map(|s| s.name(*id))).collect();
                names.sort();
                Err(names)
            }
        }
    }
}

fn has(lists: &[Vec<Candidate>], number: usize, candidate: &Candidate) -> bool {
    lists.get(number).is_some_and(|list| list.contains(candidate))
}

/// Every candidate once, each list's own order kept where the lists allow it. What only one list has comes behind what
/// the lists before it have there.
fn ordered(lists: &[Vec<Candidate>]) -> Vec<Candidate> {
    let mut all: Vec<Candidate> = Vec::new();
    for list in lists {
        let mut next = 0_usize;
        for candidate in list {
            let at = all.iter().position(|c| c == candidate).unwrap_or_else(|| {
                let shared = all.iter().skip(next).position(|c| list.contains(c));
                let at = shared.map_or(all.len(), |n| next.saturating_add(n));
                all.insert(at, *candidate);
                at
            });
            next = next.max(at.saturating_add(1));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use lpb::Value;

    #[test]
    fn order_of_candidates() {
        let lists = |texts: &[&str]| -> Vec<Vec<Candidate>> {
            texts.iter().map(|t| t.bytes().map(|b| Candidate::of(Value::Abs(b.into()))).collect()).collect()
        };
        for (why, given, want) in [
            ("the same", ["ab", "ab"].as_slice(), "ab"),
            ("the last differs", &["ab", "ac", "ad"], "abcd"),
            ("the first differs", &["ax", "bx"], "abx"),
            ("one more in the middle", &["ac", "abc"], "abc"),
            ("one less", &["abc", "ac"], "abc"),
            ("nothing in common", &["ab", "cd"], "abcd"),
            ("another order: the first list's", &["ab", "ba"], "ab"),
            ("none", &["", "a"], "a"),
        ] {
            assert_eq!(vec![ordered(&lists(given))], lists(&[want]), "{why}");
        }
    }
}
