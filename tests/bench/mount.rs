//! A candidate's daemon: started, waited for, asked for its processor time, and ended.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, ExitStatus};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::candidates::{Candidate, Paths};
use crate::error::{Context, Error, Result};
use crate::mounts;
use crate::tools::Tools;

/// How long a daemon may take to mount, and to end after the unmount.
const PATIENCE: Duration = Duration::from_secs(60);

/// Ticks a second in /proc/PID/stat: USER_HZ, part of the kernel's ABI (asm-generic/param.h).
const USER_HZ: f64 = 100.0;

/// A mounted filesystem. Dropped, it is unmounted by force and its daemon killed.
pub struct Mounted {
    daemon: Option<Child>,
    mountpoint: PathBuf,
    log: PathBuf,
}

impl Mounted {
    /// Starts the daemon and returns once the mount answers.
    pub fn start(candidate: Candidate, tools: &Tools, paths: &Paths) -> Result<Self> {
        let mut mounted =
            Self { daemon: None, mountpoint: paths.mountpoint.clone(), log: paths.log.clone() };
        let Some(mut command) = candidate.daemon(tools, paths) else { return Ok(mounted) };
        let doing = || format!("mounting {}", candidate.name());
        let log = File::options().create(true).append(true).open(&paths.log).with(doing)?;
        command.stdout(log.try_clone().with(doing)?).stderr(log);
        mounted.daemon = Some(command.spawn().with(doing)?);
        mounted.wait_until_mounted().with(doing)?;
        Ok(mounted)
    }

    /// Unmounts and waits for the daemon's end, so that all it held is in the vault.
    pub fn stop(mut self) -> Result<()> {
        if self.daemon.is_none() {
            return Ok(());
        }
        mounts::unmount(&self.mountpoint, PATIENCE)?;
        let deadline = Instant::now() + PATIENCE;
        while self.exited()?.is_none() {
            if Instant::now() > deadline {
                return Err(Error::new("the daemon outlives its mount"));
            }
            sleep(Duration::from_millis(2));
        }
        self.daemon = None;
        Ok(())
    }

    /// Processor seconds the daemon has used so far; none without a daemon.
    pub fn cpu_seconds(&self) -> Option<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.daemon.as_ref()?.id())).ok()?;
        // The name in parentheses may hold anything; utime and stime are the 12th and 13th field after it.
        let (_, fields) = stat.rsplit_once(')')?;
        let ticks =
            fields.split_ascii_whitespace().skip(11).take(2).map(|field| field.parse::<f64>().ok());
        ticks.sum::<Option<f64>>().map(|ticks| ticks / USER_HZ)
    }

    /// The last lines the daemon wrote.
    pub fn log_tail(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&log).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }

    fn wait_until_mounted(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !mounts::is_mountpoint(&self.mountpoint)? {
            if let Some(status) = self.exited()? {
                return Err(Error::new(format!(
                    "the daemon ended with {status}\n{}",
                    self.log_tail()
                )));
            }
            if Instant::now() > deadline {
                return Err(Error::new("no mount appeared"));
            }
            sleep(Duration::from_millis(2));
        }
        // Only the answer to a first request shows that the handshake is over.
        fs::read_dir(&self.mountpoint).map(drop).with(|| "listing the mount".into())?;
        Ok(())
    }

    fn exited(&mut self) -> Result<Option<ExitStatus>> {
        let Some(daemon) = &mut self.daemon else { return Ok(None) };
        daemon.try_wait().with(|| "waiting for the daemon".into())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Some(daemon) = &mut self.daemon {
            // Nobody is left to tell; the guard of the scratch directories tries once more.
            let _ = mounts::detach(&self.mountpoint);
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}
