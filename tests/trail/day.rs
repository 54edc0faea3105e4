//! A day's work, line for line.

use std::collections::HashMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use atrest::format::{HEADER_LEN, Header};
use serde_json::Value;

use crate::common::{Allow, Mounted, User, Vault, require, vault};
use crate::people::People;
use crate::{assert_whole, command, lines};

/// Somebody's process that has ended.
struct Did {
    pid: u32,
    uid: u32,
    gid: u32,
    executable: PathBuf,
}

/// What was done, and what the trail must say of it.
struct Day {
    vault: Vault,
    mount: Mounted,
    /// In the order of [`told`]; the last word names a life of a file, or is `-`.
    expected: Vec<(Did, &'static str)>,
    /// The ids of files' lives, as their headers in the vault had them.
    headers: HashMap<&'static str, String>,
}

/// A line in words: what, by which operation, on what, for what, with which key, what came of it,
/// and whether it could change something.
fn told(line: &Value) -> String {
    let request = &line["requestParameters"];
    let word = |value: &Value| match value.as_str() {
        Some("") => "/".to_owned(),
        Some(word) => word.to_owned(),
        None => "-".to_owned(),
    };
    let material = line["additionalEventData"]["keyMaterialId"].as_str();
    let (id, version) = material.and_then(|id| id.split_once('/')).unzip();
    let resource = &line["resources"][0];
    if let Some(id) = id {
        assert_eq!(resource["id"], id, "{line}");
    }
    assert_eq!(resource["type"], "atrest::MasterKey", "{line}");
    [
        word(&line["eventName"]),
        word(&request["operation"]),
        word(&request["path"]),
        word(&request["access"]),
        format!("{}/{}", word(&resource["name"]), version.unwrap_or("-")),
        line["errorCode"].as_str().unwrap_or("ok").to_owned(),
        if line["readOnly"] == true { "ro" } else { "rw" }.to_owned(),
    ]
    .join(" ")
}

impl Day {
    /// Runs a program to its end, in the mount.
    fn run(&self, user: Option<&User>, program: &str, args: &[&str]) -> Did {
        let executable = require(program).canonicalize().unwrap();
        let mut command = Command::new(program);
        command.args(args).current_dir(self.mount.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let (uid, gid) = user.map_or((0, 0), |user| (user.uid, user.gid));
        if user.is_some() {
            command.uid(uid).gid(gid);
        }
        let mut child = command.spawn().unwrap();
        child.wait().unwrap();
        Did { pid: child.id(), uid, gid, executable }
    }

    /// A program's work, which leaves one line.
    fn one(&mut self, program: &str, args: &[&str], expected: &'static str) {
        let did = self.run(None, program, args);
        self.expected.push((did, expected));
    }

    /// What a shell does by itself.
    fn shell(&mut self, script: &str, expected: &'static str) {
        self.one("sh", &["-c", script], expected);
    }

    fn none(&self, program: &str, args: &[&str]) {
        self.run(None, program, args);
    }

    /// A command on the vault's keys.
    fn key(&mut self, words: [&str; 2], args: &str, code: i32, expected: &[&'static str]) {
        let mut command = command(&self.vault, words, args);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(code), "{words:?} {args}");
        let did = || Did {
            pid: child.id(),
            uid: 0,
            gid: 0,
            executable: vault::binary().canonicalize().unwrap(),
        };
        self.expected.extend(expected.iter().map(|expected| (did(), *expected)));
    }

    /// Notes the id that a file's header has now.
    fn note(&mut self, life: &'static str, path: &str) {
        let bytes = fs::read(self.vault.path().join(path)).unwrap();
        let header = Header::parse(bytes[..HEADER_LEN].try_into().unwrap()).unwrap();
        self.headers.insert(life, header.file_id.to_string());
    }
}

#[test]
fn line_for_line() {
    let people = People::make();
    let vault = Vault::init();
    let mut mount = vault.mount(&["--allow-other"]);
    mount.allow(Allow::Warnings);
    fs::set_permissions(mount.path(), Permissions::from_mode(0o777)).unwrap();
    let daemon = mount.pid();
    let (expected, headers) = (Vec::new(), HashMap::new());
    let mut day = Day { vault: vault.clone(), mount, expected, headers };

    let dd = ["if=/dev/zero", "of=a", "bs=5", "count=1", "conv=fsync"];
    day.one("dd", &dd, "GenerateDataKey create a write default/1 ok rw a1");
    day.note("a1", "a");
    day.one("cat", &["a"], "Decrypt open a read default/1 ok ro a1");
    let dd = ["if=/dev/zero", "of=a", "bs=1", "count=2", "conv=notrunc"];
    day.one("dd", &dd, "Decrypt open a write default/1 ok rw a1");
    day.shell("echo more >> a", "Decrypt open a write default/1 ok rw a1");
    day.shell("exec 3<>a", "Decrypt open a read-write default/1 ok rw a1");
    // Written anew: one line for the open and the truncation that the kernel makes of it.
    let dd = ["if=/dev/zero", "of=a", "bs=9", "count=1", "conv=fsync"];
    day.one("dd", &dd, "GenerateDataKey open a write default/1 ok rw a2");
    day.note("a2", "a");
    day.one("cat", &["a"], "Decrypt open a read default/1 ok ro a2");
    // By path, which coreutils' truncate is not.
    let path = day.mount.join("a");
    truncate(&mut day, &path, 4, "Decrypt truncate a write default/1 ok rw a2");
    truncate(&mut day, &path, 0, "GenerateDataKey truncate a write default/1 ok rw -");
    day.shell("exec 3<a", "Decrypt open a read default/1 ok ro -");
    day.shell("echo full > a", "GenerateDataKey open a write default/1 ok rw a3");

    let copied = day.run(None, "cp", &["a", "b"]);
    let again = Did { executable: copied.executable.clone(), ..copied };
    day.expected.push((copied, "Decrypt open a read default/1 ok ro a3"));
    day.expected.push((again, "GenerateDataKey create b write default/1 ok rw b1"));
    day.none("mv", &["b", "c"]);
    day.none("ln", &["c", "d"]);
    day.none("rm", &["d"]);
    day.none("mkdir", &["dir"]);
    day.none("stat", &["c"]);
    day.none("ls", &["-l"]);
    day.none("chmod", &["666", "a"]);
    day.one("cat", &["c"], "Decrypt open c read default/1 ok ro b1");

    let stranger = people.stranger.user.clone();
    let did = day.run(Some(&stranger), "cat", &["a"]);
    day.expected.push((did, "Decrypt open a read default/1 AccessDenied ro a3"));
    let did = day.run(Some(&stranger), "sh", &["-c", "echo x >> a"]);
    day.expected.push((did, "Decrypt open a write default/1 AccessDenied rw a3"));
    let did = day.run(Some(&stranger), "sh", &["-c", "echo x > new"]);
    day.expected.push((did, "GenerateDataKey create new - default/- AccessDenied rw -"));
    let whom = format!("--user {} --allow decrypt", people.stranger.name);
    day.key(["key", "grant"], &whom, 0, &["PutKeyPolicy grant - - default/1 ok rw -"]);
    let did = day.run(Some(&stranger), "cat", &["a"]);
    day.expected.push((did, "Decrypt open a read default/1 ok ro a3"));
    day.key(["key", "revoke"], &whom, 0, &["PutKeyPolicy revoke - - default/1 ok rw -"]);

    day.key(["key", "create"], "second", 0, &["CreateKey create - - second/1 ok rw -"]);
    day.key(["key", "assign"], "second dir", 0, &["AssignKey assign dir - second/1 ok rw -"]);
    day.shell("echo x > dir/f", "GenerateDataKey create dir/f write second/1 ok rw f1");
    day.key(["key", "disable"], "second", 0, &["DisableKey disable - - second/1 ok rw -"]);
    day.one("cat", &["dir/f"], "Decrypt open dir/f read second/1 DisabledException ro f1");
    let refused = "GenerateDataKey create dir/g - second/- DisabledException rw -";
    day.shell("echo x > dir/g", refused);
    day.key(["key", "enable"], "second", 0, &["EnableKey enable - - second/1 ok rw -"]);
    day.one("cat", &["dir/f"], "Decrypt open dir/f read second/1 ok ro f1");

    day.key(["key", "rotate"], "", 0, &["RotateKey rotate - - default/2 ok rw -"]);
    day.shell("echo x > e", "GenerateDataKey create e write default/2 ok rw e1");
    day.one("cat", &["a"], "Decrypt open a read default/1 ok ro a3");
    let rewrapped = [
        "ReEncrypt rewrap .atrest - default/2 ok rw -",
        "ReEncrypt rewrap a - default/2 ok rw a3",
        "ReEncrypt rewrap c - default/2 ok rw b1",
    ];
    day.key(["key", "rewrap"], "", 0, &rewrapped);
    day.one("cat", &["a"], "Decrypt open a read default/2 ok ro a3");
    day.key(
        ["key", "retire"],
        "--version 1",
        0,
        &["RetireKeyVersion retire - - default/2 ok rw -"],
    );
    let scheduled = ["ScheduleKeyDeletion schedule-deletion - - second/1 ok rw -"];
    day.key(["key", "schedule-deletion"], "second", 0, &scheduled);
    let refused = "Decrypt open dir/f read second/1 KMSInvalidStateException ro f1";
    day.one("cat", &["dir/f"], refused);
    let cancelled = ["CancelKeyDeletion cancel-deletion - - second/1 ok rw -"];
    day.key(["key", "cancel-deletion"], "second", 0, &cancelled);
    day.key(["key", "enable"], "second", 0, &["EnableKey enable - - second/1 ok rw -"]);

    // Refused where the daemon is asked, to root too.
    let deny = "--user 0 --deny rotate";
    day.key(["key", "grant"], deny, 0, &["PutKeyPolicy grant - - default/2 ok rw -"]);
    day.key(["key", "rotate"], "", 9, &["RotateKey rotate - - default/2 AccessDenied rw -"]);
    day.key(["key", "revoke"], deny, 0, &["PutKeyPolicy revoke - - default/2 ok rw -"]);
    // What only looks leaves no line; what would change something and does not, neither.
    day.key(["key", "list"], "", 0, &[]);
    day.key(["policy", "show"], "", 0, &[]);
    day.key(["key", "rewrap"], "--dry-run", 0, &[]);
    day.key(["trail", "verify"], "", 0, &["LookupEvents trail - - default/2 ok ro -"]);
    let mut verify = vault.command(&["verify"]);
    let mut child = verify.arg(vault.path()).stdout(Stdio::null()).spawn().unwrap();
    assert!(child.wait().unwrap().success());
    let executable = vault::binary().canonicalize().unwrap();
    let did = Did { pid: child.id(), uid: 0, gid: 0, executable: executable.clone() };
    day.expected.push((did, "Decrypt verify / - default/2 ok ro -"));

    let Day { mount, mut expected, mut headers, .. } = day;
    mount.unmount();
    for (life, path) in [("a3", "a"), ("b1", "c"), ("e1", "e"), ("f1", "dir/f")] {
        let bytes = fs::read(vault.path().join(path)).unwrap();
        let header = Header::parse(bytes[..HEADER_LEN].try_into().unwrap()).unwrap();
        headers.insert(life, header.file_id.to_string());
    }
    let by_daemon = || Did { pid: daemon, uid: 0, gid: 0, executable: executable.clone() };
    expected.insert(0, (by_daemon(), "Mount - - - default/1 ok rw -"));
    expected.push((by_daemon(), "Unmount - - - default/2 ok rw -"));

    let mut found = lines(&vault, "");
    assert_eq!(found[0]["eventName"], "TrailBegin");
    for (number, line) in (1..).zip(&found) {
        assert_eq!(line["sequence"], number, "{line}");
    }
    // A rewrap takes the files as they come.
    for run in found.chunk_by_mut(|a, b| a["eventName"] == b["eventName"]) {
        if run[0]["eventName"] == "ReEncrypt" {
            run.sort_by_key(|line| line["requestParameters"]["path"].to_string());
        }
    }
    for (number, (line, (did, words))) in found[1..].iter().zip(&expected).enumerate() {
        let (words, life) = words.rsplit_once(' ').unwrap();
        assert_eq!(told(line), words, "line {}: {line}", number + 2);
        let who = &line["userIdentity"];
        let found = (&who["uid"], &who["gid"], &who["pid"], who["executable"].as_str());
        let did_by = (&did.uid.into(), &did.gid.into(), &did.pid.into(), did.executable.to_str());
        assert_eq!(found, did_by, "{words}");
        let context = &line["requestParameters"]["encryptionContext"];
        if let Some(id) = headers.get(life) {
            assert_eq!(context["fileId"].as_str(), Some(id.as_str()), "{life}: {words}");
        }
        assert_eq!(context["volumeId"], found_volume(&vault), "{words}");
    }
    assert_eq!(found.len() - 1, expected.len(), "{:?}", found.last());
    let lives: std::collections::HashSet<_> = headers.values().collect();
    assert_eq!(lives.len(), headers.len(), "two lives have one id");
    assert_whole(&vault);
}

fn found_volume(vault: &Vault) -> String {
    atrest::store::Vault::describe(&vault.path()).unwrap().vault.to_string()
}

/// truncate(2) by this process: the thread that asks is the one that the kernel names.
fn truncate(day: &mut Day, path: &std::path::Path, len: i64, expected: &'static str) {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(path.as_os_str().as_bytes()).unwrap();
    // SAFETY: the path is a C string.
    assert_eq!(unsafe { libc::truncate(path.as_ptr(), len) }, 0);
    let pid = rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned();
    let executable = std::env::current_exe().unwrap();
    day.expected.push((Did { pid, uid: 0, gid: 0, executable }, expected));
}
