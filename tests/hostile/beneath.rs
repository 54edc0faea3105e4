//! Somebody changes the vault's directory below a mount that runs: no call leads out of it, and none
//! gives what its caller may not have.

use std::ffi::CString;
use std::fs::{self, OpenOptions, Permissions};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, Mode, XattrFlags};

use crate::common::files::errno;
use crate::common::{Allow, User, Vault, require_root};
use crate::nobody;

/// Longer no call may take, whatever lies in the vault.
const LIMIT: Duration = Duration::from_secs(5);

/// What is put in the place of a file of the vault.
const REPLACEMENTS: [&str; 6] =
    ["a symlink", "a hard link", "a pipe", "a directory", "another file", "nothing"];

/// A file outside of the vault that nothing may happen to, on the same filesystem.
fn victim(vault: &Vault) -> std::path::PathBuf {
    let path = vault.scratch().join("victim");
    fs::write(&path, b"of somebody else").unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    rustix::fs::setxattr(&path, "user.mark", b"kept", XattrFlags::empty()).unwrap();
    path
}

fn looks(path: &Path) -> String {
    let found = fs::metadata(path).unwrap();
    let mut mark = [0; 16];
    let mark_len = rustix::fs::getxattr(path, "user.mark", &mut mark).unwrap();
    format!(
        "{:o} {} {} {}.{} {:?} {:?}",
        found.mode(),
        found.uid(),
        found.gid(),
        found.mtime(),
        found.mtime_nsec(),
        fs::read(path).unwrap(),
        &mark[..mark_len]
    )
}

fn replace(stored: &Path, with: &str, victim: &Path) {
    fs::remove_file(stored).unwrap();
    match with {
        "a symlink" => symlink(victim, stored).unwrap(),
        "a hard link" => fs::hard_link(victim, stored).unwrap(),
        "a pipe" => {
            let kind = rustix::fs::FileType::Fifo;
            rustix::fs::mknodat(CWD, stored, kind, Mode::from_raw_mode(0o666), 0).unwrap();
            assert!(fs::symlink_metadata(stored).unwrap().file_type().is_fifo());
        }
        "a directory" => fs::create_dir(stored).unwrap(),
        "another file" => fs::write(stored, b"sealed by nobody").unwrap(),
        "nothing" => {}
        with => panic!("{with}"),
    }
}

