//! Members of the admin group who mean harm to the daemon, by its control socket.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::common::{Mounted, User, Vault, pattern, require_root};

const ADMINS: u32 = 41_077;

/// A mount whose admins may do all that they can be let.
fn mounted() -> Mounted {
    require_root();
    let vault = Vault::init();
    let group = ADMINS.to_string();
    let allow = "decrypt,generate-data-key,describe,rewrap,assign,read-trail";
    let mut grant = vault.command(&["key", "grant"]);
    grant.arg(vault.path()).args(["--group", &group, "--allow", allow]);
    crate::common::run(&mut grant).ok();
    vault.mount(&["--admin-group", &group])
}

fn admin(uid: u32) -> User {
    User::new(uid).with_groups(&[ADMINS])
}

fn socket(mount: &Mounted) -> PathBuf {
    let vault = fs::metadata(mount.vault().path()).unwrap();
    format!("/run/atrest/{:x}-{:x}.sock", vault.dev(), vault.ino()).into()
}

fn connect(mount: &Mounted, user: &User) -> UnixStream {
    let path = socket(mount);
    user.run(|| UnixStream::connect(path)).unwrap()
}

/// What the daemon answers a line.
fn ask(mount: &Mounted, user: &User, line: &str) -> String {
    let mut stream = connect(mount, user);
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    // The daemon may have answered already, and closed.
    let _ = stream.write_all(format!("{line}\n").as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

/// Whether the daemon answers others in time.
#[track_caller]
fn still_serves(mount: &Mounted, user: &User) {
    let started = Instant::now();
    mount.status_json();
    let answer = ask(mount, user, "\"status\"");
    assert!(answer.contains("mounted"), "{answer}");
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

fn threads(mount: &Mounted) -> usize {
    fs::read_dir(format!("/proc/{}/task", mount.pid())).unwrap().count()
}

#[test]
fn paths_that_lead_out_of_the_mount() {
    let mount = mounted();
    fs::write(mount.join("file"), "content").unwrap();
    let user = admin(41_001);
    let outside = mount.vault().scratch().make_dir("outside");
    for path in [
        "../outside",
        "/etc/passwd",
        "a/../../outside",
        ".atrest/vault.json",
        "..",
        "/",
        "x\\u0000",
    ] {
        let simulate = format!(
            r#"{{"simulate":{{"uid":0,"gid":0,"groups":[],"path":"{path}","operation":"read"}}}}"#
        );
        let requests = [
            format!(r#"{{"verify":{{"path":"{path}"}}}}"#),
            simulate,
            format!(r#"{{"work":{{"assign":{{"name":"default","path":"{path}"}}}}}}"#),
            format!(r#"{{"trail":{{"who-read":"{path}"}}}}"#),
        ];
        for request in requests {
            let answer = ask(&mount, &user, &request);
            assert!(answer.contains(r#"{"failed":{"exit":2,"#), "{request}: {answer}");
        }
    }
    let mut list = [0; 256];
    assert_eq!(rustix::fs::listxattr(&outside, &mut list[..]).unwrap(), 0);
    let fine = ask(&mount, &user, r#"{"verify":{"path":"file"}}"#);
    assert!(fine.contains("\"done\""), "{fine}");
}

/// Ten thousand connections, most of which say nothing.
#[test]
fn connections_without_end() {
    let mount = mounted();
    let (user, other) = (admin(41_001), admin(41_002));
    let path = socket(&mount);
    let mut held = Vec::new();
    user.run(|| {
        for number in 0..10_000 {
            let stream = UnixStream::connect(&path).unwrap();
            if number % 100 == 0 {
                held.push(stream);
            }
        }
        // And as many as stay.
        held.extend((0..100).map(|_| UnixStream::connect(&path).unwrap()));
    });
    let count = threads(&mount);
    assert!(count < 64, "{count} threads");
    still_serves(&mount, &other);
    // The daemon says so, and does not just leave.
    let answer = ask(&mount, &user, "\"status\"");
    assert!(answer.contains("ask again later") || answer.contains("mounted"), "{answer}");
}

#[test]
fn a_line_without_end() {
    let mount = mounted();
    let (user, other) = (admin(41_001), admin(41_002));
    let before = mount.resident_kib();
    let mut stream = connect(&mount, &user);
    stream.set_write_timeout(Some(Duration::from_secs(30))).unwrap();
    let chunk = vec![b'['; 1 << 20];
    let mut sent = 0;
    while sent < 1 << 30 && stream.write_all(&chunk).is_ok() {
        sent += chunk.len();
    }
    assert!(sent < 16 << 20, "{sent} bytes were taken");
    let grown = mount.resident_kib().saturating_sub(before);
    assert!(grown < 32 * 1024, "{grown} KiB more");
    still_serves(&mount, &other);
}

#[test]
fn half_closed_sockets_and_clients_that_leave() {
    let mount = mounted();
    fs::write(mount.join("file"), pattern(0, 1_000_000)).unwrap();
    let user = admin(41_001);
    let mut half = connect(&mount, &user);
    half.write_all(b"\"status\"").unwrap();
    half.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    half.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("mounted"), "{answer}");
    for _ in 0..100 {
        for request in ["", "\"status\"\n", "{\"verify\":{\"path\":\"\"}}\n"] {
            let mut stream = connect(&mount, &user);
            let _ = stream.write_all(request.as_bytes());
            let _ = stream.shutdown(Shutdown::Read);
        }
    }
    still_serves(&mount, &admin(41_002));
}

/// A byte now and then ends no later than silence.
#[test]
fn a_request_that_drips() {
    let mount = mounted();
    let mut stream = connect(&mount, &admin(41_001));
    let started = Instant::now();
    let limit = Duration::from_secs(60);
    while started.elapsed() < limit {
        match stream.write_all(b"[") {
            Ok(()) => std::thread::sleep(Duration::from_millis(500)),
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset));
                break;
            }
        }
    }
    assert!(started.elapsed() < limit, "the daemon still waits");
    still_serves(&mount, &admin(41_002));
}
