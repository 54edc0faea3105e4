//! What is found in a trail.

use super::*;
use crate::format::{FileId, KeyVersion, MasterKeyId};

const PATHS: [&str; 4] = ["/a", "/a/b", "/ab", "/c \"\n\\é\u{7f}"];
const NAMES: [EventName; 3] =
    [EventName::Decrypt, EventName::GenerateDataKey, EventName::RotateKey];

/// An event whose every property follows from its number.
fn varied(number: u32, keys: [MasterKeyId; 2]) -> Event {
    let at = number as usize;
    let mut event = event(number);
    event.subject.uid = number % 3;
    event.name = NAMES[at / 2 % 3];
    event.parameters.path = (number % 6 != 5).then(|| PATHS[at / 3 % 4].to_owned());
    event.key = Some(UsedKey {
        id: keys[at % 2],
        name: ["one", "two"][at % 2].to_owned(),
        version: Some(KeyVersion(1)),
    });
    event.failed =
        number.is_multiple_of(5).then(|| Failed::denied("the policy says so".to_owned()));
    event
}

type Field<'a> = (&'static str, Box<dyn Fn(&mut Filter) + 'a>, Box<dyn Fn(u32) -> bool + 'a>);

#[test]
fn every_field_alone_and_with_every_other() {
    let scratch = Scratch::of_files(9);
    let keys = [MasterKeyId::random(), MasterKeyId::random()];
    let (mut writer, _) = Writer::open(scratch.begin()).unwrap();
    let (mut times, mut places) = (Vec::new(), Vec::new());
    for number in 0..96 {
        let time = Timestamp::now();
        writer.append(&[(time, varied(number, keys))], |_, _| ()).unwrap();
        times.push(time);
        places.push(writer.head().sequence);
    }
    assert!(scratch.files().len() > 5);
    let path = |number: u32| (number % 6 != 5).then_some(number as usize / 3 % 4);
    let fields: Vec<Field<'_>> = vec![
        ("user", Box::new(|f| f.user = Some(1)), Box::new(|n| n % 3 == 1)),
        (
            "path",
            Box::new(|f| f.path = Some("/a".into())),
            Box::new(|n| path(n).is_some_and(|p| p < 2)),
        ),
        (
            "odd path",
            Box::new(|f| f.path = Some(PATHS[3].into())),
            Box::new(|n| path(n) == Some(3)),
        ),
        ("key", Box::new(|f| f.key = Some("two".into())), Box::new(|n| n % 2 == 1)),
        (
            "key id",
            Box::new(|f| f.key = Some(keys[0].to_string())),
            Box::new(|n| n.is_multiple_of(2)),
        ),
        ("events", Box::new(|f| f.events = NAMES[1..].to_vec()), Box::new(|n| n / 2 % 3 > 0)),
        ("since", Box::new(|f| f.since = Some(times[31])), Box::new(|n| n >= 31)),
        ("until", Box::new(|f| f.until = Some(times[77])), Box::new(|n| n < 77)),
        ("denied", Box::new(|f| f.denied = true), Box::new(|n| n.is_multiple_of(5))),
        ("after", Box::new(|f| f.after = Some(places[20])), Box::new(|n| n > 20)),
    ];
    for chosen in 0..1_u32 << fields.len() {
        let is_chosen = |at: usize| chosen >> at & 1 == 1;
        if is_chosen(1) && is_chosen(2) || is_chosen(3) && is_chosen(4) {
            continue;
        }
        let chosen: Vec<_> =
            (0..fields.len()).filter(|at| is_chosen(*at)).map(|at| &fields[at]).collect();
        let mut filter = Filter::default();
        chosen.iter().for_each(|(_, set, _)| set(&mut filter));
        let expected: Vec<_> =
            (0..96).filter(|number| chosen.iter().all(|(.., meets)| meets(*number))).collect();
        let names: Vec<_> = chosen.iter().map(|(name, ..)| name).collect();
        assert_eq!(scratch.found(&filter), expected, "{names:?}");
    }
    for after in 0..*places.last().unwrap() + 2 {
        let filter = Filter { after: Some(after), ..Filter::default() };
        let expected: Vec<_> = (0..96).filter(|n| places[*n as usize] > after).collect();
        assert_eq!(scratch.found(&filter), expected, "after {after}");
    }
}

