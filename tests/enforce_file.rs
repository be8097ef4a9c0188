//! Domain file on a real kernel: what a subject may open, change, create, delete and move, by which name,
//! and that nothing becomes more than it was by moving.

mod guest;

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use cartouche::bpf::sys;
use cartouche::enforcer::Mode;
use guest::{Program, ROOM, Subject, USERS};

const READ: u32 = sys::right::RIGHT_READ.0;
const WRITE: u32 = sys::right::RIGHT_WRITE.0;
const MOVE: u32 = sys::operation::OP_MOVE.0;

/// Every way to change what exists, each harmless and repeatable for the owner of `room/file`.
fn changes(room: &str) -> Vec<String> {
    [
        "open-write",
        "open-both",
        "open-truncate",
        "truncate",
        "ftruncate",
        "fallocate",
        "reopen-write",
        "chmod 0o777",
        "fchmod 0o777",
        "utimes",
        "futimes",
        "setxattr",
        "fsetxattr",
        "removexattr",
        "setacl",
        "removeacl",
        "setflags",
        "fssetxattr",
    ]
    .iter()
    .map(|act| format!("{act} {room}/file"))
    .collect()
}

#[test]
fn opening_for_reading_needs_fs_read() {
    guest::run(|guest| {
        let room = guest.files(&["yes", "no"]);

        for uid in USERS {
            let subject = guest.subject(&format!("fs:read {room}/yes")).by(uid);
            subject.may(&format!(
                "open-read {room}/yes, read {room}/yes, map-read {room}/yes"
            ));
            subject.may_not(&format!(
                "open-read {room}/no, read {room}/no, open-both {room}/yes"
            ));
        }
    });
}

#[test]
fn listing_a_directory_needs_fs_read() {
    guest::run(|guest| {
        let room = guest.files(&["yes/", "no/"]);

        for uid in USERS {
            let subject = guest.subject(&format!("fs:read {room}/yes")).by(uid);
            subject.may(&format!("readdir {room}/yes"));
            subject.may_not(&format!("readdir {room}/no, readdir {room}"));
        }
    });
}

#[test]
fn watching_a_path_needs_fs_read() {
    guest::run(|guest| {
        let room = guest.files(&["yes/", "no/", "yes/file", "no/file"]);
        for uid in USERS {
            let subject = guest.subject(&format!("fs:read {room}/yes/**")).by(uid);
            subject.may(&format!("inotify {room}/yes, inotify {room}/yes/file"));
            subject.may_not(&format!("inotify {room}/no, inotify {room}/no/file"));
            let denials = subject.denials();
            assert_eq!(denials.len(), 2, "{denials:?}");
            assert_eq!(
                denials[1].what(),
                (READ, format!("{room}/no/file").as_str())
            );
        }
    });
}

#[test]
fn changing_what_exists_needs_fs_write() {
    guest::run(|guest| {
        for uid in USERS {
            let room = guest.files_of(uid, &["file"]);
            let writer = guest
                .subject(&format!("fs:read {room}/file\nfs:write {room}/file"))
                .by(uid);
            let reader = guest.subject(&format!("fs:read {room}/file")).by(uid);
            for act in changes(&room) {
                writer.may(&act);
                if !act.starts_with("remove") {
                    reader.may_not(&act);
                }
            }
            writer.may(&format!("setxattr {room}/file, setacl {room}/file"));
            reader.may_not(&format!("removexattr {room}/file, removeacl {room}/file"));
            writer.may(&format!("chown {uid} {room}/file"));
            reader.may_not(&format!("chown {uid} {room}/file"));
            let denials = reader.denials();
            assert_eq!(denials.len(), changes(&room).len() + 1, "{denials:?}");
            for denial in denials {
                assert_eq!(denial.what(), (WRITE, format!("{room}/file").as_str()));
                assert_eq!(
                    (denial.exe.as_str(), denial.uid),
                    (reader.path.as_str(), uid)
                );
            }
        }
    });
}

#[test]
fn creating_needs_fs_create() {
    guest::run(|guest| {
        for uid in USERS {
            let room = guest.files_of(uid, &["yes/", "no/", "yes/old", "no/old"]);
            let subject = guest.subject(&format!("fs:create {room}/yes/*")).by(uid);
            for act in [
                "create D/file",
                "open-create D/file2",
                "mkdir D/dir",
                "symlink /x D/symlink",
                "link D/old D/link",
                "link-opened D/old D/link2",
                "mkfifo D/fifo",
                "mksocket D/socket",
                "otmpfile D",
                "otmpfile-link D D/named",
                "unix-bind D/bound",
            ] {
                subject.may(&act.replace('D', &format!("{room}/yes")));
                subject.may_not(&act.replace('D', &format!("{room}/no")));
            }
            assert_eq!(fs::read_dir(format!("{room}/no")).unwrap().count(), 1);
            assert_eq!(fs::read_dir(format!("{room}/yes")).unwrap().count(), 11);
        }
    });
}

#[test]
fn what_it_creates_it_may_use_but_not_open_again() {
    guest::run(|guest| {
        for uid in USERS {
            let room = guest.files_of(uid, &["old"]);
            let subject = guest.subject(&format!("fs:create {room}/*")).by(uid);
            subject.may(&format!("create-truncate {room}/new, otmpfile {room}"));
            subject.may_not(&format!(
                "open-read {room}/new, open-write {room}/new, open-create {room}/old, \
                 otmpfile-reopen {room}"
            ));
        }
    });
}

