//! Leaves out of the static release build what it never uses: see `no_unwind.ld`.

use std::env::var;

fn main() {
    println!("cargo:rerun-if-changed=no_unwind.ld");
    let is = |name, value| var(name).is_ok_and(|is| is == value);
    if is("CARGO_CFG_TARGET_ENV", "musl") && is("PROFILE", "release") {
        let dir = var("CARGO_MANIFEST_DIR").unwrap_or_default();
        println!("cargo:rustc-link-arg-bins=-Wl,--no-eh-frame-hdr");
        println!("cargo:rustc-link-arg-bins=-T{dir}/no_unwind.ld");
    }
}
