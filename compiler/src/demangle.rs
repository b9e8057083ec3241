//! Mangled names of C++ and Rust as their authors wrote them.
//!
//! ```text
//! _ZN5Shape4areaEi                      Shape::area(int)       path: Shape::area
//! _ZN4shop5price17h0123456789abcdefE    shop::price            path: shop::price      (Rust, legacy)
//! _RNvCs9gE3dmllNPh_4shop5price         shop::price            path: shop::price      (Rust, v0)
//! ```

use cpp_demangle::{DemangleOptions, DemangleWrite, ParseOptions, Symbol};

/// Longer names are left as they are: the time to demangle one may grow faster than its length.
const LONGEST: usize = 8192;
const DEEPEST: u32 = 96;
/// Source: Itanium C++ ABI, 5.1.5 "ABI tags".
pub const ABI_TAG: &str = "[abi:";

/// The whole name, with its parameters if it has any.
pub fn full(name: &str) -> Option<String> {
    rust(name).or_else(|| cpp(name, DemangleOptions::new()))
}

/// The name without parameters, return type and hash.
pub fn path(name: &str) -> Option<String> {
    rust(name).or_else(|| cpp(name, DemangleOptions::new().no_params().no_return_type()))
}

/// Whether `given`, as its author writes it, means this mangled name. The ABI tags that a compiler adds (`f[abi:cxx11]`,
/// of whatever returns a `std::string`) count only if they are given: nobody writes them in a source.
pub fn means(given: &str, mangled: &str) -> bool {
    // What a compiler has split off or specialised is not what was written.
    if clone_suffix(mangled).is_some() && !given.contains('.') {
        return false;
    }
    let squeeze = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
    let wanted = squeeze(given);
    let tagged = wanted.contains(ABI_TAG);
    let is_wanted = |name: Option<String>| {
        let name = name.map(|n| squeeze(&n));
        name.is_some_and(|n| n == wanted || !tagged && n.contains(ABI_TAG) && untagged(&n) == wanted)
    };
    is_wanted(path(mangled)) || is_wanted(full(mangled))
}

/// The end of a name that gcc or clang has given to a part or a special copy of a function: `.cold`, `.constprop.0`.
pub fn clone_suffix(linked: &str) -> Option<&str> {
    let (at, _) = linked.match_indices('.').find(|(at, _)| {
        let rest = linked.get(at.saturating_add(1)..).unwrap_or_default();
        let word = rest.split('.').next().unwrap_or_default();
        *at > 0 && ["cold", "part", "constprop", "isra"].contains(&word)
    })?;
    linked.get(at..)
}

/// A name without its ABI tags.
fn untagged(name: &str) -> String {
    let mut parts = name.split(ABI_TAG);
    let head = parts.next().unwrap_or_default().to_owned();
    head + &parts.map(|part| part.split_once(']').map_or("", |(_, rest)| rest)).collect::<String>()
}

/// The name as it is linked, and behind it as it was written if that differs.
pub fn readable(name: &str) -> String {
    // A symbol of the target is shown with its version.
    let linked = name.split('@').next().unwrap_or(name);
    full(linked).map_or_else(|| name.to_owned(), |written| format!("{name} ({written})"))
}

/// The name as it was written, which `--replace` takes as well. What nobody has written, such as a thunk, keeps its own.
pub fn written(name: &str) -> String {
    full(name).filter(|written| !written.starts_with('{')).unwrap_or_else(|| name.to_owned())
}

/// Whether a name can be the mangled one of something with `word` in it: far quicker than to demangle it.
pub fn may_mean(name: &[u8], word: &str) -> bool {
    let mangled = name.starts_with(b"_Z") || name.starts_with(b"_R");
    mangled && !word.is_empty() && name.windows(word.len()).any(|w| w == word.as_bytes())
}

