//! `atrest umount`: returns when the vault is quiet.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use crate::sys::{self, Holder, MountedVault, UnmountError};

use super::exit::{Context, Exit, Failure, tell};
use super::target::{Target, clear_socket};
use super::vault::{self, Turn};

/// How long the daemon may take to write back the last of it.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a mount may be busy without anybody to be found who holds it: one who just left.
const FLEETING: Duration = Duration::from_secs(1);

/// Unmount a vault; returns when it is quiet and its lock is free.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where it is mounted
    mountpoint: PathBuf,
}

impl Args {
    /// What is mounted there.
    pub fn of(mountpoint: PathBuf) -> Self {
        Self { mountpoint }
    }
}

/// Unmounts.
///
/// # Errors
/// [`Exit::Mount`] when nothing is mounted there, [`Exit::Busy`] when somebody holds it.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let shown = args.mountpoint.display();
    let target = Target::find(&args.mountpoint)
        .map_err(|failure| Failure::new(Exit::Mount, failure.sentence))?;
    let Some(mounted) = target.mounted else {
        return Err(Failure::new(Exit::Mount, format!("no vault is mounted on {shown}")));
    };
    let mountpoint = mounted.mountpoint.display();
    if sys::is_stale(&mounted.mountpoint) {
        // Nobody mounts the vault anew meanwhile, whose socket would lie where the dead one does.
        let _turn = Turn::take(&mounted.vault)?;
        sys::unmount(&mounted.mountpoint, true).or_fail(Exit::Failed, || {
            format!("the stale mount on {mountpoint} can't be taken away")
        })?;
        clear_socket(&mounted);
        tell(&format!("recovered {mountpoint}: its daemon had died"));
    } else {
        unmount(&mounted)?;
    }
    wait_until_free(&mounted)?;
    Ok(Exit::Done)
}

fn unmount(mounted: &MountedVault) -> Result<(), Failure> {
    let mountpoint = mounted.mountpoint.display();
    let started = Instant::now();
    loop {
        match sys::unmount(&mounted.mountpoint, false) {
            Ok(()) => return Ok(()),
            Err(UnmountError::Busy) => {}
            Err(error @ UnmountError::NotMounted) => {
                return Err(Failure::new(Exit::Mount, format!("{mountpoint}: {error}")));
            }
            Err(error) => {
                return Err(Failure::new(Exit::Failed, format!("{mountpoint}: {error}")));
            }
        }
        let holders = sys::holders(&mounted.mountpoint, mounted.device);
        if !holders.is_empty() || started.elapsed() > FLEETING {
            let sentence = format!("{mountpoint} is in use by {}", list(&holders));
            return Err(Failure::new(Exit::Busy, sentence));
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Holders as they are told to a person.
pub fn list(holders: &[Holder]) -> String {
    /// More than a sentence bears.
    const SHOWN: usize = 8;
    if holders.is_empty() {
        return "somebody whom only root can see".to_owned();
    }
    let mut shown: Vec<_> = holders.iter().take(SHOWN).map(ToString::to_string).collect();
    if holders.len() > SHOWN {
        shown.push(format!("{} more", holders.len() - SHOWN));
    }
    shown.join(", ")
}

fn wait_until_free(mounted: &MountedVault) -> Result<(), Failure> {
    let started = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        let Some(pid) = vault::holder(&mounted.vault)? else { return Ok(()) };
        if started.elapsed() > PATIENCE {
            let (vault, pid) = (mounted.vault.display(), vault::named(pid));
            let sentence = format!(
                "unmounted, but after {} s the vault {vault} is still in use by {pid}",
                PATIENCE.as_secs()
            );
            return Err(Failure::new(Exit::Busy, sentence));
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_is_cut_short() {
        let holder = |pid| Holder::Process { pid, command: "sh".to_owned() };
        assert_eq!(list(&[holder(1), holder(2)]), "sh (process 1), sh (process 2)");
        let crowd: Vec<_> = (0..10).map(holder).collect();
        assert!(list(&crowd).ends_with("sh (process 7), 2 more"));
        assert!(list(&[]).contains("only root"));
    }
}