#[test]
fn enough_is_enough_and_a_line_is_as_it_was_written() {
    let scratch = Scratch::of_three_files();
    let mut seen = Vec::new();
    query(&scratch.path(), &Filter::default(), &mut |text, line| {
        seen.push((text.to_owned(), line.sequence));
        seen.len() < 15
    })
    .unwrap();
    assert!(seen.iter().map(|(_, sequence)| *sequence).eq(1..=15));
    let text = String::from_utf8(scratch.bytes().concat()).unwrap();
    assert!(seen.iter().map(|(text, _)| &**text).eq(text.lines().take(15)));
}

#[test]
fn broken_lines_are_passed_over() {
    let scratch = Scratch::of_three_files();
    scratch.edit(1, |lines| {
        lines[2] = b"{\"sequence\":1}\n".to_vec();
        lines[3] = b"\xff\xfe\n".to_vec();
        lines[4].insert(0, b' ');
        lines.insert(5, b"\n".to_vec());
        let chain = lines[7].windows(8).position(|at| at == b",\"chain\"").unwrap();
        lines[7].truncate(chain);
        lines[7].extend_from_slice(b"}\n");
    });
    scratch.edit(2, |lines| lines.last_mut().unwrap().truncate(40));
    let whole = Scratch::of_three_files().numbers();
    let found = scratch.numbers();
    assert_eq!(found.len(), whole.len() - 4, "{found:?}");
    assert!(found.is_sorted());
}

fn open(uid: u32, path: &str, file: Option<FileId>, purpose: Purpose) -> Event {
    let mut event = event(uid);
    event.subject.uid = uid;
    event.file = file;
    event.parameters.path = Some(path.to_owned());
    event.parameters.purpose = Some(purpose);
    event
}

#[test]
fn who_read_a_file_under_whichever_name() {
    let scratch = Scratch::of_files(3);
    let [first, second, other] = [1, 2, 3].map(|id| FileId::from_bytes([id; 16]));
    let made = |uid, path, file| Event {
        name: EventName::GenerateDataKey,
        ..open(uid, path, Some(file), Purpose::Write)
    };
    let refused = Event {
        failed: Some(Failed::denied("no".to_owned())),
        ..open(5, "/a", None, Purpose::Read)
    };
    let events = [
        made(1, "/a", first),
        open(2, "/a", Some(first), Purpose::Read),
        // `mv /a /b`, and another file in its place.
        open(3, "/b", Some(first), Purpose::ReadWrite),
        open(3, "/b", Some(first), Purpose::Read),
        made(1, "/a", second),
        open(4, "/a", Some(second), Purpose::Read),
        refused,
        open(6, "/c", Some(other), Purpose::Read),
        open(7, "/a/below", Some(other), Purpose::Read),
        open(8, "/a", Some(second), Purpose::Write),
    ];
    let (mut writer, _) = Writer::open(scratch.begin()).unwrap();
    for event in events {
        writer.append(&[(Timestamp::now(), event)], |_, _| ()).unwrap();
    }
    let readers = |path, now: Option<FileId>| {
        let readers = who_read(&scratch.path(), path, now.map(|id| id.to_string())).unwrap();
        let told = readers.iter().map(|reader| (reader.uid, reader.opened, reader.refused));
        told.collect::<Vec<_>>()
    };
    assert_eq!(readers("/a", Some(second)), [(2, 1, 0), (3, 2, 0), (4, 1, 0), (5, 0, 1)]);
    assert_eq!(readers("/b", Some(first)), [(2, 1, 0), (3, 2, 0)]);
    assert_eq!(readers("/moved", Some(other)), [(6, 1, 0), (7, 1, 0)]);
    assert_eq!(readers("/moved", None), []);
    let reader = who_read(&scratch.path(), "/b", None).unwrap().pop().unwrap();
    assert!(reader.first < reader.last && reader.executable == "/usr/bin/cat");
}
