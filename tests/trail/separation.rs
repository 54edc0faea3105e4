//! Who may read the trail reads no files by that, and who reads files does not read the trail.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::common::files::errno;
use crate::common::{Outcome, User, Vault, require, require_root, run, vault};
use crate::people::People;
use crate::{assert_whole, key, lines, one_sentence};

/// `atrest trail COMMAND VAULT ARGS…` by somebody, with a copy of the binary that they may run.
fn by(vault: &Vault, user: &User, command: &str, args: &str) -> Outcome {
    run(&mut command_by(vault, user, command, args))
}

fn command_by(vault: &Vault, user: &User, command: &str, args: &str) -> Command {
    let groups: Vec<_> = user.groups.iter().map(u32::to_string).collect();
    let mut line = Command::new(require("setpriv"));
    line.args([format!("--reuid={}", user.uid), format!("--regid={}", user.gid)]);
    line.arg(format!("--groups={}", groups.join(","))).arg(vault.scratch().join("atrest"));
    line.args(["trail", command]).arg(vault.path());
    line.args(args.split(' ').filter(|word| !word.is_empty()));
    line.env_remove("ATREST_KEY_FILE").env_remove("XDG_STATE_HOME");
    line.env("HOME", "/nonexistent").env_remove("XDG_CONFIG_HOME");
    line
}

#[test]
fn an_auditor_reads_the_trail_and_a_reader_reads_files() {
    let people = People::make();
    let (auditor, reader) = (&people.member.user, &people.named.user);
    let vault = Vault::init();
    let copy = vault.scratch().join("atrest");
    run(Command::new("cp").arg(vault::binary()).arg(&copy)).ok();
    fs::set_permissions(&copy, Permissions::from_mode(0o755)).unwrap();
    let mount = vault.mount(&["--allow-other", "--admin-group", &people.group]);
    fs::write(mount.join("file"), b"content").unwrap();
    fs::set_permissions(mount.join("file"), Permissions::from_mode(0o644)).unwrap();

    // In the group, and without a grant: each leaves one line.
    let commands = [
        ("query", ""),
        ("tail", ""),
        ("tail", "-f"),
        ("verify", ""),
        ("head", ""),
        ("who-read", "file"),
    ];
    for (command, args) in commands {
        one_sentence(&by(&vault, auditor, command, args), 9, "does not let you read-trail");
    }
    let denied = lines(&vault, &format!("--denied --user {}", people.member.name));
    assert_eq!(denied.len(), commands.len(), "{denied:?}");
    for line in &denied {
        assert_eq!(line["eventName"], "LookupEvents");
        assert_eq!(line["errorCode"], "AccessDenied");
        assert_eq!(line["userIdentity"]["gid"], auditor.gid);
        assert_eq!(line["userIdentity"]["executable"].as_str(), copy.to_str());
    }

    key(&vault, "grant", &format!("--user {} --allow read-trail", people.member.name)).ok();
    key(&vault, "grant", &format!("--user {} --allow decrypt", people.named.name)).ok();
    reader.run(|| assert_eq!(fs::read(mount.join("file")).unwrap(), b"content"));
    assert_eq!(auditor.run(|| errno(fs::read(mount.join("file")))), libc::EACCES);

    let found = by(&vault, auditor, "query", "--json").ok();
    let all = lines(&vault, "");
    let seen: Vec<Value> =
        found.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    // What they are shown has the line of their own looking, or came before it.
    assert_eq!(seen[..], all[..seen.len()]);
    let tail = by(&vault, auditor, "tail", "-n 3").ok();
    assert_eq!(tail.stdout.lines().count(), 3, "{tail}");
    by(&vault, auditor, "verify", "").ok();
    let head = by(&vault, auditor, "head", "").ok().stdout;
    by(&vault, auditor, "verify", &format!("--head {}", head.trim())).ok();
    let who = by(&vault, auditor, "who-read", "file").ok();
    assert!(who.stdout.contains(&people.named.name), "{who}");
    assert!(who.stdout.contains("was refused once"), "{who}");
    let looked = lines(&vault, &format!("--event LookupEvents --user {}", auditor.uid));
    let looked: Vec<_> = looked.iter().filter(|line| line["errorCode"].is_null()).collect();
    assert_eq!(looked.len(), 6, "each look leaves a line: {looked:?}");
    // One that goes on leaves one for all.
    let mut follow = command_by(&vault, auditor, "tail", "-f");
    let mut child = follow.stdout(Stdio::null()).spawn().unwrap();
    thread::sleep(Duration::from_secs(2));
    child.kill().unwrap();
    child.wait().unwrap();
    let looked = lines(&vault, &format!("--event LookupEvents --user {}", auditor.uid));
    let looked: Vec<_> = looked.iter().filter(|line| line["errorCode"].is_null()).collect();
    assert_eq!(looked.len(), 7, "{looked:?}");

    // Not in the group, they don't reach the daemon.
    assert_ne!(by(&vault, reader, "query", "").code(), 0);
    let directory = crate::directory(&vault);
    assert_eq!(reader.run(|| errno(fs::read_dir(directory))), libc::EACCES);
    // In the group, they are refused.
    let heard = reader.clone().with_groups(&[reader.gid, people.gid]);
    one_sentence(&by(&vault, &heard, "query", ""), 9, "read-trail");
    one_sentence(&by(&vault, &heard, "verify", ""), 9, "read-trail");
    mount.unmount();
    assert_whole(&vault);
}

/// Asks the daemon for lines, by no command; how many it hands over.
fn ask(vault: &Vault, after: Option<u64>) -> usize {
    let dir = vault.path().metadata().unwrap();
    let socket = format!("/run/atrest/{:x}-{:x}.sock", dir.dev(), dir.ino());
    let mut stream = UnixStream::connect(socket).unwrap();
    let request = json!({ "trail": { "lines": { "after": after } } });
    writeln!(stream, "{request}").unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    let reply: Value = serde_json::from_str(&line).unwrap();
    reply["done"].as_array().unwrap_or_else(|| panic!("{reply}")).len()
}

#[test]
fn reading_leaves_a_line_however_it_begins() {
    require_root();
    let vault = Vault::init();
    let mount = vault.mount(&[]);
    let looked = || lines(&vault, "--event LookupEvents").len();
    for begin in [None, Some(0), Some(1), Some(0)] {
        let known = looked();
        let handed = ask(&vault, begin);
        assert_eq!(looked(), known + 1, "{begin:?}");
        // What it left itself comes next, and then nothing new.
        let last = begin.unwrap_or_default() + handed as u64;
        assert_eq!(ask(&vault, Some(last)), 1);
        assert_eq!(ask(&vault, Some(last + 1)), 0);
        assert_eq!(ask(&vault, Some(last + 1)), 0);
        assert_eq!(looked(), known + 1, "{begin:?}, and on");
        assert_eq!(ask(&vault, Some(last)), 1);
        assert_eq!(looked(), known + 2, "and back");
    }
    mount.unmount();
    assert_whole(&vault);
}
