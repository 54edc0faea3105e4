//! Directories that several users share: setgid, sticky, supplementary groups.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, chown, symlink};

use crate::common::files::{lstat, mode, owner};
use crate::{alice, as_on_the_bare_filesystem, bob, carol, each_shared_mount};

const GROUP: u32 = 43_100;

fn code<T>(result: io::Result<T>) -> i32 {
    result.err().map_or(0, |e| e.raw_os_error().unwrap())
}

#[test]
fn a_setgid_directory_passes_its_group_on() {
    as_on_the_bare_filesystem(|dir| {
        let shared = dir.join("shared");
        fs::create_dir(&shared).unwrap();
        chown(&shared, None, Some(GROUP)).unwrap();
        fs::set_permissions(&shared, Permissions::from_mode(0o2777)).unwrap();
        let users =
            [("stranger", alice()), ("member", bob().with_groups(&[GROUP])), ("root", root())];
        let mut seen = Vec::new();
        for (who, user) in users {
            user.run(|| {
                fs::write(shared.join(format!("{who}-file")), b"x").unwrap();
                fs::create_dir_all(shared.join(format!("{who}-dir/below"))).unwrap();
                symlink("x", shared.join(format!("{who}-link"))).unwrap();
            });
            for name in ["file", "dir", "dir/below", "link"] {
                let path = shared.join(format!("{who}-{name}"));
                let bits = if lstat(&path).is_symlink() { 0 } else { mode(&path) };
                seen.push((format!("{who} {name}"), (owner(&path), bits)));
            }
        }
        seen
    });
}

fn root() -> crate::common::User {
    crate::common::User { uid: 0, gid: 0, groups: vec![0] }
}

#[test]
fn a_sticky_directory_guards_its_entries() {
    as_on_the_bare_filesystem(|dir| {
        let shared = dir.join("shared");
        fs::create_dir(&shared).unwrap();
        chown(&shared, Some(alice().uid), None).unwrap();
        fs::set_permissions(&shared, Permissions::from_mode(0o1777)).unwrap();
        let mut seen = Vec::new();
        for (who, user) in
            [("directory's owner", alice()), ("file's owner", bob()), ("stranger", carol())]
        {
            let mut see = |what: &str, code: i32| seen.push((format!("{who}: {what}"), code));
            for name in ["a", "b", "c"] {
                let _ = fs::remove_file(shared.join(name));
                bob().run(|| fs::write(shared.join(name), b"x").unwrap());
            }
            let _ = fs::remove_dir(shared.join("d"));
            bob().run(|| fs::create_dir(shared.join("d")).unwrap());
            user.run(|| {
                see("unlink", code(fs::remove_file(shared.join("a"))));
                see("rename", code(fs::rename(shared.join("b"), shared.join("moved"))));
                see("rmdir", code(fs::remove_dir(shared.join("d"))));
                let own = shared.join("own");
                fs::write(&own, b"x").unwrap();
                see("replace", code(fs::rename(&own, shared.join("c"))));
                let _ = fs::remove_file(&own);
            });
            let _ = fs::remove_file(shared.join("moved"));
        }
        seen
    });
}

#[test]
fn supplementary_groups_count() {
    as_on_the_bare_filesystem(|dir| {
        let shared = dir.join("shared");
        fs::create_dir(&shared).unwrap();
        chown(&shared, Some(0), Some(GROUP)).unwrap();
        fs::set_permissions(&shared, Permissions::from_mode(0o770)).unwrap();
        let many: Vec<u32> = (50_000..50_060).chain([GROUP]).collect();
        let mut seen = Vec::new();
        for (who, user) in [
            ("in none", alice()),
            ("in one", bob().with_groups(&[GROUP])),
            ("in many", carol().with_groups(&many)),
        ] {
            let mut see = |what: &str, code: i32| seen.push((format!("{who}: {what}"), code));
            user.run(|| {
                let path = shared.join(user.uid.to_string());
                see("create", code(fs::write(&path, b"x")));
                see("list", code(fs::read_dir(&shared).map(Iterator::count)));
                see("give to the group", code(chown(&path, None, Some(GROUP))));
                see("share", code(fs::set_permissions(&path, Permissions::from_mode(0o660))));
                see(
                    "read all",
                    code(fs::read_dir(&shared).and_then(|all| {
                        all.map(|entry| fs::read(entry?.path())).collect::<io::Result<Vec<_>>>()
                    })),
                );
            });
        }
        seen
    });
}

/// The kernel keeps what one user was told; it must ask again for the next one.
#[test]
fn a_cached_answer_is_for_one_user() {
    each_shared_mount(|mount| {
        let dir = mount.join("private");
        alice().run(|| {
            fs::create_dir(&dir).unwrap();
            fs::set_permissions(&dir, Permissions::from_mode(0o700)).unwrap();
            fs::write(dir.join("file"), b"secret").unwrap();
            assert_eq!(fs::read(dir.join("file")).unwrap(), b"secret");
            assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
        });
        bob().run(|| {
            assert_eq!(code(fs::read(dir.join("file"))), libc::EACCES);
            assert_eq!(code(fs::read_dir(&dir)), libc::EACCES);
            assert_eq!(code(fs::metadata(dir.join("missing"))), libc::EACCES);
        });
        alice().run(|| fs::set_permissions(&dir, Permissions::from_mode(0o755)).unwrap());
        bob().run(|| assert_eq!(fs::read(dir.join("file")).unwrap(), b"secret"));
    });
}