/// The last identifier of a path: it stands in the mangled name as it is. What is in brackets is none, as in
/// `<shop::Till as shop::Area>::area` and `Shape::area(int)`; an operator has no name, its class has.
pub fn last_word(path: &str) -> &str {
    let (mut depth, mut outside) = (0_u32, Vec::new());
    for (at, c) in path.char_indices() {
        match c {
            '<' | '(' | '[' => depth = depth.saturating_add(1),
            '>' | ')' | ']' => depth = depth.saturating_sub(1),
            _ if depth == 0 => outside.push((at, c)),
            _ => {}
        }
    }
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut words: Vec<&str> = Vec::new();
    for run in outside.chunk_by(|(a, x), (b, y)| is_word(*x) == is_word(*y) && a.saturating_add(x.len_utf8()) == *b) {
        if let (Some((from, c)), Some((to, last))) = (run.first(), run.last())
            && is_word(*c)
        {
            words.extend(path.get(*from..to.saturating_add(last.len_utf8())));
        }
    }
    words.into_iter().take_while(|word| *word != "operator").last().unwrap_or_default()
}

fn rust(name: &str) -> Option<String> {
    let looks = name.starts_with("_R") || name.starts_with("_ZN") && name.contains("17h");
    let name = Some(name).filter(|n| looks && n.len() <= LONGEST)?;
    rustc_demangle::try_demangle(name).ok().map(|d| format!("{d:#}"))
}

fn cpp(name: &str, options: DemangleOptions) -> Option<String> {
    let name = Some(name).filter(|n| n.starts_with("_Z") && n.len() <= LONGEST)?;
    let parse = ParseOptions::default().recursion_limit(DEEPEST);
    let symbol = Symbol::new_with_options(name, &parse).ok()?;
    let mut out = Bounded(String::new());
    symbol.structured_demangle(&mut out, &options.recursion_limit(DEEPEST)).ok()?;
    Some(out.0)
}

/// Back references can make a short name expand without end.
struct Bounded(String);

impl DemangleWrite for Bounded {
    fn write_string(&mut self, text: &str) -> std::fmt::Result {
        if self.0.len().saturating_add(text.len()) > LONGEST {
            return Err(std::fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names as `c++filt` and `rustfilt` print them.
    #[test]
    fn names_of_both_languages() {
        for (mangled, whole, short) in [
            ("_ZN5Shape4areaEi", "Shape::area(int)", "Shape::area"),
            ("_Z3maxIiET_S0_S0_", "int max<int>(int, int)", "max<int>"),
            ("_ZN4shop5price17h0123456789abcdefE", "shop::price", "shop::price"),
            ("_RNvNtCsbDqzXfLQacH_4shop4till5price", "shop::till::price", "shop::till::price"),
        ] {
            assert_eq!((full(mangled).as_deref(), path(mangled).as_deref()), (Some(whole), Some(short)));
            assert!(means(whole, mangled) && means(short, mangled), "{mangled}");
        }
        assert!(means("Shape::area( int )", "_ZN5Shape4areaEi"));
        assert!(!means("Shape::area(long)", "_ZN5Shape4areaEi"));
        let tagged = "_ZN4shop8describeB5cxx11EPKc";
        for given in ["shop::describe", "shop::describe(char const*)", "shop::describe[abi:cxx11]"] {
            assert!(means(given, tagged) && may_mean(tagged.as_bytes(), last_word(given)), "{given}");
        }
        assert!(!means("shop::describe[abi:v2]", tagged));
        for clone in [".cold", ".constprop.0", ".isra.0.cold", ".part.1"] {
            let linked = format!("{tagged}{clone}");
            assert!(!means("shop::describe", &linked) && clone_suffix(&linked) == Some(clone), "{clone}");
        }
        assert_eq!([clone_suffix("f.lto_priv.0"), clone_suffix("part.c"), clone_suffix(tagged)], [None; 3]);
        assert_eq!(full("puts"), None);
        let thunk = "_ZTv0_n24_N4shop6Square3mixEi";
        assert_eq!([written("_ZN5Shape4areaEi"), written(thunk)], ["Shape::area(int)", thunk]);
        assert_eq!(last_word("shop::till::price"), "price");
        for (path, word) in [
            ("Shape::area(int, std::string)", "area"),
            ("<shop::Till as shop::Area>::area", "area"),
            ("shop::max<std::vector<int> >", "max"),
            ("Shape::operator<<(int)", "Shape"),
            ("Shape::operator+", "Shape"),
            ("shop::Preis::größe", "größe"),
            ("area", "area"),
            ("<<", ""),
        ] {
            assert_eq!(last_word(path), word, "{path}");
        }
    }
}
