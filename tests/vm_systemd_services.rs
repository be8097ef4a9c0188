//! Five services of Debian's, started by their packages' own units, each held to its example of policies/examples:
//! they do their usual work, are reloaded, restarted and stopped, and nothing is refused to them but what lies
//! outside of their envelopes. Meanwhile other packages come, are upgraded and go.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::sync::Once;
use std::thread::sleep;
use std::time::Duration;

/// Leaves the test where no systemd may be filled with services: everywhere but in a guest of the harness.
macro_rules! in_a_guest {
    () => {
        if std::env::var("CARTOUCHE_REQUIRE").as_deref() != Ok("lsm") {
            eprintln!("skipped: runs in a virtual machine only");
            return;
        }
        install();
    };
}

/// Runs a line of shell: its exit status and what it printed.
fn shell(line: &str) -> (i32, String) {
    let output = Command::new("bash").args(["-c", line]).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    eprintln!("$ {line}\n{text}");
    (output.status.code().unwrap_or(-1), text)
}

#[track_caller]
fn succeeds(line: &str) -> String {
    let (status, text) = shell(line);
    assert_eq!(status, 0, "{line}: {text}");
    text
}

#[track_caller]
fn eventually(line: &str) {
    for _ in 0..100 {
        if shell(line).0 == 0 {
            return;
        }
        sleep(Duration::from_millis(200));
    }
    panic!("{line}");
}

/// What the site grants beyond the shipped scope: what the comments of two examples tell to add.
const SCOPE: &str = r#"
[[site.capability]]
name  = "kernel:capability"
kcaps = ["CAP_SYS_TIME"]

[[site.capability]]
name  = "ipc:unix"
paths = ["/run/dbus/system_bus_socket"]
"#;

/// A name server of time on an address of its own, and an HTTP server that no artifact knows; RFC 5905.
const SERVERS: &str = r#"
import socket, struct, threading, time

def tell_time():
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.2", 123))
    while True:
        query, client = server.recvfrom(512)
        now = time.time() + 2208988800
        stamp = struct.pack(">II", int(now), int(now % 1 * 2**32))
        head = bytes([0x24, 1, query[2], 0xEC]) + bytes(8) + b"TEST"
        server.sendto(head + stamp + query[40:48] + stamp + stamp, client)

def serve():
    server = socket.create_server(("127.0.0.1", 8081))
    while True:
        connection, _ = server.accept()
        connection.recv(4096)
        connection.sendall(b"HTTP/1.0 200 OK\r\n\r\nother\n")
        connection.close()

threading.Thread(target=tell_time).start()
serve()
"#;

/// One frontend, and a backend that the envelope does not name.
const PROXY: &str = "
frontend all
	bind :8080
	use_backend other if { path /other }
	default_backend site
backend site
	server one 127.0.0.1:80
backend other
	server two 127.0.0.1:8081
";

const SITE: &str =
    "server { listen 80; server_name more; location /outside/ { alias /srv/outside/; } }\n";

/// The daemon, all services configured and all artifacts in force; none runs yet.
fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        succeeds("cp -r installed/. / && systemctl daemon-reload");
        append("/etc/cartouche/scope.toml", SCOPE);
        succeeds("systemctl enable --now cartouched.service");
        eventually("cartouche posture");
        succeeds("systemctl stop prometheus-node-exporter.service");
        succeeds("mkdir -p /srv/outside && echo 'outside 1' >/srv/outside/f.prom");
        succeeds("ln -s /srv/outside /var/www/html/link");
        succeeds("head -c 3000000 /dev/urandom >/var/www/html/large");
        fs::write("/etc/nginx/sites-enabled/more", SITE).unwrap();
        append("/etc/haproxy/haproxy.cfg", PROXY);
        append("/etc/redis/redis.conf", "enable-protected-configs yes\n");
        fs::write(
            "/etc/chrony/sources.d/test.sources",
            "server 127.0.0.2 iburst minpoll 1 maxpoll 2\n",
        )
        .unwrap();
        fs::write("/srv/servers.py", SERVERS).unwrap();
        succeeds("systemd-run --unit=servers python3 /srv/servers.py");
        for id in ["chrony", "haproxy", "nginx", "node-exporter", "redis"] {
            succeeds(&format!(
                "cp policies/examples/{id}.toml /srv && cartouche seal --update-hashes /srv/{id}.toml && \
                 cartouche install /srv/{id}.toml"
            ));
        }
    });
}

