//! The table and the JSON that a run ends with.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use crate::candidates::Candidate;
use crate::machine::Machine;
use crate::results::{Results, geometric_mean};
use crate::stage::{self, Place, Site};
use crate::tools::Tools;
use crate::workloads::Row;

/// A finished run, with where and when it took place.
pub struct Report<'a> {
    pub machine: &'a Machine,
    pub results: &'a Results,
    pub sites: &'a [Site],
    pub candidates: &'a [Candidate],
    pub rows: &'a [Row],
    pub tools: &'a Tools,
    pub rounds: u32,
    pub quick: bool,
}

impl Report<'_> {
    /// One Markdown table a place: each figure, its ratio to gocryptfs behind it.
    pub fn table(&self) -> String {
        let mut text = format!("{}\n{} round(s)", self.machine.line(), self.rounds);
        if let Some(options) = &self.tools.atrest_options {
            let _ = write!(text, ", atrest mounted with -o {options}");
        }
        if self.quick {
            text.push_str(" of small sizes: a smoke test, no measurement");
        }
        text.push('\n');
        for &candidate in self.candidates {
            let version = candidate.version(self.tools).unwrap_or_default();
            if !version.is_empty() {
                let _ = writeln!(text, "{}: {version}", candidate.name());
            }
        }
        for site in self.sites {
            let _ = writeln!(text, "\n{} ({}):\n", site.place.name(), site.fstype);
            text.push_str(&aligned(&self.cells(site.place)));
            text.push('\n');
            text.push_str(&aligned(&self.cpu_cells(site.place)));
        }
        if !stage::can_drop_caches() {
            text.push_str(
                "\nNot run as root: on disk, cold means a new mount over a warm backing.\n",
            );
        }
        text.push_str("\nBehind each figure: how many times as fast as gocryptfs.\n");
        text
    }

    /// All figures and samples; what was not timed is null.
    pub fn json(&self) -> Value {
        let machine = self.machine;
        json!({
            "date": machine.date,
            "machine": { "processor": machine.processor, "cores": machine.cores, "kernel": machine.kernel, "load_at_start": machine.load },
            "rounds": self.rounds,
            "quick": self.quick,
            "atrest_options": self.tools.atrest_options,
            "baseline": Candidate::BASELINE.name(),
            "versions": keyed(self.candidates, |c| json!(c.version(self.tools))),
            "places": self.sites.iter().map(|site| (site.place.name().to_owned(), json!({
                "fstype": site.fstype,
                "rows": self.rows.iter().map(|&row| (row.label().to_owned(), self.row_json(site.place, row))).collect::<Map<_, _>>(),
                "geometric_mean": keyed(self.candidates, |c| json!(self.mean_ratio(site.place, c))),
                "atrest_to_faster_peer": self.mean_to_faster_peer(site.place),
            }))).collect::<Map<_, _>>(),
        })
    }

    fn row_json(&self, place: Place, row: Row) -> Value {
        json!({
            "unit": row.unit(),
            "portion": row.portion().1,
            "atrest_to_faster_peer": self.results.ratio_to_faster_peer(place, row, Candidate::Atrest),
            "filesystems": keyed(self.candidates, |c| json!({
                "median": self.results.rate(place, row, c),
                "ratio": self.results.ratio(place, row, c, Candidate::BASELINE),
                "samples": self.results.samples(place, row, c).iter().map(|s| s.rate).collect::<Vec<_>>(),
                "seconds": self.results.samples(place, row, c).iter().map(|s| s.seconds).collect::<Vec<_>>(),
                "daemon_cpu_seconds": self.results.cpu_seconds(place, row, c),
                "daemon_cpu_seconds_per_portion": self.results.cpu_per_portion(place, row, c),
            })),
        })
    }

    /// The table of one place, head first.
    fn cells(&self, place: Place) -> Vec<Vec<String>> {
        let line = |label: String, cell: &dyn Fn(Candidate) -> String, last: String| {
            let cells = self.candidates.iter().map(|&candidate| cell(candidate));
            [label].into_iter().chain(cells).chain([last]).collect::<Vec<_>>()
        };
        let mut lines = vec![line(
            "more is better".into(),
            &|c| c.name().into(),
            "atrest / faster peer".into(),
        )];
        for &row in self.rows {
            let cell = |candidate| {
                let figure =
                    self.results.rate(place, row, candidate).map_or_else(|| "-".into(), figure);
                format!(
                    "{figure}{}",
                    in_parentheses(self.results.ratio(place, row, candidate, Candidate::BASELINE))
                )
            };
            let last = self.results.ratio_to_faster_peer(place, row, Candidate::Atrest);
            lines.push(line(format!("{}, {}", row.label(), row.unit()), &cell, ratio(last)));
        }
        let last = ratio(self.mean_to_faster_peer(place));
        lines.push(line("geometric mean".into(), &|c| ratio(self.mean_ratio(place, c)), last));
        let cpu = |candidate| {
            let seconds =
                self.rows.iter().map(|&row| self.results.cpu_seconds(place, row, candidate));
            seconds
                .sum::<Option<f64>>()
                .map_or_else(|| "-".into(), |seconds| format!("{seconds:.2}"))
        };
        lines.push(line("daemon's CPU seconds (less is better)".into(), &cpu, String::new()));
        lines
    }

    /// What the daemons' processor time for a portion of the work was, head first.
    fn cpu_cells(&self, place: Place) -> Vec<Vec<String>> {
        let line = |label: String, cell: &dyn Fn(Candidate) -> String| {
            let with_daemon = |candidate: &&Candidate| **candidate != Candidate::Bare;
            let cells =
                self.candidates.iter().filter(with_daemon).map(|&candidate| cell(candidate));
            [label].into_iter().chain(cells).collect::<Vec<_>>()
        };
        let mut lines =
            vec![line("daemon's CPU seconds, less is better".into(), &|c| c.name().into())];
        for &row in self.rows {
            let cost = |candidate| self.results.cpu_per_portion(place, row, candidate);
            let cell =
                |candidate| cost(candidate).map_or_else(|| "-".into(), |cost| format!("{cost:.2}"));
            lines.push(line(format!("{}, per {}", row.label(), row.portion().1), &cell));
        }
        lines
    }

    fn mean_ratio(&self, place: Place, candidate: Candidate) -> Option<f64> {
        let ratio = |&row| self.results.ratio(place, row, candidate, Candidate::BASELINE);
        geometric_mean(self.rows.iter().filter_map(ratio))
    }

    fn mean_to_faster_peer(&self, place: Place) -> Option<f64> {
        let ratio = |&row| self.results.ratio_to_faster_peer(place, row, Candidate::Atrest);
        geometric_mean(self.rows.iter().filter_map(ratio))
    }
}

