//! What was done by whom, and that the trail says so, line for line.

use std::collections::{HashMap, HashSet};
use std::ffi::CString;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use atrest::format::{HEADER_LEN, Header};
use serde_json::Value;

use crate::common::{Allow, Mounted, User, Vault, require, require_root, vault};
use crate::{assert_whole, command, lines};

/// Somebody's process that has ended.
#[derive(Clone)]
pub struct Did {
    pub pid: u32,
    pub uid: u32,
    pub gid: u32,
    pub executable: PathBuf,
}

/// What was done, and what the trail must say of it.
pub struct Day {
    pub vault: Vault,
    pub mount: Mounted,
    /// In the order of [`told`]; the last word names a life of a file, or is `-`.
    pub expected: Vec<(Did, &'static str)>,
    /// The ids of files' lives, as their headers in the vault had them.
    headers: HashMap<&'static str, String>,
}

/// A line in words: what, by which operation, on what, for what, with which key, what came of it,
/// and whether it could change something.
pub fn told(line: &Value) -> String {
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

impl Did {
    /// A command, or the daemon.
    pub fn atrest(pid: u32) -> Did {
        let executable = vault::binary().canonicalize().unwrap();
        Did { pid, uid: 0, gid: 0, executable }
    }
}

impl Day {
    /// Begins with a mount, which whoever the policies let can use.
    pub fn begin(vault: Vault, options: &[&str]) -> Day {
        require_root();
        let mut mount = vault.mount(&[&["--allow-other"], options].concat());
        mount.allow(Allow::Warnings);
        fs::set_permissions(mount.path(), Permissions::from_mode(0o777)).unwrap();
        let expected = vec![(Did::atrest(mount.pid()), "Mount - - - default/1 ok rw -")];
        Day { vault, mount, expected, headers: HashMap::new() }
    }

    /// Runs a program to its end, in the mount.
    pub fn run(&self, user: Option<&User>, program: &str, args: &[&str]) -> Did {
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
    pub fn one(&mut self, program: &str, args: &[&str], expected: &'static str) {
        let did = self.run(None, program, args);
        self.expected.push((did, expected));
    }

    /// What a shell does by itself.
    pub fn shell(&mut self, script: &str, expected: &'static str) {
        self.one("sh", &["-c", script], expected);
    }

    pub fn none(&self, program: &str, args: &[&str]) {
        self.run(None, program, args);
    }

    /// A command on the vault's keys.
    pub fn key(&mut self, words: [&str; 2], args: &str, code: i32, expected: &[&'static str]) {
        let mut command = command(&self.vault, words, args);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(code), "{words:?} {args}");
        let did = || Did::atrest(child.id());
        self.expected.extend(expected.iter().map(|expected| (did(), *expected)));
    }

    /// What this process does, of which one thread asks.
    pub fn here<T>(&mut self, expected: &'static str, work: impl FnOnce() -> T) -> T {
        let done = work();
        let pid = rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned();
        let executable = std::env::current_exe().unwrap();
        self.expected.push((Did { pid, uid: 0, gid: 0, executable }, expected));
        done
    }

    /// Notes the id that a file's header has now.
    pub fn note(&mut self, life: &'static str, path: &str) {
        self.headers.insert(life, life_of(&self.vault, path));
    }

    /// Ends the mount, after which the files at these paths are in these lives, and compares.
    pub fn end(mut self, unmounted: &'static str, lives: &[(&'static str, &str)]) {
        let daemon = Did::atrest(self.mount.pid());
        self.expected.push((daemon, unmounted));
        let Day { vault, mount, expected, mut headers } = self;
        mount.unmount();
        headers.extend(lives.iter().map(|(life, path)| (*life, life_of(&vault, path))));

        let volume = atrest::store::Vault::describe(&vault.path()).unwrap().vault.to_string();
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
            let did_by =
                (&did.uid.into(), &did.gid.into(), &did.pid.into(), did.executable.to_str());
            assert_eq!(found, did_by, "{words}");
            let context = &line["requestParameters"]["encryptionContext"];
            if let Some(id) = headers.get(life) {
                assert_eq!(context["fileId"].as_str(), Some(id.as_str()), "{life}: {words}");
            }
            assert_eq!(context["volumeId"], volume, "{words}");
        }
        assert_eq!(found.len() - 1, expected.len(), "{:?}", found.last());
        let lives: HashSet<_> = headers.values().collect();
        assert_eq!(lives.len(), headers.len(), "two lives have one id");
        assert_whole(&vault);
    }
}

/// The id that a file's header in the vault has.
fn life_of(vault: &Vault, path: &str) -> String {
    let bytes = fs::read(vault.path().join(path)).unwrap();
    let header = Header::parse(bytes[..HEADER_LEN].try_into().unwrap()).unwrap();
    header.file_id.to_string()
}

/// truncate(2) by this process: the thread that asks is the one that the kernel names.
pub fn truncate(path: &Path, len: i64) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes()).unwrap();
    // SAFETY: the path is a C string.
    match unsafe { libc::truncate(path.as_ptr(), len) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
