//! Commands on a vault that nobody has mounted leave lines too, in the same chain.

use std::fs;

use crate::common::{Vault, require_root};
use crate::{assert_whole, key, lines, names, trail};

#[test]
fn the_chain_goes_on_across_commands_and_mounts() {
    require_root();
    let vault = Vault::init();
    key(&vault, "rotate", "").ok();
    assert_eq!(names(&lines(&vault, "")), ["TrailBegin", "RotateKey"]);
    assert_whole(&vault);
    for round in 0..3 {
        let mount = vault.mount(&[]);
        fs::write(mount.join(format!("file-{round}")), b"content").unwrap();
        mount.unmount();
        assert_whole(&vault);
        let known = lines(&vault, "").len();
        key(&vault, "rotate", "").ok();
        key(&vault, "grant", "--everyone --allow decrypt").ok();
        key(&vault, "rewrap", "").ok();
        vault.verify();
        key(&vault, "revoke", "--everyone --allow decrypt").ok();
        // These leave none: a look, a rehearsal, and the trail's own files read here.
        key(&vault, "list", "").ok();
        key(&vault, "rewrap", "--dry-run").ok();
        trail(&vault, "query", "").ok();
        let all = lines(&vault, "");
        let mut expected = vec!["RotateKey", "PutKeyPolicy"];
        // The vault's own key, and the files that there are.
        expected.extend(vec!["ReEncrypt"; round + 2]);
        expected.extend(["Decrypt", "PutKeyPolicy"]);
        assert_eq!(names(&all[known..]), expected);
        let me = &all[known]["userIdentity"];
        assert_eq!((&me["uid"], &me["gid"]), (&0.into(), &0.into()));
        let binary = crate::common::vault::binary().canonicalize().unwrap();
        assert_eq!(me["executable"].as_str(), binary.to_str());
        assert_whole(&vault);
    }
    let all = lines(&vault, "");
    let numbers: Vec<_> = all.iter().map(|line| line["sequence"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=all.len() as u64).collect::<Vec<_>>());
    assert_eq!(crate::files_in(&crate::directory(&vault)).len(), 1, "one file goes on");
}

/// What is refused is recorded as refused, and nothing is done.
#[test]
fn a_command_that_fails_says_so_in_its_line() {
    require_root();
    let vault = Vault::init();
    assert_eq!(key(&vault, "retire", "--version 1").code(), 8);
    let all = lines(&vault, "--event RetireKeyVersion");
    assert_eq!(all.len(), 1, "{all:?}");
    assert_eq!(all[0]["errorCode"], "KMSInvalidStateException");
    assert_whole(&vault);
}
