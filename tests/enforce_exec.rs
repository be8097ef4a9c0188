//! Domain exec on a real kernel: who becomes a subject and stays one, what runs, which code is mapped.

mod guest;

use cartouche::enforcer::Kernel;
use guest::USERS;

#[test]
fn every_program_attaches_again_and_again_without_a_gap() {
    guest::run(|guest| {
        for _ in 0..2 {
            let kernel = Kernel::load().unwrap();

            kernel.attach().unwrap();

            let absent = kernel.absent_hooks();
            for (hook, attached) in kernel.attached() {
                let on_demand = hook.starts_with("sendmsg");
                assert!(attached || absent.contains(&hook) || on_demand, "{hook}");
            }
            // the programs are new ones, the maps the same
            let room = guest.files(&["file"]);
            guest.subject("").may_not(&format!("open-read {room}/file"));
        }
    });
}

#[test]
fn running_a_program_needs_process_exec() {
    guest::run(|guest| {
        let (yes, no) = (guest.outsider().path, guest.outsider().path);
        for uid in USERS {
            let subject = guest
                .subject(&format!("process:exec {yes}\ncode:load {yes} {no}"))
                .by(uid);
            for way in [
                "exec",
                "vfork-exec",
                "exec-opened",
                "thread-become",
                "become",
            ] {
                assert_eq!(
                    subject.run(&format!("{way} {yes} say hello"))[0],
                    "hello",
                    "{way}"
                );
                subject.may_not(&format!("{way} {no} say hello"));
            }
        }
    });
}