#[test]
fn deleting_needs_fs_delete() {
    guest::run(|guest| {
        for uid in USERS {
            let names = ["yes/", "no/", "yes/file", "no/file", "yes/dir/", "no/dir/"];
            let room = guest.files_of(uid, &names);
            let subject = guest.subject(&format!("fs:delete {room}/yes/*")).by(uid);
            subject.may_not(&format!(
                "unlink {room}/no/file, rmdir {room}/no/dir, rmdir {room}/yes"
            ));
            subject.may(&format!("unlink {room}/yes/file, rmdir {room}/yes/dir"));
        }
    });
}

#[test]
fn renaming_needs_fs_delete_here_and_fs_create_there() {
    guest::run(|guest| {
        for uid in USERS {
            let room = guest.files_of(uid, &["a/", "b/", "a/1", "a/2", "b/3", "a/4", "b/4"]);
            let envelope = |rules: &[&str]| {
                let lines: Vec<_> = rules.iter().map(|r| r.replace('R', &room)).collect();
                guest.subject(&lines.join("\n")).by(uid)
            };
            let creator = envelope(&["fs:create R/a/* R/b/*"]);
            let deleter = envelope(&["fs:delete R/a/*"]);
            // the same rights on both sides, so that nothing widens
            let mover = envelope(&["fs:create R/a/* R/b/*", "fs:delete R/a/* R/b/*"]);
            let act = format!("rename {room}/a/1 {room}/b/1");
            creator.may_not(&act);
            deleter.may_not(&act);
            mover.may(&act);
            mover.may(&format!(
                "rename-new {room}/b/1 {room}/a/1, rename-exchange {room}/a/1 {room}/b/3"
            ));
            // what stood there goes away
            let replacer = envelope(&["fs:create R/a/* R/b/*", "fs:delete R/a/*"]);
            replacer.may_not(&format!("rename {room}/a/4 {room}/b/4"));
            mover.may(&format!("rename {room}/a/4 {room}/b/4"));
        }
    });
}

#[test]
fn an_exception_is_carved_out_of_its_capability_and_no_other() {
    guest::run(|guest| {
        let room = guest.files(&["open", "closed/", "closed/key", "closed/public"]);
        let rules = format!(
            "fs:read {room}/** except {room}/closed/**\nfs:read {room}/closed/public\nfs:write {room}/**"
        );
        for uid in USERS {
            let subject = guest.subject(&rules).by(uid);
            subject.may(&format!(
                "open-read {room}/open, open-read {room}/closed/public"
            ));
            subject.may_not(&format!(
                "open-read {room}/closed/key, readdir {room}/closed"
            ));
            subject.may(&format!("open-write {room}/closed/key"));
        }
    });
}

#[test]
fn each_form_of_pattern_covers_what_it_says_and_no_more() {
    guest::run(|guest| {
        let names = [
            "exact",
            "exact2",
            "prefix1",
            "prefix2/",
            "prefix2/x",
            "kids/",
            "kids/1",
            "kids/d/",
            "kids/d/x",
            "tree/",
            "tree/1",
            "tree/d/",
            "tree/d/x",
            "trees",
        ];
        let room = guest.files(&names);
        let rules = ["exact", "prefix*", "kids/*", "tree/**"].map(|p| format!("{room}/{p}"));
        let subject = guest.subject(&format!("fs:read {}", rules.join(" ")));

        for name in [
            "exact", "prefix1", "prefix2", "kids/1", "kids/d", "tree", "tree/1", "tree/d/x",
        ] {
            subject.may(&format!("open-read {room}/{name}"));
        }
        for name in ["exact2", "prefix2/x", "kids", "kids/d/x", "trees", ""] {
            subject.may_not(&format!("open-read {room}/{name}"));
        }
    });
}

#[test]
fn the_most_specific_rule_of_a_right_decides() {
    guest::run(|guest| {
        let room = guest.files(&["a/", "a/b/", "a/b/c/", "a/b/c/file", "a/file", "a/b/file"]);
        let rules = format!(
            "fs:read {room}/** except {room}/a/b/**\nfs:read {room}/a/b/c/** except {room}/a/b/c/file"
        );
        let subject = guest.subject(&rules);

        subject.may(&format!("open-read {room}/a/file, open-read {room}/a/b/c"));
        subject.may_not(&format!(
            "open-read {room}/a/b/file, open-read {room}/a/b/c/file"
        ));
    });
}

#[test]
fn a_device_opens_by_an_exact_rule_only() {
    guest::run(|guest| {
        let room = guest.files(&["file"]);
        let maker = guest.outsider();
        for name in ["named", "covered"] {
            maker.may(&format!("mkchar {room}/{name}, chmod 0o666 {room}/{name}"));
        }

        for uid in USERS {
            let subject = guest
                .subject(&format!(
                    "fs:read {room}/** {room}/named\nfs:write {room}/**"
                ))
                .by(uid);
            subject.may(&format!("open-read {room}/named, open-read {room}/file"));
            subject.may_not(&format!(
                "open-read {room}/covered, open-write {room}/named"
            ));
            // no right to read or write is asked for, but ioctl needs none
            subject.may_not(&format!(
                "open-write-only {room}/covered, open-write-only {room}/named"
            ));
        }
    });
}

