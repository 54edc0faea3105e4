//! A trail that nobody tampered with, whatever happened to it, has nothing to be found.

use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use super::*;

/// What a daemon that is killed leaves.
fn killed_after(numbers: std::ops::Range<u32>) -> Scratch {
    let scratch = Scratch::of_files(10);
    let (trail, trouble) = scratch.start();
    assert_eq!(trouble, None);
    for number in numbers.clone() {
        trail.record(event(number)).unwrap();
    }
    // Written by and by, before the vault is told.
    let begun = Instant::now();
    while scratch.numbers().len() < numbers.len() {
        assert!(begun.elapsed() < Duration::from_secs(10), "they are not written");
        thread::sleep(Duration::from_millis(1));
    }
    let mut copy = scratch.copy();
    copy.next_mount();
    copy
}

fn next_file(scratch: &Scratch) -> PathBuf {
    let next = scratch.verify().last + 1;
    scratch.path().join(format!("{next:020}.jsonl"))
}

fn tear(scratch: &Scratch) {
    let last = scratch.files().pop().unwrap();
    let mut last = fs::OpenOptions::new().append(true).open(last).unwrap();
    last.write_all(b"{\"sequence\":28,\"eventT").unwrap();
}

#[track_caller]
fn goes_on(scratch: &mut Scratch, numbers: std::ops::Range<u32>) {
    scratch.assert_clean();
    assert_eq!(scratch.mount(numbers.end..numbers.end + 1), None);
    let report = scratch.assert_clean();
    assert_eq!((report.first, report.lines, report.unsealed), (1, report.last, 0));
    let expected: Vec<u32> = (numbers.start..numbers.end + 1).collect();
    assert_eq!(scratch.numbers(), expected);
    assert_eq!(scratch.mount(0..0), None);
    scratch.assert_clean();
}

#[test]
fn killed_in_the_middle() {
    let mut scratch = killed_after(0..24);
    assert!(scratch.verify().unsealed > 0, "the vault does not know of all");
    goes_on(&mut scratch, 0..24);
}

#[test]
fn killed_in_the_middle_of_a_line() {
    let mut scratch = killed_after(0..24);
    tear(&scratch);
    goes_on(&mut scratch, 0..24);
    tear(&scratch);
    scratch.assert_clean();
    assert_eq!(scratch.mount(25..60), None);
    scratch.assert_clean();
}

#[test]
fn killed_before_the_first_line_of_a_file() {
    for content in ["", "{\"sequence\":27,\"ev"] {
        let mut scratch = killed_after(0..24);
        fs::write(next_file(&scratch), content).unwrap();
        goes_on(&mut scratch, 0..24);
        let mut scratch = killed_after(0..24);
        tear(&scratch);
        fs::write(next_file(&scratch), content).unwrap();
        goes_on(&mut scratch, 0..24);
    }
}

#[test]
fn killed_at_the_first_start() {
    for lines in [0, 1] {
        let mut scratch = killed_after(0..0);
        *scratch.memory.0.lock() = None;
        scratch.edit(0, |all| all.truncate(lines));
        assert_eq!(scratch.mount(0..3), None);
        scratch.assert_clean();
    }
}

#[test]
fn starts_without_an_event_and_many_files() {
    let mut scratch = Scratch::of_files(1);
    scratch.settings.files = 0;
    for mount in 0..20 {
        let numbers = mount * 3..mount * 3 + mount % 4;
        assert_eq!(scratch.mount(numbers), None);
        let report = scratch.assert_clean();
        assert_eq!((report.first, report.unsealed), (1, 0));
    }
}

#[test]
fn the_oldest_files_go_and_are_not_missed() {
    let mut scratch = Scratch::of_files(10);
    scratch.settings.files = 3;
    let mut head = None;
    for mount in 0..12 {
        assert_eq!(scratch.mount(mount * 7..mount * 7 + 7), None);
        let report = scratch.assert_clean();
        assert_eq!(scratch.verify_with(head).findings, [], "a head of before what is kept");
        head = head.or(report.head.parse().ok());
        assert!(report.files <= 3);
        let name = format!("{:020}.jsonl", report.first);
        assert!(scratch.files()[0].ends_with(name), "{}", report.first);
        assert_eq!(report.last - report.first + 1, report.lines);
    }
    assert!(scratch.verify().first > 1);
    let kept = scratch.copy();
    fs::remove_file(&kept.files()[0]).unwrap();
    assert_eq!(kept.verify().findings.len(), 1, "one more than those that had to");
}

/// A daemon that dies again and again begins a file each time.
#[test]
fn short_files_push_nothing_out() {
    let mut scratch = Scratch::of_files(100);
    scratch.settings.files = 4;
    assert_eq!(scratch.mount(0..90), None);
    for number in 90..110 {
        let (mut writer, _) = Writer::open(scratch.begin()).unwrap();
        writer.append(&[TimedEvent::now(event(number))], |_, _| ()).unwrap();
        drop(writer);
        scratch.next_mount();
    }
    assert!(scratch.files().len() > 15, "{:?}", scratch.files());
    assert_eq!(scratch.mount(110..250), None);
    scratch.assert_clean();
    assert_eq!(scratch.numbers(), (0..250).collect::<Vec<_>>(), "after a file was full");
    // And no more is kept than was asked for.
    assert_eq!(scratch.mount(250..900), None);
    scratch.assert_clean();
    assert_eq!(scratch.files().len(), 4);
}

#[test]
fn the_oldest_files_stay_while_the_vault_does_not_know() {
    #[derive(Debug)]
    struct Full(Memory);
    impl CheckpointStore for Full {
        fn read(&self) -> io::Result<Option<Vec<u8>>> {
            self.0.read()
        }
        fn write(&self, _: &[u8], _: Durability) -> io::Result<()> {
            Err(io::ErrorKind::StorageFull.into())
        }
    }
    let mut scratch = Scratch::of_files(3);
    scratch.settings.files = 2;
    assert_eq!(scratch.mount(0..6), None);
    let start = Start { checkpoints: Box::new(Full(scratch.memory.clone())), ..scratch.begin() };
    let (mut writer, _) = Writer::open(start).unwrap();
    for number in 6..30 {
        writer.append(&[TimedEvent::now(event(number))], |_, _| ()).unwrap();
    }
    drop(writer);
    scratch.assert_clean();
    assert!(scratch.files().len() > 4);
    assert_eq!(scratch.mount(30..40), None);
    scratch.assert_clean();
    assert_eq!(scratch.files().len(), 2);
}
