//! How the time of one operation grows: with the file, the directory, the vault, and the threads.

mod measure;
mod plot;
mod series;

use std::path::Path;

use crate::candidates::Candidate;
use crate::error::{Context, Result};
use crate::machine::Machine;
use crate::scratch::Scratch;
use crate::tools::Tools;

use plot::{Figure, Line};
use series::{Series, all};

/// Who is measured: the mount, and what lies below it.
const CANDIDATES: [Candidate; 2] = [Candidate::Atrest, Candidate::Bare];

/// Measures in a directory of its own below `parent` and writes a figure for each of the series
/// into `figures`.
pub fn run(figures: &Path, parent: &Path, atrest: &Path, quick: bool) -> Result<()> {
    let machine = Machine::here();
    let scratch = Scratch::new(&[parent.to_owned()])?;
    let tools = Tools::gather(&CANDIDATES, atrest, None, scratch.home())?;
    std::fs::create_dir_all(figures).with(|| figures.display().to_string())?;
    println!("{}", machine.line());
    for series in all(quick) {
        let mut lines = Vec::new();
        for candidate in CANDIDATES {
            lines.extend(of_candidate(&series, candidate, &tools, &scratch.directories()[0])?);
        }
        let figure = Figure { title: series.title, x: series.x, caption: machine.line(), lines };
        print!("{}", figure.table());
        figure.write(&figures.join(format!("{}.svg", series.name)))?;
    }
    scratch.clear()
}

/// A line for each operation of the series.
fn of_candidate(
    series: &Series,
    candidate: Candidate,
    tools: &Tools,
    root: &Path,
) -> Result<Vec<Line>> {
    let mut lines: Vec<Line> = Vec::new();
    for &x in &series.points {
        eprintln!("{}, {}: {x}", series.name, candidate.name());
        let mut ground = measure::Ground::new(candidate, tools, root)?;
        let times = (series.measure)(&mut ground, x)
            .with(|| format!("{} of {x} on {}", series.name, candidate.name()))?;
        ground.close()?;
        for (number, (what, microseconds)) in times.into_iter().enumerate() {
            if lines.len() == number {
                let label = format!("{what}, {}", candidate.name());
                lines.push(Line { label, points: Vec::new(), bare: candidate == Candidate::Bare });
            }
            lines[number].points.push((x as f64, microseconds));
        }
    }
    Ok(lines)
}
