//! Looking things up.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::common::{Allow, Mounted, User, Vault, wait_until};
use crate::people::People;
use crate::{command, directory, files_in, key, lines, names, trail};

const LIMIT: Duration = Duration::from_secs(30);

fn open_by(user: &User, mount: &Mounted, path: &str) {
    let path = mount.join(path);
    let _ = user.run(|| fs::read(path));
}

#[test]
fn by_each_option() {
    let people = People::make();
    let vault = Vault::init().shared();
    let mut mount = vault.mount(&["--allow-other"]);
    mount.allow(Allow::Warnings);
    fs::create_dir(mount.join("dir")).unwrap();
    fs::write(mount.join("dir/a"), b"a").unwrap();
    fs::write(mount.join("direct"), b"b").unwrap();
    key(&vault, "create", "second").ok();
    fs::create_dir(mount.join("other")).unwrap();
    key(&vault, "assign", "second other").ok();
    fs::write(mount.join("other/c"), b"c").unwrap();
    open_by(&people.named.user, &mount, "dir/a");
    open_by(&people.named.user, &mount, "other/c");
    key(&vault, "rotate", "second").ok();

    let paths = |args: &str| -> Vec<String> {
        let found = lines(&vault, args);
        let path = |line: &Value| line["requestParameters"]["path"].as_str().map(str::to_owned);
        found.iter().filter_map(path).collect()
    };
    let named = &people.named;
    for user in [named.name.clone(), named.user.uid.to_string()] {
        assert_eq!(paths(&format!("--user {user}")), ["dir/a", "other/c"]);
        assert_eq!(paths(&format!("--user {user} --denied")), ["other/c"]);
        assert_eq!(paths(&format!("--user {user} --key default")), ["dir/a"]);
        assert_eq!(paths(&format!("--user {user} --path other")), ["other/c"]);
    }
    // By directory, as it is named, in the mount and in the vault; and not by half a name.
    let in_mount = mount.join("dir").to_string_lossy().into_owned();
    let in_vault = vault.path().join("dir").to_string_lossy().into_owned();
    for path in ["dir", "dir/", "./dir", &in_mount, &in_vault] {
        assert_eq!(paths(&format!("--path {path} --event decrypt")), ["dir/a"], "{path}");
    }
    assert_eq!(names(&lines(&vault, "--key second --event RotateKey,CreateKey")).len(), 2);
    let listed = key(&vault, "list", "--json").ok().stdout;
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let id = listed["keys"][1]["id"].as_str().unwrap();
    assert_eq!(lines(&vault, &format!("--key {id}")), lines(&vault, "--key second"));
    crate::one_sentence(&trail(&vault, "query", "--key nobodys"), 8, "no master key `nobodys`");

    let all = lines(&vault, "");
    let time = |at: usize| all[at]["eventTime"].as_str().unwrap().to_owned();
    let (since, until) = (time(3), time(6));
    assert_eq!(lines(&vault, &format!("--since {since}")), all[3..]);
    assert_eq!(lines(&vault, &format!("--until {until}")), all[..6]);
    assert_eq!(lines(&vault, &format!("--since {since} --until {until}")), all[3..6]);
    assert_eq!(lines(&vault, "--since 2999-01-01T00:00:00Z"), Vec::<Value>::new());

    // As stored, and for people.
    mount.unmount();
    let stored = fs::read_to_string(&files_in(&directory(&vault))[0]).unwrap();
    assert_eq!(trail(&vault, "query", "--json").ok().stdout, stored);
    let said = trail(&vault, "query", &format!("--user {}", named.name)).ok().stdout;
    assert_eq!(said.lines().count(), 2, "{said}");
    assert!(said.contains(&named.name) && said.contains("AccessDenied"), "{said}");
    let last = trail(&vault, "tail", "-n 4 --json").ok().stdout;
    assert!(stored.ends_with(&last) && last.lines().count() == 4, "{last}");
    assert_eq!(trail(&vault, "tail", "-n 0").ok().stdout, "");
    assert_eq!(trail(&vault, "tail", "--json -n 100000").ok().stdout, stored);
}

