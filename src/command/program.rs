//! What a program is and what can be seen from outside that it needs: its ELF tables, its `#!` line.

use std::collections::BTreeSet;
use std::path::Path;

use goblin::elf::Elf;

/// What kind of file a program is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Form {
    Elf(Linkage),
    /// The interpreter as the `#!` line names it, and its one argument.
    Script {
        interpreter: String,
        argument: Option<String>,
    },
    /// Nothing that this kernel runs by itself, or a format that is not known here.
    Other,
}

/// What an ELF file says of itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Linkage {
    /// Whether a dynamic linker loads it.
    pub(super) dynamic: bool,
    /// Names of the libraries that it is linked with.
    pub(super) libraries: BTreeSet<String>,
    /// Directories in which it looks for libraries before the usual ones.
    pub(super) library_dirs: BTreeSet<String>,
    /// Functions that it takes from libraries.
    pub(super) imports: BTreeSet<String>,
    /// Packages of the Go library that are built into it.
    pub(super) go_packages: BTreeSet<&'static str>,
}

/// Something that a program needs, and where that was seen.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Need {
    /// A profile of this platform, without `profile:`.
    pub(super) profile: &'static str,
    pub(super) why: String,
}

/// What stands in a Go program's function table when a package is built in.
const GO_PACKAGES: &[(&str, &[u8])] = &[
    ("net", b"net.(*Resolver)"),
    ("crypto/x509", b"crypto/x509.(*CertPool)"),
    ("os/user", b"os/user.Lookup"),
];

/// Profile, functions, prefixes of libraries, Go package: any of them shows the need.
type Sign = (
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
    &'static str,
);

const SIGNS: &[Sign] = &[
    (
        "dns",
        &[
            "getaddrinfo",
            "gethostbyname",
            "gethostbyname_r",
            "gethostbyname2_r",
            "getnameinfo",
            "res_query",
        ],
        &["libresolv.", "libcurl", "libcares."],
        "net",
    ),
    (
        "tls",
        &[],
        &[
            "libssl.",
            "libssl3.",
            "libgnutls",
            "libmbedtls.",
            "libwolfssl.",
            "libcurl",
        ],
        "crypto/x509",
    ),
    (
        "users",
        &[
            "getpwnam",
            "getpwnam_r",
            "getpwuid",
            "getpwuid_r",
            "getgrnam",
            "getgrnam_r",
            "getgrgid",
            "getgrgid_r",
            "getgrouplist",
            "initgroups",
        ],
        &[],
        "os/user",
    ),
    (
        "locale",
        &["setlocale", "newlocale", "bindtextdomain"],
        &[],
        "",
    ),
];

/// Looks at a program's bytes. `path` is its own, for libraries that it looks for beside itself.
pub(super) fn look(bytes: &[u8], path: &Path) -> Form {
    if let Some(rest) = bytes.strip_prefix(b"#!") {
        return script(rest);
    }
    match Elf::parse(bytes) {
        Ok(elf) => Form::Elf(linkage(&elf, bytes, path)),
        Err(_) => Form::Other,
    }
}

/// The kernel takes all behind the interpreter as one argument.
fn script(rest: &[u8]) -> Form {
    let line = rest.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let line = line.trim();
    let (interpreter, argument) = line
        .split_once([' ', '\t'])
        .map_or((line, None), |(interpreter, rest)| {
            (interpreter, Some(rest.trim()))
        });
    if interpreter.is_empty() {
        return Form::Other;
    }
    Form::Script {
        interpreter: interpreter.to_owned(),
        argument: argument.filter(|text| !text.is_empty()).map(str::to_owned),
    }
}

fn linkage(elf: &Elf<'_>, bytes: &[u8], path: &Path) -> Linkage {
    let origin = path.parent().unwrap_or(Path::new("/")).to_string_lossy();
    let library_dirs = elf
        .rpaths
        .iter()
        .chain(&elf.runpaths)
        .flat_map(|list| list.split(':'))
        .map(|dir| {
            dir.replace("${ORIGIN}", &origin)
                .replace("$ORIGIN", &origin)
        })
        .filter_map(|dir| Some(Path::new(&dir).canonicalize().ok()?.to_str()?.to_owned()))
        .collect();
    let imports = elf
        .dynsyms
        .iter()
        .filter(|symbol| symbol.is_import())
        .filter_map(|symbol| elf.dynstrtab.get_at(symbol.st_name))
        .map(str::to_owned)
        .collect();
    Linkage {
        dynamic: elf.interpreter.is_some(),
        libraries: elf.libraries.iter().map(|&name| name.to_owned()).collect(),
        library_dirs,
        imports,
        go_packages: go_packages(elf, bytes),
    }
}

