//! Domain exec on a real kernel: programs attach, labels bind, foreign code does not run.

mod guest;

use std::fs::{self, File};
use std::process::Command;

use cartouche::enforcer::{Kernel, Mode};
use cartouche::plan::Plan;

fn plan_for(paths: &[(&str, &str)]) -> Plan {
    let capabilities: String = paths
        .iter()
        .map(|(name, path)| {
            format!("[[envelope.capability]]\nname = \"{name}\"\npaths = [\"{path}\"]\njustification = \"t\"\n")
        })
        .collect();
    guest::plan(&capabilities)
}

#[test]
fn a_bound_program_is_held_to_its_plan_and_others_are_not() {
    guest::require_lsm!();
    let kernel = Kernel::load().unwrap();
    kernel.attach().unwrap();
    fs::create_dir_all("/srv/t").unwrap();
    fs::write("/srv/t/yes", "yes").unwrap();
    fs::write("/srv/t/no", "no").unwrap();
    fs::copy("/bin/cat", "/srv/t/reader").unwrap();
    let (identity, path) = kernel
        .identify(&File::open("/srv/t/reader").unwrap())
        .unwrap();
    assert_eq!(path.as_deref(), Some("/srv/t/reader"));
    let plan = plan_for(&[
        ("fs:read", "/srv/t/yes"),
        ("fs:read", "/usr/lib/**"),
        ("fs:read", "/etc/ld.so.cache"),
        ("code:load", "/usr/lib/**"),
    ]);
    kernel.stage(1, &plan).unwrap();
    kernel.commit(1, 1, &plan, Mode::Enforce).unwrap();
    kernel.bind(&identity, 1, false).unwrap();

    let yes = Command::new("/srv/t/reader")
        .arg("/srv/t/yes")
        .output()
        .unwrap();
    let no = Command::new("/srv/t/reader")
        .arg("/srv/t/no")
        .output()
        .unwrap();
    let outside = Command::new("/bin/cat").arg("/srv/t/no").output().unwrap();
    let write = fs::OpenOptions::new().write(true).open("/srv/t/reader");

    eprintln!("{yes:?}\n{no:?}");
    assert_eq!(yes.stdout, b"yes");
    assert!(String::from_utf8_lossy(&no.stderr).contains("Operation not permitted"));
    assert_eq!(outside.stdout, b"no");
    assert!(write.is_err());
    assert!(kernel.verify(1, 1, &plan).unwrap());
    eprintln!(
        "{:?} {:?}",
        kernel.totals(1).unwrap(),
        kernel.uses(1, &plan).unwrap()
    );
    kernel.unbind(&identity).unwrap();
}

#[test]
fn every_program_attaches_again_and_again_without_a_gap() {
    guest::require_lsm!();
    for _ in 0..2 {
        let t = std::time::Instant::now();
        let kernel = Kernel::load().unwrap();
        eprintln!("load {:?}", t.elapsed());

        kernel.attach().unwrap();
        eprintln!("attach {:?}", t.elapsed());
        let absent = kernel.absent_hooks();
        for (hook, attached) in kernel.attached() {
            let on_demand = hook.starts_with("sendmsg");
            assert_eq!(attached, !absent.contains(&hook) && !on_demand, "{hook}");
        }
        eprintln!("absent: {absent:?}");
    }
}
