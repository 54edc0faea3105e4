//! Who else is told the lines.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::common::{Vault, require_root, run, wait_until};
use crate::{files_in, one_sentence};

const LIMIT: Duration = Duration::from_secs(30);

fn listen(path: &Path) -> UnixDatagram {
    let socket = UnixDatagram::bind(path).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    socket
}

fn received(socket: &UnixDatagram) -> String {
    let mut room = vec![0; 64 * 1024];
    let len = socket.recv(&mut room).expect("a line within the time");
    String::from_utf8(room[..len].to_vec()).unwrap()
}

/// RFC 5424: `<PRI>1 TIME HOST APP PID MSGID SD MSG`. Returns priority and message.
fn parsed(text: &str) -> (u32, &str) {
    let (priority, rest) = text.strip_prefix('<').and_then(|rest| rest.split_once('>')).unwrap();
    let fields: Vec<_> = rest.splitn(8, ' ').collect();
    assert_eq!(fields[0], "1", "{text}");
    let time =
        fields[1].parse::<jiff::Timestamp>().unwrap_or_else(|error| panic!("{error}: {text}"));
    assert!(jiff::Timestamp::now().duration_since(time).as_secs() < 600, "{text}");
    assert_eq!(fields[3], "atrest", "{text}");
    fields[4].parse::<u32>().unwrap();
    assert_eq!(fields[6], "-", "no structured data: {text}");
    (priority.parse().unwrap(), fields[7].trim_end_matches('\n'))
}

/// Of facility authpriv.
const NOTICE: u32 = 10 * 8 + 5;
const WARNING: u32 = 10 * 8 + 4;

