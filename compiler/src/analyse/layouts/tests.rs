use super::*;
use crate::read::dwarf::shape::{Enumeration, Member};
use std::rc::Rc;

/// Types by their numbers.
#[derive(Default)]
struct Table(Vec<(Option<&'static str>, Shape)>);

impl Table {
    fn add(&mut self, shape: Shape) -> EntryId {
        self.named(None, shape)
    }

    fn named(&mut self, alias: Option<&'static str>, shape: Shape) -> EntryId {
        self.0.push((alias, shape));
        EntryId { unit: 0, at: self.0.len().saturating_sub(1) }
    }

    fn base(&mut self, name: &str, class: Class, size: u64) -> EntryId {
        self.add(Shape::Base { name: name.into(), class, size })
    }

    fn record(&mut self, name: Option<&str>, size: u64, members: Vec<Member>) -> EntryId {
        let name = name.map(str::to_owned);
        self.add(Shape::Record(Rc::new(Record { name, size: Some(size), members, ..Record::default() })))
    }
}

impl Source for Table {
    fn of(&self, id: EntryId) -> Type {
        let known = self.0.get(id.at).cloned();
        let (alias, shape) = known.unwrap_or((None, Shape::Unknown));
        Type { id, alias: alias.map(str::to_owned), shape }
    }
}

fn member(name: &str, byte: u64, of: EntryId) -> Member {
    let name = Some(name).filter(|n| !n.is_empty()).map(str::to_owned);
    Member { name, offset: byte.checked_mul(8), bits: None, of: Some(of) }
}

fn integer(table: &mut Table) -> EntryId {
    table.base("int", Class::Integer, 4)
}

fn long(table: &mut Table) -> EntryId {
    table.base("long", Class::Integer, 8)
}

type Build = fn(&mut Table) -> EntryId;

fn lines(old: Build, new: Build) -> Vec<String> {
    let (mut a, mut b) = (Table::default(), Table::default());
    let (x, y) = (old(&mut a), new(&mut b));
    let mut comparison = Comparison::new(&a, &b);
    comparison.same(Some(x), Some(y));
    comparison.differences().into_iter().flat_map(|d| std::iter::once(d.name).chain(d.lines)).collect()
}

fn plain(t: &mut Table) -> EntryId {
    let int = integer(t);
    t.record(Some("s"), 8, vec![member("a", 0, int), member("b", 4, int)])
}

#[test]
fn records_field_by_field() {
    let cases: [(&str, Build, &[&str]); 7] = [
        ("itself", plain, &[]),
        (
            "another name for a field, another sign",
            |t| {
                let (int, unsigned) = (integer(t), t.base("unsigned", Class::Integer, 4));
                t.record(Some("s"), 8, vec![member("a", 0, int), member("c", 4, unsigned)])
            },
            &[],
        ),
        (
            "swapped",
            |t| {
                let int = integer(t);
                t.record(Some("s"), 8, vec![member("b", 0, int), member("a", 4, int)])
            },
            &[
                "struct s",
                "+0 int a (4 bytes) in the target, +4 int a (4 bytes) in the patch",
                "+4 int b (4 bytes) in the target, +0 int b (4 bytes) in the patch",
            ],
        ),
        (
            "wider",
            |t| {
                let (int, long) = (integer(t), long(t));
                t.record(Some("s"), 16, vec![member("a", 0, int), member("b", 8, long)])
            },
            &["struct s", "+4 int b (4 bytes) in the target, +8 long b (8 bytes) in the patch"],
        ),
        (
            "another kind of number",
            |t| {
                let (int, float) = (integer(t), t.base("float", Class::Float, 4));
                t.record(Some("s"), 8, vec![member("a", 0, int), member("b", 4, float)])
            },
            &["struct s", "+4 int b (4 bytes) in the target, float b (4 bytes) in the patch"],
        ),
        (
            "larger at the end",
            |t| {
                let int = integer(t);
                t.record(Some("s"), 12, vec![member("a", 0, int), member("b", 4, int), member("c", 8, int)])
            },
            &["struct s", "+8 int c (4 bytes) only in the patch"],
        ),
        (
            "fields in an anonymous struct",
            |t| {
                let int = integer(t);
                let inner = t.record(None, 8, vec![member("a", 0, int), member("b", 4, int)]);
                t.record(Some("s"), 8, vec![member("", 0, inner)])
            },
            &[],
        ),
    ];
    for (why, new, want) in cases {
        assert_eq!(lines(plain, new), want, "{why}");
    }
}

#[test]
fn lists_that_hold_themselves_end() {
    fn list(t: &mut Table, size: u64) -> EntryId {
        // struct node { struct node *next; ... }: the pointer is number 0, the record number 1.
        let next = t.add(Shape::Pointer(Some(EntryId { unit: 0, at: 1 })));
        t.record(Some("node"), size, vec![member("next", 0, next)])
    }
    assert!(lines(|t| list(t, 8), |t| list(t, 8)).is_empty());
    assert_eq!(lines(|t| list(t, 8), |t| list(t, 16)), ["struct node"]);
    // A record that holds itself cannot be, but may be written down.
    let hostile: Build = |t| {
        let inner = EntryId { unit: 0, at: 0 };
        t.record(None, 8, vec![member("", 0, inner), member("", 0, inner)])
    };
    assert!(lines(hostile, hostile).is_empty());
}

#[test]
fn what_is_too_deep_is_said() {
    for (levels, want) in [(3, false), (40, true)] {
        let mut table = Table::default();
        let mut of = integer(&mut table);
        for _ in 0..levels {
            of = table.add(Shape::Pointer(Some(of)));
        }
        let mut comparison = Comparison::new(&table, &table);
        assert!(comparison.same(Some(of), Some(of)));
        assert_eq!(comparison.is_cut(), want, "{levels}");
    }
}

#[test]
fn that_too_many_differ_is_said() {
    for (count, want) in [(100, false), (101, true)] {
        let build = |size: u64| {
            let mut table = Table::default();
            let all: Vec<_> = (0..count).map(|n| table.record(Some(&format!("r{n}")), size, Vec::new())).collect();
            (table, all)
        };
        let ((old, a), (new, b)) = (build(4), build(8));
        let mut comparison = Comparison::new(&old, &new);
        a.into_iter().zip(b).for_each(|(a, b)| _ = comparison.same(Some(a), Some(b)));
        assert_eq!(comparison.differences().len(), 100);
        assert_eq!(comparison.is_cut(), want, "{count}");
    }
}

#[test]
fn prototypes() {
    let build = |returns: Option<&str>, parameters: &[&str], variadic: bool, declared: bool| {
        let mut t = Table::default();
        let mut of = |name: &str| match name {
            "long" => long(&mut t),
            "double" => t.base("double", Class::Float, 8),
            "char *" => {
                let char = t.base("char", Class::Integer, 1);
                t.add(Shape::Pointer(Some(char)))
            }
            "void *" => t.add(Shape::Pointer(None)),
            _ => integer(&mut t),
        };
        let returns = returns.map(&mut of);
        let parameters = parameters.iter().map(|name| Some(of(name))).collect();
        (t, Prototype { returns, parameters, variadic, declared })
    };
    let old = || build(Some("int"), &["int", "char *"], false, true);
    for (why, new, want) in [
        ("itself", old(), ""),
        ("void pointers are anything", build(Some("int"), &["int", "void *"], false, true), ""),
        ("nothing said", build(Some("int"), &[], false, false), ""),
        (
            "one less",
            build(Some("int"), &["int"], false, true),
            "takes (int, char *) in the target, (int) in the patch",
        ),
        (
            "no end",
            build(Some("int"), &["int", "char *"], true, true),
            "takes (int, char *) in the target, (int, char *, ...) in the patch",
        ),
        (
            "wider",
            build(Some("int"), &["long", "char *"], false, true),
            "parameter 1 is int (4 bytes) in the target, long (8 bytes) in the patch",
        ),
        (
            "another register",
            build(Some("double"), &["int", "char *"], false, true),
            "returns int (4 bytes) in the target, double (8 bytes) in the patch",
        ),
        (
            "nothing",
            build(None, &["int", "char *"], false, true),
            "returns int (4 bytes) in the target, void in the patch",
        ),
    ] {
        let ((a, p), (b, q)) = (old(), new);
        assert_eq!(Comparison::new(&a, &b).prototypes(&p, &q).join("; "), want, "{why}");
    }
}

#[test]
fn enumerators_by_name() {
    let of = |values: &[(&str, i128)], size| Enumeration {
        name: None,
        size: Some(size),
        values: values.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect(),
    };
    let old = of(&[("A", 0), ("B", -1)], 1);
    for (why, new, want) in [
        ("one more", of(&[("A", 0), ("C", 7), ("B", -1)], 1), 0),
        ("written without a sign", of(&[("A", 0), ("B", 255)], 1), 0),
        ("another value", of(&[("A", 1), ("B", -1)], 1), 1),
    ] {
        assert_eq!(enumeration(&old, &new).len(), want, "{why}");
    }
}