fn append(path: &str, text: &str) {
    fs::write(path, fs::read_to_string(path).unwrap() + text).unwrap();
}

/// A started service, and what it was refused.
struct Service {
    unit: &'static str,
    id: &'static str,
}

impl Service {
    fn started(unit: &'static str, id: &'static str) -> Self {
        let this = Self { unit, id };
        this.does("start");
        this.is_held();
        this
    }

    fn does(&self, verb: &str) {
        succeeds(&format!("systemctl {verb} {}.service", self.unit));
        succeeds(&format!("systemctl is-active {}.service", self.unit));
    }

    /// Its main process is a task of the artifact.
    fn is_held(&self) {
        eventually(&format!(
            "cartouche list | awk '$1 == \"{}\" && $5 == \"enforce\" && $6 > 0 {{ found = 1 }} END {{ exit !found }}'",
            self.id
        ));
    }

    /// Restarts it, and stops it without having to use force.
    fn ends(&self) {
        self.does("restart");
        self.is_held();
        succeeds(&format!("systemctl stop {}.service", self.unit));
        let result = succeeds(&format!("systemctl show -P Result {}.service", self.unit));
        assert_eq!(result, "success\n");
    }

    /// All that was refused so far, as the operation and the beginning of the object: exactly this. What
    /// was to be refused comes last in each test, so nothing else is on its way.
    #[track_caller]
    fn was_refused(&self, expected: &[&str]) {
        let mut refused = BTreeSet::new();
        for _ in 0..50 {
            let text = succeeds(&format!("cartouche denials --json {}", self.id));
            let denials: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
            refused = denials
                .iter()
                .map(|denial| {
                    let word = |key: &str| denial[key].as_str().unwrap().to_owned();
                    format!("{} {}", word("operation"), word("object"))
                })
                .collect();
            if refused.len() >= expected.len() {
                break;
            }
            sleep(Duration::from_millis(200));
        }
        assert!(
            refused.len() == expected.len()
                && refused
                    .iter()
                    .zip(expected)
                    .all(|(refused, begin)| refused.starts_with(begin)),
            "{refused:#?}, not {expected:#?}"
        );
        assert!(succeeds("cartouche posture").starts_with("State          ENFORCE\n"));
    }
}

#[test]
fn chrony_sets_the_clock_by_its_servers_and_asks_no_other_port() {
    in_a_guest!();
    let chrony = Service::started("chrony", "chrony");

    eventually("chronyc -n sources | grep -qF '^* 127.0.0.2'");
    succeeds("chronyc tracking && chronyc activity && chronyc makestep");
    succeeds(
        "chronyc -h 127.0.0.1 tracking && chronyc reload sources && chronyc cyclelogs && chronyc dump",
    );
    succeeds("setpriv --reuid 65534 --clear-groups chronyc tracking");
    chrony.ends();
    chrony.does("start");
    succeeds("chronyc add server 127.0.0.3 port 9");

    chrony.was_refused(&["net:connect udp://127.0.0.3:9"]);
    succeeds("systemctl stop chrony.service");
}

