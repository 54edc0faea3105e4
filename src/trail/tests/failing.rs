//! A trail that can't be written for a while.

use std::thread;
use std::time::{Duration, Instant};

use super::*;

/// One that needs its directory for every batch.
fn demanding(fail_closed: bool) -> Scratch {
    Scratch::with(Settings { file_len: 1, files: 0, fail_closed, ..Settings::default() })
}

fn hide(scratch: &Scratch) {
    fs::rename(scratch.path(), scratch.path().with_extension("away")).unwrap();
}

fn show(scratch: &Scratch) {
    fs::rename(scratch.path().with_extension("away"), scratch.path()).unwrap();
}

fn wait_until(what: impl Fn() -> bool) {
    let begun = Instant::now();
    while !what() {
        assert!(begun.elapsed() < Duration::from_secs(20));
        thread::sleep(Duration::from_millis(5));
    }
}

fn ends_well(trail: &Trail, scratch: &mut Scratch) {
    show(scratch);
    wait_until(|| trail.status().failing.is_none());
    trail.end();
    scratch.next_mount();
    let report = scratch.assert_clean();
    assert_eq!((report.last, report.unsealed), (report.lines, 0));
}

#[test]
fn closed_it_refuses_until_it_can() {
    let mut scratch = demanding(true);
    let (trail, _) = scratch.start();
    trail.record_durably(event(0)).unwrap();
    hide(&scratch);
    assert!(matches!(trail.record_durably(event(1)), Err(TrailError::Refused(_))));
    assert!(matches!(trail.record(event(2)), Err(TrailError::Refused(_))));
    assert!(matches!(trail.check_writable(), Err(TrailError::Refused(_))));
    trail.flush();
    assert!(trail.status().failing.is_some());
    show(&scratch);
    wait_until(|| trail.check_writable().is_ok());
    trail.record(event(3)).unwrap();
    hide(&scratch);
    wait_until(|| trail.check_writable().is_err());
    ends_well(&trail, &mut scratch);
    // What failed was asked for, and is told when it can be; what was refused is not.
    assert_eq!(scratch.numbers(), [0, 1, 3]);
    assert_eq!(trail.status().lost, 0);
}

#[test]
fn open_it_goes_on_and_writes_in_order_what_waited() {
    let mut scratch = demanding(false);
    let (trail, _) = scratch.start();
    trail.record_durably(event(0)).unwrap();
    hide(&scratch);
    trail.record_durably(event(1)).unwrap();
    assert!(trail.status().failing.is_some());
    (2..500).for_each(|number| trail.record(event(number)).unwrap());
    trail.check_writable().unwrap();
    ends_well(&trail, &mut scratch);
    assert_eq!(scratch.numbers(), (0..500).collect::<Vec<_>>());
}

#[test]
fn open_it_counts_what_it_can_not_keep() {
    let mut scratch = demanding(false);
    let (trail, _) = scratch.start();
    hide(&scratch);
    trail.record_durably(event(0)).unwrap();
    let all = 20_000;
    (1..all).for_each(|number| trail.record(event(number)).unwrap());
    let lost = trail.status().lost;
    assert!(lost > 0 && lost < u64::from(all));
    // While it is tried again and again there is more to tell.
    thread::sleep(Duration::from_millis(700));
    trail.record(event(all)).unwrap();
    thread::sleep(Duration::from_millis(700));
    trail.record(event(all)).unwrap();
    ends_well(&trail, &mut scratch);
    assert_eq!(trail.status().lost, lost + 2);
    let kept = all - lost as u32;
    assert_eq!(scratch.numbers(), (0..kept).collect::<Vec<_>>());
    let mut gaps = Vec::new();
    let filter = Filter { events: vec![EventName::TrailGap], ..Filter::default() };
    query(&scratch.path(), &filter, &mut |_, line| {
        gaps.extend(line.request_parameters.details.clone());
        true
    })
    .unwrap();
    assert_eq!(gaps, [serde_json::json!({ "lost": lost + 2 })]);
}

#[test]
fn a_directory_that_was_removed_is_missed_at_once() {
    let scratch = Scratch::with(Settings { fail_closed: true, ..Settings::default() });
    let (trail, _) = scratch.start();
    trail.record_durably(event(0)).unwrap();
    let head = trail.status().last;
    fs::remove_dir_all(scratch.path()).unwrap();
    assert!(trail.record_durably(event(1)).is_err());
    Directory::make(&scratch.path()).unwrap();
    wait_until(|| trail.check_writable().is_ok());
    trail.end();
    assert_eq!(scratch.numbers(), [1]);
    let report = scratch.verify();
    assert_eq!((report.first, report.findings.len()), (head + 1, 1), "{report:?}");
}

#[test]
fn what_could_not_be_written_at_the_end_takes_no_time() {
    let scratch = demanding(false);
    let (trail, _) = scratch.start();
    hide(&scratch);
    trail.record(event(0)).unwrap();
    trail.end();
    show(&scratch);
    scratch.assert_clean();
    assert!(scratch.numbers().is_empty());
}
