//! Without `--allow-other` a mount is its owner's alone.

use std::fs;
use std::path::Path;
use std::process::Command;

use rustix::fs::{Access, AtFlags, CWD, accessat};

use crate::common::files::errno;
use crate::common::{Scratch, Vault, require_root};
use crate::{alice, open_to_all};

#[test]
fn others_are_kept_out() {
    require_root();
    let mount = Vault::init().mount(&[]);
    open_to_all(mount.path());
    fs::write(mount.join("file"), b"x").unwrap();
    fs::set_permissions(mount.join("file"), std::os::unix::fs::PermissionsExt::from_mode(0o666))
        .unwrap();
    alice().run(|| {
        assert_eq!(errno(fs::read(mount.join("file"))), libc::EACCES);
        assert_eq!(errno(fs::read_dir(mount.path())), libc::EACCES);
        assert_eq!(errno(fs::metadata(mount.path())), libc::EACCES);
        assert_eq!(errno(fs::write(mount.join("new"), b"x")), libc::EACCES);
    });
    assert_eq!(fs::read(mount.join("file")).unwrap(), b"x");
}

/// The vault itself keeps others out of what the daemon alone may read: its own state.
#[test]
fn the_key_file_is_the_owners() {
    require_root();
    let vault = Vault::init();
    assert_eq!(crate::common::files::mode(vault.key_file()), 0o600);
    alice().run(|| assert_eq!(errno(fs::read(vault.key_file())), libc::EACCES));
}

/// What root may do with files and directories of others, whatever their modes: all but run what
/// nobody may run.
fn what_root_may(dir: &Path) -> Vec<(String, Option<i32>)> {
    let code = |result: rustix::io::Result<()>| result.err().map(|errno| errno.raw_os_error());
    let io = |result: std::io::Result<()>| result.err().and_then(|error| error.raw_os_error());
    let mut seen = Vec::new();
    for mode in [0o000, 0o644, 0o111, 0o755, 0o4711] {
        let (file, inner) = (dir.join(format!("f{mode:o}")), dir.join(format!("d{mode:o}")));
        fs::write(&file, b"#!/bin/sh\nexit 0\n").unwrap();
        fs::create_dir(&inner).unwrap();
        for path in [&file, &inner] {
            std::os::unix::fs::chown(path, Some(41_001), Some(41_001)).unwrap();
            fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
            for access in [Access::EXISTS, Access::READ_OK, Access::WRITE_OK, Access::EXEC_OK] {
                let asked = accessat(CWD, path, access, AtFlags::empty());
                seen.push((format!("{mode:o} {access:?}"), code(asked)));
            }
        }
        seen.push((format!("{mode:o} read"), io(fs::read(&file).map(drop))));
        seen.push((format!("{mode:o} make"), io(fs::write(inner.join("new"), b"x"))));
        seen.push((format!("{mode:o} run"), io(Command::new(&file).status().map(drop))));
        seen.push((
            format!("{mode:o} enter"),
            io(Command::new("true").current_dir(&inner).status().map(drop)),
        ));
    }
    seen
}

#[test]
fn root_alone_may_what_root_may_on_a_bare_filesystem() {
    require_root();
    let scratch = Scratch::new();
    let expected = what_root_may(&scratch.make_dir("bare"));
    for options in [&[][..], &["-o", "default_permissions"], &["--no-writeback"]] {
        let mount = Vault::init().mount(options);
        assert_eq!(what_root_may(mount.path()), expected, "{options:?}");
    }
}

/// Nobody else can get in, so the kernel need not check, and asks for no attributes of the
/// directory after each change in it.
#[test]
fn the_kernel_checks_permissions_where_others_may_enter_or_it_is_told_to() {
    require_root();
    for (options, checks) in
        [(&[][..], false), (&["--allow-other"], true), (&["-o", "default_permissions"], true)]
    {
        let mount = Vault::init().mount(options);
        let before = mount.operations("getattr");
        for number in 0..10 {
            fs::write(mount.join(format!("file-{number}")), b"x").unwrap();
        }
        let asked = mount.operations("getattr") - before;
        assert_eq!(asked >= 9, checks, "{options:?}: {asked} times");
    }
}