type Call = (&'static str, fn(&Path) -> std::io::Result<()>);

fn times(path: &Path) -> std::io::Result<()> {
    let time = |tv_sec| rustix::fs::Timespec { tv_sec, tv_nsec: 0 };
    let times = rustix::fs::Timestamps { last_access: time(1), last_modification: time(2) };
    Ok(rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

const CALLS: [Call; 12] = [
    ("chmod", |path| fs::set_permissions(path, Permissions::from_mode(0o4777))),
    ("chown", |path| std::os::unix::fs::lchown(path, Some(65_534), Some(65_534))),
    ("utimes", times),
    ("setxattr", |path| {
        Ok(rustix::fs::lsetxattr(path, "user.mark", b"changed", XattrFlags::empty())?)
    }),
    ("removexattr", |path| Ok(rustix::fs::lremovexattr(path, "user.mark")?)),
    ("truncate", |path| {
        let path = CString::new(path.as_os_str().as_bytes()).unwrap();
        Ok(nix::unistd::truncate(path.as_c_str(), 0)?)
    }),
    ("write", |path| {
        let file = OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(path)?;
        std::io::Write::write_all(&mut &file, b"changed")?;
        file.sync_all()
    }),
    ("empty", |path| {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).custom_flags(libc::O_NONBLOCK);
        options.open(path)?.sync_all()
    }),
    ("link", |path| fs::hard_link(path, path.with_extension("linked"))),
    ("rename", |path| fs::rename(path, path.with_extension("renamed"))),
    ("read", |path| {
        let mut options = OpenOptions::new();
        // The kernel that finds a pipe waits for whoever writes into it.
        let mut file = options.read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
        let mut read = Vec::new();
        file.read_to_end(&mut read)?;
        assert_ne!(read, b"of somebody else", "the victim was read");
        Ok(())
    }),
    ("readlink", |path| fs::read_link(path).map(drop)),
];

#[test]
fn what_replaces_a_file_in_the_vault_is_not_acted_on() {
    require_root();
    let vault = Vault::init().shared();
    rustix::fs::chmod(vault.scratch().path(), 0o755.into()).unwrap();
    let victim = victim(&vault);
    let expected = looks(&victim);
    for (number, with) in REPLACEMENTS.into_iter().enumerate() {
        for (call, act) in CALLS {
            let mut mount = vault.mount(&["--allow-other"]);
            mount.allow(Allow::Errors);
            let dir = format!("{number} {call}");
            fs::create_dir(mount.join(&dir)).unwrap();
            fs::set_permissions(mount.join(&dir), Permissions::from_mode(0o777)).unwrap();
            let name = format!("{dir}/file");
            // What they own they may do all of that to.
            nobody().run(|| fs::write(mount.join(&name), vec![7; 10_000]).unwrap());
            // The kernel knows it, and asks no more for a day.
            fs::metadata(mount.join(&name)).unwrap();
            replace(&vault.path().join(&name), with, &victim);
            let begun = Instant::now();
            let path = mount.join(&name);
            let done = thread::spawn(move || nobody().run(|| act(&path)));
            while !done.is_finished() {
                assert!(begun.elapsed() < LIMIT, "{call} of {with} hangs");
                thread::sleep(Duration::from_millis(1));
            }
            let _ = done.join().unwrap();
            assert_eq!(looks(&victim), expected, "{call} of {with}");
            drop(mount);
            let links = fs::metadata(&victim).unwrap().nlink();
            let allowed = if with == "a hard link" { 2 } else { 1 };
            assert!(links <= allowed, "{call} of {with}: linked into the vault");
            let _ = fs::remove_dir_all(vault.path().join(&dir));
        }
    }
}

#[test]
fn a_name_that_the_kernel_did_not_find_is_opened_by_no_create() {
    require_root();
    let vault = Vault::init().shared();
    let mount = vault.mount(&["--allow-other"]);
    fs::set_permissions(mount.path(), Permissions::from_mode(0o777)).unwrap();
    fs::write(mount.join("secret"), b"of root alone").unwrap();
    fs::set_permissions(mount.join("secret"), Permissions::from_mode(0o600)).unwrap();
    let nobody: User = nobody();
    nobody.run(|| {
        // From here on the kernel knows that there is no such name.
        assert_eq!(errno(fs::metadata(mount.join("missing"))), libc::ENOENT);
    });
    fs::rename(vault.path().join("secret"), vault.path().join("missing")).unwrap();
    nobody.run(|| {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        // The daemon still knows it by its other name, under which nothing lies.
        let refused = [libc::EACCES, libc::ENOENT, libc::ESTALE];
        assert!(refused.contains(&errno(options.open(mount.join("missing")))));
        assert!(refused.contains(&errno(fs::read(mount.join("missing")))));
    });
}

#[test]
fn a_vault_that_others_reach_is_not_shared() {
    require_root();
    let vault = Vault::init();
    assert_eq!(fs::metadata(vault.path()).unwrap().mode() & 0o7777, 0o700, "after init");
    for mode in [0o701, 0o710, 0o755] {
        fs::set_permissions(vault.path(), Permissions::from_mode(mode)).unwrap();
        let refusal = vault.try_mount(&["--allow-other"]).err().expect("an open vault is shared");
        assert_eq!(refusal.code(), 4, "{refusal}");
        let command = format!("chmod 700 {}", vault.path().display());
        assert!(refusal.stderr.contains(&command), "{refusal}");
        // Nobody else is let in.
        vault.mount(&[]).unmount();
    }
    fs::set_permissions(vault.path(), Permissions::from_mode(0o700)).unwrap();
    std::os::unix::fs::chown(vault.path(), Some(65_534), None).unwrap();
    let refusal = vault.try_mount(&["--allow-other"]).err().expect("another's vault is shared");
    assert!(refusal.stderr.contains("chown 0 "), "{refusal}");
}

#[test]
fn the_root_of_the_mount_has_attributes_of_its_own() {
    require_root();
    let vault = Vault::init().shared();
    let mut mount = vault.mount(&["--allow-other"]);
    assert_eq!(fs::metadata(mount.path()).unwrap().mode() & 0o7777, 0o755);
    for _ in 0..2 {
        fs::set_permissions(mount.path(), Permissions::from_mode(0o2773)).unwrap();
        std::os::unix::fs::chown(mount.path(), Some(1_234), Some(4_321)).unwrap();
        let shown = |what: &str| {
            let found = fs::metadata(mount.path()).unwrap();
            let found = (found.mode() & 0o7777, found.uid(), found.gid());
            assert_eq!(found, (0o2773, 1_234, 4_321), "{what}");
        };
        shown("at once");
        let below = fs::metadata(vault.path()).unwrap();
        assert_eq!((below.mode() & 0o7777, below.uid(), below.gid()), (0o700, 0, 0));
        // Its group is passed on, as any directory's.
        nobody().run(|| {
            fs::create_dir(mount.join("dir")).unwrap();
            fs::write(mount.join("dir/empty"), b"").unwrap();
            let dir = fs::metadata(mount.join("dir")).unwrap();
            assert_eq!((dir.uid(), dir.gid(), dir.mode() & 0o2000), (65_534, 4_321, 0o2000));
            assert_eq!(fs::metadata(mount.join("dir/empty")).unwrap().gid(), 4_321);
        });
        fs::remove_dir_all(mount.join("dir")).unwrap();
        mount = mount.remount(&["--allow-other"]);
        let found = fs::metadata(mount.path()).unwrap();
        let found = (found.mode() & 0o7777, found.uid(), found.gid());
        assert_eq!(found, (0o2773, 1_234, 4_321), "after a remount");
    }
    // What was changed there is not believed.
    mount.unmount();
    let kept = vault.path().join(".atrest/root.json");
    let text = fs::read_to_string(&kept).unwrap();
    fs::write(&kept, text.replace("1234", "1235")).unwrap();
    let refused = |what: &str| {
        let refusal = vault.try_mount(&["--allow-other"]).err().expect(what);
        assert_eq!(refusal.code(), 11, "{refusal}");
        assert!(refusal.stderr.contains(what), "{refusal}");
    };
    refused("are missing or were changed");
    let mut mount = vault.mount(&["--allow-other", "--accept-rollback"]);
    mount.allow(Allow::Warnings);
    let found = fs::metadata(mount.path()).unwrap();
    let found = (found.mode() & 0o7777, found.uid(), found.gid());
    assert_eq!(found, (0o2773, 1_234, 4_321), "as the end of the last mount has kept it");
    fs::set_permissions(mount.path(), Permissions::from_mode(0o700)).unwrap();
    mount.unmount();
    // What was kept once is authentic, and no more the newest.
    fs::write(&kept, text).unwrap();
    refused("are not those of the end of its last mount");
}
