//! Types as debug information describes them, reduced to what two builds must agree on.
//!
//! ```text
//! typedef, const, volatile ... stripped     struct session { int id; union { long a; char b; }; unsigned busy : 1; }
//!                                           record "session", 24 bytes: +0 id, +8 a | b, +16 busy (1 bit)
//! ```

use std::rc::Rc;

/// One entry of the debug information of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId {
    /// Number of its unit; type units follow the others.
    pub unit: usize,
    /// Offset in its unit.
    pub at: usize,
}

/// How values of a basic type are passed and computed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Integers of either sign, characters, truth values.
    Integer,
    Float,
    Complex,
    /// Decimal numbers and what later standards bring: its `DW_ATE_*`.
    Other(u8),
}

/// What kind of type it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    Void,
    /// Nothing can be said of it.
    Unknown,
    Base {
        name: String,
        class: Class,
        size: u64,
    },
    /// A pointer or a reference; `None`: to void.
    Pointer(Option<EntryId>),
    Record(Rc<Record>),
    Enumeration(Rc<Enumeration>),
    Array {
        of: EntryId,
        /// Elements of each dimension; `None`: not said.
        bounds: Vec<Option<u64>>,
    },
    Function(Rc<Prototype>),
}

/// A type behind its typedefs and qualifiers.
#[derive(Clone, Debug)]
pub struct Type {
    /// The entry of the type itself, a definition if there is one to be found.
    pub id: EntryId,
    /// The first typedef on the way.
    pub alias: Option<String>,
    pub shape: Shape,
}

/// A struct, class or union.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    pub name: Option<String>,
    pub union: bool,
    /// In bytes; `None`: only declared.
    pub size: Option<u64>,
    /// Base classes included; static members are not.
    pub members: Vec<Member>,
    /// Virtual functions declared here: slot in the table, and name.
    pub virtuals: Vec<(u64, String)>,
}

/// A field, or a base class.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// `None`: an anonymous struct or union, whose fields count as those of the outer one.
    pub name: Option<String>,
    /// From the start of the record, in bits; `None`: known at run time only (a virtual base class).
    pub offset: Option<u64>,
    /// Width of a bit-field.
    pub bits: Option<u64>,
    pub of: Option<EntryId>,
}

/// Before the name of a base class, in the place of a field's name.
pub const BASE: &str = "base ";

impl Member {
    /// Whether it is a base class.
    pub fn is_base(&self) -> bool {
        self.name.as_ref().is_some_and(|name| name.starts_with(BASE))
    }
}

/// An enumeration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Enumeration {
    pub name: Option<String>,
    /// `None`: only declared.
    pub size: Option<u64>,
    pub values: Vec<(String, i128)>,
}

/// What a function takes and returns; `None` is void.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prototype {
    pub returns: Option<EntryId>,
    pub parameters: Vec<Option<EntryId>>,
    /// Ends with `...`.
    pub variadic: bool,
    /// `int f()` in C says nothing about parameters.
    pub declared: bool,
}

/// Where types are read from.
pub trait Source {
    /// The type behind typedefs and qualifiers.
    fn of(&self, id: EntryId) -> Type;

    /// Whether something was left out because there is too much of it.
    fn is_cut(&self) -> bool {
        false
    }

    /// Bytes of a value of this type, if that is known.
    fn size(&self, id: Option<EntryId>) -> Option<u64> {
        size(self, id, 16)
    }

    /// The type as C writes it, more or less.
    fn spell(&self, id: Option<EntryId>) -> String {
        spell(self, id, 8, true)
    }

    /// The same, with what typedefs stand for.
    fn spell_out(&self, id: Option<EntryId>) -> String {
        spell(self, id, 8, false)
    }
}

/// Bytes of a pointer.
pub const POINTER: u64 = 8;

fn size<S: Source + ?Sized>(source: &S, id: Option<EntryId>, depth: u32) -> Option<u64> {
    let depth = depth.checked_sub(1)?;
    match source.of(id?).shape {
        Shape::Void | Shape::Unknown | Shape::Function(_) => None,
        Shape::Base { size, .. } => Some(size),
        Shape::Pointer(_) => Some(POINTER),
        Shape::Record(record) => record.size,
        Shape::Enumeration(e) => e.size,
        Shape::Array { of, bounds } => {
            let one = size(source, Some(of), depth)?;
            bounds.iter().try_fold(one, |all, bound| all.checked_mul((*bound)?))
        }
    }
}

fn spell<S: Source + ?Sized>(source: &S, id: Option<EntryId>, depth: u32, short: bool) -> String {
    let Some((id, depth)) = id.zip(depth.checked_sub(1)) else { return "void".to_owned() };
    let Type { alias, shape, .. } = source.of(id);
    let tagged = |tag: &str, name: &Option<String>| match (name, &alias) {
        (Some(name), _) => format!("{tag} {name}"),
        (None, Some(alias)) => alias.clone(),
        (None, None) => format!("{tag} {{...}}"),
    };
    match &shape {
        Shape::Record(r) => tagged(if r.union { "union" } else { "struct" }, &r.name),
        Shape::Enumeration(e) => tagged("enum", &e.name),
        _ if short && alias.is_some() => alias.unwrap_or_default(),
        Shape::Void => "void".to_owned(),
        Shape::Unknown => "?".to_owned(),
        Shape::Base { name, .. } => name.clone(),
        Shape::Pointer(to) => match to.map(|to| source.of(to)) {
            Some(Type { shape: Shape::Function(_), alias, .. }) if alias.is_none() || !short => {
                spell(source, *to, depth, short).replacen('(', "(*)(", 1)
            }
            _ => {
                let to = spell(source, *to, depth, short);
                if to.ends_with('*') { format!("{to}*") } else { format!("{to} *") }
            }
        },
        Shape::Array { of, bounds } => {
            let bounds: String = bounds.iter().map(|b| b.map_or("[]".to_owned(), |b| format!("[{b}]"))).collect();
            format!("{}{bounds}", spell(source, Some(*of), depth, short))
        }
        Shape::Function(p) => {
            let parameters = parameters(p, |id| spell(source, id, depth, short));
            format!("{}({parameters})", spell(source, p.returns, depth, short))
        }
    }
}

/// So many parameters are written out.
const MOST_SPELT: usize = 12;

/// The parameters as C writes them.
pub fn parameters(p: &Prototype, spell: impl Fn(Option<EntryId>) -> String) -> String {
    let mut words: Vec<String> = p.parameters.iter().take(MOST_SPELT).map(|id| spell(*id)).collect();
    if p.variadic || p.parameters.len() > MOST_SPELT {
        words.push("...".to_owned());
    }
    match words.is_empty() && p.declared {
        true => "void".to_owned(),
        false => words.join(", "),
    }
}
