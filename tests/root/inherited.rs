//! What the daemon has from the process that started it, and must not depend on.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::{
    Mounted, Outcome, Vault, pattern, require, require_root, run, users::may_raise_limits,
    write_secret,
};
use crate::nobody;

/// The mount command, run by a shell after `prologue`.
fn after(prologue: &str) -> impl FnOnce(Command) -> Outcome {
    let script = format!("{prologue}; exec \"$0\" \"$@\"");
    move |command| wrapped(command, &["bash", "-c", &script])
}

/// The mount command as the arguments of another one.
fn wrapped(command: Command, by: &[&str]) -> Outcome {
    let mut wrapper = Command::new(require(by[0]));
    wrapper.args(&by[1..]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => wrapper.env(name, value),
            None => wrapper.env_remove(name),
        };
    }
    if let Some(dir) = command.get_current_dir() {
        wrapper.current_dir(dir);
    }
    run(&mut wrapper)
}

#[track_caller]
fn mount_after(vault: &Vault, prologue: &str) -> Mounted {
    Mounted::try_mount_with(vault, &["--no-writeback"], after(prologue))
        .unwrap_or_else(|outcome| panic!("{prologue}: {outcome}"))
}

fn proc_file(mount: &Mounted, name: &str) -> String {
    fs::read_to_string(format!("/proc/{}/{name}", mount.pid())).unwrap()
}

/// A line of /proc/PID/status or limits, without the word that it begins with.
fn line_of(text: &str, word: &str) -> String {
    let line = text.lines().find_map(|line| line.strip_prefix(word));
    line.unwrap_or_else(|| panic!("no {word} in {text}")).trim().to_owned()
}

/// Soft limits, and hard ones where this root may raise them.
#[test]
fn root_lifts_the_limits_of_who_mounts() {
    require_root();
    let vault = Vault::init();
    let kinds = if may_raise_limits() { &["-S", "-H"][..] } else { &["-S"] };
    for kind in kinds {
        let limits = [("f", 8), ("t", 600), ("v", 8_000_000), ("d", 8_000_000), ("s", 256)];
        let set = limits.map(|(option, value)| format!("ulimit -S -{option} {value}"));
        let hard = limits.map(|(option, value)| format!("ulimit {kind} -{option} {value}"));
        let files = "ulimit -S -n 64; ulimit -H -n 4000";
        let mount =
            mount_after(&vault, &format!("{files}; {}; {}", set.join("; "), hard.join("; ")));
        let limits = proc_file(&mount, "limits");
        for name in ["Max cpu time", "Max file size", "Max data size", "Max address space"] {
            assert!(line_of(&limits, name).starts_with("unlimited"), "{limits}");
        }
        assert!(line_of(&limits, "Max core file size").starts_with('0'), "{limits}");
        let files = line_of(&limits, "Max open files");
        assert_eq!(files.split_whitespace().take(2).collect::<Vec<_>>(), ["4000", "4000"]);
        fs::write(mount.join("large"), pattern(0, 1 << 20)).unwrap();
        assert_eq!(fs::read(mount.join("large")).unwrap(), pattern(0, 1 << 20));
    }
}

/// The limit on file sizes that a user can't raise makes writes past it fail, and nothing else.
#[test]
fn a_users_hard_limit_on_file_sizes_is_an_error_of_the_write() {
    require_root();
    let vault = Vault::init_as(&nobody());
    let by_user = |command| {
        let program = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
        let shell = ["bash", "-c", "ulimit -f 256; exec \"$0\" \"$@\""];
        wrapped(command, &[&program[..], &shell[..]].concat())
    };
    let mount = Mounted::try_mount_with(&vault, &["--no-writeback"], by_user)
        .unwrap_or_else(|outcome| panic!("{outcome}"));
    nobody().run(|| {
        let error = fs::write(mount.join("large"), pattern(0, 1 << 20)).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EFBIG), "{error}");
        fs::write(mount.join("small"), pattern(0, 50_000)).unwrap();
        assert_eq!(fs::read(mount.join("small")).unwrap(), pattern(0, 50_000));
    });
}

