//! What the daemon of a mount has left of its privileges.

use std::collections::BTreeSet;
use std::fs;

use crate::common::{Mounted, Vault, require_root};
use crate::nobody;

/// The capabilities that the threat model names, by their numbers in capabilities(7).
const KEPT: [(u32, &str); 13] = [
    (0, "CHOWN"),
    (1, "DAC_OVERRIDE"),
    (2, "DAC_READ_SEARCH"),
    (3, "FOWNER"),
    (4, "FSETID"),
    (6, "SETGID"),
    (7, "SETUID"),
    (14, "IPC_LOCK"),
    (19, "SYS_PTRACE"),
    (21, "SYS_ADMIN"),
    (24, "SYS_RESOURCE"),
    (27, "MKNOD"),
    (31, "SETFCAP"),
];

/// A field of each thread's status.
fn of_threads(mount: &Mounted, field: &str) -> BTreeSet<String> {
    let tasks = fs::read_dir(format!("/proc/{}/task", mount.pid())).unwrap();
    let value = |task: fs::DirEntry| {
        let status = fs::read_to_string(task.path().join("status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        line.unwrap_or_else(|| panic!("{field} in {status}")).trim().to_owned()
    };
    tasks.map(|task| value(task.unwrap())).collect()
}

fn mask(mount: &Mounted, field: &str) -> u64 {
    let values = of_threads(mount, field);
    assert_eq!(values.len(), 1, "{field}: {values:?}");
    u64::from_str_radix(values.first().unwrap(), 16).unwrap()
}

#[test]
fn a_root_mount_keeps_what_it_needs() {
    require_root();
    let vault = Vault::init();
    let mount = vault.mount(&[]);
    fs::write(mount.join("file"), "content").unwrap();
    let kept: u64 = KEPT.iter().map(|(bit, _)| 1 << bit).sum();
    for field in ["CapPrm:", "CapBnd:"] {
        let left = mask(&mount, field);
        assert_eq!(left & !kept, 0, "{field} {left:x}");
    }
    assert_eq!((mask(&mount, "CapInh:"), mask(&mount, "CapAmb:")), (0, 0));
    assert_eq!(of_threads(&mount, "NoNewPrivs:"), BTreeSet::from(["1".to_owned()]));
    assert_eq!(of_threads(&mount, "Seccomp:"), BTreeSet::from(["2".to_owned()]));
    let status = &mount.status_json()["confinement"];
    assert_eq!(status["no_new_privileges"], true, "{status}");
    assert_eq!(status["seccomp"], true, "{status}");
    let told: BTreeSet<_> = status["capabilities"]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| name.as_str().unwrap())
        .collect();
    let left = mask(&mount, "CapPrm:");
    let expected: Vec<_> = KEPT
        .iter()
        .filter(|(bit, _)| left & (1 << bit) != 0)
        .map(|(_, name)| format!("CAP_{name}"))
        .collect();
    let expected: BTreeSet<_> = expected.iter().map(String::as_str).collect();
    assert_eq!(told, expected, "{status}");
    let text = vault.run(&["status"]).ok().stdout;
    assert!(text.contains("\nconfined "), "{text}");
}

/// fusermount3, which unmounts for users, gets its privileges from its set-user-id bit.
#[test]
fn a_users_mount_has_no_capability_and_says_that_it_is_not_confined() {
    require_root();
    let vault = Vault::init_as(&nobody());
    let mount = vault.mount(&[]);
    assert_eq!((mask(&mount, "CapPrm:"), mask(&mount, "CapEff:")), (0, 0));
    let status = &mount.status_json()["confinement"];
    assert_eq!(status["capabilities"].as_array().unwrap().len(), 0, "{status}");
    assert_eq!((&status["no_new_privileges"], &status["seccomp"]), (&false.into(), &false.into()));
}
