//! Random tampering, and a trail of a million lines. `ATREST_CAMPAIGN=full` for the long forms.

use std::time::Instant;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;

#[path = "../../../tests/common/campaign.rs"]
mod length;
use length::Campaign;

const SEED: u64 = 0x7261_696c;

/// Changes the files in one way; returns which.
fn mutate(rng: &mut StdRng, files: &mut [Option<Vec<u8>>]) -> &'static str {
    let at = rng.random_range(0..files.len());
    let content = files[at].as_mut().unwrap();
    let mut lines: Vec<_> =
        content.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    let (one, other) = (rng.random_range(0..lines.len()), rng.random_range(0..lines.len()));
    let what = match rng.random_range(0..9) {
        0..3 => {
            let byte = rng.random_range(0..content.len());
            content[byte] ^= rng.random_range(1..=u8::MAX);
            return "a byte changed";
        }
        3 => {
            let length = rng.random_range(0..content.len());
            content.truncate(length);
            return "a file cut";
        }
        4 => {
            files[at] = None;
            return "a file removed";
        }
        5 => {
            lines.remove(one);
            "a line dropped"
        }
        6 if one != other => {
            lines.swap(one, other);
            "lines swapped"
        }
        7 => {
            let line = lines[one].clone();
            lines.insert(other, line);
            "a line inserted"
        }
        _ => {
            let byte = rng.random_range(0..lines[one].len());
            lines[one].insert(byte, rng.random());
            "a byte inserted"
        }
    };
    *content = lines.concat();
    what
}

#[test]
fn every_random_tampering_is_found() {
    let scratch = Scratch::of_three_files();
    let (paths, pristine) = (scratch.files(), scratch.bytes());
    let mut rng = StdRng::seed_from_u64(SEED);
    let mut rounds = 0;
    while rounds < Campaign::pick(2000, 50_000) {
        let mut files: Vec<_> = pristine.iter().cloned().map(Some).collect();
        let what = mutate(&mut rng, &mut files);
        if files.iter().zip(&pristine).all(|(file, was)| file.as_ref() == Some(was)) {
            continue;
        }
        rounds += 1;
        for ((path, file), was) in paths.iter().zip(&files).zip(&pristine) {
            match file {
                Some(file) if file != was => fs::write(path, file).unwrap(),
                Some(_) => {}
                None => fs::remove_file(path).unwrap(),
            }
        }
        assert_ne!(scratch.verify().findings, [], "round {rounds}: {what}");
        for ((path, file), was) in paths.iter().zip(&files).zip(&pristine) {
            if file.as_ref() != Some(was) {
                fs::write(path, was).unwrap();
            }
        }
    }
    scratch.assert_clean();
}

#[test]
fn a_long_trail_is_written_searched_and_verified() {
    let lines = Campaign::pick(50_000, 1_000_000);
    let mut scratch = Scratch::with(Settings { files: 0, ..Settings::default() });
    let (trail, _) = scratch.start();
    let begun = Instant::now();
    for number in 0..lines {
        let mut event = event(number);
        event.subject.uid = number % 1000;
        trail.record(event).unwrap();
    }
    trail.end();
    let written = begun.elapsed();
    scratch.next_mount();
    let bytes: u64 = scratch.files().iter().map(|path| fs::metadata(path).unwrap().len()).sum();
    let begun = Instant::now();
    let found = scratch.found(&Filter { user: Some(7), ..Filter::default() });
    let searched = begun.elapsed();
    assert!(found.iter().copied().eq((7..lines).step_by(1000)));
    let begun = Instant::now();
    let report = scratch.assert_clean();
    let verified = begun.elapsed();
    assert_eq!(report.lines, u64::from(lines) + report.files);
    Campaign::report(format_args!(
        "{lines} lines of {} MB written in {written:.2?}, {:.0} a second; a query takes \
         {searched:.2?}, verify {verified:.2?}",
        bytes / 1_000_000,
        f64::from(lines) / written.as_secs_f64(),
    ));
}