/// A user's hard limit that would end the daemon one day is told at the mount.
#[test]
fn a_users_hard_limits_that_would_end_the_daemon_are_refused() {
    require_root();
    let vault = Vault::init_as(&nobody());
    for (limit, word) in
        [("-t 1000", "time"), ("-v 1000000", "address space"), ("-d 90000", "data")]
    {
        let by_user = |command| {
            let program = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
            let script = format!("ulimit {limit}; exec \"$0\" \"$@\"");
            let shell = ["bash", "-c", &script];
            wrapped(command, &[&program[..], &shell[..]].concat())
        };
        match Mounted::try_mount_with(&vault, &[], by_user) {
            Ok(_) => panic!("mounted with ulimit {limit}"),
            Err(outcome) => {
                assert_eq!(outcome.code(), 6, "{outcome}");
                assert!(outcome.stderr.contains(word), "{outcome}");
                assert_eq!(outcome.stderr.trim().lines().count(), 1, "{outcome}");
            }
        }
    }
}

#[test]
fn inherited_descriptors_are_closed() {
    require_root();
    let vault = Vault::init();
    let scratch = vault.scratch().path().display().to_string();
    let prologue = format!("exec 5>{scratch}/five 17</dev/zero 200<{scratch}/home; exec 0<&- 1>&-");
    let mount = mount_after(&vault, &prologue);
    let open: Vec<(String, PathBuf)> = fs::read_dir(format!("/proc/{}/fd", mount.pid()))
        .unwrap()
        .flatten()
        .filter_map(|fd| Some((fd.file_name().into_string().ok()?, fs::read_link(fd.path()).ok()?)))
        .collect();
    let of = |number: &str| open.iter().find(|(fd, _)| fd == number).map(|(_, path)| path);
    for number in ["0", "1", "2"] {
        assert_eq!(of(number).map(PathBuf::as_path), Some(Path::new("/dev/null")), "{open:?}");
    }
    let inherited = ["five", "/dev/zero", "home"];
    for (fd, path) in &open {
        assert!(!inherited.iter().any(|name| path.ends_with(name)), "{fd}: {}", path.display());
    }
    fs::write(mount.join("file"), b"x").unwrap();
}

/// A passphrase comes through an inherited descriptor in `--passphrase-file <(command)`.
#[test]
fn a_descriptor_that_is_named_is_read_first() {
    require_root();
    let vault = Vault::prepare();
    let scratch = vault.scratch();
    write_secret(scratch.join("passphrase"), "one two three\n");
    let mut init = vault.command(&["init", "--argon2-memory", "8"]);
    init.arg(vault.path()).arg("--key-file").arg(vault.key_file());
    run(init.arg("--new-passphrase-file").arg(scratch.join("passphrase"))).ok();
    let options = ["--passphrase-file", "/dev/fd/9"];
    let mount = Mounted::try_mount_with(&vault, &options, after("exec 9<passphrase"));
    let mount = mount.unwrap_or_else(|outcome| panic!("{outcome}"));
    fs::write(mount.join("file"), b"x").unwrap();
}

/// Signals that were blocked or ignored; and a parent that ignores SIGCHLD loses no exit code.
#[test]
fn signals_are_what_the_daemon_needs() {
    require_root();
    let vault = Vault::init();
    let ignore = "trap '' CHLD TERM HUP INT USR1 TTOU TSTP PIPE XFSZ";
    let mut mount = mount_after(&vault, ignore);
    let status = proc_file(&mount, "status");
    let mask = |word| u64::from_str_radix(&line_of(&status, word), 16).unwrap();
    let bit = |signal: i32| 1u64 << (signal - 1);
    let ignored = mask("SigIgn:");
    for signal in [libc::SIGCHLD, libc::SIGTERM, libc::SIGUSR1, libc::SIGTTOU, libc::SIGTSTP] {
        assert_eq!(ignored & bit(signal), 0, "{signal} is ignored: {status}");
    }
    for signal in [libc::SIGPIPE, libc::SIGXFSZ] {
        assert_ne!(ignored & bit(signal), 0, "{signal} is not ignored: {status}");
    }
    assert_eq!(mask("SigBlk:"), bit(libc::SIGTERM) | bit(libc::SIGINT) | bit(libc::SIGHUP));
    let pid = mount.pid().to_string();
    run(Command::new("kill").args(["-TERM", &pid])).ok();
    let gone = crate::common::wait_until(std::time::Duration::from_secs(30), || {
        (!Path::new(&format!("/proc/{pid}/exe")).exists()).then_some(())
    });
    assert!(gone.is_some(), "SIGTERM does not end the daemon");
    mount.forget();
    fs::write(vault.mountpoint().join("in the way"), b"").unwrap();
    let refused = Mounted::try_mount_with(&vault, &[], after(ignore)).err().expect("not mounted");
    assert_eq!(refused.code(), 6, "{refused}");
    fs::remove_file(vault.mountpoint().join("in the way")).unwrap();
}

