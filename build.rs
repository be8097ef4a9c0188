//! Builds the kernel side: clang → `bpftool gen object` → `bpftool gen skeleton` → bindgen. Needs no BTF
//! and no headers of a kernel; writes nothing outside OUT_DIR.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// One C file, one Rust module and one test each; see docs/architecture.md.
const DOMAINS: &[&str] = &[
    "exec",
    "file",
    "network",
    "ipc",
    "privilege",
    "guard",
    "cut",
];

/// What finds addresses for them.
const SYMBOL: &str = "symbol";

fn main() {
    if let Err(problem) = build() {
        eprintln!("error: {problem}");
        std::process::exit(1);
    }
}

fn build() -> Result<(), String> {
    for path in ["c-bpf", "build.rs"] {
        println!("cargo::rerun-if-changed={path}");
    }
    for variable in ["CLANG", "BPFTOOL"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    let out = PathBuf::from(variable("OUT_DIR")?);
    let clang = tool("CLANG", &["clang"], "clang")?;
    let bpftool = tool(
        "BPFTOOL",
        &["bpftool", "/usr/sbin/bpftool", "/usr/local/sbin/bpftool"],
        "bpftool",
    )?;
    let include = variable("DEP_BPF_INCLUDE")?;

    let mut umbrella = String::from("#include \"cartouche.h\"\n");
    for domain in DOMAINS.iter().chain([&SYMBOL]) {
        let raw = out.join(format!("{domain}.raw.o"));
        let object = out.join(format!("{domain}.bpf.o"));
        compile(&clang, &include, &format!("c-bpf/{domain}.bpf.c"), &raw)?;
        run(Command::new(&bpftool)
            .args(["gen", "object"])
            .arg(&object)
            .arg(&raw))?;
        let skeleton = run(Command::new(&bpftool)
            .args(["gen", "skeleton"])
            .arg(&object)
            .args(["name", &format!("{domain}_bpf")]))?;
        let header = out.join(format!("{domain}.skel.h"));
        fs::write(&header, skeleton)
            .map_err(|e| format!("cannot write {}: {e}", header.display()))?;
        let _ = writeln!(umbrella, "#include \"{domain}.skel.h\"");
    }
    bind(&out, &include, &umbrella)
}

fn compile(clang: &Path, include: &str, source: &str, object: &Path) -> Result<(), String> {
    let architecture = variable("CARGO_CFG_TARGET_ARCH")?;
    run(Command::new(clang)
        .args(["-target", "bpf", "-mcpu=v3", "-g", "-O2"])
        .args([
            "-Wall",
            "-Wextra",
            "-Wunreachable-code",
            "-Wno-unused-parameter",
            "-Wno-sign-compare",
        ])
        .args(["-Wno-missing-field-initializers", "-Werror"])
        .args(["-Ic-bpf", "-I", include])
        // <asm/types.h> lies in the multiarch directory on Debian; elsewhere this names nothing
        .args([
            "-idirafter",
            &format!("/usr/include/{architecture}-linux-gnu"),
        ])
        .args(["-c", source, "-o"])
        .arg(object))
    .map(|_| ())
}

fn bind(out: &Path, include: &str, umbrella: &str) -> Result<(), String> {
    let wrappers = out.join("skeletons_extern.c");
    let bindings = bindgen::Builder::default()
        .header_contents("umbrella.h", umbrella)
        .clang_args(["-Ic-bpf", "-I", include])
        .clang_arg(format!("-I{}", out.display()))
        .allowlist_file(".*/cartouche.h")
        .allowlist_type(".*_bpf(__.*)?")
        .allowlist_function(".*_bpf__(open_opts|destroy)")
        .blocklist_type("bpf_.*")
        .raw_line("use libbpf_sys::*;")
        .default_enum_style(bindgen::EnumVariation::NewType {
            is_bitfield: false,
            is_global: false,
        })
        .derive_default(true)
        .layout_tests(true)
        .wrap_static_fns(true)
        .wrap_static_fns_path(&wrappers)
        .generate()
        .map_err(|e| format!("bindgen cannot read the skeletons: {e}"))?;
    let target = out.join("skeletons.rs");
    bindings
        .write_to_file(&target)
        .map_err(|e| format!("cannot write {}: {e}", target.display()))?;

    // bindgen includes the header it was given, which exists in memory only
    let text = fs::read_to_string(&wrappers)
        .map_err(|e| format!("cannot read {}: {e}", wrappers.display()))?;
    let body: String = text
        .lines()
        .filter(|line| !line.contains("umbrella.h"))
        .fold(umbrella.to_owned(), |body, line| body + line + "\n");
    fs::write(&wrappers, body).map_err(|e| format!("cannot write {}: {e}", wrappers.display()))?;
    cc::Build::new()
        .file(&wrappers)
        .include("c-bpf")
        .include(include)
        .include(out)
        .warnings(false)
        .try_compile("cartouche_skeletons")
        .map_err(|e| format!("cannot compile the skeletons' wrappers: {e}"))
}

fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|_| format!("{name} is not set; build with cargo"))
}

/// A tool by its environment variable, else the first name that runs.
fn tool(variable: &str, names: &[&str], package: &str) -> Result<PathBuf, String> {
    if let Some(path) = env::var_os(variable) {
        return Ok(path.into());
    }
    names
        .iter()
        .find(|name| Command::new(name).arg("--version").output().is_ok())
        .map(PathBuf::from)
        .ok_or_else(|| {
            format!(
                "{} is missing: install the package `{package}`, or run `make deps`",
                names[0]
            )
        })
}

fn run(command: &mut Command) -> Result<Vec<u8>, String> {
    let output = command
        .output()
        .map_err(|e| format!("cannot run {:?}: {e}", command.get_program()))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(format!(
        "{:?} failed ({}):\n{}",
        command.get_program(),
        output.status,
        String::from_utf8_lossy(&output.stderr)
    ))
}
