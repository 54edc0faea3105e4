//! What somebody without the key does to a trail.

use serde_json::Value;

use super::*;
use crate::keys::policy::Subject;

/// Where it must be found: in which file and line, or in the trail as a whole.
type Place = (Option<usize>, Option<u64>);
type Tampering = (&'static str, fn(&Scratch), Place);

fn remove(scratch: &Scratch, file: usize) {
    fs::remove_file(&scratch.files()[file]).unwrap();
}

fn replace_by_another_vaults(scratch: &Scratch, file: usize) {
    fs::write(&scratch.files()[file], &Scratch::of_three_files().bytes()[file]).unwrap();
}

fn cut(scratch: &Scratch, file: usize, less: u64) {
    let file = fs::OpenOptions::new().write(true).open(&scratch.files()[file]).unwrap();
    file.set_len(file.metadata().unwrap().len() - less).unwrap();
}

const TAMPERINGS: &[Tampering] = &[
    ("dropped", |s| s.edit(1, |lines| drop(lines.remove(3))), (Some(1), Some(4))),
    ("moved on", |s| s.edit(1, |lines| lines[3..7].rotate_left(1)), (Some(1), Some(4))),
    ("moved back", |s| s.edit(1, |lines| lines[3..7].rotate_right(1)), (Some(1), Some(4))),
    ("swapped", |s| s.edit(1, |lines| lines.swap(3, 4)), (Some(1), Some(4))),
    ("duplicated", |s| s.edit(1, |lines| lines.insert(3, lines[3].clone())), (Some(1), Some(5))),
    ("inserted", |s| s.edit(1, |lines| lines.insert(3, lines[8].clone())), (Some(1), Some(4))),
    (
        "inserted first",
        |s| s.edit(1, |lines| lines.insert(0, lines[8].clone())),
        (Some(1), Some(1)),
    ),
    ("emptied", |s| s.edit(1, |lines| lines[3] = b"\n".to_vec()), (Some(1), Some(4))),
    ("nonsense", |s| s.edit(1, |lines| lines[3] = b"\xff{}\n".to_vec()), (Some(1), Some(4))),
    ("begun again", |s| s.edit(1, |lines| lines.insert(3, lines[0].clone())), (Some(1), Some(4))),
    ("without a beginning", |s| s.edit(1, |lines| drop(lines.remove(0))), (Some(1), Some(1))),
    ("without the first", |s| s.edit(0, |lines| drop(lines.remove(0))), (Some(0), Some(1))),
    ("one line less", |s| s.edit(2, |lines| drop(lines.pop())), (None, None)),
    ("many lines less", |s| s.edit(2, |lines| lines.truncate(2)), (None, None)),
    ("a line less in the middle", |s| s.edit(1, |lines| drop(lines.pop())), (Some(2), Some(1))),
    ("half a line less", |s| cut(s, 2, 100), (Some(2), None)),
    ("the last byte less", |s| cut(s, 2, 1), (Some(2), None)),
    ("half a line less in the middle", |s| cut(s, 1, 100), (Some(1), None)),
    ("the first file away", |s| remove(s, 0), (None, None)),
    ("the middle file away", |s| remove(s, 1), (Some(1), Some(1))),
    ("the last file away", |s| remove(s, 2), (None, None)),
    ("all away", |s| (0..3).for_each(|_| remove(s, 0)), (None, None)),
    ("a file without a line", |s| s.edit(1, |lines| lines.clear()), (Some(1), None)),
    ("the last file without a line", |s| s.edit(2, |lines| lines.clear()), (Some(2), None)),
    ("files swapped", swap_files, (Some(1), Some(1))),
    ("the first of another vault", |s| replace_by_another_vaults(s, 0), (Some(0), Some(1))),
    ("the middle of another vault", |s| replace_by_another_vaults(s, 1), (Some(1), Some(1))),
    ("the last of another vault", |s| replace_by_another_vaults(s, 2), (Some(2), Some(1))),
    ("a file too many", |s| add_file(s, "00000000000000000015.jsonl"), (Some(2), Some(1))),
    ("the seal away", |s| *s.memory.0.lock() = None, (None, None)),
    ("the seal nonsense", |s| *s.memory.0.lock() = Some(b"{}".to_vec()), (None, None)),
];

fn swap_files(scratch: &Scratch) {
    let (files, aside) = (scratch.files(), scratch.path().join("aside"));
    fs::rename(&files[1], &aside).unwrap();
    fs::rename(&files[2], &files[1]).unwrap();
    fs::rename(&aside, &files[2]).unwrap();
}

fn add_file(scratch: &Scratch, name: &str) {
    fs::copy(&scratch.files()[1], scratch.path().join(name)).unwrap();
}

/// Those that a start sees, which looks at the end of the trail alone.
fn is_at_the_end(what: &str, place: Place) -> bool {
    place.0.is_none_or(|file| file >= 2)
        && what != "the first file away"
        && what != "a file too many"
        && what != "a line less in the middle"
}

#[test]
fn is_found_where_it_was_done_and_stays_found() {
    let pristine = Scratch::of_three_files();
    pristine.assert_clean();
    for (what, tamper, (file, line)) in TAMPERINGS {
        let mut scratch = pristine.copy();
        tamper(&scratch);
        let name = file
            .map(|file| scratch.files()[file].file_name().unwrap().to_str().unwrap().to_owned());
        let findings = scratch.verify().findings;
        let is_there = findings
            .iter()
            .any(|finding| finding.file == name && (line.is_none() || finding.line == *line));
        assert!(is_there, "{what}: {findings:?}");
        assert!(findings.len() <= 14, "{what}: {findings:?}");

        let evidence: Vec<_> = scratch.files().into_iter().zip(scratch.bytes()).collect();
        let trouble = scratch.mount(100..103);
        assert!(trouble.is_some() || !is_at_the_end(what, (*file, *line)), "{what}");
        for (path, bytes) in evidence {
            assert!(fs::read(&path).unwrap().starts_with(&bytes), "{what}: {}", path.display());
        }
        assert!(scratch.numbers().ends_with(&[100, 101, 102]), "{what}");
        assert_ne!(scratch.verify().findings, [], "{what}, after a start");
        assert_eq!(scratch.mount(103..105), None, "{what}: told once");
        assert_ne!(scratch.verify().findings, [], "{what}, after two");
    }
}

#[test]
fn every_byte_of_a_line_matters() {
    let scratch = Scratch::of_three_files();
    let file = &scratch.files()[1];
    let bytes = fs::read(file).unwrap();
    let starts: Vec<_> = (0..bytes.len()).filter(|at| bytes[*at] == b'\n').collect();
    let name = file.file_name().unwrap().to_str();
    for at in starts[3] + 1..=starts[4] {
        for flip in [0x01, 0x20, 0x80] {
            let mut changed = bytes.clone();
            changed[at] ^= flip;
            fs::write(file, changed).unwrap();
            let findings = scratch.verify().findings;
            let first = findings.first().map(|found| (found.file.as_deref(), found.line));
            assert_eq!(first, Some((name, Some(5))), "byte {at} ^ {flip:#x}: {findings:?}");
        }
    }
}

#[test]
fn every_field_matters() {
    let scratch = Scratch::of_three_files();
    let text = String::from_utf8(scratch.bytes()[1].clone()).unwrap();
    let line = text.lines().nth(4).unwrap();
    let mut leaves = Vec::new();
    collect(&serde_json::from_str(line).unwrap(), &mut leaves);
    assert!(leaves.len() >= 14, "{leaves:?}");
    for (was, is) in leaves {
        assert!(line.contains(&was), "{was}");
        let changed = text.replacen(line, &line.replacen(&was, &is, 1), 1);
        fs::write(&scratch.files()[1], changed).unwrap();
        let findings = scratch.verify().findings;
        assert_eq!(findings.first().and_then(|finding| finding.line), Some(5), "{is}");
        fs::write(&scratch.files()[1], &text).unwrap();
    }
    scratch.assert_clean();
}

/// Each field of a line as text, and as it could be instead.
fn collect(value: &Value, leaves: &mut Vec<(String, String)>) {
    for (key, value) in value.as_object().unwrap() {
        let other = match value {
            Value::Object(_) => {
                collect(value, leaves);
                continue;
            }
            Value::String(text) => {
                let first = if text.starts_with('1') { '2' } else { '1' };
                Value::String(format!("{first}{}", &text[1..]))
            }
            Value::Number(number) => (number.as_u64().unwrap() + 1).into(),
            Value::Bool(is) => (!is).into(),
            Value::Array(_) | Value::Null => unreachable!("{key}"),
        };
        leaves.push((format!("\"{key}\":{value}"), format!("\"{key}\":{other}")));
    }
}

#[test]
fn every_byte_of_the_seal_matters() {
    let scratch = Scratch::of_three_files();
    let (seal, bytes) = (scratch.seal(), scratch.memory.read().unwrap().unwrap());
    for at in 0..bytes.len() - 1 {
        for flip in [0x01, 0x20, 0x80] {
            let mut changed = bytes.clone();
            changed[at] ^= flip;
            scratch.memory.write(&changed, true).unwrap();
            let read = Seal::read(&scratch.memory, &scratch.keys);
            assert!(matches!(read, Err(TrailError::Seal)), "byte {at} ^ {flip:#x}");
        }
    }
    scratch.memory.write(&bytes, true).unwrap();
    assert_eq!(scratch.seal(), seal);
}

#[test]
fn a_trail_set_back_is_found_by_the_mounts_since_and_by_a_head_that_was_kept() {
    let mut scratch = Scratch::of_three_files();
    let mut old = scratch.copy();
    assert_eq!(scratch.mount(50..53), None);
    let head: Head = scratch.assert_clean().head.parse().unwrap();
    old.epoch = scratch.epoch;
    let whole = |report: Report| report.findings.iter().all(|finding| finding.file.is_none());
    assert!(whole(old.verify()) && old.verify().findings.len() == 1);
    assert_eq!(old.verify_with(Some(head)).findings.len(), 2);
    let trouble = old.mount(60..70).unwrap();
    assert!(trouble.contains("set back"), "{trouble}");
    assert!(old.verify().findings.iter().any(|finding| finding.what.contains("set back")));
    // The trail has more lines than the head by now, and not the head's.
    let found = old.verify_with(Some(head)).findings;
    assert!(found.iter().any(|finding| finding.what.contains("the head that was kept")));
    assert_eq!(scratch.verify_with(Some(head)).findings, []);
}

#[test]
fn within_a_mount_a_trail_set_back_is_found_by_a_head_alone() {
    let mut scratch = Scratch::of_three_files();
    let (old, epoch) = (scratch.copy(), scratch.epoch);
    scratch.epoch.0 -= 1;
    assert_eq!(scratch.mount(50..53), None);
    assert_eq!(scratch.epoch, epoch);
    let head = scratch.assert_clean().head.parse().unwrap();
    old.assert_clean();
    assert_eq!(old.verify_with(Some(head)).findings.len(), 1);
}

#[test]
fn a_clean_end_without_its_line_is_found() {
    let mount_event = |name, epoch: u64, after_clean_end: bool| {
        let mut event = Event::new(name, Subject::this_process());
        let details = serde_json::json!({ "epoch": epoch, "afterCleanEnd": after_clean_end });
        event.parameters.details = Some(details);
        event
    };
    for (has_end, after_clean_end, findings) in
        [(true, true, 0), (true, false, 0), (false, false, 0), (false, true, 1)]
    {
        let mut scratch = Scratch::of_files(100);
        let (mut writer, _) = Writer::open(scratch.begin()).unwrap();
        let mut events = vec![mount_event(EventName::Mount, 1, true)];
        if has_end {
            events.push(mount_event(EventName::Unmount, 1, true));
        }
        events.push(mount_event(EventName::Mount, 2, after_clean_end));
        for event in events {
            writer.append(&[(Timestamp::now(), event)], |_, _| ()).unwrap();
        }
        writer.seal(true);
        scratch.epoch.0 += 2;
        let report = scratch.verify_with(None);
        let told = report.findings.iter().filter(|finding| finding.what.contains("of its end"));
        assert_eq!(told.count(), findings, "{has_end} {after_clean_end}: {report:?}");
    }
}

fn line_of(name: EventName, epoch: u64) -> Event {
    let mut event = Event::new(name, Subject::this_process());
    let details = serde_json::json!({ "epoch": epoch, "afterCleanEnd": false });
    event.parameters.details = Some(details);
    event
}

/// Mounts that left lines, those that need none, and which findings there are then.
#[test]
fn each_mount_has_its_line_or_needs_none() {
    use EventName::{Mount, Unmount};
    const MISSING: &str = "no line of the beginning";
    const END: &str = "no line of its end";
    for (mounts, without, newest, ended, wanted) in [
        (&[1, 2, 3][..], &[][..], 3, false, &[][..]),
        (&[1, 3], &[2], 3, false, &[]),
        (&[1, 3], &[], 3, false, &["mount 2 has no line"]),
        (&[3, 5], &[1, 2], 5, false, &["mount 4 has no line"]),
        (&[4], &[2], 4, false, &["mount 1 has no line", "mount 3 has no line"]),
        (&[6], &[1, 2], 6, false, &["mounts 3 to 5 have no line"]),
        (&[1, 2], &[3], 3, true, &[]),
        (&[1, 2], &[], 3, false, &["mount 3 has no line"]),
        (&[1, 2], &[], 2, true, &["mount 2 ended cleanly"]),
        (&[], &[], 2, true, &["mounts 1 to 2 have no line"]),
        (&[], &[1, 2], 2, true, &[]),
    ] {
        let mut scratch = Scratch::of_files(100);
        scratch.epoch = Epoch(newest);
        without.iter().for_each(|epoch| scratch.without_line.push(Epoch(*epoch)));
        let (mut writer, _) = Writer::open(scratch.begin()).unwrap();
        for &epoch in mounts {
            let begin = (Timestamp::now(), line_of(Mount, epoch));
            let end = (epoch < newest).then(|| (Timestamp::now(), line_of(Unmount, epoch)));
            writer
                .append(&[Some(begin), end].into_iter().flatten().collect::<Vec<_>>(), |_, _| ())
                .unwrap();
        }
        writer.seal(true);
        let known =
            Mounts { newest: Epoch(newest), ended, without_line: scratch.without_line.clone() };
        let report =
            verify(&scratch.path(), &scratch.keys, &scratch.memory, None, Some(&known), &[])
                .unwrap();
        let found: Vec<_> = report.findings.iter().map(|finding| &*finding.what).collect();
        assert_eq!(found.len(), wanted.len(), "{mounts:?} {without:?}: {found:?}");
        for (found, wanted) in found.iter().zip(wanted) {
            assert!(found.starts_with(wanted), "{mounts:?} {without:?}: {found:?}");
            assert!(found.contains(MISSING) || found.contains(END), "{found}");
        }
    }
}

/// Of lines that went with the oldest files nothing is missed.
#[test]
fn mounts_of_files_that_went_are_not_missed() {
    let settings = Settings { file_len: 2000, files: 2, ..Settings::default() };
    let mut scratch = Scratch::with(settings);
    scratch.epoch = Epoch(39);
    let (mut writer, _) = Writer::open(scratch.begin()).unwrap();
    for epoch in 1..40 {
        writer.append(&[(Timestamp::now(), line_of(EventName::Mount, epoch))], |_, _| ()).unwrap();
    }
    writer.seal(true);
    let known = Mounts { newest: Epoch(39), ..Mounts::default() };
    let report =
        verify(&scratch.path(), &scratch.keys, &scratch.memory, None, Some(&known), &[]).unwrap();
    assert!(report.first > 1);
    assert_eq!(report.findings, []);
}