#[test]
fn a_device_does_not_move_to_where_a_rule_names_it() {
    guest::run(|guest| {
        let room = guest.files(&[]);
        guest.outsider().may(&format!(
            "mkchar {room}/covered, chmod 0o666 {room}/covered"
        ));
        let subject = guest.subject(&format!(
            "fs:read {room}/** {room}/named\nfs:create {room}/**\nfs:delete {room}/**"
        ));

        subject.may_not(&format!(
            "rename {room}/covered {room}/named, link {room}/covered {room}/named"
        ));
        subject.may(&format!("rename {room}/covered {room}/other"));
    });
}

#[test]
fn terminals_open_below_dev_pts() {
    guest::run(|guest| {
        let rules = "fs:read /dev/ptmx /dev/pts/*\nfs:write /dev/ptmx /dev/pts/*";
        for uid in USERS {
            guest
                .subject(rules)
                .by(uid)
                .is_not_refused("open-both /dev/ptmx");
            guest.subject("").by(uid).may_not("open-both /dev/ptmx");
        }
        // somebody else's, which is locked: the kernel itself says EIO
        let _other = fs::File::open("/dev/ptmx").unwrap();
        let open = "open-read /dev/pts/0";
        guest.outsider().gets(open, "EIO");
        guest.subject("fs:read /dev/pts/*").gets(open, "EIO");
        guest.subject("fs:read /dev/pts/0").gets(open, "EIO");
        guest.subject("fs:read /** /dev/pts/**").may_not(open);
    });
}

#[test]
fn the_usual_devices_need_no_rule() {
    guest::run(|guest| {
        for uid in USERS {
            let subject = guest.subject("").by(uid);
            for device in ["null", "zero", "full", "random", "urandom"] {
                subject.may(&format!(
                    "open-read /dev/{device}, open-write /dev/{device}"
                ));
            }
        }
    });
}

#[test]
fn a_process_sees_itself_as_self_and_others_as_a_star() {
    guest::run(|guest| {
        let others = guest.subject("fs:read /proc/*/status");
        let itself = guest.subject("fs:read /proc/self/status");
        let all = guest.subject("fs:read /proc/**");

        itself.may("open-read /proc/self/status, open-read /proc/thread-self/status");
        itself.may_not("open-read /proc/1/status, fork in /proc/1 open-read status");
        others.may("open-read /proc/1/status");
        others.may_not("open-read /proc/1/cmdline");
        all.may("open-read /proc/1/status, open-read /proc/self/status, open-read /proc/uptime");
    });
}

#[test]
fn moving_a_file_never_widens() {
    guest::run(|guest| {
        let room = guest.files(&["open/", "shut/", "open/a", "shut/b", "shut/c"]);
        let subject = guest.subject(&free_but_for_reading(&room));

        subject.may_not(&format!(
            "rename {room}/shut/b {room}/open/b, rename-new {room}/shut/b {room}/open/b"
        ));
        subject.may_not(&format!("rename-exchange {room}/shut/b {room}/open/a"));
        subject.may_not(&format!("rename-exchange {room}/open/a {room}/shut/b"));
        subject.may_not(&format!(
            "link {room}/shut/b {room}/open/b, link-opened {room}/shut/b {room}/open/b"
        ));
        let denials = subject.denials();
        assert_eq!(denials.len(), 6);
        assert!(
            denials.iter().all(|denial| denial.operation == MOVE),
            "{denials:?}"
        );
        subject.may(&format!(
            "rename {room}/open/a {room}/shut/a, rename-exchange {room}/shut/b {room}/shut/c"
        ));
    });
}

/// A subject that may do anything in `room` but read, and read in `room/open`.
fn free_but_for_reading(room: &str) -> String {
    ["fs:create", "fs:delete", "fs:write"]
        .iter()
        .map(|right| format!("{right} {room}/**\n"))
        .collect::<String>()
        + &format!("fs:read {room}/open/**")
}

#[test]
fn moving_a_directory_never_widens_what_is_in_it() {
    guest::run(|guest| {
        let room = guest.files(&["open/", "shut/", "shut/d/", "shut/d/file", "open/e/"]);
        let subject = guest.subject(&free_but_for_reading(&room));

        subject.may_not(&format!("rename {room}/shut/d {room}/open/d"));
        subject.may_not(&format!("rename-exchange {room}/shut/d {room}/open/e"));
        subject.may(&format!("rename {room}/open/e {room}/shut/e"));
    });
}

#[test]
fn nothing_above_a_rule_moves_away_or_there() {
    guest::run(|guest| {
        let room = guest.files(&["a/", "a/b/", "a/b/key", "w/", "w/b/", "w/b/key"]);
        let rules = format!(
            "fs:create {room}/**\nfs:delete {room}/**\nfs:read {room}/a/b/key {room}/gone/b/key"
        );
        let subject = guest.subject(&rules);

        subject.may_not(&format!(
            "rename {room}/a {room}/z, rename {room}/a/b {room}/a/z"
        ));
        subject.may_not(&format!(
            "rename {room}/w {room}/gone, rename-exchange {room}/w {room}/a"
        ));
        subject.may_not(&format!("rename {room}/w/b/key {room}/a/b/key"));
        subject.may(&format!("rename {room}/w {room}/v"));
    });
}