/// A lower priority would make every user of the mount wait; a higher one is somebody's wish.
#[test]
fn no_low_priority_is_kept() {
    require_root();
    let vault = Vault::init();
    let niced = ["nice", "-n", "15", "ionice", "-c", "3", "chrt", "--idle", "0"];
    let mount = Mounted::try_mount_with(&vault, &[], |command| wrapped(command, &niced));
    let mount = mount.unwrap_or_else(|outcome| panic!("{outcome}"));
    let pid = mount.pid().to_string();
    let says = |program: &str, args: &[&str]| run(Command::new(program).args(args)).ok().stdout;
    for task in fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten() {
        let task = task.file_name().into_string().unwrap();
        assert!(says("chrt", &["-p", &task]).contains("SCHED_OTHER"));
        assert!(!says("ionice", &["-p", &task]).contains("idle"));
    }
    assert_eq!(says("ps", &["-o", "ni=", "-q", &pid]).trim(), "0");
    drop(mount);
    let raised = ["nice", "-n", "-5"];
    let mount = Mounted::try_mount_with(&vault, &[], |command| wrapped(command, &raised));
    let mount = mount.unwrap_or_else(|outcome| panic!("{outcome}"));
    assert_eq!(says("ps", &["-o", "ni=", "-q", &mount.pid().to_string()]).trim(), "-5");
}

/// File modes are the callers'; the directory in which it was started can be removed; what was in
/// the environment is not in that of the daemon's children.
#[test]
fn umask_directory_and_environment_do_not_matter() {
    require_root();
    let vault = Vault::init();
    let prologue = "mkdir here; cd here; umask 0777; export LD_PRELOAD=/nowhere.so TMPDIR=$PWD";
    let mount = mount_after(&vault, prologue);
    let status = proc_file(&mount, "status");
    assert_eq!(line_of(&status, "Umask:"), "0000");
    let cwd = fs::read_link(format!("/proc/{}/cwd", mount.pid())).unwrap();
    assert_eq!(cwd, Path::new("/"));
    fs::write(mount.join("file"), b"x").unwrap();
}

/// What the owner may not read of their own vault, they can't mount.
#[test]
fn a_umask_takes_no_rights_of_the_owner() {
    let vault = Vault::prepare();
    let mut init = vault.command(&["init"]);
    init.arg(vault.path()).arg("--key-file").arg(vault.key_file());
    after("umask 0777")(init).ok();
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let own = vault.path().join(".atrest");
    assert_eq!(mode(own.join("vault.json")), 0o600);
    assert_eq!(mode(own.join("lock")), 0o600);
    assert_eq!(mode(own), 0o700);
    assert_eq!(mode(vault.key_file()), 0o600);
}

/// The same for a daemon in the foreground.
#[test]
fn the_foreground_is_no_different() {
    require_root();
    let vault = Vault::init();
    let mut command = vault.command(&["mount", "--foreground"]);
    command.arg(vault.path()).arg(vault.mountpoint());
    let log = fs::File::create(vault.scratch().join("log/foreground")).unwrap();
    let mut shell = Command::new("bash");
    let script = "ulimit -f 8; umask 0777; exec 17</dev/zero; exec \"$0\" \"$@\"";
    shell.args(["-c", script]).arg(command.get_program()).args(command.get_args());
    shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.current_dir(vault.scratch().path()).stdout(log.try_clone().unwrap()).stderr(log);
    let mut daemon = shell.spawn().unwrap();
    let mounted = crate::common::wait_until(std::time::Duration::from_secs(30), || {
        crate::common::mounted::is_mounted(&vault.mountpoint()).then_some(())
    });
    assert!(mounted.is_some());
    fs::write(vault.mountpoint().join("file"), pattern(0, 100_000)).unwrap();
    let process = format!("/proc/{}", daemon.id());
    assert_eq!(fs::read_link(format!("{process}/cwd")).unwrap(), Path::new("/"));
    // The daemon may have a file of its own there.
    let seventeenth = fs::read_link(format!("{process}/fd/17")).unwrap_or_default();
    assert_ne!(seventeenth, Path::new("/dev/zero"));
    run(vault.command(&["umount"]).arg(vault.mountpoint())).ok();
    assert!(daemon.wait().unwrap().success());
}
