//! When lines are in the files.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::*;

#[test]
fn what_was_waited_for_is_in_the_file() {
    let scratch = Scratch::with(Settings::default());
    let (trail, _) = scratch.start();
    trail.record_durably(event(0)).unwrap();
    assert_eq!(scratch.numbers(), [0]);
    (1..100).for_each(|number| trail.record(event(number)).unwrap());
    trail.flush();
    assert_eq!(scratch.numbers().len(), 100);
    assert_eq!(trail.status().last, 101);
    trail.end();

    let scratch = Scratch::with(Settings { sync: true, ..Settings::default() });
    let (trail, _) = scratch.start();
    for number in 0..20 {
        trail.record(event(number)).unwrap();
        assert_eq!(scratch.numbers().len() as u32, number + 1);
    }
}

#[test]
fn what_nobody_waits_for_is_in_the_file_within_a_tenth_of_a_second() {
    let scratch = Scratch::with(Settings::default());
    let (trail, _) = scratch.start();
    let (mut in_time, pauses) = (0, [0, 10, 30, 100, 500]);
    for (number, pause) in pauses.into_iter().cycle().take(15).enumerate() {
        thread::sleep(Duration::from_millis(pause));
        trail.record(event(number as u32)).unwrap();
        let recorded = Instant::now();
        while scratch.numbers().len() <= number {
            assert!(recorded.elapsed() < Duration::from_secs(20));
            thread::sleep(Duration::from_millis(1));
        }
        in_time += u32::from(recorded.elapsed() < Duration::from_millis(100));
    }
    // Other tests take the machine's processors away.
    assert!(in_time >= 8, "{in_time} of 15");
}

#[test]
fn from_eight_threads_each_is_there_once() {
    const EACH: u32 = 10_000;
    let scratch = Scratch::with(Settings { file_len: 1 << 20, files: 0, ..Settings::default() });
    let (trail, _) = scratch.start();
    thread::scope(|scope| {
        for thread in 0..8 {
            let trail = &trail;
            scope.spawn(move || {
                (0..EACH).for_each(|number| trail.record(event(thread * EACH + number)).unwrap());
            });
        }
    });
    trail.end();
    assert_eq!(trail.status().lost, 0);
    let report = verify(
        &scratch.path(),
        &scratch.keys,
        &scratch.memory,
        None,
        Some(&Mounts::default()),
        &[],
    )
    .unwrap();
    assert_eq!(report.findings, []);
    assert_eq!(report.lines, u64::from(8 * EACH) + report.files);
    assert_eq!((report.last, report.unsealed), (report.lines, 0));
    let numbers = scratch.numbers();
    for thread in 0..8 {
        let own = numbers.iter().filter(|number| **number / EACH == thread);
        assert!(own.copied().eq(thread * EACH..(thread + 1) * EACH), "thread {thread}");
    }
}

/// Files are begun and taken away while they are verified.
#[test]
fn while_it_is_written_it_is_whole() {
    for files in [1, 2, 5] {
        let mut scratch = Scratch::of_files(20);
        scratch.settings.files = files;
        let (trail, _) = scratch.start();
        let ended = AtomicBool::new(false);
        let (verified, first) = thread::scope(|scope| {
            scope.spawn(|| {
                (0..40_000).for_each(|number| trail.record(event(number)).unwrap());
                ended.store(true, Ordering::Relaxed);
            });
            let (mut verified, mut first) = (0, 0);
            while !ended.load(Ordering::Relaxed) {
                let report = verify(
                    &scratch.path(),
                    &scratch.keys,
                    &scratch.memory,
                    None,
                    Some(&Mounts::default()),
                    &[],
                );
                let report = report.unwrap();
                assert_eq!(report.findings, [], "{files} files");
                assert!(report.first >= first && report.last >= report.first);
                (verified, first) = (verified + 1, report.first);
            }
            (verified, first)
        });
        assert!(verified > 10 && first > 1000, "{verified} times, up to {first}");
        trail.end();
        scratch.next_mount();
        scratch.assert_clean();
    }
}

/// A slow sink that reports each line.
struct Slow(mpsc::Sender<String>);

impl Sink for Slow {
    fn write_line(&mut self, _event: &Event, line: &str) {
        let _ = self.0.send(line.to_owned());
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_end_waits_for_what_came_while_the_last_batch_was_written() {
    let scratch = Scratch::with(Settings::default());
    let (told, telling) = mpsc::channel();
    let (trail, _) = Trail::start(scratch.begin(), vec![Box::new(Slow(told))]).unwrap();
    trail.record(event(0)).unwrap();
    let line = telling.recv().unwrap();
    trail.record(event(1)).unwrap();
    trail.end();
    assert_eq!(scratch.numbers(), [0, 1]);
    let text = String::from_utf8(scratch.bytes().concat()).unwrap();
    assert_eq!(text.lines().nth(1), Some(&*line), "a line as it was written");
    assert_eq!(telling.iter().count(), 1);
}

#[test]
fn after_the_end_nobody_waits() {
    for fail_closed in [false, true] {
        let scratch = Scratch::with(Settings { fail_closed, sync: true, ..Settings::default() });
        let (trail, _) = scratch.start();
        trail.record(event(0)).unwrap();
        trail.end();
        trail.end();
        trail.flush();
        assert_eq!(trail.record_durably(event(1)).is_err(), fail_closed);
        assert_eq!(trail.check_writable().is_err(), fail_closed);
        assert_eq!(scratch.numbers(), [0]);
    }
}
