//! How a mount keeps its trail.

use std::path::{Path, PathBuf};

use crate::daemon::sinks::{self};
use crate::service::failure::{Exit, Failure};
use crate::trail::{Settings, Sink};

/// The options of `mount` that are about the trail.
#[derive(Debug, Clone, PartialEq, Eq, Default, clap::Args)]
pub struct TrailArgs {
    /// Where the trail of key uses lies [default: where it was, or $XDG_STATE_HOME/atrest/ID, or
    /// ~/.local/state/atrest/ID]
    #[arg(long, value_name = "DIR")]
    pub trail: Option<PathBuf>,
    /// Keep no trail of this mount
    #[arg(long, conflicts_with_all = ["trail", "trail_sync", "trail_fail", "trail_file_size", "trail_files", "trail_syslog", "trail_journald"])]
    pub no_trail: bool,
    /// Each event is durable before the open returns
    #[arg(long)]
    pub trail_sync: bool,
    /// When the trail can't be written: let no key be used (closed), or go on and say so (open)
    /// [default: open]
    #[arg(long, value_name = "HOW")]
    pub trail_fail: Option<OnFailure>,
    /// Begin another file of the trail after so many MiB [default: 64]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    pub trail_file_size: Option<u64>,
    /// Keep so many files of the trail, 0 for all; short ones count by their bytes [default: 16]
    #[arg(long, value_name = "N")]
    pub trail_files: Option<u32>,
    /// Send each event to syslog too (RFC 5424), to /dev/log or another socket
    #[arg(long, value_name = "SOCKET", num_args = 0..=1, require_equals = true, default_missing_value = sinks::SYSLOG)]
    pub trail_syslog: Option<PathBuf>,
    /// Send each event to the systemd journal too
    #[arg(long)]
    pub trail_journald: bool,
}

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
    sync: bool,
    file_mib: Option<u64>,
    files: Option<u32>,
    syslog: Option<PathBuf>,
    journald: bool,
}

impl TrailOptions {
    /// Applies the switches, which win.
    pub fn apply_args(&mut self, args: &TrailArgs) {
        let args = args.clone();
        self.off |= args.no_trail;
        self.off &= args.trail.is_none();
        self.directory = args.trail.or(self.directory.take());
        self.sync |= args.trail_sync;
        self.on_failure = args.trail_fail.unwrap_or(self.on_failure);
        self.file_mib = args.trail_file_size.or(self.file_mib);
        self.files = args.trail_files.or(self.files);
        self.syslog = args.trail_syslog.or(self.syslog.take());
        self.journald |= args.trail_journald;
    }

    /// Applies one of `-o`; `None` where it is not about the trail.
    pub fn apply(&mut self, name: &str, value: Option<&str>) -> Option<Result<(), Failure>> {
        let applied = match (name.replace('_', "-").as_str(), value) {
            ("no-trail" | "notrail", None) => {
                self.off = true;
                Ok(())
            }
            ("trail", Some(directory)) if !directory.is_empty() => {
                self.off = false;
                self.directory = Some(directory.into());
                Ok(())
            }
            ("trail-sync", None) => {
                self.sync = true;
                Ok(())
            }
            ("trail-fail", Some(how)) => {
                let parsed = <OnFailure as clap::ValueEnum>::from_str(how, false);
                parsed.map(|how| self.on_failure = how).map_err(|_| needs(name, "open or closed"))
            }
            ("trail-file-size", Some(mib)) => {
                self.file_mib = mib.parse().ok().filter(|mib| (1..=1 << 20).contains(mib));
                self.file_mib.map(drop).ok_or_else(|| needs(name, "a number of MiB from 1"))
            }
            ("trail-files", Some(files)) => {
                self.files = files.parse().ok();
                self.files.map(drop).ok_or_else(|| needs(name, "a number of files, 0 for all"))
            }
            ("trail-syslog", socket) => {
                self.syslog = Some(socket.unwrap_or(sinks::SYSLOG).into());
                Ok(())
            }
            ("trail-journald", None) => {
                self.journald = true;
                Ok(())
            }
            ("trail", _) => Err(needs(name, "a path")),
            _ => return None,
        };
        Some(applied)
    }

    /// Whether no key may be used while it can't be written.
    pub fn fails_closed(&self) -> bool {
        self.on_failure == OnFailure::Closed
    }

    /// The same for who keeps it.
    pub fn settings(&self) -> Settings {
        let default = Settings::default();
        Settings {
            sync: self.sync,
            fail_closed: self.on_failure == OnFailure::Closed,
            file_len: self.file_mib.map_or(default.file_len, |mib| mib << 20),
            files: self.files.unwrap_or(default.files),
        }
    }

    /// The socket of a syslog that is told too.
    pub fn syslog(&self) -> Option<&Path> {
        self.syslog.as_deref()
    }

    /// Who else is told each line.
    ///
    /// # Errors
    /// [`Exit::Trail`] where they are not there.
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

fn needs(name: &str, what: &str) -> Failure {
    Failure::new(Exit::Usage, format!("the mount option '{name}' needs {what}"))
}
