//! How the command line and livepatch.h name things: `[MODULE:][FILE.c:]SYMBOL`, `OLD=NEW`, `SYM+OFF=TYPE:VALUE`.

use crate::demangle::ABI_TAG;
use crate::finding::Explain;

/// A name that does not say what it should.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    #[error("{given:?} is not of the form {form}")]
    Form { given: String, form: &'static str },
    #[error("{value:?} is not a value of type {kind}")]
    Value { value: String, kind: String },
    #[error("there is no type {kind:?}")]
    Type { kind: String },
    #[error("--allow {id}: there is no such finding")]
    AllowUnknown { id: String },
    #[error("--allow {id}: this is an error, which cannot be accepted")]
    AllowError { id: String },
}

impl Explain for SpecError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Form { form, .. } => format!("write it as {form}"),
            Self::Value { kind, .. } => match kind.as_str() {
                "hex" => "an even number of hex digits, such as hex:0fa0".to_owned(),
                _ => format!("write a number that fits {kind}, such as {kind}:42 or {kind}:0x2a"),
            },
            Self::AllowUnknown { .. } => "`lp-compile explain` lists all of them".to_owned(),
            Self::AllowError { id } => format!("`lp-compile explain {id}` says what to do instead"),
            Self::Type { .. } => "types are i8 i16 i32 i64 u8 u16 u32 u64 int str hex addr".to_owned(),
        })
    }
}

/// `[MODULE:][FILE.c:]SYMBOL`, not yet split: what a single prefix means depends on the target's closure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Qualified {
    /// Zero to two prefixes, in order.
    pub prefixes: Vec<String>,
    pub name: String,
}

impl Qualified {
    pub const FORM: &'static str = "[MODULE:][FILE.c:]SYMBOL";

    pub fn parse(text: &str) -> Result<Self, SpecError> {
        let mut parts = split(text);
        let name = parts.pop().unwrap_or_default();
        if name.is_empty() || parts.len() > 2 || parts.iter().any(String::is_empty) {
            return Err(SpecError::Form { given: text.to_owned(), form: Self::FORM });
        }
        Ok(Self { prefixes: parts, name })
    }

    /// `sym` of `file`, as livepatch.h gives it.
    pub fn in_file(file: Option<&str>, name: &str) -> Self {
        Self { prefixes: file.map(str::to_owned).into_iter().collect(), name: name.to_owned() }
    }
}

/// Splits at single colons; a double one and that of an ABI tag are part of a name of C++ or Rust, and so is all that
/// follows them.
fn split(text: &str) -> Vec<String> {
    let end = ["::", ABI_TAG].into_iter().filter_map(|mark| text.find(mark)).min().unwrap_or(text.len());
    let (head, tail) = text.split_at(end);
    let mut parts: Vec<String> = head.split(':').map(str::to_owned).collect();
    if let Some(last) = parts.last_mut() {
        last.push_str(tail);
    }
    parts
}

impl std::fmt::Display for Qualified {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.prefixes.iter().try_for_each(|p| write!(f, "{p}:"))?;
        f.write_str(&self.name)
    }
}

/// `OLD=NEW` of `--replace`, `NAME=SYM` of `--bind`.
pub fn pair(text: &str, form: &'static str) -> Result<(String, String), SpecError> {
    match text.split_once('=') {
        Some((a, b)) if !a.is_empty() && !b.is_empty() => Ok((a.to_owned(), b.to_owned())),
        _ => Err(SpecError::Form { given: text.to_owned(), form }),
    }
}

/// What `--set` writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetSpec {
    pub symbol: Qualified,
    pub offset: u64,
    pub value: SetValue,
}

/// New content and, if given, the old content that must be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetValue {
    Bytes { old: Option<Vec<u8>>, new: Vec<u8> },
    Address { old: Option<Qualified>, new: Qualified },
}

impl SetSpec {
    pub const FORM: &'static str = "[MODULE:][FILE.c:]SYM[+OFF]=TYPE:[OLD->]NEW";

    /// The place, and the addresses written there, if any.
    pub fn symbols(&self) -> impl Iterator<Item = &Qualified> {
        let values = match &self.value {
            SetValue::Address { old, new } => [old.as_ref(), Some(new)],
            SetValue::Bytes { .. } => [None, None],
        };
        std::iter::once(&self.symbol).chain(values.into_iter().flatten())
    }

    pub fn is_address(&self) -> bool {
        matches!(self.value, SetValue::Address { .. })
    }

    pub fn parse(text: &str) -> Result<Self, SpecError> {
        let form = || SpecError::Form { given: text.to_owned(), form: Self::FORM };
        let (place, value) = text.split_once('=').ok_or_else(form)?;
        let (kind, value) = value.split_once(':').ok_or_else(form)?;
        let (symbol, offset) = match place.rsplit_once('+') {
            Some((symbol, offset)) => (symbol, number(offset).and_then(|n| u64::try_from(n).ok()).ok_or_else(form)?),
            None => (place, 0),
        };
        let (old, new) = match value.split_once("->") {
            Some((old, new)) => (Some(old), new),
            None => (None, value),
        };
        let value = if kind == "addr" {
            SetValue::Address { old: old.map(Qualified::parse).transpose()?, new: Qualified::parse(new)? }
        } else {
            SetValue::Bytes { old: old.map(|o| encode(kind, o)).transpose()?, new: encode(kind, new)? }
        };
        Ok(Self { symbol: Qualified::parse(symbol)?, offset, value })
    }
}

/// What `--slot` redirects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotSpec {
    pub module: String,
    pub symbol: String,
    pub version: Option<String>,
    pub new: Qualified,
}

