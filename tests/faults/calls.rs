//! Each system call of the daemon in turn fails. Nothing is lost in silence, nothing else changes,
//! nobody hangs, and afterwards all works.

use std::fs;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::common::injector::{Fault, Injector, Plan};
use crate::common::mounted::{daemons_of, is_mounted};
use crate::common::{Allow, Campaign, Mounted, Vault, require_root, run_within, wait_until};
use crate::workload::{prepare, rotate, work};

pub const LIMIT: Duration = Duration::from_secs(120);

/// When what fails succeeds again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Healed {
    /// Before the unmount: what failed is tried again.
    Before,
    /// After it: whatever could not be done is told by umount.
    After,
}

#[derive(Clone, Copy, Debug)]
struct Case {
    plan: Plan,
    writeback: bool,
    healed: Healed,
}

pub fn mount(vault: &Vault, injector: &Injector, writeback: bool) -> Mounted {
    let options: &[&str] = if writeback { &[] } else { &["--no-writeback"] };
    let started = Mounted::try_mount_with(vault, options, |mut command| {
        injector.wrap(&mut command);
        run_within(LIMIT, &mut command)
    });
    let mut mount = started.unwrap_or_else(|outcome| panic!("{outcome}"));
    mount.allow(Allow::Errors);
    mount
}

/// Runs the workload with one plan of failure. How many calls there were to fail.
fn run_case(case: Case) -> usize {
    let vault = Vault::init();
    let prepared = vault.mount(&[]);
    let mut world = prepare(prepared.path());
    prepared.unmount();

    let injector = Injector::new(vault.scratch().path());
    let mut mount = mount(&vault, &injector, case.writeback);
    injector.arm(case.plan);
    work(&mut world);
    rotate(&vault, &mut world);
    let (mut seen, mut failed) = (0, Vec::new());
    let mut seen_in_mount = None;
    if case.healed == Healed::Before {
        (seen, failed) = injector.heal();
        seen_in_mount = Some(checked(&world, mount.path(), "before the unmount", &failed));
        let left = files_held(&vault);
        assert!(left.is_empty(), "the daemon holds {left:?}\n{failed:#?}\n{:#?}", world.told);
    }
    let outcome = mount.try_unmount();
    if !outcome.success() {
        world.doubt_all(outcome.stderr.trim());
        let gone = wait_until(LIMIT, || (!is_mounted(mount.path())).then_some(()));
        assert!(gone.is_some(), "still mounted: {outcome}\n{failed:#?}");
        mount.forget();
    }
    if case.healed == Healed::After {
        (seen, failed) = injector.heal();
    }
    drop(mount);

    for again in ["after a remount", "after two remounts"] {
        let mut mount = vault.mount(&[]);
        // What a failure left is a warning to whoever opens it.
        mount.allow(Allow::Warnings);
        let found = checked(&world, mount.path(), again, &failed);
        if let Some(seen) = seen_in_mount.replace(found.clone()) {
            for (name, bytes) in &found {
                let same = seen.get(name) == Some(bytes);
                assert!(
                    same,
                    "{name} is another {again}: {} bytes; {failed:#?}\n{:#?}",
                    bytes.len(),
                    world.told
                );
            }
            assert_eq!(seen.len(), found.len(), "names differ {again}: {failed:#?}");
        }
        mount.unmount();
    }
    let verified = vault.run(&["verify"]);
    assert!(verified.success(), "{verified}\n{failed:#?}\n{:#?}", world.told);
    seen
}

fn checked(
    world: &crate::world::World,
    dir: &Path,
    when: &str,
    failed: &[String],
) -> std::collections::BTreeMap<String, Vec<u8>> {
    world.find(dir).unwrap_or_else(|wrong| {
        panic!("{when}:\n{wrong}\n--- failed\n{failed:#?}\n--- told\n{:#?}", world.told)
    })
}

