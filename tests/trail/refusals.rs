//! What is refused, and by which operation: lines that a day's work does not leave.

use std::fs::{self, File, OpenOptions, Permissions};
use std::os::unix::fs::{FileExt, PermissionsExt};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, copy_file_range, openat2};
use rustix::io::Errno;

use crate::account::{Day, told, truncate};
use crate::common::files::errno;
use crate::common::{Allow, Mounted, User, Vault};
use crate::people::People;
use crate::{assert_whole, key, lines};

/// `dir` gets another key, which is then disabled. What would be written takes that key, or the one
/// that the content is under; what is emptied, or empty and read, does not take the latter.
#[test]
fn a_key_out_of_use() {
    let mut day = Day::begin(Vault::init(), &[]);
    day.none("mkdir", &["dir"]);
    day.key(["key", "create"], "second", 0, &["CreateKey create - - second/1 ok rw -"]);
    day.key(["key", "assign"], "second dir", 0, &["AssignKey assign dir - second/1 ok rw -"]);
    day.shell("echo x > dir/full", "GenerateDataKey create dir/full write second/1 ok rw full");
    day.shell(": > dir/empty", "GenerateDataKey create dir/empty write second/1 ok rw -");
    day.shell("echo x > dir/out", "GenerateDataKey create dir/out write second/1 ok rw out");
    day.shell("echo x > in", "GenerateDataKey create in write default/1 ok rw in");
    day.none("mv", &["dir/out", "out"]);
    day.none("mv", &["in", "dir/in"]);
    day.note("full", "dir/full");
    day.note("out", "out");
    day.key(["key", "disable"], "second", 0, &["DisableKey disable - - second/1 ok rw -"]);

    let refused = "GenerateDataKey open dir/full write second/1 DisabledException rw full";
    day.shell("echo y > dir/full", refused);
    let refused = "Decrypt open dir/full write second/1 DisabledException rw full";
    day.shell("echo y >> dir/full", refused);
    let refused = "GenerateDataKey open dir/empty write second/- DisabledException rw -";
    day.shell("echo y > dir/empty", refused);
    day.shell("echo y >> dir/empty", refused);
    let refused = "GenerateDataKey open dir/empty read-write second/- DisabledException rw -";
    day.shell("exec 3<>dir/empty", refused);
    day.one("cat", &["dir/empty"], "Decrypt open dir/empty read second/1 ok ro -");
    let (full, empty) = (day.mount.join("dir/full"), day.mount.join("dir/empty"));
    for (path, len, refused) in [
        (&full, 0, "GenerateDataKey truncate dir/full write second/1 DisabledException rw full"),
        (&full, 1, "Decrypt truncate dir/full write second/1 DisabledException rw full"),
        (&empty, 9, "GenerateDataKey truncate dir/empty write second/- DisabledException rw -"),
    ] {
        assert_eq!(errno(day.here(refused, || truncate(path, len))), libc::ENOKEY, "{refused}");
    }
    assert_eq!((full.metadata().unwrap().len(), empty.metadata().unwrap().len()), (2, 0));

    let refused = "GenerateDataKey open dir/in write second/- DisabledException rw in";
    day.shell("echo y > dir/in", refused);
    day.shell("echo y >> dir/in", "Decrypt open dir/in write default/1 ok rw in");
    day.one("cat", &["out"], "Decrypt open out read second/1 DisabledException ro out");
    day.shell("echo y > out", "GenerateDataKey open out write default/1 ok rw anew");
    day.one("cat", &["out"], "Decrypt open out read default/1 ok ro anew");

    day.key(["key", "enable"], "second", 0, &["EnableKey enable - - second/1 ok rw -"]);
    day.shell("echo y >> dir/empty", "GenerateDataKey open dir/empty write second/1 ok rw filled");
    let lives = [("in", "dir/in"), ("anew", "out"), ("filled", "dir/empty")];
    day.end("Unmount - - - default/1 ok rw -", &lives);
}

/// Flags that the daemon does not see, or that no program of the shell uses.
#[test]
fn opens_of_other_kinds() {
    let mut day = Day::begin(Vault::init(), &[]);
    day.shell("echo x > a", "GenerateDataKey create a write default/1 ok rw a1");
    day.note("a1", "a");
    let path = day.mount.join("a");
    let open = |flags| openat2(CWD, &path, flags, Mode::empty(), ResolveFlags::empty()).unwrap();
    day.here("Decrypt open a read default/1 ok ro a1", || drop(open(OFlags::RDONLY)));
    let new = day.mount.join("new");
    let create = OFlags::CREATE | OFlags::WRONLY;
    let made = || openat2(CWD, &new, create, Mode::RUSR, ResolveFlags::NO_SYMLINKS).unwrap();
    day.here("GenerateDataKey create new write default/1 ok rw -", made);
    // One for the open, and one for the truncation that the kernel makes of it.
    day.here("Decrypt open a write default/1 ok rw a1", || {
        drop(open(OFlags::WRONLY | OFlags::TRUNC));
    });
    day.here("GenerateDataKey truncate a write default/1 ok rw -", || ());
    day.shell("echo x > a", "GenerateDataKey open a write default/1 ok rw a2");
    let emptied = || rustix::fs::open(&path, OFlags::RDONLY | OFlags::TRUNC, Mode::empty());
    day.here("Decrypt open a read default/1 ok ro -", emptied).unwrap();
    day.here("GenerateDataKey truncate a write default/1 ok rw -", || ());
    day.end("Unmount - - - default/1 ok rw -", &[]);
}

