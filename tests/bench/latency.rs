//! Measures the daemon in a guest: the time from an artifact's rename into the policies directory to its
//! enforcement while a thousand are admitted, memory, wakeups. `bench_latency work` measures what a piece
//! of the daemon's work takes where it is started, to tell the emulator's part. `tests/bench/run` starts it.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use cartouche::artifact::digest::seal;
use cartouche::artifact::draft::Draft;
use cartouche::config::Paths;
use cartouche::control::{Client, Request, Response, Standing};
use sha2::{Digest, Sha256};

const POLICIES: &str = "/etc/cartouche/policies.d";
/// Artifacts wait here, on the same file system, until they are renamed.
const STAGED: &str = "/etc/cartouche/staged";
const PROGRAMS: &str = "/srv/bench";

const ADMITTED: usize = 1000;
const DROPS: usize = 120;

/// Between two drops: the daemon is idle again, as it is when an administrator does the next thing.
const REST: Duration = Duration::from_secs(1);
const IDLE: Duration = Duration::from_secs(15);
const PATIENCE: Duration = Duration::from_secs(600);

fn main() -> ExitCode {
    let asked: Vec<String> = std::env::args().skip(1).collect();
    let result = match asked.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["work"] => work().map(|took| println!("{}", took.as_nanos())),
        [native] => measure(native),
        _ => Err("usage: bench_latency work | NANOSECONDS-OF-WORK-ON-THE-HOST".into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("bench: {problem}");
            ExitCode::FAILURE
        }
    }
}

/// What parsing and digesting one artifact takes.
fn work() -> Result<Duration, Box<dyn Error>> {
    const ROUNDS: u32 = 300;
    let text = artifact(0, &"0".repeat(64))?;
    let begun = Instant::now();
    for _ in 0..ROUNDS {
        let draft = Draft::parse(text.as_bytes(), "bench.toml").map_err(|e| format!("{e:?}"))?;
        std::hint::black_box(draft.computed_digest());
    }
    Ok(begun.elapsed() / ROUNDS)
}

fn measure(native: &str) -> Result<(), Box<dyn Error>> {
    install()?;
    let staged = stage()?;
    let (first, later) = staged.split_at(ADMITTED);
    let daemon = Daemon::start()?;
    daemon.come_to(0)?;
    sleep(REST * 2);
    let kernel_before = kernel_memory()?;

    let begun = Instant::now();
    for name in first {
        fs::rename(
            format!("{STAGED}/{name}.toml"),
            format!("{POLICIES}/{name}.toml"),
        )?;
    }
    daemon.come_to(ADMITTED)?;
    let admitting = begun.elapsed();
    // the report, the canary
    sleep(REST * 10);
    let kernel_after = kernel_memory()?;
    let resident = daemon.status_line("VmRSS:")?;
    let anonymous = daemon.status_line("RssAnon:")?;
    let switches = daemon.switches()?;
    sleep(IDLE);
    let wakeups = daemon.switches()? - switches;

    let mut times = Vec::new();
    for name in later {
        times.push(drop_one(name)?);
        sleep(REST);
    }
    daemon.come_to(ADMITTED + DROPS)?;
    times.sort();
    let here = work()?.as_nanos() as f64;
    let native: f64 = native.parse()?;

    println!(
        "Daemon, {ADMITTED} artifacts admitted (all at once, in {:.1} s)",
        admitting.as_secs_f64()
    );
    let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
    let p99 = milliseconds(percentile(&times, 99));
    println!(
        "  rename to enforced, seen by the subject   p50 {:.1} ms, p99 {p99:.1} ms, most {:.1} ms of {DROPS}   {}",
        milliseconds(percentile(&times, 50)),
        milliseconds(percentile(&times, 100)),
        judge(p99, 50.0, "ms"),
    );
    println!(
        "    an emulated processor: parsing and digesting one artifact takes {:.2} ms in it, {:.2} ms on its \
         host: {:.0} times as long",
        here / 1e6,
        native / 1e6,
        here / native
    );
    let each = (kernel_after - kernel_before) as f64 / ADMITTED as f64;
    println!(
        "  kernel memory an artifact                 {each:.1} KiB   {}",
        judge(each, 16.0, "KiB")
    );
    println!("    SUnreclaim + Percpu + VmallocUsed of /proc/meminfo, before and after");
    println!(
        "  resident memory of the daemon             {:.1} MiB, {:.1} MiB of it anonymous   {}",
        resident as f64 / 1024.0,
        anonymous as f64 / 1024.0,
        judge(resident as f64 / 1024.0, 12.0, "MiB")
    );
    println!(
        "  wakeups in {} s without events            {wakeups}   {}",
        IDLE.as_secs(),
        judge(wakeups as f64, 0.0, "")
    );
    Ok(())
}

fn judge(figure: f64, goal: f64, unit: &str) -> String {
    if figure <= goal {
        format!("within goal ({goal} {unit})")
    } else {
        format!("OVER GOAL BY {:.1} ({goal} {unit})", figure - goal)
    }
}

fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted[rank - 1]
}

/// What `make install` puts where.
fn install() -> Result<(), Box<dyn Error>> {
    for directory in [
        POLICIES,
        STAGED,
        PROGRAMS,
        "/usr/lib/cartouche/policies.d",
        "/usr/lib/cartouche/profiles.d",
        "/usr/libexec/cartouche",
    ] {
        fs::create_dir_all(directory)?;
    }
    fs::copy("cartouched", "/usr/sbin/cartouched")?;
    fs::copy("canary", "/usr/libexec/cartouche/canary")?;
    fs::copy("policies/scope.toml", "/etc/cartouche/scope.toml")?;
    for profile in fs::read_dir("policies/profiles")? {
        let profile = profile?;
        let target = Path::new("/usr/lib/cartouche/profiles.d").join(profile.file_name());
        fs::copy(profile.path(), target)?;
    }
    Ok(fs::write(forbidden(), "not declared\n")?)
}