#[test]
fn an_exception_does_not_move_out_of_the_way() {
    guest::run(|guest| {
        let room = guest.files(&["d/", "d/key", "d/x/", "d/x/key"]);
        let rules = format!(
            "fs:create {room}/**\nfs:delete {room}/**\nfs:read {room}/** except {room}/d/key {room}/d/x/**"
        );
        let subject = guest.subject(&rules);

        subject.may_not(&format!(
            "rename {room}/d/key {room}/key, link {room}/d/key {room}/key"
        ));
        subject.may_not(&format!(
            "rename {room}/d {room}/e, rename {room}/d/x {room}/d/y"
        ));
        subject.may(&format!("open-read {room}"));
    });
}

#[test]
fn what_stands_at_a_claimed_path_and_is_not_admitted_stays_there() {
    guest::run(|guest| {
        let owner = guest.subject("");
        owner.claims();
        let (path, aside) = (owner.path.clone(), format!("{}-aside", owner.path));
        let admitted = format!("{path}-admitted");
        fs::hard_link(&path, &admitted).unwrap();
        for uid in USERS {
            let mover = guest
                .subject(&format!("fs:create {ROOM}/*\nfs:delete {ROOM}/*"))
                .by(uid);
            let there_and_back = format!("rename {path} {aside}, rename {aside} {path}");
            mover.may(&there_and_back);
            let other = guest.outsider();
            fs::rename(&other.path, &path).unwrap();

            mover.may_not(&format!("rename {path} {aside}"));

            assert_eq!(mover.denials().pop().unwrap().operation, MOVE);
            owner.unclaims();
            mover.may(&there_and_back);
            owner.claims();
            fs::remove_file(&path).unwrap();
            fs::hard_link(&admitted, &path).unwrap();
        }
    });
}

#[test]
fn what_is_opened_below_a_descriptor_is_judged_by_its_present_path() {
    guest::run(|guest| {
        let room = guest.files(&["open/", "open/d/", "open/d/file", "shut/"]);
        let subject = guest.subject(&free_but_for_reading(&room));

        subject.may_not(&format!("carry {room}/open/d {room}/shut/d file"));
    });
}

#[test]
fn a_link_is_followed_to_where_it_leads() {
    guest::run(|guest| {
        let room = guest.files(&["open/", "secret"]);
        symlink(format!("{room}/secret"), format!("{room}/open/link")).unwrap();
        symlink(format!("{room}/open"), format!("{room}/way")).unwrap();
        fs::write(format!("{room}/open/file"), "").unwrap();
        let subject = guest.subject(&format!("fs:read {room}/open/**"));

        subject.may_not(&format!("open-read {room}/open/link"));
        subject.may(&format!(
            "open-read {room}/way/file, in {room}/way open-read ./../open/file"
        ));
    });
}

#[test]
fn a_deleted_file_is_not_opened_again() {
    guest::run(|guest| {
        let room = guest.files(&["1", "2", "x (deleted)"]);
        let subject = guest.subject(&free_but_for_reading(&room).replace("open/**", "**"));

        subject.may_not(&format!("deleted-reopen {room}/1"));
        subject.may(&format!("deleted-truncate {room}/2"));
        let odd = format!("{room}/x (deleted)");
        assert_eq!(subject.run_words(&["open-read", &odd]), ["ok"]);
    });
}

#[test]
fn pipes_and_memory_files_of_its_own_are_free() {
    guest::run(|guest| {
        for uid in USERS {
            let subject = guest.subject("").by(uid);
            subject.may("pipe-reopen, memfd-reopen, memfd-truncate");
        }
    });
}

#[test]
fn flags_of_open_hide_nothing() {
    guest::run(|guest| {
        let room = guest.files(&["file"]);
        let nothing = guest.subject("");
        let reader = guest.subject(&format!("fs:read {room}/file"));

        nothing.may_not(&format!(
            "open-as-exec {room}/file, open-write-only {room}/file, reopen-path {room}/file"
        ));
        reader.may(&format!(
            "open-as-exec {room}/file, reopen-path {room}/file"
        ));
        reader.may_not(&format!("open-write-only {room}/file"));
        for uid in USERS {
            let both = format!("fs:read {room}/file\nfs:write {room}/file");
            let writer = guest.subject(&format!("fs:write {room}/file")).by(uid);
            let act = format!("open-write-only {room}/file");
            writer.may_not(&act);
            assert_eq!(writer.denials()[0].operation, READ);
            guest.subject(&both).by(uid).may(&act);
        }
    });
}

#[test]
fn a_long_path_is_judged_whole() {
    guest::run(|guest| {
        let room = guest.files(&["deep/", "short/"]);
        let name = "n".repeat(200);
        let outsider = guest.outsider();
        // 18 levels below the room: within PATH_MAX; 25: beyond it
        for depth in [18, 25] {
            let top = format!("{room}/deep/{depth}");
            fs::create_dir(&top).unwrap();
            outsider.run(&format!("in {top} mkdirs {name} {depth}"));
            outsider.may(&format!("in {top} descend {name} {depth} create file"));
        }
        let subject = guest.subject(&format!("fs:read {room}/deep/**"));

        subject.may(&format!(
            "in {room}/deep/18 descend {name} 18 open-read file"
        ));
        subject.may_not(&format!(
            "in {room}/deep/25 descend {name} 25 open-read file"
        ));
        let denial = subject.denials().pop().unwrap();
        assert_eq!(denial.reason, sys::reason::REASON_UNNAMEABLE.0);
        guest.subject("").may_not(&format!(
            "in {room}/deep/18 descend {name} 18 open-read file"
        ));
    });
}

