//! A vault on a disk that fills: the writer is told, what was there stays, and once there is room
//! all goes on.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::common::files::{assert_same, close, errno};
use crate::common::{Mounted, Outcome, pattern, random_bytes, run};
use crate::small_disk::{SmallDisk, fill};

const CACHES: [&[&str]; 2] = [&[], &["--no-writeback"]];

fn each_full_disk(test: impl Fn(&SmallDisk, &[&str])) {
    for options in CACHES {
        SmallDisk::each(|disk| test(&disk, options));
    }
}

/// Mounts a vault on a disk that will be full: the log then names the files of which something was
/// lost that the kernel had in its cache.
fn mount_to_fill(disk: &SmallDisk, options: &[&str]) -> Mounted {
    let mut mount = disk.vault.mount(options);
    if options.is_empty() {
        mount.expect_line("can't be written: the backing filesystem says: No space left");
    }
    mount
}

/// Writes a file as a careless program does, which looks at every result but never syncs.
fn save(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    close(file)
}

/// The same, by one who syncs.
fn save_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn overwrite(path: &Path, bytes: &[u8], offset: u64) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    file.write_all_at(bytes, offset)?;
    file.sync_all()
}

/// Files with content, beside them what can be deleted, and then no space at all.
fn make_full(mount: &Mounted) -> Vec<u8> {
    let old = random_bytes(1, 300_000);
    for name in ["replaced", "overwritten", "grown over", "appended"] {
        save_synced(&mount.join(name), &old).unwrap();
    }
    save_synced(&mount.join("spare"), &pattern(0, 3_000_000)).unwrap();
    assert!(fill(&mount.join("filler")) > 4 << 20);
    old
}

#[test]
fn the_writer_is_told_and_what_was_there_stays() {
    each_full_disk(|disk, options| {
        let mount = mount_to_fill(disk, options);
        let old = make_full(&mount);
        let new = random_bytes(2, 500_000);
        // A program that writes anew and renames never comes to the rename.
        assert_eq!(errno(save(&mount.join("new"), &new)), libc::ENOSPC, "{options:?}");
        assert_eq!(errno(save_synced(&mount.join("new"), &new)), libc::ENOSPC, "{options:?}");
        assert_eq!(errno(overwrite(&mount.join("grown over"), &new, 299_000)), libc::ENOSPC);
        let mut sync = OpenOptions::new();
        sync.append(true).custom_flags(libc::O_SYNC);
        let mut appended = sync.open(mount.join("appended")).unwrap();
        assert_eq!(errno(appended.write_all(&new)), libc::ENOSPC);
        drop(appended);
        // What has its space needs none.
        overwrite(&mount.join("overwritten"), &new[..200_000], 50_000).unwrap();

        let check = |mount: &Mounted| {
            assert_same(&fs::read(mount.join("replaced")).unwrap(), &old, "replaced");
            let mut overwritten = old.clone();
            overwritten[50_000..250_000].copy_from_slice(&new[..200_000]);
            assert_same(&fs::read(mount.join("overwritten")).unwrap(), &overwritten, "overwritten");
            // As far as neither was asked to change.
            let found = fs::read(mount.join("grown over")).unwrap();
            assert_same(&found[..299_000], &old[..299_000], "grown over");
            let found = fs::read(mount.join("appended")).unwrap();
            assert_same(&found[..old.len()], &old, "appended");
            // Of the rest, what was written is there as written; what was not is no garbage.
            let rest = &found[old.len()..];
            let is_right = rest.iter().zip(&new).all(|(found, new)| found == new || *found == 0);
            assert!(is_right && rest.len() <= new.len(), "garbage in what was appended");
        };
        check(&mount);
        let mount = mount.remount(options);
        check(&mount);

        // Deleting takes no space, and gives some.
        fs::remove_file(mount.join("spare")).unwrap();
        save(&mount.join("again"), &new).unwrap();
        overwrite(&mount.join("appended"), &new, old.len() as u64).unwrap();
        let mount = mount.remount(options);
        assert_same(&fs::read(mount.join("again")).unwrap(), &new, "again");
        let appended = [&old[..], &new].concat();
        assert_same(&fs::read(mount.join("appended")).unwrap(), &appended, "appended");
        mount.unmount();
        disk.vault.verify();
    });
}