fn go_packages(elf: &Elf<'_>, bytes: &[u8]) -> BTreeSet<&'static str> {
    let table = elf
        .section_headers
        .iter()
        .find(|header| {
            let name = elf.shdr_strtab.get_at(header.sh_name);
            matches!(name, Some(".gopclntab" | ".data.rel.ro.gopclntab"))
        })
        .and_then(|header| bytes.get(header.file_range()?));
    let Some(table) = table else {
        return BTreeSet::new();
    };
    GO_PACKAGES
        .iter()
        .filter(|(_, sign)| table.windows(sign.len()).any(|window| window == *sign))
        .map(|(package, _)| *package)
        .collect()
}

impl Linkage {
    /// The profiles whose signs it shows, beside `base`.
    pub(super) fn needs(&self) -> Vec<Need> {
        SIGNS.iter().filter_map(|sign| self.shows(sign)).collect()
    }

    fn shows(&self, &(profile, functions, libraries, package): &Sign) -> Option<Need> {
        let function = functions
            .iter()
            .find(|name| self.imports.contains(**name))
            .map(|name| format!("calls {name}"));
        let library = || {
            self.libraries
                .iter()
                .find(|library| libraries.iter().any(|prefix| library.starts_with(prefix)))
                .map(|library| format!("is linked with {library}"))
        };
        let package = || {
            self.go_packages
                .contains(package)
                .then(|| format!("holds the Go package {package}"))
        };
        function
            .or_else(library)
            .or_else(package)
            .map(|why| Need { profile, why })
    }

    /// Whether it takes any of these functions from a library.
    pub(super) fn calls(&self, functions: &[&str]) -> bool {
        functions.iter().any(|name| self.imports.contains(*name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_test_is_a_dynamic_program() {
        let path = std::env::current_exe().unwrap();
        let bytes = std::fs::read(&path).unwrap();

        let Form::Elf(linkage) = look(&bytes, &path) else {
            panic!("no ELF");
        };

        assert!(linkage.dynamic);
        assert!(
            linkage
                .libraries
                .iter()
                .any(|name| name.starts_with("libc.so"))
        );
        assert!(linkage.calls(&["write", "writev"]));
        assert_eq!(linkage.go_packages, BTreeSet::new());
    }

    #[test]
    fn the_interpreter_line_is_read_as_the_kernel_reads_it() {
        let script = |interpreter: &str, argument: Option<&str>| Form::Script {
            interpreter: interpreter.into(),
            argument: argument.map(str::to_owned),
        };
        for (text, expected) in [
            ("#!/bin/sh\necho", script("/bin/sh", None)),
            (
                "#! /usr/bin/env -S python3 -u\n",
                script("/usr/bin/env", Some("-S python3 -u")),
            ),
            ("#!/usr/bin/perl -w", script("/usr/bin/perl", Some("-w"))),
            ("#!\n", Form::Other),
            ("MZ", Form::Other),
            ("", Form::Other),
        ] {
            assert_eq!(look(text.as_bytes(), Path::new("/x")), expected, "{text}");
        }
    }

    #[test]
    fn needs_follow_from_functions_libraries_and_go_packages() {
        let of = |functions: &[&str], libraries: &[&str], packages: &[&'static str]| {
            let linkage = Linkage {
                imports: functions.iter().map(|&name| name.to_owned()).collect(),
                libraries: libraries.iter().map(|&name| name.to_owned()).collect(),
                go_packages: packages.iter().copied().collect(),
                ..Linkage::default()
            };
            let profiles: Vec<_> = linkage.needs().iter().map(|need| need.profile).collect();
            profiles
        };

        assert_eq!(of(&["getaddrinfo"], &["libssl.so.3"], &[]), ["dns", "tls"]);
        assert_eq!(of(&[], &["libcurl-gnutls.so.4"], &[]), ["dns", "tls"]);
        assert_eq!(of(&[], &[], &["net", "os/user"]), ["dns", "users"]);
        assert_eq!(
            of(&["setlocale", "malloc"], &["libc.so.6"], &[]),
            ["locale"]
        );
        assert_eq!(of(&[], &[], &[]), [""; 0]);
    }

    #[test]
    fn a_broken_elf_is_no_program() {
        assert_eq!(
            look(b"\x7fELF\x02\x01\x01garbage", Path::new("/x")),
            Form::Other
        );
    }
}
