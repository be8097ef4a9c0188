//! No trick gets past an envelope. Each of tests/bypass/manifest.toml is played by a program outside, for
//! whom it must work, and by a subject, for whom it must not; what no hook sees is listed as such.

#![allow(clippy::unwrap_used)] // outside of #[test] too: this file is nothing but tests

mod bypass;
mod guest;

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use bypass::Manifest;

#[test]
fn every_trick_is_listed_and_everything_listed_is_there() {
    let output = Command::new("/job/bypass").output().unwrap();
    let known: BTreeSet<String> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect();

    assert_eq!(Manifest::load().problems(&known), [""; 0]);
}

#[test]
fn no_trick_gets_past_an_envelope() {
    guest::run(|guest| {
        // for work on some of them: their names in a file that is put beside this test
        let only = fs::read_to_string("/job/only").unwrap_or_default();
        bypass::play(guest, |trick| {
            only.is_empty() || only.contains(&format!(" {} ", trick.name))
        });
    });
}
