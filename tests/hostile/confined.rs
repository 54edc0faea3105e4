//! What the daemon of a mount has left of its privileges.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::common::mounted::{daemons_of, is_dead, is_mounted};
use crate::common::{Allow, Mounted, Vault, pattern, require, require_root, run, wait_until};
use crate::nobody;

/// The capabilities that the threat model names, by their numbers in capabilities(7).
const KEPT: [(u32, &str); 12] = [
    (0, "CHOWN"),
    (1, "DAC_OVERRIDE"),
    (2, "DAC_READ_SEARCH"),
    (3, "FOWNER"),
    (4, "FSETID"),
    (6, "SETGID"),
    (7, "SETUID"),
    (14, "IPC_LOCK"),
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
    assert_eq!(status["landlock"], landlock(), "{status}");
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

/// Its monitor, which has no such bounds, unmounts for it by fusermount3.
#[test]
fn a_users_mount_is_confined_as_well_and_has_no_capability() {
    require_root();
    let vault = Vault::init_as(&nobody());
    let mount = vault.mount(&[]);
    assert_eq!((mask(&mount, "CapPrm:"), mask(&mount, "CapEff:")), (0, 0));
    assert_eq!(of_threads(&mount, "NoNewPrivs:"), BTreeSet::from(["1".to_owned()]));
    assert_eq!(of_threads(&mount, "Seccomp:"), BTreeSet::from(["2".to_owned()]));
    let status = &mount.status_json()["confinement"];
    assert_eq!(status["capabilities"].as_array().unwrap().len(), 0, "{status}");
    assert_eq!((&status["no_new_privileges"], &status["seccomp"]), (&true.into(), &true.into()));
    assert_eq!(status["landlock"], landlock(), "{status}");
}

/// The version that the kernel has.
fn landlock() -> u64 {
    const VERSION: libc::c_uint = 1;
    let none = std::ptr::null::<u8>();
    // SAFETY: with this flag the call reads no memory.
    let version =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, none, 0usize, VERSION) };
    u64::try_from(version).unwrap_or(0)
}

fn vaults() -> [Vault; 2] {
    require_root();
    [Vault::init(), Vault::init_as(&nobody())]
}

/// The processes that a mount's daemon has started.
fn monitors(mount: &Mounted) -> Vec<u32> {
    let pid = mount.pid();
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    children.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

fn monitor(mount: &Mounted) -> Pid {
    let monitors = monitors(mount);
    assert_eq!(monitors.len(), 1, "{monitors:?}");
    Pid::from_raw(monitors[0].cast_signed()).unwrap()
}

#[track_caller]
fn ends(process: Pid, what: &str) {
    let gone = wait_until(Duration::from_secs(20), || is_dead(process).then_some(()));
    assert!(gone.is_some(), "{what}");
}

#[track_caller]
fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal).unwrap();
}

#[test]
fn a_monitor_has_nothing_of_the_daemons_but_two_sockets() {
    for vault in vaults() {
        let mount = vault.mount(&[]);
        let of = format!("/proc/{}", monitor(&mount).as_raw_nonzero());
        let mut open: Vec<_> = fs::read_dir(format!("{of}/fd"))
            .unwrap()
            .map(|entry| fs::read_link(entry.unwrap().path()).unwrap().display().to_string())
            .collect();
        open.sort();
        assert_eq!(open.len(), 3, "{open:?}");
        assert!(open[0] == "/dev/null" && open[1..].iter().all(|one| one.starts_with("socket:")));
        assert_eq!(fs::read_link(format!("{of}/cwd")).unwrap().as_os_str(), "/");
        let stat = fs::read_to_string(format!("{of}/stat")).unwrap();
        let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let (pid, session, terminal) = (stat.split(' ').next().unwrap(), fields[3], fields[4]);
        assert_eq!((pid, "0"), (session, terminal), "{stat}");
        let arguments = fs::read(format!("{of}/cmdline")).unwrap();
        assert!(arguments.starts_with(b"atrest-monitor\0"), "{}", arguments.escape_ascii());
    }
}

#[test]
fn signals_for_the_daemons_end_leave_the_monitor_until_then() {
    for vault in vaults() {
        let mut mount = vault.mount(&[]);
        let (daemon, monitor) = (mount.pid(), monitor(&mount));
        for meant in [Signal::TERM, Signal::INT, Signal::HUP] {
            kill_process(monitor, meant).unwrap();
        }
        signal(daemon, Signal::TERM);
        ends(Pid::from_raw(daemon.cast_signed()).unwrap(), "the daemon outlives SIGTERM");
        ends(monitor, "the monitor outlives its daemon");
        assert!(!is_mounted(mount.path()));
        mount.forget();
        vault.verify().ok();
    }
}

