//! `atrest bench`: how fast this machine is at what a vault costs.

mod interrupt;
mod processor;
mod scratch;
mod work;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;
use std::thread;

use serde::Serialize;

use crate::sys::{self, Show};

use crate::cli::output::{print, print_json};
use crate::service::failure::{Context, Exit, Failure};
use crate::service::paths::resolve;
use interrupt::Interrupt;
use processor::Processor;
use work::Rate;

/// Measure this machine: ciphers, blocks, and a vault mounted for a few seconds.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where a vault is made for the time being [default: the directory for temporary files]
    dir: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    /// What `/proc/cpuinfo` calls the processor.
    machine: String,
    /// How many processors there are to run on.
    processors: usize,
    /// Without a mount.
    processor: Processor,
    /// The directory in which the vault was.
    directory: String,
    /// Each piece of work by its name, in the order of the table by `work::ROWS`.
    mounted: BTreeMap<&'static str, Rate>,
}

/// Measures and prints. What it made is gone when it returns.
///
/// # Errors
/// [`Exit::Mount`] where no vault can be mounted; [`Exit::Failed`] for a directory that can't be
/// written, and after a signal.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let directory = args.dir.clone().unwrap_or_else(std::env::temp_dir);
    let directory = resolve(&directory)
        .context(Exit::Failed, || format!("can't measure in {}", directory.shown()))?;
    let interrupt = Interrupt::watch()?;
    let report = Report {
        machine: machine(),
        processors: thread::available_parallelism().map_or(1, usize::from),
        processor: Processor::measure(&interrupt)?,
        mounted: work::measure(&directory, &interrupt)?,
        directory: directory.to_string_lossy().into_owned(),
    };
    if args.json {
        print_json(&report)?;
    } else {
        print(&report.to_text())?;
    }
    Ok(Exit::Done)
}

fn machine() -> String {
    sys::cpu_model().unwrap_or_else(|| "an unknown processor".to_owned())
}

impl Report {
    fn to_text(&self) -> String {
        let mut text = format!("{}, {} processors\n\n", self.machine, self.processors);
        text.push_str(&self.processor.to_text());
        // Writing to a String cannot fail.
        let _ = write!(text, "\nin {:<29} {:>10} {:>10}\n", self.directory, "mounted", "unmounted");
        for (name, label) in work::ROWS {
            if let Some(rate) = self.mounted.get(name) {
                let label = format!("{label}, {}", rate.unit);
                let _ = writeln!(text, "{label:<32} {:>10.0} {:>10.0}", rate.mounted, rate.bare);
            }
        }
        text.truncate(text.trim_end().len());
        text
    }
}