fn forbidden() -> String {
    format!("{PROGRAMS}/forbidden")
}

/// All programs, each another file with other content, and their sealed artifacts.
fn stage() -> Result<Vec<String>, Box<dyn Error>> {
    let program = fs::read("drop")?;
    let mut names = Vec::new();
    for number in 0..ADMITTED + DROPS {
        let content = [&program[..], &number.to_le_bytes()].concat();
        let path = program_of(number);
        fs::copy("drop", &path)?; // with its mode
        fs::write(&path, &content)?;
        let hash: String = Sha256::digest(&content)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let name = format!("bench-{number:04}");
        fs::write(format!("{STAGED}/{name}.toml"), artifact(number, &hash)?)?;
        names.push(name);
    }
    Ok(names)
}

fn program_of(number: usize) -> String {
    format!("{PROGRAMS}/{number:04}")
}

/// A sealed artifact of the usual kind: a profile, some paths, an endpoint of each sort.
fn artifact(number: usize, hash: &str) -> Result<String, Box<dyn Error>> {
    let path = program_of(number);
    let text = format!(
        r#"schema_version = "1.0.0"

[artifact]
id          = "bench-{number:04}"
version     = "1.0"
publisher   = "bench"
description = "one of many"

[[artifact.executable]]
path   = "{path}"
sha256 = "{hash}"

[[envelope.capability]]
name          = "profile:base"
justification = "starts"

[[envelope.capability]]
name          = "fs:read"
paths         = ["/etc/bench/{number:04}.toml", "/srv/data/{number:04}/**", "/proc/**"]
except        = ["/proc/*/environ"]
justification = "reads what it works on"

[[envelope.capability]]
name          = "fs:write"
paths         = ["/var/lib/bench/{number:04}/**"]
justification = "keeps its state"

[[envelope.capability]]
name          = "net:listen"
endpoints     = ["tcp://[::]:9100"]
justification = "serves"

[[envelope.capability]]
name          = "net:connect"
endpoints     = ["tcp://192.0.2.0/24:443"]
justification = "reports"
"#
    );
    Ok(seal(&text, "bench.toml").map_err(|problem| format!("{problem:?}"))?)
}

/// Lets a program put its own artifact in force, and returns what it waited.
fn drop_one(name: &str) -> Result<Duration, Box<dyn Error>> {
    let number: usize = name.trim_start_matches("bench-").parse()?;
    let output = Command::new(program_of(number))
        .args([
            format!("{STAGED}/{name}.toml"),
            format!("{POLICIES}/{name}.toml"),
            forbidden(),
        ])
        .output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{name} ended with {}: {}", output.status, said.trim()).into());
    }
    let nanoseconds = String::from_utf8(output.stdout)?.trim().parse()?;
    Ok(Duration::from_nanos(nanoseconds))
}

/// In KiB, of the whole machine: what maps and other kernel objects take.
fn kernel_memory() -> Result<i64, Box<dyn Error>> {
    let text = fs::read_to_string("/proc/meminfo")?;
    ["SUnreclaim:", "Percpu:", "VmallocUsed:"]
        .iter()
        .map(|field| number_after(&text, field))
        .sum()
}

fn number_after(text: &str, field: &str) -> Result<i64, Box<dyn Error>> {
    let number = text
        .lines()
        .find_map(|line| line.strip_prefix(field))
        .and_then(|rest| rest.split_whitespace().next())
        .ok_or_else(|| format!("no {field} there"))?;
    Ok(number.parse()?)
}

struct Daemon {
    child: Child,
    client: Client,
}

impl Daemon {
    fn start() -> Result<Self, Box<dyn Error>> {
        let child = Command::new("/usr/sbin/cartouched")
            // it is ended by this program
            .env("CARTOUCHED_GUARD", "off")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .current_dir("/")
            .spawn()?;
        let client = Client::new(&Paths::default().control(), PATIENCE);
        Ok(Self { child, client })
    }

    /// Waits until it answers that so many artifacts are in force, and none is not.
    fn come_to(&self, admitted: usize) -> Result<(), Box<dyn Error>> {
        let wanted = BTreeMap::from([(Standing::Admitted, admitted as u64)]);
        let begun = Instant::now();
        let mut last = None;
        while begun.elapsed() < PATIENCE {
            if let Ok(Response::Status(status)) = self.client.ask(&Request::Status) {
                let standing: BTreeMap<_, _> = status
                    .artifacts
                    .into_iter()
                    .filter(|(_, count)| *count != 0)
                    .collect();
                if standing == wanted || (admitted == 0 && standing.is_empty()) {
                    return Ok(());
                }
                last = Some(standing);
            }
            sleep(Duration::from_millis(200));
        }
        Err(format!("the daemon does not come to {admitted} artifacts: {last:?}").into())
    }

    /// A number of /proc/PID/status.
    fn status_line(&self, field: &str) -> Result<i64, Box<dyn Error>> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        number_after(&text, field)
    }

    /// Times that any of its threads went to sleep and was woken.
    fn switches(&self) -> Result<i64, Box<dyn Error>> {
        let mut sum = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let text = fs::read_to_string(task?.path().join("status"))?;
            sum += number_after(&text, "voluntary_ctxt_switches:")?;
        }
        Ok(sum)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
