//! How a mount keeps its trail.

use std::path::{Path, PathBuf};

use crate::daemon::sinks;
use crate::service::failure::Failure;
use crate::trail::{Settings, Sink};

/// What happens to key use while the trail can't be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum OnFailure {
    /// It goes on.
    #[default]
    Open,
    /// It is refused.
    Closed,
}

/// How a mount keeps its trail, from the switches and from `-o` together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrailOptions {
    /// Not at all.
    pub off: bool,
    /// Where, if not where it was or in the default place.
    pub directory: Option<PathBuf>,
    /// What happens while it can't be written.
    pub on_failure: OnFailure,
    pub(super) sync: bool,
    pub(super) file_mib: Option<u64>,
    pub(super) files: Option<u32>,
    pub(super) syslog: Option<PathBuf>,
    pub(super) journald: bool,
}

impl TrailOptions {
    /// Whether no key may be used while it can't be written.
    pub fn fails_closed(&self) -> bool {
        self.on_failure == OnFailure::Closed
    }

    /// The settings of the trail's writer.
    pub fn settings(&self) -> Settings {
        let default = Settings::default();
        Settings {
            sync: self.sync,
            fail_closed: self.on_failure == OnFailure::Closed,
            file_len: self.file_mib.map_or(default.file_len, |mib| mib << 20),
            files: self.files.unwrap_or(default.files),
        }
    }

    /// The socket of a syslog that gets the lines too.
    pub fn syslog(&self) -> Option<&Path> {
        self.syslog.as_deref()
    }

    /// The further destinations of each line.
    ///
    /// # Errors
    /// [`Exit::Trail`](crate::service::failure::Exit::Trail) where they are not there.
    pub fn sinks(&self) -> Result<Vec<Box<dyn Sink>>, Failure> {
        let mut all: Vec<Box<dyn Sink>> = Vec::new();
        if let Some(socket) = &self.syslog {
            // The daemon's working directory is another when it connects again.
            all.push(Box::new(sinks::Syslog::open(&std::path::absolute(socket)?)?));
        }
        if self.journald {
            all.push(Box::new(sinks::Journal::open()?));
        }
        Ok(all)
    }
}
