//! Where a workload runs: one candidate's fresh mount, with a clock.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::ValueEnum;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::candidates::{Candidate, Paths};
use crate::error::{Context, Error, Result};
use crate::mount::Mounted;
use crate::mounts;
use crate::results::{Results, Sample};
use crate::tools::Tools;
use crate::workloads::Row;

/// What vaults lie on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Place {
    Tmpfs,
    Disk,
}

impl Place {
    pub fn name(self) -> &'static str {
        match self {
            Self::Tmpfs => "tmpfs",
            Self::Disk => "disk",
        }
    }
}

/// A scratch directory on a place.
pub struct Site {
    pub place: Place,
    pub root: PathBuf,
    pub fstype: String,
}

impl Site {
    /// Refuses a tmpfs that is none, and a filesystem with less than `room` bytes free.
    pub fn new(place: Place, root: &Path, room: u64) -> Result<Self> {
        let fstype = mounts::fstype_of(root)?;
        if (place == Place::Tmpfs) != (fstype == "tmpfs") {
            return Err(Error::new(format!(
                "{} is on {fstype}, not fit for --places {}",
                root.display(),
                place.name()
            )));
        }
        let free = rustix::fs::statvfs(root)
            .map(|fs| fs.f_bavail * fs.f_frsize)
            .with(|| root.display().to_string())?;
        if free < room {
            return Err(Error::new(format!(
                "{}: {free} bytes free, {room} needed",
                root.display()
            )));
        }
        Ok(Self { place, root: root.to_owned(), fstype })
    }
}

/// A fresh vault, mounted.
pub struct Stage<'a> {
    site: &'a Site,
    candidate: Candidate,
    tools: &'a Tools,
    results: &'a mut Results,
    paths: Paths,
    mounted: Option<Mounted>,
}

impl<'a> Stage<'a> {
    /// Makes a vault for `candidate` on `site` and mounts it.
    pub fn open(
        site: &'a Site,
        candidate: Candidate,
        tools: &'a Tools,
        results: &'a mut Results,
    ) -> Result<Self> {
        let paths = Paths::below(&site.root.join("run"));
        for directory in [&paths.vault, &paths.mountpoint] {
            fs::create_dir_all(directory).with(|| directory.display().to_string())?;
        }
        candidate.create(tools, &paths)?;
        let mounted = Some(Mounted::start(candidate, tools, &paths)?);
        Ok(Self { site, candidate, tools, results, paths, mounted })
    }

    /// The directory to work in.
    pub fn directory(&self) -> &Path {
        &self.paths.mountpoint
    }

    /// Mounts anew and drops what the kernel has cached, so that the next reads are cold.
    pub fn cool(&mut self) -> Result<()> {
        if let Some(mounted) = self.mounted.take() {
            mounted.stop()?;
        }
        if self.site.place == Place::Disk {
            settle(&self.site.root)?;
            if rustix::process::geteuid().is_root() {
                fs::write("/proc/sys/vm/drop_caches", "3").with(|| "dropping the caches".into())?;
            }
        }
        self.mounted = Some(Mounted::start(self.candidate, self.tools, &self.paths)?);
        Ok(())
    }

    /// Times `work`, which does `amount` of the row's unit in the directory that it is given.
    pub fn time(
        &mut self,
        row: Row,
        amount: f64,
        work: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<()> {
        // What earlier steps left dirty would be written during this one.
        if self.site.place == Place::Disk {
            settle(&self.site.root)?;
        }
        let cpu_before = self.cpu_seconds();
        let start = Instant::now();
        work(self.directory()).with(|| self.complaint(row))?;
        let seconds = start.elapsed().as_secs_f64();
        let cpu_seconds = self.cpu_seconds().zip(cpu_before).map(|(after, before)| after - before);
        let sample = Sample { seconds, rate: amount / seconds, cpu_seconds };
        self.results.add(self.site.place, row, self.candidate, sample);
        Ok(())
    }

    /// Unmounts and removes the vault.
    pub fn close(mut self) -> Result<()> {
        if let Some(mounted) = self.mounted.take() {
            mounted.stop()?;
        }
        let run = self.site.root.join("run");
        fs::remove_dir_all(&run).with(|| run.display().to_string())
    }

    fn cpu_seconds(&self) -> Option<f64> {
        self.mounted.as_ref()?.cpu_seconds()
    }

    /// The row that failed, with the daemon's last words.
    fn complaint(&self, row: Row) -> String {
        let log = self.mounted.as_ref().map(Mounted::log_tail).unwrap_or_default();
        let said = if log.is_empty() { log } else { format!(" (the daemon's log ends: {log})") };
        format!("{}{said}", row.label())
    }
}

/// Lets this process and the daemons it starts open as many files as the system allows it.
pub fn raise_descriptor_limit() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    // Without it a daemon that holds a descriptor per file runs out, and says so itself.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

/// Writes back what is dirty on the filesystem that holds `path`.
fn settle(path: &Path) -> Result<()> {
    let doing = || format!("syncing {}", path.display());
    rustix::fs::syncfs(File::open(path).with(doing)?).with(doing)
}
