//! The demonstration of `make demo` keeps its word: every step of it is checked by the script itself.

use std::process::Command;

#[test]
fn the_demonstration_shows_what_it_says() {
    // it installs Cartouche and takes it away again: nowhere but in a guest of the harness
    if std::env::var("CARTOUCHE_REQUIRE").as_deref() != Ok("lsm") {
        eprintln!("skipped: runs in a virtual machine only; see `make demo`");
        return;
    }

    let status = Command::new("bash")
        .args(["demo/demo", "installed"])
        .status();

    assert!(status.is_ok_and(|status| status.success()));
}