/// A mount with two files, and a user with a grant to use them.
fn granted(people: &People, options: &[&str]) -> (Vault, Mounted, String) {
    let vault = Vault::init();
    let mut mount = vault.mount(&[&["--allow-other"], options].concat());
    mount.allow(Allow::Warnings);
    for name in ["from", "to"] {
        fs::write(mount.join(name), b"content").unwrap();
        fs::set_permissions(mount.join(name), Permissions::from_mode(0o666)).unwrap();
    }
    let grant = format!("--user {} --allow decrypt,generate-data-key", people.named.name);
    key(&vault, "grant", &grant).ok();
    (vault, mount, grant)
}

fn opened(user: &User, mount: &Mounted) -> (File, File) {
    let open = || {
        let to = OpenOptions::new().write(true).open(mount.join("to")).unwrap();
        (File::open(mount.join("from")).unwrap(), to)
    };
    user.run(open)
}

/// The lines of somebody, in words; one that the kernel asked for twice is one.
fn of(vault: &Vault, name: &str) -> Vec<String> {
    let mut told: Vec<_> = lines(vault, &format!("--user {name}")).iter().map(told).collect();
    told.dedup();
    told
}

#[test]
fn a_copy_between_open_files() {
    let people = People::make();
    let (vault, mount, _) = granted(&people, &[]);
    let (name, user) = (&people.named.name, &people.named.user);
    let (from, to) = opened(user, &mount);
    let copy = || user.run(|| copy_file_range(&from, Some(&mut 0), &to, Some(&mut 0), 5));
    assert_eq!(copy(), Ok(5));
    let mut expected =
        vec!["Decrypt open to write default/1 ok rw", "Decrypt open from read default/1 ok ro"];
    assert_eq!(of(&vault, name), expected, "what is open needs no more");
    for (action, refused) in [
        ("decrypt", "Decrypt copy_file_range from read default/1 AccessDenied ro"),
        ("generate-data-key", "GenerateDataKey copy_file_range to write default/1 AccessDenied rw"),
    ] {
        let deny = format!("--user {name} --deny {action}");
        key(&vault, "grant", &deny).ok();
        assert_eq!(copy(), Err(Errno::ACCESS), "{action}");
        key(&vault, "revoke", &deny).ok();
        expected.push(refused);
        assert_eq!(of(&vault, name), expected);
    }
    key(&vault, "disable", "").ok();
    assert_eq!(copy(), Err(Errno::NOKEY));
    key(&vault, "enable", "").ok();
    expected.push("Decrypt copy_file_range from read default/1 DisabledException ro");
    assert_eq!(of(&vault, name), expected);
    drop((from, to));
    mount.unmount();
    assert_whole(&vault);
}

#[test]
fn what_is_open_in_a_strict_mount() {
    let people = People::make();
    let (vault, mount, grant) = granted(&people, &["--strict", "--no-writeback"]);
    let (name, user) = (&people.named.name, &people.named.user);
    let (from, to) = opened(user, &mount);
    key(&vault, "revoke", &grant).ok();
    let mut expected =
        vec!["Decrypt open to write default/1 ok rw", "Decrypt open from read default/1 ok ro"];
    assert_eq!(errno(from.read_at(&mut [0], 0)), libc::EACCES);
    expected.push("Decrypt read from - default/- AccessDenied ro");
    assert_eq!(of(&vault, name), expected);
    assert_eq!(errno(to.write_at(b"other", 0)), libc::EACCES);
    assert_eq!(errno(to.set_len(1)), libc::EACCES);
    expected.push("GenerateDataKey write to - default/- AccessDenied rw");
    assert_eq!(of(&vault, name), expected);
    // Whoever has the descriptor by now: it counts who opened it.
    for line in &lines(&vault, &format!("--user {name}"))[2..] {
        assert_eq!(line["userIdentity"]["pid"], 0, "{line}");
        assert!(line["userIdentity"]["executable"].is_null(), "{line}");
    }
    drop((from, to));
    mount.unmount();
    assert_whole(&vault);
}
