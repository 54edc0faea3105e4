//! Without `--allow-other` a mount is its owner's alone.

use std::fs;

use crate::common::files::errno;
use crate::common::{Vault, require_root};
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
