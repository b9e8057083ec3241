//! What `lp-compile` says of copies is true: a copy keeps the old code, and is gone once its caller is replaced too.

use lp_tests::scenario::Scenario;
use lp_tests::{Outcome, Target, lp_apply, lp_compile};

#[test]
fn a_copy_keeps_the_old_code() {
    let scenario = Scenario::of("a_copies.c").option("--replace price=new_price");
    let built = scenario.build();
    let out = built.lab.path("fix.lpb");
    let build = |more: &[&str]| {
        let more = more.iter().map(|word| (*word).to_owned());
        lp_compile(scenario.build_args(&built, &out).into_iter().chain(more))
    };
    build(&[]).expect(4).says("price is inlined into functions that the patch does not replace: total");
    let mut target = Target::start(&built.exe);
    let (pid, bundle) = (target.pid().to_string(), out.to_str().unwrap());
    for (more, both) in [
        (["--allow", "inlined"], "3000 36"), // accepted: the caller with the copy stays as it was
        (["--replace", "total=new_total"], "3000 3007"),
    ] {
        build(&more).expect(0);
        assert_eq!(target.ask("x"), "31 36");
        lp_apply([bundle, "--pid", &pid]).expect(Outcome::Applied);
        assert_eq!(target.ask("x"), both, "{more:?}");
        lp_apply(["revert", bundle, "--pid", &pid]).expect(Outcome::Reverted);
    }
    assert_eq!(target.ask("x"), "31 36");
    target.finish();
}
