//! suid, sgid and file capabilities: who loses them by which call is the bare filesystem's answer.

use std::fs::{self, File, OpenOptions, Permissions};
use std::os::unix::fs::{FileExt, PermissionsExt, chown};
use std::path::Path;

use rustix::fs::{FallocateFlags, XattrFlags, fallocate, getxattr, setxattr};

use crate::common::files::{mode, open_rw};
use crate::common::{Mapping, User, pattern};
use crate::{alice, as_on_the_bare_filesystem, bob};

const BITS: [u32; 7] = [0o4777, 0o2777, 0o6777, 0o2767, 0o6767, 0o6666, 0o7777];

/// The calls that change a file, each of which may take the bits away.
type Call = (&'static str, fn(&Path));

const CALLS: [Call; 9] = [
    ("write", |path| writable(path).write_all_at(b"y", 0).unwrap()),
    ("append", |path| writable(path).write_all_at(&pattern(0, 9000), 5000).unwrap()),
    ("write of nothing", |path| writable(path).write_all_at(b"", 0).unwrap()),
    ("O_TRUNC", |path| drop(OpenOptions::new().write(true).truncate(true).open(path).unwrap())),
    ("truncate", |path| writable(path).set_len(3).unwrap()),
    ("grow", |path| writable(path).set_len(30_000).unwrap()),
    ("fallocate", |path| fallocate(writable(path), FallocateFlags::empty(), 0, 20_000).unwrap()),
    ("punch", |path| {
        let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        fallocate(writable(path), punch, 0, 10).unwrap();
    }),
    ("copy_file_range", |path| {
        let source = File::open(path.with_file_name("source")).unwrap();
        rustix::fs::copy_file_range(source, Some(&mut 0), writable(path), Some(&mut 0), 100)
            .unwrap();
    }),
];

fn writable(path: &Path) -> File {
    OpenOptions::new().write(true).open(path).unwrap()
}

fn root() -> User {
    User { uid: 0, gid: 0, groups: vec![0] }
}

/// A file of alice's that all may write, with these bits.
fn make(path: &Path, bits: u32) {
    let _ = fs::remove_file(path);
    fs::write(path, pattern(0, 5000)).unwrap();
    chown(path, Some(alice().uid), Some(alice().gid)).unwrap();
    fs::set_permissions(path, Permissions::from_mode(bits)).unwrap();
    assert_eq!(mode(path), bits);
}

#[test]
fn set_id_bits_go_with_a_change_of_the_content() {
    as_on_the_bare_filesystem(|dir| {
        fs::write(dir.join("source"), pattern(0, 5000)).unwrap();
        let file = dir.join("file");
        let mut seen = Vec::new();
        for bits in BITS {
            for (call, change) in CALLS {
                for (who, user) in [("owner", alice()), ("stranger", bob()), ("root", root())] {
                    make(&file, bits);
                    user.run(|| change(&file));
                    seen.push((format!("{bits:o} {call} by {who}"), mode(&file)));
                }
            }
        }
        seen
    });
}

#[test]
fn set_id_bits_go_with_a_change_of_the_owner() {
    as_on_the_bare_filesystem(|dir| {
        let file = dir.join("file");
        let member = alice().with_groups(&[500, alice().gid]);
        let mut seen = Vec::new();
        for bits in BITS {
            make(&file, bits);
            member.run(|| chown(&file, None, Some(500)).unwrap());
            seen.push((format!("{bits:o} chgrp by the owner"), mode(&file)));
            make(&file, bits);
            member.run(|| chown(&file, None, None).unwrap());
            seen.push((format!("{bits:o} chown to nobody by the owner"), mode(&file)));
            make(&file, bits);
            chown(&file, Some(bob().uid), None).unwrap();
            seen.push((format!("{bits:o} chown by root"), mode(&file)));
        }
        seen
    });
}

#[test]
fn sgid_is_for_members_of_the_group() {
    as_on_the_bare_filesystem(|dir| {
        let file = dir.join("file");
        let mut seen = Vec::new();
        for (who, user) in
            [("member", alice()), ("stranger", alice().with_groups(&[500])), ("root", root())]
        {
            make(&file, 0o777);
            chown(&file, None, Some(if who == "stranger" { 501 } else { alice().gid })).unwrap();
            user.run(|| fs::set_permissions(&file, Permissions::from_mode(0o2755)).unwrap());
            seen.push((who.to_owned(), mode(&file)));
        }
        seen
    });
}

/// A store to a shared mapping takes nothing away on ext4; what matters is that it is not lost.
#[test]
fn set_id_bits_and_mapped_stores() {
    as_on_the_bare_filesystem(|dir| {
        let file = dir.join("file");
        make(&file, 0o6777);
        bob().run(|| {
            let open = open_rw(&file);
            let mut mapping = Mapping::shared(&open, 5000).unwrap();
            mapping.bytes_mut()[100] = 0;
            mapping.sync().unwrap();
        });
        assert_eq!(fs::read(&file).unwrap()[100], 0);
        vec![("mapped store".to_owned(), mode(&file))]
    });
}

/// A capability is like suid: a write takes it away, root's too.
#[test]
fn file_capabilities_go_with_a_write() {
    // VFS_CAP_REVISION_2 with CAP_NET_RAW permitted and effective (linux/capability.h).
    let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    as_on_the_bare_filesystem(|dir| {
        fs::write(dir.join("source"), pattern(0, 5000)).unwrap();
        let file = dir.join("file");
        let mut seen = Vec::new();
        for (call, change) in CALLS {
            for (who, user) in [("owner", alice()), ("stranger", bob()), ("root", root())] {
                make(&file, 0o777);
                setxattr(&file, "security.capability", &capability, XattrFlags::empty()).unwrap();
                user.run(|| change(&file));
                let left = getxattr(&file, "security.capability", &mut [0; 64][..]).is_ok();
                seen.push((format!("{call} by {who}"), left));
            }
        }
        seen
    });
}