#[test]
fn a_path_longer_than_a_rule_matches_no_rule_of_its_beginning() {
    guest::run(|guest| {
        let room = guest.directory();
        // `…/d/*` is 255 bytes, the longest rule; `…/d/` fills the key but for one byte
        let name = "d".repeat(255 - room.len() - 3);
        let base = format!("{room}/{name}");
        fs::create_dir_all(format!("{base}/sub/x")).unwrap();
        fs::write(format!("{base}/file"), "").unwrap();
        fs::write(format!("{base}/sub/file"), "").unwrap();
        let children = guest.subject(&format!("fs:read {base}/*"));
        let exact = guest.subject(&format!("fs:read {base}/f"));

        children.may(&format!("open-read {base}/file, open-read {base}/sub"));
        children.may_not(&format!("open-read {base}/sub/file, open-read {base}"));
        exact.may_not(&format!("open-read {base}/file"));
    });
}

#[test]
fn rules_of_all_lengths_decide_alike() {
    guest::run(|guest| {
        let room = guest.directory();
        // shorter ones lie in a plan's first trie, longer ones in its second
        let short = sys::RULE_SHORT as usize;
        for length in short - 3..=short + 3 {
            let base = format!("{room}/{}", "n".repeat(length - room.len() - 1));
            fs::create_dir_all(format!("{base}/d")).unwrap();
            for file in ["x", "y", "d/z"] {
                fs::write(format!("{base}/{file}"), "").unwrap();
            }
            fs::write(format!("{base}x"), "").unwrap();
            for (rules, may, may_not) in [
                ("B/x", "B/x", "B/y, open-read Bx, open-read B"),
                ("B", "B", "Bx, open-read B/x"),
                ("B*", "Bx, open-read B", "B/x"),
                (
                    "B/*",
                    "B/x, open-read B/d",
                    "B/d/z, open-read B, open-read Bx",
                ),
                ("B/**", "B, open-read B/d/z", "Bx"),
                (
                    "R/** except B/**",
                    "Bx, open-read R",
                    "B/x, open-read B, open-read B/d/z",
                ),
                (
                    "R/** except B/d/**",
                    "B/x, open-read Bx",
                    "B/d/z, open-read B/d",
                ),
                (
                    "R/** except B/*",
                    "B, open-read B/d/z",
                    "B/x, open-read B/y",
                ),
            ] {
                let filled = |text: &str| text.replace('B', &base).replace("R", &room);
                let subject = guest.subject(&format!("fs:read {}", filled(rules)));

                subject.may(&filled(&format!("open-read {may}")));
                subject.may_not(&filled(&format!("open-read {may_not}")));
            }
        }
    });
}

#[test]
fn rules_of_all_lengths_count() {
    guest::run(|guest| {
        let room = guest.files(&["a/"]);
        let long = format!("{room}/a/{}", "n".repeat(sys::RULE_SHORT as usize));
        fs::write(&long, "").unwrap();
        let subject = guest.subject(&format!("fs:read {room}/a {long}"));

        subject.may(&format!(
            "open-read {long}, open-read {room}/a, open-read {long}"
        ));

        assert_eq!(subject.uses(&format!("fs:read {room}/a")), 1);
        assert_eq!(subject.uses(&format!("fs:read {long}")), 2);
    });
}

#[test]
fn a_name_may_hold_any_byte() {
    guest::run(|guest| {
        let room = guest.files(&["yes/", "no/"]);
        let subject = guest.subject(&format!("fs:create {room}/yes/*"));
        for name in ["a\nb", "*", "**", "..x", "a, b", "\u{1}", "ünï", "-"] {
            let yes = format!("{room}/yes/{name}");
            let no = format!("{room}/no/{name}");
            assert_eq!(
                subject.run_words(&["create", &yes, ",", "create", &no]),
                ["ok", "EPERM"]
            );
            assert_eq!(subject.denials().pop().unwrap().object, no);
        }
    });
}

#[test]
fn a_literal_star_is_no_other_process() {
    guest::run(|guest| {
        let room = guest.files(&["*/", "*/status"]);
        let subject = guest.subject("fs:read /proc/*/status");

        subject.may_not(&format!("open-read {room}/*/status"));
    });
}

#[test]
fn a_chroot_from_outside_changes_no_path() {
    guest::run(|guest| {
        let subject = guest.subject(&format!("fs:read {ROOM}/**"));
        let jail = guest.files(&["file"]);
        let status = std::process::Command::new("unshare")
            .args(["-m", "sh", "-c"])
            .arg(format!(
                "mount --rbind / /mnt && mkdir -p /mnt/tmp && exec chroot /mnt {} open-read {jail}/file",
                subject.path
            ))
            .output()
            .unwrap();
        let lines = String::from_utf8_lossy(&status.stdout).into_owned();

        // the library rules name /usr/lib, and there it is /mnt/usr/lib
        assert!(!lines.contains("ok"), "{status:?}");
        assert!(
            subject
                .denials()
                .iter()
                .any(|denial| denial.object.starts_with("/mnt/"))
        );
    });
}