#[test]
fn haproxy_forwards_to_its_backend_and_to_no_other() {
    in_a_guest!();
    Service::started("nginx", "nginx");
    let haproxy = Service::started("haproxy", "haproxy");
    let site = "curl -sSf --max-time 20 http://127.0.0.1:8080/";

    for _ in 0..20 {
        succeeds(&format!("{site} | grep -q nginx"));
    }
    succeeds(
        "echo 'show info' | socat - UNIX-CONNECT:/run/haproxy/admin.sock | grep -q '^Name: HAProxy'",
    );
    haproxy.does("reload");
    eventually(site);
    // logs by way of the socket that its unit binds into the directory that it is shut into
    eventually("journalctl --sync && journalctl -u haproxy.service | grep -q 'GET / HTTP'");
    haproxy.ends();
    haproxy.does("start");
    succeeds("curl -sSf http://127.0.0.1:8081/ | grep other");
    let (_, status) = shell("curl -sS -o /dev/null -w '%{http_code}' http://127.0.0.1:8080/other");

    assert_eq!(status, "503");
    haproxy.was_refused(&[
        // harmless: the example says why
        "kernel:capability CAP_FSETID",
        "kernel:capability CAP_NET_ADMIN",
        "net:connect tcp://127.0.0.1:8081",
    ]);
    succeeds("systemctl stop haproxy.service nginx.service");
}

#[test]
fn nginx_serves_its_root_and_nothing_outside() {
    in_a_guest!();
    let nginx = Service::started("nginx", "nginx");

    for _ in 0..20 {
        succeeds(
            "curl -sSf http://127.0.0.1/ http://127.0.0.1/missing http://[::1]/ | grep -q nginx",
        );
    }
    succeeds("curl -sSf http://127.0.0.1/large | cmp - /var/www/html/large");
    let master = succeeds("cat /run/nginx.pid");
    nginx.does("reload");
    succeeds(
        "nginx -s reload && mv /var/log/nginx/access.log /var/log/nginx/access.log.1 && nginx -s reopen",
    );
    eventually("curl -sSf http://127.0.0.1/ && test -s /var/log/nginx/access.log");
    // reloading leaves one generation of workers: the old ones heard of it
    eventually("test $(pgrep -cf '[n]ginx: worker') -eq $(nproc)");
    assert_eq!(succeeds("cat /run/nginx.pid"), master);
    nginx.ends();
    nginx.does("start");
    succeeds("grep -c . /srv/outside/f.prom");
    for outside in [
        "http://127.0.0.1/link/f.prom",
        "-H 'Host: more' http://127.0.0.1/outside/f.prom",
    ] {
        let (_, text) = shell(&format!("curl -sS {outside}"));
        assert!(text.contains("500 Internal Server Error"), "{text}");
    }

    nginx.was_refused(&["fs:read /srv/outside/f.prom"]);
    succeeds("systemctl stop nginx.service");
    // nobody was killed because he did not hear
    assert!(!succeeds("cat /var/log/nginx/error.log").contains("signal 9"));
}

#[test]
fn the_exporter_is_scraped_with_all_its_collectors_and_reads_no_other_directory() {
    in_a_guest!();
    let exporter = Service::started("prometheus-node-exporter", "node-exporter");
    let scrape = "curl -sSf --max-time 60 http://127.0.0.1:9100/metrics";
    eventually(scrape);

    for _ in 0..2 {
        let metrics = succeeds(scrape);
        for collector in [
            "arp",
            "diskstats",
            "filesystem",
            "netdev",
            "netclass",
            "systemd",
            "textfile",
            "uname",
        ] {
            let line = format!("node_scrape_collector_success{{collector=\"{collector}\"}} 1");
            assert!(metrics.contains(&line), "{line}");
        }
    }
    exporter.ends();
    append(
        "/etc/default/prometheus-node-exporter",
        "ARGS=\"--collector.textfile.directory=/srv/outside\"\n",
    );
    exporter.does("start");
    eventually(&format!(
        "{scrape} | grep -q '^node_textfile_scrape_error 1'"
    ));

    exporter.was_refused(&["fs:read /srv/outside"]);
    succeeds("systemctl stop prometheus-node-exporter.service");
}

