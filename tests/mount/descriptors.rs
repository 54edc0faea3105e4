//! A daemon that runs short of descriptors.

use std::fs::{self, File};
use std::process::Command;
use std::time::Duration;

use crate::common::files::errno;
use crate::common::{Mounted, Vault, require, run_within};

const LIMIT: usize = 300;
/// What the daemon keeps for itself, and has open when nobody uses the mount.
const OWN: usize = 64 + 40;

fn mount_with_few_descriptors(vault: &Vault) -> Mounted {
    let limit = |command: Command| {
        let mut limited = Command::new(require("prlimit"));
        limited.arg(format!("--nofile={LIMIT}:{LIMIT}")).arg("--");
        limited.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => limited.env(name, value),
                None => limited.env_remove(name),
            };
        }
        run_within(Duration::from_secs(60), &mut limited)
    };
    Mounted::try_mount_with(vault, &[], limit).unwrap_or_else(|outcome| panic!("{outcome}"))
}

#[test]
fn programs_are_refused_before_the_daemon_has_none_left() {
    let vault = Vault::init();
    let mount = mount_with_few_descriptors(&vault);
    let dir = |number: usize| mount.join(format!("dir-{number}"));
    for number in 0..LIMIT {
        fs::create_dir(dir(number)).unwrap();
        fs::write(dir(number).join("file"), b"content").unwrap();
    }
    let mut open = Vec::new();
    let refused = loop {
        match File::open(dir(open.len()).join("file")) {
            Ok(file) => open.push(file),
            Err(error) => break error,
        }
    };
    assert_eq!(refused.raw_os_error(), Some(libc::ENFILE));
    assert!(open.len() >= LIMIT - OWN, "{} files were opened", open.len());
    // What was closed meanwhile leaves room for a few.
    let new = |number: usize| mount.join(format!("new-{number}"));
    let made: Vec<_> = (0..20).map_while(|number| File::create(new(number)).ok()).collect();
    assert_eq!(errno(File::create(new(made.len()))), libc::ENFILE);
    assert_eq!(errno(fs::metadata(new(made.len()))), libc::ENOENT, "it was not half made");
    // What is open works, names work, and so does all that looks at the whole of it.
    for (number, file) in open.iter().enumerate() {
        assert_eq!(fs::read_dir(dir(number)).unwrap().count(), 1);
        assert_eq!(file.metadata().unwrap().len(), 7);
    }
    for number in 0..50 {
        fs::rename(dir(number).join("file"), dir(number).join("moved")).unwrap();
        fs::remove_file(dir(number).join("moved")).unwrap();
    }
    let verified = vault.verify().stdout;
    assert!(verified.contains(&format!("{} files", LIMIT - 50 + made.len())), "{verified}");
    assert!(vault.run(&["key", "rotate"]).success());
    drop((open, made));
    fs::write(mount.join("new"), b"after").unwrap();
    assert_eq!(fs::read(dir(100).join("file")).unwrap(), b"content");
}