#[test]
fn a_monitor_goes_with_a_daemon_that_was_killed_and_leaves_the_mount() {
    for vault in vaults() {
        let mut mount = vault.mount(&[]);
        let monitor = monitor(&mount);
        mount.kill9();
        ends(monitor, "the monitor outlives its daemon");
        assert!(is_mounted(mount.path()), "a stale mount is for `atrest umount`");
    }
}

#[test]
fn without_its_monitor_a_daemon_serves_and_is_unmounted_by_the_command() {
    for vault in vaults() {
        let mut mount = vault.mount(&[]);
        let user =
            if vault.key_file().metadata().unwrap().uid() == 0 { None } else { Some(nobody()) };
        let write = |name: &str| fs::write(mount.join(name), pattern(0, 100_000)).unwrap();
        let by_user = |name: &str| match &user {
            Some(user) => user.run(|| write(name)),
            None => write(name),
        };
        kill_process(monitor(&mount), Signal::KILL).unwrap();
        by_user("after");
        assert!(mount.status_json()["mounted"] == true);
        mount.try_unmount().ok();
        // And on SIGTERM it ends with what was written, and leaves the mount.
        let mut mount = vault.mount(&[]);
        let write = |name: &str| fs::write(mount.join(name), pattern(0, 100_000)).unwrap();
        let (daemon, monitor) = (mount.pid(), monitor(&mount));
        kill_process(monitor, Signal::KILL).unwrap();
        ends(monitor, "a monitor that was killed");
        match &user {
            Some(user) => user.run(|| write("then")),
            None => write("then"),
        }
        mount.allow(Allow::Errors);
        // Wherever the vault lies by then.
        let elsewhere = vault.scratch().path().join("renamed");
        fs::rename(vault.path(), &elsewhere).unwrap();
        signal(daemon, Signal::TERM);
        ends(Pid::from_raw(daemon.cast_signed()).unwrap(), "the daemon outlives SIGTERM");
        fs::rename(&elsewhere, vault.path()).unwrap();
        let log = mount.log();
        assert!(log.contains("monitor, which unmounts for it, has ended"), "{log}");
        assert!(!log.contains("may not be durable"), "{log}");
        let trail = vault.run(&["trail", "query"]).ok().stdout;
        assert!(trail.contains("then"), "{trail}");
        assert!(is_mounted(mount.path()));
        mount.try_unmount().ok();
        let mut mount = vault.mount(&[]);
        mount.allow(Allow::Warnings);
        let read = || {
            ["after", "then"].map(|name| fs::read(mount.join(name)).unwrap() == pattern(0, 100_000))
        };
        assert_eq!(user.as_ref().map_or_else(read, |user| user.run(read)), [true; 2]);
    }
}

/// Which its daemon tells the monitor, that unmounts it.
#[test]
fn a_mount_of_very_long_paths_goes_with_its_daemon() {
    require_root();
    let vault = Vault::prepare();
    let deep = |name: &str| {
        let mut path = vault.scratch().join(name);
        while path.as_os_str().len() < 3800 {
            path.push(name.repeat(200));
        }
        fs::create_dir_all(&path).unwrap();
        path
    };
    let (directory, mountpoint) = (deep("v"), deep("m"));
    let key_file = vault.key_file();
    run(vault.command(&["init", "--key-file"]).arg(key_file).arg(&directory)).ok();
    run(vault.command(&["mount"]).arg(&directory).arg(&mountpoint)).ok();
    let daemons = daemons_of(&mountpoint);
    assert_eq!(daemons.len(), 1, "{daemons:?}");
    signal(daemons[0], Signal::TERM);
    let gone = wait_until(Duration::from_secs(20), || (!is_mounted(&mountpoint)).then_some(()));
    if gone.is_none() {
        run(vault.command(&["umount"]).arg(&mountpoint)).ok();
    }
    assert!(gone.is_some(), "SIGTERM does not unmount it");
    ends(Pid::from_raw(daemons[0].cast_signed()).unwrap(), "the daemon outlives SIGTERM");
}

