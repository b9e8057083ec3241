//! Which variable a symbol is, by its name: compilers number, prefix or mangle those that are static.
//!
//! ```text
//! total                      at file scope                     _ZZ5counti E5calls     calls of count(int)     (C++)
//! calls.0                    calls of some function   (gcc)    total.lto_priv.0       total               (gcc -flto)
//! count.calls, count.calls.1 calls of count         (clang)    __emutls_v.depth       itself       (emulated TLS)
//! ```

use crate::demangle;

/// Where a variable can be named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In its file, or everywhere.
    File,
    /// In one function, by the names that it is known by; none: nobody knows which function.
    Function(Vec<String>),
}

/// A variable by its symbol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// As its author wrote it; at file scope in C++ as it is linked.
    pub name: String,
    pub place: Place,
}

impl Variable {
    /// What a symbol says.
    pub fn of(symbol: &str) -> Self {
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let at_file = |name: &str| Self { name: name.to_owned(), place: Place::File };
        for marker in [".lto_priv.", ".llvm."] {
            if let Some((name, _)) = symbol.split_once(marker).filter(|(name, rest)| !name.is_empty() && digits(rest)) {
                return Self::of(name);
            }
        }
        if symbol.starts_with("_ZZ") {
            let written = demangle::full(symbol).unwrap_or_default();
            if let Some((function, name)) = written.rsplit_once("::") {
                return Self { name: name.to_owned(), place: Place::Function(vec![plain(function)]) };
            }
        }
        if symbol.starts_with("_Z") || symbol.starts_with("_R") || symbol.starts_with("__emutls_") {
            return at_file(symbol);
        }
        match symbol.rsplit_once('.') {
            Some((head, number)) if digits(number) => match head.rsplit_once('.') {
                Some((function, name)) if !function.is_empty() => {
                    Self { name: name.to_owned(), place: Place::Function(vec![function.to_owned()]) }
                }
                _ => Self { name: head.to_owned(), place: Place::Function(Vec::new()) },
            },
            Some((function, name)) if !function.is_empty() && !name.is_empty() => {
                Self { name: name.to_owned(), place: Place::Function(vec![function.to_owned()]) }
            }
            _ => at_file(symbol),
        }
    }
}

/// The name of a function without parameters: `Shape::area`.
pub fn plain(function: &str) -> String {
    let written = demangle::path(function).unwrap_or_else(|| function.to_owned());
    let named = written.replace("(anonymous namespace)", "{anonymous}");
    named.split('(').next().unwrap_or_default().trim().to_owned()
}

/// Whether two variables of one name mean the same thing, as far as their places tell; `pairs` are names of new
/// functions, and of those that they replace.
pub fn same_place(patch: &Place, target: &Place, pairs: &[(Vec<String>, Vec<String>)]) -> Option<bool> {
    let holds = |names: &[String], name: &String| names.contains(name);
    let shares = |a: &[String], b: &[String]| a.iter().any(|name| holds(b, name));
    match (patch, target) {
        (Place::Function(new), Place::Function(old)) if !new.is_empty() && !old.is_empty() => {
            Some(shares(new, old) || pairs.iter().any(|(n, o)| shares(n, new) && shares(o, old)))
        }
        (Place::Function(_), Place::File) => Some(false),
        // What was a static local of the replaced function may have been moved out of it.
        (Place::File, Place::Function(old)) if !old.is_empty() => Some(pairs.iter().any(|(_, o)| shares(o, old))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function(name: &str) -> Place {
        Place::Function(vec![name.to_owned()])
    }

    #[test]
    fn symbols_of_variables() {
        for (symbol, name, place) in [
            ("total", "total", Place::File),
            ("total.lto_priv.0", "total", Place::File),
            ("calls.0", "calls", Place::Function(Vec::new())),
            ("calls.1234", "calls", Place::Function(Vec::new())),
            ("calls.0.lto_priv.2", "calls", Place::Function(Vec::new())),
            ("count.calls", "calls", function("count")),
            ("count.calls.1", "calls", function("count")),
            ("_ZZ5countiE5calls", "calls", function("count")),
            ("_ZZN5Shape5countEvE5calls", "calls", function("Shape::count")),
            ("_ZL5total", "_ZL5total", Place::File),
            ("__emutls_v.depth", "__emutls_v.depth", Place::File),
            (".LC0", ".LC0", Place::File),
        ] {
            assert_eq!(Variable::of(symbol), Variable { name: name.into(), place }, "{symbol}");
        }
    }

    #[test]
    fn places_of_variables() {
        let pairs = [(vec!["new_count".to_owned()], vec!["count".to_owned()])];
        let nowhere = || Place::Function(Vec::new());
        for (why, patch, target, want) in [
            ("the new and the old function", function("new_count"), function("count"), Some(true)),
            ("a copied helper", function("help"), function("help"), Some(true)),
            ("two functions", function("new_count"), function("other"), Some(false)),
            ("a local and a global", function("new_count"), Place::File, Some(false)),
            ("moved out of the replaced function", Place::File, function("count"), Some(true)),
            ("a local of another function", Place::File, function("other"), Some(false)),
            ("two at file scope", Place::File, Place::File, None),
            ("some function", nowhere(), function("count"), None),
        ] {
            assert_eq!(same_place(&patch, &target, &pairs), want, "{why}");
        }
    }
}
