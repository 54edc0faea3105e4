//! What is open when a grant is taken away: it stays usable, unless the mount is strict.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{FileExt, PermissionsExt};

use crate::common::files::errno;
use crate::common::{Mounted, Vault, pattern};
use crate::people::People;
use crate::{grant, revoke};

const LEN: usize = 100_000;

fn mounted(people: &People, options: &[&str]) -> (Vault, Mounted, String) {
    let vault = Vault::init();
    let mount = vault.mount(options);
    fs::write(mount.join("file"), pattern(0, LEN)).unwrap();
    fs::set_permissions(mount.join("file"), Permissions::from_mode(0o666)).unwrap();
    let line = format!("--user {} --allow decrypt,generate-data-key", people.named.name);
    grant(&vault, &line);
    (vault, mount, line)
}

fn opened(people: &People, mount: &Mounted) -> (File, File) {
    let path = mount.join("file");
    people.named.user.run(|| {
        let read = File::open(&path).unwrap();
        let write = OpenOptions::new().write(true).open(&path).unwrap();
        assert_eq!(byte(&read, 5).unwrap(), pattern(0, LEN)[5]);
        write.write_all_at(b"before", 50_000).unwrap();
        (read, write)
    })
}

fn byte(file: &File, at: u64) -> io::Result<u8> {
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).map(|()| byte[0])
}

/// A write as far as the vault, whatever the kernel keeps.
fn write(file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    file.write_all_at(bytes, at).and_then(|()| file.sync_all())
}

#[test]
fn what_is_open_stays_usable() {
    let people = People::make();
    for options in [&["--allow-other"][..], &["--allow-other", "--no-writeback"]] {
        let (vault, mount, line) = mounted(&people, options);
        let (read, written) = opened(&people, &mount);
        revoke(&vault, &line);
        assert_eq!(errno(people.named.user.run(|| File::open(mount.join("file")))), libc::EACCES);
        assert_eq!(byte(&read, 90_000).unwrap(), pattern(0, LEN)[90_000]);
        write(&written, b"after", 60_000).unwrap();
        written.set_len(90_000).unwrap();
        assert_eq!(&fs::read(mount.join("file")).unwrap()[60_000..60_005], b"after");
        drop((read, written));
    }
}

#[test]
fn a_strict_mount_refuses_it() {
    let people = People::make();
    for options in
        [&["--allow-other", "--strict"][..], &["--allow-other", "--strict", "--no-writeback"]]
    {
        let (vault, mount, line) = mounted(&people, options);
        let (read, written) = opened(&people, &mount);
        revoke(&vault, &line);
        for at in [5, 50_000, 90_000] {
            assert_eq!(errno(byte(&read, at)), libc::EACCES, "{options:?} {at}");
        }
        assert_eq!(errno(write(&written, b"after", 60_000)), libc::EACCES, "{options:?}");
        assert_eq!(errno(written.set_len(10)), libc::EACCES, "{options:?}");
        let punch = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
        let punched = rustix::fs::fallocate(&written, punch, 0, 8192);
        assert_eq!(punched, Err(rustix::io::Errno::ACCESS), "{options:?}");
        // What was written while it was allowed is there, and others notice nothing.
        let mut expected = pattern(0, LEN);
        expected[50_000..50_006].copy_from_slice(b"before");
        drop((read, written));
        let mount = mount.remount(options);
        assert!(fs::read(mount.join("file")).unwrap() == expected, "{options:?}");
        // And back again.
        grant(&vault, &line);
        let (read, written) = opened(&people, &mount);
        grant(&vault, &format!("--user {} --deny decrypt", people.named.name));
        assert_eq!(errno(byte(&read, 5)), libc::EACCES);
        write(&written, b"after", 60_000).unwrap();
        revoke(&vault, &format!("--user {} --deny decrypt", people.named.name));
        assert_eq!(byte(&read, 5).unwrap(), expected[5]);
    }
}

/// Pages that somebody else wrote are not lost with the one whose descriptor the kernel picks.
#[test]
fn a_strict_mount_loses_nothing_of_others() {
    let people = People::make();
    let (vault, mount, line) = mounted(&people, &["--allow-other", "--strict"]);
    let (read, written) = opened(&people, &mount);
    let ours = OpenOptions::new().write(true).open(mount.join("file")).unwrap();
    ours.write_all_at(b"ours", 70_000).unwrap();
    revoke(&vault, &line);
    ours.write_all_at(b"ours", 80_000).unwrap();
    ours.sync_all().unwrap();
    drop((read, written, ours));
    let mount = mount.remount(&[]);
    let found = fs::read(mount.join("file")).unwrap();
    assert_eq!((&found[70_000..70_004], &found[80_000..80_004]), (&b"ours"[..], &b"ours"[..]));
}

/// A mapping outlives its descriptor; a strict mount takes its pages away. What reads them through
/// the kernel gets EFAULT, where a touch would be SIGBUS.
#[test]
fn a_mapping_loses_its_pages_in_a_strict_mount_alone() {
    let people = People::make();
    for (options, strict) in
        [(&["--allow-other"][..], false), (&["--allow-other", "--strict"], true)]
    {
        let (vault, mount, line) = mounted(&people, options);
        let user = &people.named.user;
        let file = user.run(|| crate::common::files::open_rw(mount.join("file")));
        let mapping = crate::common::Mapping::shared(&file, LEN).unwrap();
        drop(file);
        let reads = |at: usize| {
            use std::io::Write;
            let (_from, mut to) = io::pipe().unwrap();
            to.write_all(&mapping.bytes()[at..at + 100])
        };
        reads(0).unwrap();
        revoke(&vault, &line);
        for at in [0, 90_000] {
            match strict {
                false => reads(at).unwrap(),
                true => assert_eq!(errno(reads(at)), libc::EFAULT, "{at}"),
            }
        }
        drop(mapping);
    }
}
