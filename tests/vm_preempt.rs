//! The tricks that depend on the moment, on a kernel that lets one task interrupt another inside of it
//! (preempt=full), with two processors. Task storage answers NULL there while another task changes its own
//! (6.1): that must not read as "outside".

#![allow(clippy::unwrap_used)] // outside of #[test] too: this file is nothing but tests

mod bypass;
mod guest;

#[test]
fn no_moment_lets_a_trick_through() {
    guest::run(|guest| {
        let command_line = std::fs::read_to_string("/proc/cmdline").unwrap();
        assert!(command_line.contains("preempt=full"), "{command_line}");
        bypass::play(guest, |trick| trick.moment);
    });
}
