//! Counts what Cartouche costs, in a guest that counts instructions: starts the measuring program on the
//! bare kernel, twice, then outside with another program's rules admitted, then as a subject. Prints a
//! table; fails only if the measurement itself does. `tests/bench/run` starts it.

#[path = "goals.rs"]
mod goals;
#[path = "../guest/mod.rs"]
#[allow(unused_imports)] // shared with tests
mod guest;

use std::error::Error;
use std::fs::{self, File};
use std::process::{Command, ExitCode};
use std::time::Instant;

use cartouche::enforcer::{Kernel, Mode};
use cartouche::plan::Plan;

use goals::{Counts, Figures};

/// Copies of the measuring program. Names of one length: an exec copies its name.
const OUTSIDE: &str = "/srv/bench/outside";
const SUBJECT: &str = "/srv/bench/subject";
const ANOTHER: &str = "/srv/bench/another";

/// Rules of an envelope of ordinary size, all kinds together.
const RULES: usize = 100;

fn main() -> ExitCode {
    match measure() {
        Ok(table) => {
            print!("{table}");
            ExitCode::SUCCESS
        }
        Err(problem) => {
            eprintln!("bench: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn measure() -> Result<String, Box<dyn Error>> {
    if !guest::has_lsm() {
        return Err("bpf is not an active LSM here: there is nothing to measure".into());
    }
    prepare()?;

    let bare = counts(OUTSIDE)?;
    let again = counts(OUTSIDE)?;
    let begun = Instant::now();
    let kernel = Kernel::load()?;
    kernel.attach()?;
    let loading = begun.elapsed();
    let files_only = plan(ANOTHER, "")?;
    admit(&kernel, ANOTHER, 1, 1, &files_only)?;
    let outside = counts(OUTSIDE)?;
    let with_udp = plan(ANOTHER, NETWORK)?;
    admit(&kernel, ANOTHER, 1, 2, &with_udp)?;
    let outside_udp = counts(OUTSIDE)?;
    let own = plan(SUBJECT, NETWORK)?;
    admit(&kernel, SUBJECT, 2, 3, &own)?;
    let subject = counts(SUBJECT)?;
    if kernel.tasks()?.contains_key(&1) || kernel.totals(2)?.denied != 0 {
        return Err("the subject was refused something, or somebody else was one".into());
    }

    let figures = Figures {
        bare,
        again,
        outside,
        outside_udp,
        subject,
    };
    // one instruction is one nanosecond of the guest's clock
    Ok(format!(
        "{}\nLoading and attaching all programs: {} million instructions\n",
        figures.table()?,
        loading.as_millis()
    ))
}

/// The files that the measuring program needs.
fn prepare() -> Result<(), Box<dyn Error>> {
    fs::create_dir_all("/srv/bench")?;
    for path in [
        "/root/f_x",
        "/usr/lib/x86_64-linux-gnu/libfoo0500.so.1",
        "/srv/bench/written",
    ] {
        fs::write(path, "measured\n")?;
    }
    for path in [OUTSIDE, SUBJECT, ANOTHER] {
        fs::copy("measure", path)?;
    }
    Ok(())
}

/// What a freshly started copy of the measuring program counts.
fn counts(program: &str) -> Result<Counts, Box<dyn Error>> {
    let output = Command::new(program).output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{program} failed ({}): {}", output.status, said.trim()).into());
    }
    let text = String::from_utf8(output.stdout)?;
    text.lines()
        .map(|line| {
            let (name, count) = line.split_once(' ').ok_or("no count in a line")?;
            Ok((name.to_owned(), count.parse()?))
        })
        .collect()
}

fn admit(
    kernel: &Kernel,
    program: &str,
    slot: u32,
    number: u32,
    plan: &Plan,
) -> Result<(), Box<dyn Error>> {
    let (identity, path) = kernel.identify(&File::open(program)?)?;
    if path.as_deref() != Some(program) {
        return Err(format!("{program} has another path for the kernel: {path:?}").into());
    }
    kernel.stage(number, plan)?;
    kernel.commit(slot, number, plan.flags, Mode::Enforce)?;
    kernel.bind(&identity, slot, false)?;
    if !kernel.read_back(slot, number, plan)?.equal {
        return Err(format!("the kernel does not hold the plan of {program}").into());
    }
    Ok(())
}

/// What the measuring program does with sockets, and some endpoints more.
const NETWORK: &str = r#"
[[envelope.capability]]
name = "net:listen"
endpoints = ["tcp://127.0.0.1:7001", "udp://127.0.0.1:7002"]
justification = "bench"

[[envelope.capability]]
name = "net:connect"
endpoints = [
    "tcp://127.0.0.1:7001", "udp://127.0.0.1:7002", "udp://127.0.0.0/8:7100-7200",
    "tcp://192.0.2.1:443", "tcp://192.0.2.2:443", "tcp://198.51.100.0/24:5432",
    "udp://192.0.2.53:53", "udp://[2001:db8::53]:53",
]
justification = "bench"
"#;

/// A hundred rules: what the measuring program needs, many neighbours in the directory of the deep file,
/// and the places that services usually name.
fn plan(program: &str, network: &str) -> Result<Plan, Box<dyn Error>> {
    let capability = |name: &str, paths: &[String]| {
        format!(
            "[[envelope.capability]]\nname = {name:?}\npaths = {paths:?}\njustification = \"bench\"\n"
        )
    };
    let own = |paths: &[&str]| paths.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>();
    let mut read = own(&[
        "/root/f_x",
        "/etc/ld.so.cache",
        "/usr/bin/true",
        "/usr/lib/x86_64-linux-gnu/libc.so.6",
        "/usr/lib/x86_64-linux-gnu/libfoo0500.so.1",
        "/usr/share/zoneinfo/**",
        "/etc/ssl/**",
        "/etc/hosts",
        "/etc/passwd",
        "/proc/self/**",
        "/proc/meminfo",
        "/sys/fs/cgroup/**",
        "/var/lib/bench/**",
        "/srv/bench/*",
    ]);
    let write = capability(
        "fs:write",
        &own(&["/srv/bench/written", "/var/lib/bench/**"]),
    );
    let create = capability(
        "fs:create",
        &own(&["/var/lib/bench/**", "/var/cache/bench/**"]),
    );
    let delete = capability("fs:delete", &own(&["/var/cache/bench/**"]));
    let exec = capability("process:exec", &own(&["/usr/bin/true"]));
    let load = own(&[program, "/usr/bin/true", "/usr/lib/x86_64-linux-gnu/**"]);
    let load = capability("code:load", &load);
    let rest = [write, create, delete, exec, load, network.to_owned()].concat();

    let taken = guest::plan(&(capability("fs:read", &read) + &rest))
        .rules
        .len();
    let neighbours = (0..RULES.saturating_sub(taken))
        .map(|number| format!("/usr/lib/x86_64-linux-gnu/libfoo{:04}.so.1", 450 + number))
        .filter(|path| !path.contains("0500"));
    read.extend(neighbours);
    Ok(guest::plan(&(capability("fs:read", &read) + &rest)))
}