#[test]
fn nothing_is_opened_on_a_mount_that_is_gone() {
    guest::run(|guest| {
        let room = guest.files(&["mount/"]);
        let subject = guest.subject("fs:read /**");
        let script = format!(
            "mount -t tmpfs none {room}/mount && cd {room}/mount && echo 1 >file && umount -l . && \
             exec {} open-read file",
            subject.path
        );
        let output = std::process::Command::new("sh")
            .args(["-c", &script])
            .output()
            .unwrap();

        assert_eq!(
            String::from_utf8_lossy(&output.stdout).trim(),
            "EPERM",
            "{output:?}"
        );
        assert_eq!(
            subject.denials()[0].reason,
            sys::reason::REASON_UNNAMEABLE.0
        );
    });
}

/// Mounts low/ and up/ of a room, one over the other, at merged/.
fn mount_overlay(room: &str) {
    let script = format!(
        "modprobe overlay; mount -t overlay -o lowerdir={room}/low,upperdir={room}/up,workdir={room}/work \
         none {room}/merged"
    );
    let status = std::process::Command::new("sh")
        .args(["-c", &script])
        .status();
    assert!(status.is_ok_and(|status| status.success()));
}

#[test]
fn an_overlay_is_judged_by_its_own_names() {
    guest::run(|guest| {
        let room = guest.files(&[
            "low/", "up/", "work/", "merged/", "low/1", "low/2", "low/3", "low/4",
        ]);
        mount_overlay(&room);
        let m = format!("{room}/merged");
        let subject = guest.subject(
            &["fs:read", "fs:write", "fs:create", "fs:delete"]
                .map(|right| format!("{right} {m}/*"))
                .join("\n"),
        );
        let stranger = guest.subject(&format!("fs:read {m}/* {room}/low/* {room}/up/*"));

        stranger.may_not(&format!(
            "open-write {m}/1, utimes {m}/1, setxattr {m}/1, chmod 0o700 {m}/1"
        ));
        stranger.may_not(&format!("create {m}/new, unlink {m}/1, rename {m}/1 {m}/0"));
        stranger.may(&format!("open-read {m}/1, map-read {m}/1"));
        subject.may(&format!(
            "open-read {m}/1, open-write {m}/1, open-read {m}/1, truncate {m}/1"
        ));
        subject.may(&format!(
            "utimes {m}/2, chmod 0o700 {m}/2, create {m}/new, rename {m}/new {m}/newer"
        ));
        subject.may(&format!(
            "unlink {m}/newer, rename {m}/2 {m}/two, unlink {m}/1, mkdir {m}/dir"
        ));
        subject.may_not(&format!("open-read {room}/low/1, open-write {room}/up/two"));
        let _ = std::process::Command::new("umount").arg(&m).status();
    });
}

#[test]
fn nobody_writes_to_an_admitted_executable() {
    guest::run(|guest| {
        let room = guest.directory();
        let subject = guest.subject("");
        let writer = guest.subject("fs:read /srv/**\nfs:write /srv/**");
        let outsider = guest.outsider();
        let alias = format!("{room}/alias");
        outsider.may(&format!("link {} {alias}", subject.path));
        for path in [subject.path.as_str(), alias.as_str()] {
            for act in [
                "open-write",
                "open-both",
                "open-truncate",
                "truncate",
                "reopen-write",
            ] {
                outsider.may_not(&format!("{act} {path}"));
                writer.may_not(&format!("{act} {path}"));
            }
        }
        let denials = subject.denials();
        assert_eq!(denials.len(), 20, "{denials:?}");
        assert!(
            denials
                .iter()
                .all(|d| d.operation == sys::operation::OP_PINNED.0)
        );
        assert_eq!(denials[0].object, subject.path);
        assert_eq!(denials[0].exe, outsider.path);
        // its name is no content: that is how packages replace it
        outsider.may(&format!(
            "rename {0} {room}/x, rename {room}/x {0}",
            subject.path
        ));
    });
}

#[test]
fn nobody_writes_to_an_admitted_executable_through_an_overlay() {
    guest::run(|guest| {
        let room = guest.files(&["low/", "up/", "work/", "merged/", "up/other"]);
        let program = Program::copy(&format!("{room}/up/program"));
        let subject = Subject::of(guest, program, "profile:base", Mode::Enforce);
        let size = fs::metadata(&subject.path).unwrap().len();
        mount_overlay(&room);
        let outsider = guest.outsider();

        for act in ["truncate", "open-truncate", "open-write"] {
            outsider.may_not(&format!("{act} {room}/merged/program"));
            outsider.may(&format!("{act} {room}/merged/other"));
        }
        assert_eq!(fs::metadata(&subject.path).unwrap().len(), size);
        assert!(
            subject
                .denials()
                .iter()
                .all(|d| d.operation == sys::operation::OP_PINNED.0)
        );
        let _ = std::process::Command::new("umount")
            .arg(format!("{room}/merged"))
            .status();
    });
}

#[test]
fn nobody_gives_an_admitted_executable_another_generation() {
    guest::run(|guest| {
        let room = guest.files(&["other"]);
        let subject = guest.subject("");
        let outsider = guest.outsider();
        // of ext4, of every file system, and both as 32-bit programs ask
        for command in [0x4008_6604_u32, 0x4008_7602, 0x4004_6604, 0x4004_7602] {
            outsider.may_not(&format!("ioctl {} {command}", subject.path));
            assert_eq!(subject.denials()[0].operation, sys::operation::OP_PINNED.0);
            let other = outsider.run(&format!("ioctl {room}/other {command}"));
            assert_ne!(other, ["EPERM"], "{command:#x}");
        }
    });
}

