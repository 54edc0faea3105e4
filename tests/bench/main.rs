//! Times atrest beside its peers, a FUSE mount that does not encrypt, and the bare directory.
//!
//! `scripts/bench.sh` installs the peers and runs this. In every round each workload runs on every
//! filesystem in turn, on a fresh vault and a fresh mount, and the order moves by one a round; a
//! figure is the median over the rounds. Options are for `--help`.

mod candidates;
mod error;
mod machine;
mod mount;
mod mounts;
mod report;
mod results;
mod scaling;
mod scratch;
mod stage;
mod tools;
mod workloads;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};

use crate::candidates::Candidate;
use crate::error::{Context, Result};
use crate::machine::Machine;
use crate::report::Report;
use crate::results::Results;
use crate::scratch::Scratch;
use crate::stage::{Place, Site, Stage};
use crate::tools::Tools;
use crate::workloads::{Row, Scale, Supplies, WORKLOADS};

/// Times atrest, its peers and the bare directory in one run, taking turns.
#[derive(Parser)]
struct Options {
    /// Rounds to run; the figures are medians over them
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// One round of small sizes: shows that everything runs, not how fast
    #[arg(long)]
    quick: bool,
    /// Filesystems to time
    #[arg(long, value_delimiter = ',', value_name = "NAME,..")]
    only: Vec<Candidate>,
    /// Figures to take
    #[arg(long, value_delimiter = ',', value_name = "ROW,..")]
    rows: Vec<Row>,
    /// Where vaults lie
    #[arg(long, value_delimiter = ',', value_name = "PLACE,..")]
    places: Vec<Place>,
    /// A directory on tmpfs
    #[arg(long, default_value = "/dev/shm", value_name = "DIR")]
    tmpfs: PathBuf,
    /// A directory on a disk
    #[arg(long, default_value = "/var/tmp", value_name = "DIR")]
    disk: PathBuf,
    /// The atrest binary
    #[arg(long, default_value = option_env!("CARGO_BIN_EXE_atrest").unwrap_or("target/release/atrest"))]
    atrest: PathBuf,
    /// Options for atrest's mounts, as for -o: spin=0, say
    #[arg(long, value_name = "OPT[,OPT..]")]
    atrest_options: Option<String>,
    /// Measure instead how the time of an operation grows with sizes, on tmpfs, and draw it
    #[arg(long)]
    scaling: bool,
    /// Where --scaling draws
    #[arg(long, default_value = "src/manual/figures", value_name = "DIR")]
    figures: PathBuf,
    /// Write the figures here as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// What `cargo bench` adds
    #[arg(long, hide = true)]
    bench: bool,
    /// Become the guard of these scratch directories (see scratch.rs)
    #[arg(long, hide = true, num_args = 1.., value_name = "DIR")]
    guard: Vec<PathBuf>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let outcome = match options.guard.as_slice() {
        [] if options.scaling => {
            stage::raise_descriptor_limit();
            scaling::run(&options.figures, &options.tmpfs, &options.atrest, options.quick)
        }
        [] => bench(&options),
        directories => scratch::guard(directories),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn bench(options: &Options) -> Result<()> {
    let machine = Machine::here();
    let candidates = chosen(&options.only);
    let rows = chosen(&options.rows);
    let places = chosen(&options.places);
    let scale = if options.quick { Scale::QUICK } else { Scale::FULL };
    let rounds = if options.quick { 1 } else { options.rounds };
    stage::raise_descriptor_limit();

    let parents: Vec<PathBuf> = places
        .iter()
        .map(|place| match place {
            Place::Tmpfs => options.tmpfs.clone(),
            Place::Disk => options.disk.clone(),
        })
        .collect();
    let scratch = Scratch::new(&parents)?;
    let sites: Vec<Site> = places
        .iter()
        .zip(scratch.directories())
        .map(|(&place, root)| Site::new(place, root, scale.room()))
        .collect::<Result<_>>()?;
    let tools = Tools::gather(
        &candidates,
        &options.atrest,
        options.atrest_options.clone(),
        scratch.home(),
    )?;
    let supplies = Supplies::make(scale, scratch.home())?;

    let mut results = Results::default();
    for round in 0..rounds {
        for site in &sites {
            for workload in WORKLOADS.iter().filter(|w| w.rows.iter().any(|row| rows.contains(row)))
            {
                eprintln!("round {}/{rounds}, {}: {}", round + 1, site.place.name(), workload.name);
                for candidate in turns(&candidates, round) {
                    let mut stage = Stage::open(site, candidate, &tools, &mut results)?;
                    (workload.run)(&mut stage, &supplies).and_then(|()| stage.close()).with(
                        || {
                            format!(
                                "{} on {}, {}",
                                workload.name,
                                candidate.name(),
                                site.place.name()
                            )
                        },
                    )?;
                }
            }
        }
    }

    let report = Report {
        machine: &machine,
        results: &results,
        sites: &sites,
        candidates: &candidates,
        rows: &rows,
        tools: &tools,
        rounds,
        quick: options.quick,
    };
    print!("{}", report.table());
    if let Some(path) = &options.json {
        std::fs::write(path, format!("{:#}\n", report.json()))
            .with(|| path.display().to_string())?;
    }
    scratch.clear()
}

/// What was asked for, in the order of declaration; all of it when nothing was.
fn chosen<T: ValueEnum + PartialEq>(asked: &[T]) -> Vec<T> {
    let all = T::value_variants().iter().filter(|value| asked.is_empty() || asked.contains(value));
    all.cloned().collect()
}

/// The order of one round: each goes first once in as many rounds as there are candidates.
fn turns(candidates: &[Candidate], round: u32) -> Vec<Candidate> {
    let mut order = candidates.to_vec();
    order.rotate_left(round as usize % candidates.len());
    order
}