fn keyed(candidates: &[Candidate], value: impl Fn(Candidate) -> Value) -> Map<String, Value> {
    candidates.iter().map(|&candidate| (candidate.name().to_owned(), value(candidate))).collect()
}

/// Three significant digits, none after the point from 100 up.
fn figure(value: f64) -> String {
    let decimals = if value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    format!("{value:.decimals$}")
}

fn ratio(value: Option<f64>) -> String {
    value.map_or_else(|| "-".into(), |ratio| format!("{ratio:.2}"))
}

fn in_parentheses(value: Option<f64>) -> String {
    value.map_or_else(String::new, |ratio| format!(" ({ratio:.2})"))
}

/// A Markdown table whose columns line up: the first to the left, the others to the right.
fn aligned(lines: &[Vec<String>]) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    let widths: Vec<usize> = (0..columns)
        .map(|column| lines.iter().map(|line| line[column].len()).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for (number, line) in lines.iter().enumerate() {
        for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
            let _ = if column == 0 {
                write!(text, "| {cell:<width$} |")
            } else {
                write!(text, " {cell:>width$} |")
            };
        }
        text.push('\n');
        if number == 0 {
            for (column, width) in widths.iter().enumerate() {
                let _ = if column == 0 {
                    write!(text, "|-{:-<width$}-|", "")
                } else {
                    write!(text, "-{:->width$}:|", "")
                };
            }
            text.push('\n');
        }
    }
    text
}