#[test]
fn redis_saves_into_its_directory_and_into_no_other() {
    in_a_guest!();
    let redis = Service::started("redis-server", "redis");

    succeeds("test \"$(redis-cli set key value)\" = OK && test \"$(redis-cli get key)\" = value");
    succeeds("redis-benchmark -q -n 300 -c 10 -t set,get,lpush");
    succeeds(
        "test \"$(redis-cli save)\" = OK && redis-cli bgsave && redis-cli config set appendonly yes",
    );
    eventually("redis-cli info persistence | grep -q 'rdb_last_bgsave_status:ok'");
    eventually("redis-cli info persistence | grep -q 'aof_rewrite_in_progress:0'");
    succeeds("redis-cli bgrewriteaof");
    eventually("redis-cli info persistence | grep -q 'aof_rewrite_in_progress:0'");
    redis.ends();
    redis.does("start");
    eventually("test \"$(redis-cli get key)\" = value");
    // whoever checks a save by hand is held to nothing
    succeeds("redis-check-rdb /var/lib/redis/dump.rdb");
    let (_, text) = shell("redis-cli config set dir /tmp; redis-cli save");

    assert!(text.contains("ERR"), "{text}");
    redis.was_refused(&["fs:create /tmp/temp-"]);
    succeeds("redis-cli config set dir /var/lib/redis && systemctl stop redis-server.service");
}

/// A package with a service and a conffile, as `$1.deb` of a version.
const PACKAGE: &str = r#"
make() {
    root=/srv/packages/$1
    mkdir -p $root/DEBIAN $root/usr/bin $root/etc
    printf 'Package: other\nVersion: %s\nArchitecture: all\nMaintainer: nobody <nobody@localhost>\nDescription: other\n' \
        $1 >$root/DEBIAN/control
    echo /etc/other.conf >$root/DEBIAN/conffiles
    printf '#!/bin/sh\nset -e\nldconfig\nsystemctl daemon-reload\n' >$root/DEBIAN/postinst
    chmod 755 $root/DEBIAN/postinst
    echo version=$1 >$root/etc/other.conf
    printf '#!/bin/sh\necho %s\n' $1 >$root/usr/bin/other
    chmod 755 $root/usr/bin/other
    dpkg-deb --root-owner-group --build $root /srv/packages/other_$1.deb
}
for version in 1 2 3; do make $version; done
cd /srv/packages
{ dpkg-deb -f other_3.deb; echo "Filename: ./other_3.deb"; echo "Size: $(stat -c %s other_3.deb)"
  echo "SHA256: $(sha256sum other_3.deb | cut -d ' ' -f 1)"; } >Packages
echo 'deb [trusted=yes] file:/srv/packages ./' >/etc/apt/sources.list
"#;

#[test]
fn packages_are_installed_upgraded_and_removed_while_services_are_held() {
    in_a_guest!();
    let nginx = Service::started("nginx", "nginx");
    let redis = Service::started("redis-server", "redis");
    succeeds(PACKAGE);

    succeeds("dpkg -i /srv/packages/other_1.deb && test $(other) = 1");
    succeeds("apt-get -y install /srv/packages/other_2.deb && test $(other) = 2");
    succeeds("apt-get update && apt-get -y upgrade && test $(other) = 3");
    succeeds("apt-get -y purge other && test ! -e /etc/other.conf");

    succeeds("curl -sSf http://127.0.0.1/ | grep -q nginx && test $(redis-cli ping) = PONG");
    nginx.is_held();
    redis.is_held();
    succeeds("dpkg --audit && systemctl stop nginx.service redis-server.service");
    let failed = succeeds("systemctl list-units --failed --no-legend --plain");
    assert_eq!(failed, "");
    assert!(succeeds("cartouche posture").starts_with("State          ENFORCE\n"));
}