#[test]
fn what_is_carved_out_is_not_reached_by_another_spelling() {
    guest::run(|guest| {
        let room = guest.directory();
        let (image, mount) = (format!("{room}/image"), format!("{room}/mount"));
        let tool = |program: &str, arguments: &[&str]| {
            let output = Command::new(program).args(arguments).output().unwrap();
            assert!(
                output.status.success(),
                "{program} {arguments:?}: {output:?}"
            );
        };
        fs::create_dir(&mount).unwrap();
        tool("truncate", &["-s", "16M", &image]);
        tool("mkfs.ext4", &["-q", "-O", "casefold", &image]);
        tool("modprobe", &["loop"]);
        tool("mount", &["-o", "loop", &image, &mount]);
        for (directory, folds) in [("folds", true), ("tells", false)] {
            let base = format!("{mount}/{directory}");
            fs::create_dir(&base).unwrap();
            if folds {
                tool("chattr", &["+F", &base]);
            }
            fs::write(format!("{base}/secret"), "").unwrap();
            fs::write(format!("{base}/open"), "").unwrap();
            let carved = guest.subject(&format!("fs:read {base}/** except {base}/secret"));
            let whole = guest.subject(&format!("fs:read {base}/open"));

            carved.may_not(&format!("open-read {base}/secret"));
            whole.may(&format!("open-read {base}/open"));
            if folds {
                // nothing there can be told from what is carved out
                carved.may_not(&format!("open-read {base}/SECRET, open-read {base}/open"));
                let denial = carved.denials().pop().unwrap();
                assert_eq!(denial.reason, sys::reason::REASON_UNNAMEABLE.0);
                guest.outsider().may(&format!("open-read {base}/SECRET"));
            } else {
                carved.may(&format!("open-read {base}/open"));
            }
        }
        tool("umount", &[&mount]);
    });
}

#[test]
fn no_subject_makes_or_removes_subvolumes_of_btrfs() {
    guest::run(|guest| {
        let room = guest.files(&["file"]);
        let all = ["read", "write", "create", "delete"];
        let subject = guest.subject(&all.map(|right| format!("fs:{right} {room}/**")).join("\n"));

        for command in [
            0x5000_9401_u32,
            0x5000_940e,
            0x5000_940f,
            0x5000_9417,
            0x5000_9418,
            0x5000_943f,
        ] {
            subject.may_not(&format!("ioctl {room} {command}"));
            assert_eq!(
                subject.denials()[0].what(),
                (sys::right::RIGHT_CREATE.0, room.as_str())
            );
            guest
                .outsider()
                .gets(&format!("ioctl {room} {command}"), "ENOTTY");
        }
        // FICLONE has the same type: two files that were opened
        subject.gets(&format!("ioctl {room}/file {}", 0x4004_9409_u32), "EBADF");
    });
}

#[test]
fn metadata_of_btrfs_is_changed_by_those_who_may_write() {
    guest::run(|guest| {
        let room = guest.files(&["subvolume/"]);
        let subvolume = format!("{room}/subvolume");
        let reader = guest.subject(&format!("fs:read {subvolume}"));
        let writer = guest.subject(&format!("fs:read {subvolume}\nfs:write {subvolume}"));

        // flags, and as 64-bit and 32-bit programs say where it was received from
        for command in [0x4008_941a_u32, 0xc0c8_9425, 0xc0c0_9425] {
            let act = format!("ioctl {subvolume} {command}");
            reader.may_not(&act);
            assert_eq!(reader.denials()[0].what(), (WRITE, subvolume.as_str()));
            writer.gets(&act, "ENOTTY");
            guest.outsider().gets(&act, "ENOTTY");
        }
    });
}

/// A floppy disk with an empty FAT: 1.44 MB, two tables of 9 sectors, 224 entries in the root.
fn floppy() -> Vec<u8> {
    let mut image =
        b"\xeb\x3c\x90MSDOS5.0\x00\x02\x01\x01\x00\x02\xe0\x00\x40\x0b\xf0\x09\x00\x12\x00\
        \x02\x00"
            .to_vec();
    image.resize(2880 * 512, 0);
    image[510..512].copy_from_slice(&[0x55, 0xaa]);
    for table in [1, 10] {
        image[table * 512..table * 512 + 3].copy_from_slice(&[0xf0, 0xff, 0xff]);
    }
    image
}

#[test]
fn attributes_of_fat_are_changed_by_those_who_may_write() {
    guest::run(|guest| {
        let room = guest.files(&["at/"]);
        fs::write(format!("{room}/image"), floppy()).unwrap();
        let sh = |script: &str| {
            let ended = std::process::Command::new("sh")
                .args(["-ec", script])
                .status();
            assert!(ended.is_ok_and(|status| status.success()), "{script}");
        };
        sh(&format!(
            "modprobe -a loop vfat; mount -o loop -t vfat {room}/image {room}/at; echo >{room}/at/file"
        ));
        let file = format!("{room}/at/file");
        let reader = guest.subject(&format!("fs:read {file}"));
        let writer = guest.subject(&format!("fs:read {file}\nfs:write {file}"));
        let outsider = guest.outsider();

        let act = format!("ioctl {file} {}", 0x4004_7211_u32);
        let is_read_only = || fs::metadata(&file).unwrap().permissions().readonly();
        for program in [&*writer, &outsider] {
            sh(&format!("chmod a-w {file}"));
            reader.may_not(&act);
            assert_eq!(reader.denials()[0].what(), (WRITE, file.as_str()));
            assert!(is_read_only());
            program.may(&act);
            assert!(!is_read_only());
        }
        sh(&format!("umount {room}/at"));
    });
}