/// As where its monitor has ended.
#[test]
fn a_daemon_that_may_not_unmount_ends() {
    require_root();
    let helper = require("fusermount3");
    let vault = Vault::init_as(&nobody());
    let programs = vault.scratch().path().join("programs");
    fs::create_dir(&programs).unwrap();
    let script = programs.join("fusermount3");
    let refuses = "[ \"$1\" = -u ] && { echo fusermount3: not today >&2; exit 1; }";
    fs::write(&script, format!("#!/bin/sh\n{refuses}\nexec {} \"$@\"\n", helper.display()))
        .unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let with_path = |mut command: Command| run(command.env("PATH", path));
    let mut mount = Mounted::try_mount_with(&vault, &[], with_path).unwrap();
    let content = pattern(0, 100_000);
    nobody().run(|| fs::write(mount.join("file"), &content).unwrap());
    mount.allow(Allow::Errors);
    let daemon = mount.pid();
    signal(daemon, Signal::TERM);
    ends(Pid::from_raw(daemon.cast_signed()).unwrap(), "the daemon outlives SIGTERM");
    let log = mount.log();
    assert!(log.contains("can't be unmounted at once: fusermount3: not today"), "{log}");
    assert!(log.contains("not today: the daemon ends and leaves its mount"), "{log}");
    mount.try_unmount().ok();
    let mut mount = vault.mount(&[]);
    mount.allow(Allow::Warnings);
    assert!(nobody().run(|| fs::read(mount.join("file")).unwrap()) == content);
}

/// Where Landlock can't be, for a reason that nobody has thought of.
#[test]
fn a_mount_that_can_not_be_confined_ends_cleanly() {
    if landlock() < 2 {
        return;
    }
    require_root();
    let vault = Vault::init();
    let refuse_landlock = || {
        let instruction = |code, jf, k| libc::sock_filter { code, jt: 0, jf, k };
        let mut filter = [
            instruction((libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16, 0, 0),
            instruction(
                (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16,
                1,
                libc::SYS_landlock_restrict_self as u32,
            ),
            instruction(libc::BPF_RET as u16, 0, libc::SECCOMP_RET_ERRNO | libc::ENOMEM as u32),
            instruction(libc::BPF_RET as u16, 0, libc::SECCOMP_RET_ALLOW),
        ];
        let program = libc::sock_fprog { len: 4, filter: filter.as_mut_ptr() };
        // SAFETY: the program has that many instructions, and the kernel only reads it.
        let refused = unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
                | libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program)
        };
        if refused == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
    };
    let without_landlock = |mut command: Command| {
        // SAFETY: it only makes system calls.
        unsafe { command.pre_exec(refuse_landlock) };
        run(&mut command)
    };
    let Err(refused) = Mounted::try_mount_with(&vault, &[], without_landlock) else {
        panic!("it is mounted without Landlock");
    };
    assert!(refused.stderr.contains("can't be confined"), "{refused}");
    assert!(!is_mounted(&vault.mountpoint()));
    // The next one says nothing of an end that was not clean.
    let mount = vault.mount(&[]);
    let status = mount.log();
    assert!(!status.contains("clean"), "{status}");
    mount.unmount();
    let trail = vault.run(&["trail", "query", "--json"]).ok().stdout;
    let mounts: Vec<_> = trail.lines().filter(|line| line.contains("afterCleanEnd")).collect();
    assert!(
        !mounts.is_empty() && mounts.iter().all(|line| line.contains("\"afterCleanEnd\":true")),
        "{trail}"
    );
}

/// What the daemon is made to open by the key file's name becoming a link.
#[test]
fn a_daemon_opens_no_file_outside_of_its_directories() {
    if landlock() < 2 {
        return;
    }
    for vault in vaults() {
        let mount = vault.mount(&[]);
        let key_file = vault.key_file();
        let outside = vault.scratch().path().join("outside");
        fs::create_dir(&outside).unwrap();
        let owner = key_file.metadata().unwrap();
        std::os::unix::fs::chown(&outside, Some(owner.uid()), Some(owner.gid())).unwrap();
        vault.run(&["key", "rotate"]).ok();
        fs::rename(&key_file, outside.join("key.json")).unwrap();
        symlink(outside.join("key.json"), &key_file).unwrap();
        let refused = vault.run(&["key", "rotate"]).fails();
        assert!(refused.stderr.contains("denied"), "{refused}");
        fs::remove_file(&key_file).unwrap();
        fs::rename(outside.join("key.json"), &key_file).unwrap();
        vault.run(&["key", "rotate"]).ok();
        drop(mount);
    }
}
