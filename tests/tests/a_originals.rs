//! A9 and A6 together: the old code of static functions that share their name.

use lp_tests::lp_compile;
use lp_tests::scenario::Scenario;

#[test]
fn a6_originals_by_file() {
    Scenario::of("a6_originals.c").run();
}

#[test]
fn a6_originals_that_are_not_clear() {
    let scenario = Scenario::of("a6_originals.c");
    let mut built = scenario.build();
    for (flag, message, hint) in [
        ("-DAMBIGUOUS", "the patch replaces several functions called helper", "LP_ORIGINAL_IN(\"FILE.c\", helper)"),
        ("-DUNKNOWN", "the patch does not replace b-c.c:helper", "replace b-c.c:helper in this patch"),
    ] {
        built.patch = built.lab.patch("a6_originals.c", &[flag]);
        let run = lp_compile(scenario.build_args(&built, &built.lab.path("fix.lpb")));
        run.expect(4).says(message).says(hint);
    }
}
