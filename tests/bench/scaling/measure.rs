//! Where a point of a series is measured, and how.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::candidates::{Candidate, Paths};
use crate::error::{Context, Result};
use crate::mount::Mounted;
use crate::results::median;
use crate::tools::Tools;

/// Runs of operations that a time is the median of.
const BATCHES: u32 = 5;

/// A fresh vault, mounted; or a bare directory.
pub struct Ground<'a> {
    candidate: Candidate,
    tools: &'a Tools,
    paths: Paths,
    root: PathBuf,
    mounted: Option<Mounted>,
}

impl<'a> Ground<'a> {
    pub fn new(candidate: Candidate, tools: &'a Tools, root: &Path) -> Result<Self> {
        let root = root.join("run");
        let paths = Paths::below(&root);
        for directory in [&paths.vault, &paths.mountpoint] {
            fs::create_dir_all(directory).with(|| directory.display().to_string())?;
        }
        candidate.create(tools, &paths)?;
        let mounted = Some(Mounted::start(candidate, tools, &paths)?);
        Ok(Self { candidate, tools, paths, root, mounted })
    }

    /// The directory to work in.
    pub fn directory(&self) -> &Path {
        &self.paths.mountpoint
    }

    /// Whether there is one to mount anew.
    pub fn has_daemon(&self) -> bool {
        self.candidate != Candidate::Bare
    }

    /// Mounts anew, so that the mount's kernel knows nothing; and before that has `prepare` make
    /// empty files where the mount will show them, which without a mount takes a tenth of the time.
    pub fn remount(&mut self, prepare: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        if let Some(mounted) = self.mounted.take() {
            mounted.stop()?;
        }
        // Names are stored as they are, and an empty file is an empty file.
        prepare(match self.candidate {
            Candidate::Bare => &self.paths.mountpoint,
            _ => &self.paths.vault,
        })?;
        self.mounted = Some(Mounted::start(self.candidate, self.tools, &self.paths)?);
        Ok(())
    }

    pub fn close(mut self) -> Result<()> {
        if let Some(mounted) = self.mounted.take() {
            mounted.stop()?;
        }
        fs::remove_dir_all(&self.root).with(|| self.root.display().to_string())
    }
}

/// Microseconds of one operation, which is done `times` times; `finish` is part of the whole.
pub fn each(
    times: u32,
    mut operation: impl FnMut(u32) -> std::io::Result<()>,
    mut finish: impl FnMut() -> std::io::Result<()>,
) -> Result<f64> {
    let batch = (times / BATCHES).max(1);
    let mut microseconds = Vec::new();
    for number in 0..BATCHES {
        let begun = Instant::now();
        for operation_number in number * batch..(number + 1) * batch {
            operation(operation_number).with(|| format!("operation {operation_number}"))?;
        }
        finish().with(|| "the end of a batch".into())?;
        microseconds.push(begun.elapsed().as_secs_f64() * 1e6 / f64::from(batch));
    }
    Ok(median(microseconds).unwrap_or_default())
}