#[test]
fn who_read_it_under_whichever_name() {
    let people = People::make();
    let vault = Vault::init().shared();
    let mount = vault.mount(&["--allow-other"]);
    fs::write(mount.join("first"), b"content").unwrap();
    open_by(&people.named.user, &mount, "first");
    fs::rename(mount.join("first"), mount.join("then")).unwrap();
    open_by(&people.member.user, &mount, "then");
    open_by(&people.member.user, &mount, "then");
    // Another file, which was never called so.
    fs::write(mount.join("else"), b"other").unwrap();
    open_by(&people.stranger.user, &mount, "else");
    let readers = |path: &str| -> Vec<(u64, u64, u64)> {
        let said = trail(&vault, "who-read", &format!("{path} --json")).ok().stdout;
        let readers: Value = serde_json::from_str(&said).unwrap();
        let reader = |reader: &Value| {
            let number = |name: &str| reader[name].as_u64().unwrap();
            (number("uid"), number("opened"), number("refused"))
        };
        readers.as_array().unwrap().iter().map(reader).collect()
    };
    let (named, member) = (people.named.user.uid.into(), people.member.user.uid.into());
    let mut expected = vec![(named, 1, 0), (member, 2, 0)];
    expected.sort();
    assert_eq!(readers("then"), expected);
    assert_eq!(readers("first"), expected, "it lay there");
    // And refused, under its new name.
    key(&vault, "grant", &format!("--user {} --deny decrypt", people.named.name)).ok();
    open_by(&people.named.user, &mount, "then");
    assert!(readers("first").contains(&(named, 1, 1)), "{:?}", readers("first"));
    let said = trail(&vault, "who-read", mount.join("then").to_str().unwrap()).ok().stdout;
    assert!(said.contains(&people.member.name) && said.contains("opened it 2 times"), "{said}");
    let never = "there is no never in the vault, and none in its trail";
    for (command, args) in [("who-read", "never"), ("query", "--path never")] {
        crate::one_sentence(&trail(&vault, command, args), 1, never);
    }
    crate::one_sentence(
        &trail(&vault, "query", "--key never"),
        8,
        "there is no master key `never`",
    );
    // One that is there and was not used is no mistake.
    fs::create_dir(mount.join("unused")).unwrap();
    let said = trail(&vault, "who-read", "unused").ok().stdout;
    assert!(said.starts_with("Nobody"), "{said}");
    key(&vault, "create", "other").ok();
    trail(&vault, "query", "--key other --denied").ok();
    mount.unmount();
    assert_eq!(readers("then").len(), 2);
}

/// `trail tail -f`, and its lines as they come.
fn follow(vault: &Vault) -> (Child, mpsc::Receiver<String>) {
    let mut tail = command(vault, ["trail", "tail"], "-f -n 1 --json");
    let mut child = tail.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let (to, from) = mpsc::channel();
    thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| to.send(line)));
    (child, from)
}

#[test]
fn following_it() {
    crate::common::require_root();
    let vault = Vault::init();
    let mount = vault.mount(&[]);
    let (mut child, seen) = follow(&vault);
    assert!(seen.recv_timeout(LIMIT).unwrap().contains("\"Mount\""));
    // The first shows that it follows; from then on 2 s are the limit, on a machine with time.
    fs::write(mount.join("file"), b"content").unwrap();
    assert!(seen.recv_timeout(LIMIT).unwrap().contains("\"GenerateDataKey\""));
    for _ in 0..3 {
        fs::read(mount.join("file")).unwrap();
        let line = seen.recv_timeout(Duration::from_secs(2)).expect("within 2 s");
        assert!(line.contains("\"Decrypt\""), "{line}");
    }
    let pid = Pid::from_raw(child.id().cast_signed()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    assert!(wait_until(LIMIT, || child.try_wait().unwrap()).is_some(), "it goes on after ^C");
    assert!(seen.try_recv().is_err());

    // Whoever reads it leaves, while nothing comes that could tell.
    let mut tail = command(&vault, ["trail", "tail"], "-f -n 1");
    let mut child = tail.stdout(Stdio::piped()).spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    drop(output);
    let ended = wait_until(LIMIT, || child.try_wait().unwrap());
    if ended.is_none() {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(ended.is_some_and(|status| status.success()), "{ended:?}");
    mount.unmount();
}
