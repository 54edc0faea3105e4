//! Samples, and the figures made of them.

use std::collections::BTreeMap;

use crate::candidates::Candidate;
use crate::stage::Place;
use crate::workloads::Row;

/// One timing.
#[derive(Clone, Copy)]
pub struct Sample {
    pub seconds: f64,
    /// In the row's unit
    pub rate: f64,
    /// Processor seconds of the daemon, where there is one
    pub cpu_seconds: Option<f64>,
}

/// All timings of a run.
#[derive(Default)]
pub struct Results(BTreeMap<(Place, Row, Candidate), Vec<Sample>>);

impl Results {
    pub fn add(&mut self, place: Place, row: Row, candidate: Candidate, sample: Sample) {
        self.0.entry((place, row, candidate)).or_default().push(sample);
    }

    /// The samples of one figure, in the order of the rounds.
    pub fn samples(&self, place: Place, row: Row, candidate: Candidate) -> &[Sample] {
        self.0.get(&(place, row, candidate)).map_or(&[], Vec::as_slice)
    }

    /// The median rate, in the row's unit.
    pub fn rate(&self, place: Place, row: Row, candidate: Candidate) -> Option<f64> {
        median(self.samples(place, row, candidate).iter().map(|sample| sample.rate).collect())
    }

    /// The median of the daemon's processor seconds.
    pub fn cpu_seconds(&self, place: Place, row: Row, candidate: Candidate) -> Option<f64> {
        median(
            self.samples(place, row, candidate)
                .iter()
                .filter_map(|sample| sample.cpu_seconds)
                .collect(),
        )
    }

    /// The median of the daemon's processor seconds for each portion of the work ([`Row::portion`]).
    pub fn cpu_per_portion(&self, place: Place, row: Row, candidate: Candidate) -> Option<f64> {
        let (portion, _) = row.portion();
        let samples = self.samples(place, row, candidate).iter();
        let cost = |sample: &Sample| {
            let amount = sample.rate * sample.seconds;
            Some(sample.cpu_seconds? / amount * portion)
        };
        median(samples.filter_map(cost).collect())
    }

    /// How many times as fast as `other` `candidate` is.
    pub fn ratio(
        &self,
        place: Place,
        row: Row,
        candidate: Candidate,
        other: Candidate,
    ) -> Option<f64> {
        Some(self.rate(place, row, candidate)? / self.rate(place, row, other)?)
    }

    /// How many times as fast as the faster of the peers that were timed `candidate` is.
    pub fn ratio_to_faster_peer(
        &self,
        place: Place,
        row: Row,
        candidate: Candidate,
    ) -> Option<f64> {
        let ratios =
            Candidate::PEERS.iter().filter_map(|&peer| self.ratio(place, row, candidate, peer));
        ratios.min_by(f64::total_cmp)
    }
}

/// The middle value, or the mean of the two in the middle.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    Some(if values.len() % 2 == 1 { upper } else { (values[middle - 1] + upper) / 2.0 })
}

/// The geometric mean of what there is.
pub fn geometric_mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let logarithms: Vec<f64> = values.map(f64::ln).collect();
    let mean = logarithms.iter().sum::<f64>() / logarithms.len() as f64;
    (!logarithms.is_empty()).then(|| mean.exp())
}