#[test]
fn keeping_others_out_of_a_file_needs_the_right_to_change_it() {
    guest::run(|guest| {
        for uid in USERS {
            let room = guest.files_of(uid, &["file", "in/", "in/it"]);
            let read = format!("fs:read {room}/** {room}");
            let reader = guest.subject(&read).by(uid);
            let shared = format!("lock-shared {room}/file, lock-shared {room}/in");
            reader.may(&format!("{shared}, memfd-lock"));
            for act in [
                "lock-exclusive R/file",
                "lock-exclusive R/in",
                "lease R/file",
            ] {
                let act = act.replace('R', &room);
                reader.may_not(&act);
                let denials = reader.denials();
                assert_eq!(denials.len(), 1, "{act}: {denials:?}");
                assert_eq!(denials[0].operation, WRITE, "{act}");
            }

            let exclusive = format!("lock-exclusive {room}/file, lock-exclusive {room}/in");
            let written = format!("lock-written {room}/file, lock-range {room}/file");
            let lease = format!("lease {room}/file");
            let writer = guest
                .subject(&format!("{read}\nfs:write {room}/**"))
                .by(uid);
            writer.may(&format!("{shared}, {exclusive}, {written}, {lease}"));
            // a lock file: the next one finds it there
            let maker = guest
                .subject(&format!("{read}\nfs:create {room}/**"))
                .by(uid);
            for _ in 0..2 {
                maker.may(&format!("lock-created {room}/lock, {exclusive}"));
            }
            let mut outsider = guest.outsider();
            outsider.uid = uid;
            outsider.may(&format!("{shared}, {exclusive}, {written}, {lease}"));
        }
    });
}

#[test]
fn a_program_outside_is_untouched() {
    guest::run(|guest| {
        let room = guest.files(&["file", "other"]);
        let outsider = guest.outsider();

        outsider.may(
            &changes(&room)
                .join(", ")
                .replace(", removexattr", ", setxattr R/file, removexattr")
                .replace("R/", &format!("{room}/")),
        );
        outsider.may(&format!(
            "rename {room}/file {room}/moved, link {room}/moved {room}/file, unlink {room}/moved"
        ));
        let kernel = guest.kernel.borrow();
        assert!(kernel.tasks().unwrap().is_empty(), "{:?}", kernel.tasks());
    });
}

#[test]
fn rules_count_what_they_allowed() {
    guest::run(|guest| {
        let room = guest.files(&["a", "b", "d/", "d/e"]);
        let subject = guest.subject(&format!("fs:read {room}/a {room}/b {room}/d/**"));

        subject.may(&format!(
            "open-read {room}/a, open-read {room}/a, open-read {room}/d/e, readdir {room}/d"
        ));

        assert_eq!(subject.uses(&format!("fs:read {room}/a")), 2);
        assert_eq!(subject.uses(&format!("fs:read {room}/b")), 0);
        assert_eq!(subject.uses(&format!("fs:read {room}/d/**")), 2);
    });
}

#[test]
fn the_exact_text_of_a_path_is_reported() {
    guest::run(|guest| {
        let name = "n".repeat(250);
        let room = guest.files(&[&name]);
        let subject = guest.subject("");

        subject.may_not(&format!("open-read {room}/{name}"));

        let denial = subject.denials().pop().unwrap();
        let path = format!("{room}/{name}");
        assert_eq!(denial.operation, READ);
        assert_eq!(denial.object_length as usize, path.len());
        assert_eq!(denial.object, path[..256.min(path.len())]);
    });
}

#[test]
fn the_root_of_a_file_system_has_a_name() {
    guest::run(|guest| {
        let subject = guest.subject("fs:read / /proc /tmp");

        subject.may("readdir /, readdir /proc, readdir /tmp");
        subject.may_not("readdir /sys, readdir /dev");
        assert_eq!(subject.denials()[0].what(), (READ, "/sys"));
    });
}

#[test]
fn audit_mode_tells_of_everything_that_is_missing() {
    guest::run(|guest| {
        let room = guest.files(&["old", "new", "tool"]);
        let subject = guest.audited("");
        let told = |act: &str| -> Vec<u32> {
            subject.denials();
            subject.may(act);
            let denials = subject.denials();
            denials.iter().map(|denial| denial.operation).collect()
        };
        let of = |rights: &[sys::right]| -> Vec<u32> { rights.iter().map(|one| one.0).collect() };

        assert_eq!(
            told(&format!("rename {room}/old {room}/new")),
            of(&[
                sys::right::RIGHT_DELETE,
                sys::right::RIGHT_CREATE,
                sys::right::RIGHT_DELETE
            ])
        );
        assert_eq!(
            told(&format!("chmod 0o4755 {room}/tool")),
            of(&[sys::right::RIGHT_WRITE, sys::right::RIGHT_SETUID])
        );
    });
}