/// Names, too, need space in the end.
#[test]
fn making_names_is_refused_and_the_names_there_are_stay() {
    each_full_disk(|disk, options| {
        let mount = mount_to_fill(disk, options);
        let old = make_full(&mount);
        // Long ones, so that a directory needs blocks soon.
        let name = |number: u32| format!("{number:0200}");
        let mut made = 0;
        let refused = (0..20_000).find_map(|number| match save(&mount.join(name(number)), b"x") {
            Ok(()) => {
                made += 1;
                None
            }
            Err(error) => Some(error),
        });
        let refused = refused.expect("files need space");
        assert_eq!(refused.raw_os_error(), Some(libc::ENOSPC), "{refused}");
        fs::rename(mount.join("replaced"), mount.join("renamed")).unwrap();
        let mount = mount.remount(options);
        assert_same(&fs::read(mount.join("renamed")).unwrap(), &old, "renamed");
        for number in 0..made {
            assert_eq!(fs::read(mount.join(name(number))).unwrap(), b"x");
        }
        mount.unmount();
        disk.vault.verify();
    });
}

/// By the process's id, in the lock file, umount knows of whose end it reads there.
#[test]
fn the_daemon_of_a_full_disk_has_a_name() {
    SmallDisk::each(|disk| {
        disk.vault.mount(&[]).unmount();
        disk.fill();
        let mount = disk.vault.mount(&[]);
        let lock = fs::read_to_string(disk.vault.path().join(".atrest/lock")).unwrap();
        assert_eq!(lock.lines().next(), Some(mount.pid().to_string().as_str()));
        mount.unmount();
    });
}

/// All there is below a directory, but for lock files, which name who had the vault last.
fn snapshot(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(snapshot(&path));
            found.push((path, Vec::new()));
        } else if !path.to_string_lossy().ends_with("lock") {
            found.push((path.clone(), fs::read(&path).unwrap()));
        }
    }
    found.sort();
    found
}

/// Exits with `code`, and one sentence that tells the reason.
#[track_caller]
fn assert_told(outcome: &Outcome, code: i32) {
    assert_eq!(outcome.code(), code, "{outcome}");
    assert!(outcome.stderr.starts_with("atrest: "), "{outcome}");
    assert_eq!(outcome.stderr.trim_end().lines().count(), 1, "{outcome}");
    assert!(outcome.stderr.contains("No space left"), "{outcome}");
}

#[test]
fn no_vault_and_no_key_file_is_made() {
    SmallDisk::each(|disk| {
        disk.fill();
        let scratch = disk.vault.scratch();
        let (home, small) = (scratch.join("home"), disk.join(""));
        let before = (snapshot(&home), snapshot(&small));
        let init = |vault: PathBuf, key: PathBuf| {
            let mut command = disk.vault.command(&["init"]);
            run(command.arg(vault).arg("--key-file").arg(key))
        };
        assert_told(&init(disk.join("other"), home.join("key.json")), 1);
        assert_told(&init(home.join("other"), disk.join("key.json")), 5);
        assert!((snapshot(&home), snapshot(&small)) == before, "init left something behind");
        disk.make_room();
        init(disk.join("other"), disk.join("key.json")).ok();
    });
}

#[test]
fn the_key_rotates_whole_or_not_at_all() {
    SmallDisk::each(|disk| {
        let key = disk.join("key.json");
        fs::copy(disk.vault.key_file(), &key).unwrap();
        let on_key = |words: &[&str]| {
            let mut command = disk.vault.command(words);
            run(command.arg(disk.vault.path()).env("ATREST_KEY_FILE", &key))
        };
        let mount = disk.vault.mount(&["--key-file", key.to_str().unwrap()]);
        save(&mount.join("file"), &pattern(0, 10_000)).unwrap();
        disk.fill();
        let before = fs::read(&key).unwrap();
        assert_told(&on_key(&["key", "rotate"]), 5);
        assert_eq!(mount.status_json()["key_version"], 1);
        mount.unmount();
        assert_told(&on_key(&["key", "rotate"]), 5);
        assert!(fs::read(&key).unwrap() == before, "a failed rotation changed the key file");
        disk.make_room();
        on_key(&["key", "rotate"]).ok();
        on_key(&["key", "rewrap"]).ok();
        on_key(&["verify"]).ok();
    });
}

/// Headers are written over in place, and so is the vault's description: what makes an old key
/// useless need not wait for space.
#[test]
fn a_rewrap_needs_no_space() {
    SmallDisk::each(|disk| {
        let mount = disk.vault.mount(&[]);
        let bytes = pattern(0, 10_000);
        (0..20).for_each(|number| save(&mount.join(number.to_string()), &bytes).unwrap());
        disk.fill();
        disk.vault.run(&["key", "rotate"]).ok();
        disk.vault.run(&["key", "rewrap"]).ok();
        mount.unmount();
        disk.vault.run(&["key", "rotate"]).ok();
        disk.vault.run(&["key", "rewrap"]).ok();
        let again = disk.vault.run(&["key", "rewrap", "--json"]).ok();
        let done: serde_json::Value = serde_json::from_str(&again.stdout).unwrap();
        assert_eq!((&done["rewrapped"], &done["already_new"]), (&0.into(), &20.into()), "{done}");
        disk.vault.verify();
    });
}
