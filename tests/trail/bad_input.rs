//! What can't be asked: one sentence, and the documented code.

use crate::common::{Vault, require_root, run};
use crate::{directory, one_sentence, trail};

#[test]
fn of_a_query() {
    require_root();
    let vault = Vault::init();
    for mounted in [true, false] {
        let mount = mounted.then(|| vault.mount(&[]));
        let refused = |command: &str, args: &str, code: i32, word: &str| {
            one_sentence(&trail(&vault, command, args), code, word);
        };
        refused("query", "--user no-such-user", 2, "no user `no-such-user`");
        refused("query", "--user 4294967295", 2, "no user");
        refused("query", "--path /etc/passwd", 2, "not a path in this vault");
        refused("query", "--path ../x", 2, "out of the vault");
        refused("query", "--since yesterday", 2, "yesterday");
        refused("query", "--until 2030-13-01T00:00:00Z", 2, "2030-13-01");
        refused("query", "--event Frobnicate", 2, "GenerateDataKey");
        refused("query", "--trail /nowhere/at/all", 10, "/nowhere/at/all");
        refused("who-read", "/etc/passwd", 2, "not a path in this vault");
        refused("who-read", "../x", 2, "out of the vault");
        refused("tail", "-n many", 2, "many");
        refused("verify", "--head 7", 2, "trail head");
        refused("verify", "--head 7:AAAA", 2, "trail head");
        drop(mount);
    }
}

#[test]
fn of_a_vault_without_a_trail() {
    require_root();
    let vault = Vault::init();
    let all = [("query", ""), ("tail", ""), ("verify", ""), ("head", ""), ("who-read", "x")];
    for (command, args) in all {
        one_sentence(&trail(&vault, command, args), 10, "there is no trail");
    }
    let none = vault.scratch().join("home");
    let query = run(vault.command(&["trail", "query"]).arg(&none));
    one_sentence(&query, 4, "vault");
    // Looking makes none.
    assert!(!directory(&vault).exists());
}

#[test]
fn of_a_mount() {
    require_root();
    let vault = Vault::init();
    for options in [
        ["--trail-fail", "sometimes"],
        ["--trail-file-size", "0"],
        ["--trail-files", "-1"],
        ["-o", "trail="],
        ["-o", "trail-fail=sometimes"],
        ["-o", "trail-file-size=0"],
        ["-o", "trail-files=x"],
    ] {
        let outcome = vault.try_mount(&options).err().expect("no mount");
        one_sentence(&outcome, 2, "");
    }
    assert!(!directory(&vault).exists());
}