/// The vault's files that the daemon holds open more than once, though no program has any open. One
/// descriptor it keeps of each that was written and is not durable yet.
fn files_held(vault: &Vault) -> Vec<String> {
    let held = || {
        let mut held = Vec::new();
        for pid in daemons_of(&vault.mountpoint()) {
            for entry in fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
                let Ok(target) = fs::read_link(entry.path()) else { continue };
                let is_file = fs::metadata(entry.path()).is_ok_and(|stat| stat.is_file());
                if is_file
                    && target
                        .strip_prefix(vault.path())
                        .is_ok_and(|below| !below.starts_with(".atrest"))
                {
                    held.push(target.display().to_string());
                }
            }
        }
        held.sort();
        let twice = held.windows(2).filter(|pair| pair[0] == pair[1]);
        twice.map(|pair| pair[0].clone()).collect::<Vec<_>>()
    };
    let _ = wait_until(Duration::from_secs(30), || held().is_empty().then_some(()));
    held()
}

const FAULTS: [Fault; 8] = [
    Fault::Error(libc::EIO),
    Fault::Error(libc::ENOSPC),
    Fault::ShortWrite(libc::ENOSPC),
    Fault::Error(libc::EDQUOT),
    Fault::Error(libc::EROFS),
    // These last for a moment.
    Fault::Error(libc::EINTR),
    Fault::ShortRead,
    Fault::Delay(Duration::from_millis(200)),
];
/// Those of [`FAULTS`] that can last.
const LASTING: usize = 5;

/// All cases whose calls are `step` apart; each panics with what failed and what was told.
fn campaign(writeback: bool, healed: Healed, times: usize, step: usize) {
    require_root();
    // CI looks at a few of each kind.
    let (mut cases, mut broken) = (0, Vec::new());
    let faults = if times == 1 { &FAULTS[..] } else { &FAULTS[..LASTING] };
    for (number, &fault) in faults.iter().enumerate() {
        let mut after = number * step / faults.len();
        loop {
            let case = Case { plan: Plan { fault, after, times }, writeback, healed };
            let result = panic::catch_unwind(AssertUnwindSafe(|| run_case(case)));
            cases += 1;
            match result {
                Ok(seen) if seen <= after => break,
                Ok(_) => {}
                Err(panic) => {
                    let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
                    eprintln!("broken: {case:?}:\n{text}");
                    broken.push(format!("{case:?}"));
                }
            }
            after += step;
            if after > 3000 {
                break;
            }
        }
    }
    Campaign::report(format!("{cases} cases, {} broken", broken.len()));
    assert!(broken.is_empty(), "{} of {cases}:\n{}", broken.len(), broken.join("\n\n"));
}

#[test]
fn one_call_fails() {
    campaign(false, Healed::Before, 1, Campaign::pick(100, 1));
}

#[test]
fn one_call_fails_with_the_writeback_cache() {
    campaign(true, Healed::Before, 1, Campaign::pick(100, 1));
}

#[test]
fn all_calls_fail_from_one_on() {
    campaign(false, Healed::After, usize::MAX, Campaign::pick(100, 1));
}

#[test]
fn all_calls_fail_from_one_on_with_the_writeback_cache() {
    campaign(true, Healed::After, usize::MAX, Campaign::pick(100, 1));
}

/// What the end of a mount could not do is told by umount also where the mount is read-only by then.
#[test]
fn umount_tells_of_what_is_owed_after_a_remount_to_read_only() {
    require_root();
    let vault = Vault::init();
    let injector = Injector::new(vault.scratch().path());
    let mut mount = mount(&vault, &injector, true);
    fs::write(mount.join("file"), [7; 100_000]).unwrap();
    let remounted =
        run_within(LIMIT, Command::new("mount").args(["-i", "-o", "remount,ro"]).arg(mount.path()));
    assert!(remounted.success(), "{remounted}");
    injector.arm(Plan { fault: Fault::Error(libc::EIO), after: 0, times: usize::MAX });
    let outcome = mount.try_unmount();
    injector.heal();
    mount.forget();
    assert!(!outcome.success() && outcome.stderr.contains("did not end cleanly"), "{outcome}");
}