impl SlotSpec {
    pub const FORM: &'static str = "MODULE:SYM[@VERSION]=NEW";

    pub fn parse(text: &str) -> Result<Self, SpecError> {
        let form = || SpecError::Form { given: text.to_owned(), form: Self::FORM };
        let (place, new) = pair(text, Self::FORM)?;
        let (module, import) = place.split_once(':').ok_or_else(form)?;
        let (symbol, version) = match import.split_once('@') {
            Some((symbol, version)) => (symbol, Some(version.strip_prefix('@').unwrap_or(version))),
            None => (import, None),
        };
        if module.is_empty() || symbol.is_empty() || symbol.contains(':') || version == Some("") {
            return Err(form());
        }
        let [module, symbol] = [module, symbol].map(str::to_owned);
        Ok(Self { module, symbol, version: version.map(str::to_owned), new: Qualified::parse(&new)? })
    }
}

impl std::fmt::Display for SlotSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.module, self.symbol)?;
        self.version.iter().try_for_each(|v| write!(f, "@{v}"))
    }
}

/// A decimal or 0x-hexadecimal number with an optional sign.
fn number(text: &str) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let value = match digits.strip_prefix("0x") {
        Some(hex) if !hex.starts_with(['+', '-']) => i128::from_str_radix(hex, 16).ok()?,
        None if !digits.starts_with(['+', '-']) => digits.parse().ok()?,
        _ => return None,
    };
    if negative { value.checked_neg() } else { Some(value) }
}

/// A value in the target's byte order.
fn encode(kind: &str, text: &str) -> Result<Vec<u8>, SpecError> {
    let bad = || SpecError::Value { value: text.to_owned(), kind: kind.to_owned() };
    macro_rules! int {
        ($t:ty) => {
            number(text).and_then(|n| <$t>::try_from(n).ok()).map(|n| n.to_le_bytes().to_vec()).ok_or_else(bad)
        };
    }
    match kind {
        "i8" => int!(i8),
        "i16" => int!(i16),
        "i32" | "int" => int!(i32),
        "i64" => int!(i64),
        "u8" => int!(u8),
        "u16" => int!(u16),
        "u32" => int!(u32),
        "u64" => int!(u64),
        "str" => Ok(text.bytes().chain([0]).collect()),
        "hex" => {
            let (pairs, rest) = text.as_bytes().as_chunks::<2>();
            let byte = |p: &[u8; 2]| {
                let p = std::str::from_utf8(p).ok().filter(|p| p.bytes().all(|b| b.is_ascii_hexdigit()))?;
                u8::from_str_radix(p, 16).ok()
            };
            let bytes: Option<Vec<u8>> = pairs.iter().map(byte).collect();
            bytes.filter(|b| rest.is_empty() && !b.is_empty()).ok_or_else(bad)
        }
        _ => Err(SpecError::Type { kind: kind.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        let set = |text: &str| SetSpec::parse(text).map(|s| s.value);
        let bytes =
            |old: Option<&[u8]>, new: &[u8]| Ok(SetValue::Bytes { old: old.map(<[u8]>::to_vec), new: new.to_vec() });
        for (text, want) in [
            ("x=int:-2", bytes(None, &[0xfe, 0xff, 0xff, 0xff])),
            ("x=u16:0x102", bytes(None, &[2, 1])),
            ("x=u8:1->255", bytes(Some(&[1]), &[255])),
            ("x=str:a:b", bytes(None, b"a:b\0")),
            ("x=hex:00fF", bytes(None, &[0, 0xff])),
            (
                "x=addr:f->b.c:g",
                Ok(SetValue::Address {
                    old: Some(Qualified::parse("f").unwrap()),
                    new: Qualified::parse("b.c:g").unwrap(),
                }),
            ),
        ] {
            assert_eq!(set(text), want, "{text}");
        }
        for bad in
            ["x", "x=5", "x=u8:256", "x=i8:--1", "x=hex:0", "x=hex:", "x=hex:+1", "x=float:1", "=int:1", "x+y=int:1"]
        {
            assert!(set(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn slots() {
        for (text, version) in [("m:f=g", None), ("m:f@V_1=g", Some("V_1")), ("m:f@@V_1=g", Some("V_1"))] {
            let slot = SlotSpec::parse(text).unwrap();
            assert_eq!((slot.module.as_str(), slot.symbol.as_str(), slot.version.as_deref()), ("m", "f", version));
            assert_eq!(slot.new, Qualified::parse("g").unwrap());
        }
        for bad in ["f=g", "m:f", ":f=g", "m:=g", "m:b.c:f=g", "m:f@=g", "m:f=", "m:@V=g"] {
            assert!(SlotSpec::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn qualified_names() {
        for (text, prefixes, name) in [
            ("f", vec![], "f"),
            ("b.c:f", vec!["b.c"], "f"),
            ("libx.so.1:b.c:f", vec!["libx.so.1", "b.c"], "f"),
            ("shop::till::f", vec![], "shop::till::f"),
            ("b.cc:Shape::area(int)", vec!["b.cc"], "Shape::area(int)"),
            ("b.cc:name[abi:cxx11]", vec!["b.cc"], "name[abi:cxx11]"),
        ] {
            let want =
                Qualified { prefixes: prefixes.iter().map(|p| (*p).to_owned()).collect(), name: name.to_owned() };
            assert_eq!(Qualified::parse(text), Ok(want));
        }
        for bad in ["", ":f", "f:", "a:b:c:d", "a:b:c:d::e"] {
            assert!(Qualified::parse(bad).is_err(), "{bad:?}");
        }
    }
}