fn stored(vault: &Vault) -> Vec<String> {
    let file = &files_in(&crate::directory(vault))[0];
    fs::read_to_string(file).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn syslog_gets_the_lines_as_stored() {
    require_root();
    let vault = Vault::init();
    let path = vault.scratch().join("syslog");
    let option = format!("--trail-syslog={}", path.display());
    let socket = listen(&path);
    let mut mount = vault.mount(&[&option, "--allow-other"]);
    fs::write(mount.join("file"), b"content").unwrap();
    let stranger = crate::common::User::new(41_234);
    assert!(stranger.run(|| fs::read(mount.join("file"))).is_err());
    let told: Vec<_> = (0..3).map(|_| received(&socket)).collect();
    let lines =
        wait_until(LIMIT, || Some(stored(&vault)).filter(|lines| lines.len() >= 4)).unwrap();
    for (text, line) in told.iter().zip(&lines[1..]) {
        let (priority, message) = parsed(text);
        assert_eq!(message, line);
        let denied = line.contains("errorCode");
        assert_eq!(priority, if denied { WARNING } else { NOTICE }, "{line}");
    }

    // Who listens goes away, which is said once; and comes back.
    drop(socket);
    fs::remove_file(&path).unwrap();
    mount.expect_line("syslog does not take the trail's lines");
    for _ in 0..3 {
        fs::read(mount.join("file")).unwrap();
    }
    wait_until(LIMIT, || mount.log().contains("does not take").then_some(())).unwrap();
    let socket = listen(&path);
    fs::write(mount.join("again"), b"content").unwrap();
    let found = wait_until(LIMIT, || {
        let text = received(&socket);
        parsed(&text).1.contains("\"again\"").then_some(())
    });
    found.expect("it is told again");
    assert_eq!(mount.log().matches("does not take").count(), 1);
    mount.unmount();
    assert_eq!(stored(&vault).len(), 9, "the trail itself is whole");
    crate::assert_whole(&vault);
}

#[test]
fn nobody_listens() {
    require_root();
    let vault = Vault::init();
    let nowhere = format!("--trail-syslog={}", vault.scratch().join("nowhere").display());
    let mut sinks = vec![(nowhere.as_str(), "nowhere")];
    if !Path::new("/run/systemd/journal/socket").exists() {
        sinks.push(("--trail-journald", "no systemd journal"));
    }
    for (option, word) in sinks {
        let closed = vault.try_mount(&[option, "--trail-fail", "closed"]);
        one_sentence(&closed.err().expect("no mount"), 10, word);
        let mut mount = vault.mount(&[option]);
        mount.expect_line(word);
        fs::write(mount.join("file"), b"content").unwrap();
        mount.unmount();
    }
}

/// Mounts the vault, makes a file and unmounts it, in mounts of its own that `before` makes: its
/// `$1` is `place`.
fn mount_in_own_places(vault: &Vault, place: &Path, before: &str, option: &str) {
    let script = format!(
        r#"set -e
        {before}
        "$2" mount "$3" "$4" {option} --log-file "$5"
        echo content > "$4/file"
        "$2" umount "$4""#
    );
    let mut unshare = Command::new(crate::common::require("unshare"));
    unshare.args(["-m", "sh", "-c", &script, "sh"]).arg(place);
    unshare.arg(crate::common::vault::binary()).arg(vault.path()).arg(vault.mountpoint());
    unshare.arg(vault.next_log());
    let home = vault.scratch().join("home");
    unshare.env("HOME", &home).env("XDG_STATE_HOME", home.join("state"));
    run(unshare.env("ATREST_KEY_FILE", vault.key_file())).ok();
}

/// Where syslog listens on most machines, and perhaps not on this one.
#[test]
fn syslog_is_found_in_its_usual_place() {
    require_root();
    let vault = Vault::init();
    let place = vault.scratch().make_dir("dev");
    let socket = listen(&vault.scratch().join("log-socket"));
    // A /dev with little else.
    let before = r#"mount -t tmpfs atrest-test "$1"
        for name in fuse null urandom; do
            touch "$1/$name"
            mount --bind "/dev/$name" "$1/$name"
        done
        touch "$1/log"
        mount --bind "$1/../log-socket" "$1/log"
        mount --move "$1" /dev"#;
    mount_in_own_places(&vault, &place, before, "--trail-syslog");
    let lines = stored(&vault);
    assert_eq!(lines.len(), 4, "{lines:?}");
    for line in &lines[1..] {
        assert_eq!(parsed(&received(&socket)), (NOTICE, line.as_str()));
    }
    socket.set_nonblocking(true).unwrap();
    assert!(socket.recv(&mut [0]).is_err(), "a line too many");
    crate::assert_whole(&vault);
}

/// In mounts of its own, where the journal's place is the test's.
#[test]
fn the_journal_gets_the_lines_in_its_own_form() {
    require_root();
    let vault = Vault::init();
    // As the directory for sockets of a journal that does not run here.
    let place = vault.scratch().make_dir("journal");
    let socket = listen(&place.join("socket"));
    let before = r#"mount -t tmpfs atrest-test /run
        mkdir -p /run/systemd/journal
        mount --bind "$1" /run/systemd/journal"#;
    mount_in_own_places(&vault, &place, before, "--trail-journald");
    let lines = stored(&vault);
    assert_eq!(lines.len(), 4, "{lines:?}");
    for (line, event) in lines[1..].iter().zip(["Mount", "GenerateDataKey", "Unmount"]) {
        let text = received(&socket);
        for field in ["SYSLOG_IDENTIFIER\natrest", "ATREST_UID\n0", "ATREST_OUTCOME\nallowed"] {
            let (name, value) = field.split_once('\n').unwrap();
            assert!(has_field(&text, name, value), "{field}: {text:?}");
        }
        assert!(has_field(&text, "ATREST_EVENT", event), "{event}: {text:?}");
        assert!(has_field(&text, "MESSAGE", line), "{line}: {text:?}");
    }
}

/// A field is `NAME=value`, or the name, the value's length in eight bytes, and the value.
fn has_field(text: &str, name: &str, value: &str) -> bool {
    let framed =
        |rest: &str| rest.get(8..).is_some_and(|rest| rest.starts_with(&format!("{value}\n")));
    text.contains(&format!("{name}={value}\n"))
        || text.split(&format!("{name}\n")).skip(1).any(framed)
}
