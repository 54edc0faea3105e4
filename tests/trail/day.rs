//! A day's work, line for line.

use std::process::Stdio;

use crate::account::{Day, Did, truncate};
use crate::common::Vault;
use crate::people::People;

#[test]
fn line_for_line() {
    let people = People::make();
    let mut day = Day::begin(Vault::init(), &[]);

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
    day.here("Decrypt truncate a write default/1 ok rw a2", || truncate(&path, 4)).unwrap();
    day.here("GenerateDataKey truncate a write default/1 ok rw -", || truncate(&path, 0)).unwrap();
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
    let mut verify = day.vault.command(&["verify"]);
    let mut child = verify.arg(day.vault.path()).stdout(Stdio::null()).spawn().unwrap();
    assert!(child.wait().unwrap().success());
    day.expected.push((Did::atrest(child.id()), "Decrypt verify / - default/2 ok ro -"));
    day.end(
        "Unmount - - - default/2 ok rw -",
        &[("a3", "a"), ("b1", "c"), ("e1", "e"), ("f1", "dir/f")],
    );
}
