//! B13: everything that stands against a patch is said in one run: what, where it is used, where it was looked for, what
//! else there is, what to do.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use common::Lab;

/// The text of the error that has `words` in it, with its hint.
fn error<'a>(text: &'a str, words: &str) -> &'a str {
    let mut errors = text.split("lp-compile: error: ");
    errors.find(|e| e.contains(words)).unwrap_or_else(|| panic!("no {words:?} in {text}"))
}

#[test]
fn all_errors_of_a_run() {
    let lab = Lab::new();
    lab.write("gone.c", "int gone(void) { return 0; }");
    lab.run("cc -shared -fPIC -o libgone.so gone.c");
    let part = "static __attribute__((noipa)) int twin(int x) { return x + N; } int NAME(int x) { return twin(x); }";
    for (name, n) in [("left", "1"), ("right", "2")] {
        lab.write(&format!("{name}.c"), &part.replace("NAME", name).replace(" N;", &format!(" {n};")));
    }
    let main = "int gone(void), left(int), right(int); __attribute__((noipa)) int old(int a) { return a * 3 + 1000; }\n\
                int Total; int main(int c, char **v) { (void)v; return old(c) + left(c) + right(c) + gone() + Total; }";
    lab.cc("target", "-O1 left.c right.c -L. -lgone", main);
    lab.run("rm libgone.so");
    lab.cc(
        "fix.so",
        "-shared -fPIC -O1",
        "int twin(int); extern int total; int nowhere(int);\n\
         __attribute__((constructor)) static void early(void) { total = 1; }\n\
         int fresh(int a) { return twin(a) + total; }\n\
         int other(int a) { return nowhere(a); }",
    );
    let text = lab.refused(4, &["--target", "target", "--patch", "fix.so", "--replace", "old=fresh"]);

    let missing = error(&text, "library libgone.so");
    assert!(
        missing.contains("needed by target") && missing.contains("/usr/lib") && missing.contains("--lib"),
        "{text}"
    );
    assert!(error(&text, "constructor").contains("early"), "{text}");
    let ambiguous = error(&text, "twin");
    for words in ["used by fresh", "left.c", "right.c", "--bind twin=left.c:twin"] {
        assert!(ambiguous.contains(words), "no {words:?} in {text}");
    }
    let nowhere = error(&text, "undefined symbol nowhere");
    // In the order in which the dynamic linker looks.
    let places = ["used by other", "searched target", "libc.so.6", "ld-linux-x86-64.so.2", "--bind nowhere="];
    let found: Vec<usize> =
        places.iter().map(|p| nowhere.find(p).unwrap_or_else(|| panic!("no {p:?} in {text}"))).collect();
    assert!(found.is_sorted(), "{text}");
    assert!(
        error(&text, "undefined symbol total").contains("similar names: main.c:Total")
            || error(&text, "undefined symbol total").contains("similar names: Total"),
        "{text}"
    );
    assert_eq!(text.matches("lp-compile: error: ").count(), 5, "{text}");
    assert_eq!(text.matches("\n  hint: ").count(), 5, "{text}");
}

/// A version that the library does not have: the ones it has are named.
#[test]
fn another_version() {
    let lab = Lab::new();
    lab.write("old.map", "V1 { global: rate; };");
    lab.write("new.map", "V1 { }; V2 { global: rate; } V1;");
    lab.write("rate.c", "int rate(int x) { return x; }");
    for (dir, map) in [("old", "old.map"), ("new", "new.map")] {
        lab.write(&format!("{dir}/readme"), "");
        lab.run(&format!(
            "cc -shared -fPIC -Wl,-soname,librate.so -Wl,--version-script={map} -o {dir}/librate.so rate.c"
        ));
    }
    let main = "int rate(int); __attribute__((noipa)) int old(int a) { return a; } int main(int c, char **v) { (void)v; return rate(old(c)); }";
    lab.cc("target", "-L old -lrate -Wl,-rpath,$ORIGIN/old", main);
    lab.cc("fix.so", "-shared -fPIC -L new -lrate", "int rate(int); int fresh(int a) { return rate(a); }");
    let text = lab.refused(4, &["--target", "target", "--patch", "fix.so", "--replace", "old=fresh"]);
    assert!(
        text.contains("undefined symbol rate@V2 of librate.so") && text.contains("similar names: rate@V1"),
        "{text}"
    );
}

/// Functions of C++ by the names their authors gave them; overloads are told apart by their parameters.
#[test]
fn overloads() {
    let lab = Lab::new();
    let source = "struct Shape { int area(int); int area(double); int edge(long); };\n\
        __attribute__((noipa)) int Shape::area(int a) { return a * 3 + (a >> 1); }\n\
        __attribute__((noipa)) int Shape::area(double a) { return (int)(a * 2.5); }\n\
        __attribute__((noipa)) int Shape::edge(long a) { return (int)(a * 7 + 1); }\n\
        static __attribute__((noipa)) long plain(long a) { return a * 9 + 3; }\n\
        int main(int c, char **) { Shape s; c += (int)plain(c); return s.area(c) + s.area(c * 0.5) + s.edge(c); }";
    lab.write("target.cc", source);
    lab.run("g++ -O1 -o target target.cc");
    lab.write(
        "fix.cc",
        "struct Shape { int area(char); int area(int); };\n\
         extern \"C\" int fresh(Shape *s, int a) { return s->area((char)a); }",
    );
    lab.run("g++ -O1 -shared -fPIC -o fix.so fix.cc");
    let build = |replace| lab.refused(4, &["--target", "target", "--patch", "fix.so", "--replace", replace]);

    let text = build("Shape::area=fresh");
    for words in ["Shape::area(int)", "Shape::area(double)", "say which one: ", "_ZN5Shape4areaEd"] {
        assert!(error(&text, "several functions").contains(words), "no {words:?} in {text}");
    }
    let text = build("Shape::edge=fresh");
    let unresolved = error(&text, "undefined symbol _ZN5Shape4areaEc (Shape::area(char))");
    assert!(unresolved.contains("_ZN5Shape4areaEd (Shape::area(double))"), "{text}");
    assert!(error(&build("Shape::aera=fresh"), "Shape::aera was not found").contains("Shape::area(int)"), "{text}");

    lab.write("fix.cc", "extern \"C\" int fresh(void *, int a) { return a; }");
    lab.run("g++ -O1 -shared -fPIC -o fix.so fix.cc");
    for (replace, linked) in [
        ("Shape::area(double)=fresh", "_ZN5Shape4areaEd"),
        ("Shape::edge=fresh", "_ZN5Shape4edgeEl"),
        ("plain=fresh", "_ZL5plainl"),
        ("target.cc:plain(long)=fresh", "_ZL5plainl"),
    ] {
        let bytes = lab.bundle(&["--target", "target", "--patch", "fix.so", "--replace", replace]);
        let lpb::Change::Jump(jump) = &lpb::read(&bytes).unwrap().patch.redirects[0].change else {
            panic!("{replace}")
        };
        assert_eq!(jump.function.0, lab.nm("", "target", linked), "{replace}");
    }
}
