//! What is done with the key file itself, with and without a daemon.

use std::fs;

use crate::common::{Vault, require_root, run};
use crate::{lines, names};

#[test]
fn backups_and_changes_of_protectors_leave_lines() {
    require_root();
    let vault = Vault::init();
    let passphrase = vault.scratch().join("passphrase");
    fs::write(&passphrase, "only for this test\n").unwrap();
    rustix::fs::chmod(&passphrase, 0o600.into()).unwrap();
    let act = |round: u32| {
        let backup = vault.scratch().join(format!("backup {round}"));
        run(vault.command(&["key", "backup"]).arg(vault.path()).arg(&backup)).ok();
        let mut add = vault.command(&["key", "protector", "add"]);
        add.arg(vault.path()).args(["--keep-raw", "--argon2-memory", "1", "--argon2-passes", "1"]);
        run(add.arg("--new-passphrase-file").arg(&passphrase)).ok();
        let mut remove = vault.command(&["key", "protector", "remove"]);
        run(remove.arg(vault.path()).arg("2")).ok();
        backup
    };
    let done = ["BackupKeyFile", "ChangeProtectors", "ChangeProtectors"];
    act(1);
    assert_eq!(names(&lines(&vault, ""))[1..], done);
    let mount = vault.mount(&[]);
    let backup = act(2);
    mount.unmount();
    let found = lines(&vault, "");
    assert_eq!(names(&found)[4..], ["Mount", done[0], done[1], done[2], "Unmount"]);
    assert_eq!(found[7]["requestParameters"]["operation"], "remove");
    assert_eq!(found[7]["requestParameters"]["details"]["protector"], 2);

    fs::remove_file(vault.key_file()).unwrap();
    run(vault.command(&["key", "restore"]).arg(vault.path()).arg(&backup)).ok();
    assert_eq!(names(&lines(&vault, ""))[9..], ["RestoreKeyFile"]);
}
