//! Grants that change while everybody opens files.

use std::fs::{self, File, OpenOptions, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::common::Vault;
use crate::people::People;
use crate::{grant, revoke};

/// What the last command that returned has said, counted up so that a change meanwhile shows: 0
/// modulo 3 while a command runs, 1 for granted, 2 for taken back.
static PHASE: AtomicU64 = AtomicU64::new(0);

fn said(granted: Option<bool>) {
    let last = PHASE.load(Ordering::SeqCst);
    let next = 3 * (last / 3 + 1) + granted.map_or(0, |granted| if granted { 1 } else { 2 });
    PHASE.store(next, Ordering::SeqCst);
}

#[test]
fn no_open_succeeds_after_the_command_returned() {
    let people = People::make();
    let vault = Vault::init();
    let mount = vault.mount(&["--allow-other"]);
    for number in 0..8 {
        let path = mount.join(format!("file-{number}"));
        fs::write(&path, vec![number; 6000]).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
    }
    let ended = AtomicBool::new(false);
    let (opened, refused) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for opener in 0..4 {
            let (mount, ended, people) = (&mount, &ended, &people);
            let (opened, refused) = (&opened, &refused);
            scope.spawn(move || {
                people.member.user.run(|| {
                    let mut turn = opener;
                    while !ended.load(Ordering::SeqCst) {
                        turn += 1;
                        let path = mount.join(format!("file-{}", turn % 8));
                        let before = PHASE.load(Ordering::SeqCst);
                        let result = match turn % 2 {
                            0 => File::open(&path),
                            _ => OpenOptions::new().read(true).write(true).open(&path),
                        };
                        let after = PHASE.load(Ordering::SeqCst);
                        let count = if result.is_ok() { opened } else { refused };
                        count.fetch_add(1, Ordering::SeqCst);
                        match (before == after, before % 3) {
                            (true, 1) => assert!(result.is_ok(), "refused after the grant"),
                            (true, 2) => {
                                let error = result.err().map(|error| error.raw_os_error());
                                assert_eq!(error, Some(Some(libc::EACCES)), "after the revoke");
                            }
                            _ => {}
                        }
                    }
                });
            });
        }
        let line = format!("--group {} --allow decrypt,generate-data-key", people.group);
        let changed = std::panic::catch_unwind(|| {
            for _ in 0..25 {
                said(None);
                grant(&vault, &line);
                said(Some(true));
                thread::sleep(Duration::from_millis(20));
                said(None);
                revoke(&vault, &line);
                said(Some(false));
                thread::sleep(Duration::from_millis(20));
            }
        });
        ended.store(true, Ordering::SeqCst);
        changed.unwrap();
    });
    let (opened, refused) = (opened.into_inner(), refused.into_inner());
    assert!(opened > 100 && refused > 100, "{opened} opened, {refused} refused");
}
