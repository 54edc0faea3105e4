//! What else can lie where a trail does.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use super::*;

#[test]
fn what_only_looks_like_a_file_of_a_trail_is_none() {
    let mut scratch = Scratch::of_three_files();
    let place = |name: &str| scratch.path().join(name);
    for name in ["+0000000000000000001.jsonl", "18446744073709551615.jsonl", "notes.jsonl"] {
        fs::write(place(name), "{}\n").unwrap();
    }
    fs::write(place("00000000000000000000.jsonl"), "{}\n").unwrap();
    fs::create_dir(place("00000000000000000900.jsonl")).unwrap();
    let pipe = place("00000000000000000901.jsonl");
    assert!(Command::new("mkfifo").arg(pipe).status().unwrap().success());
    scratch.assert_clean();
    assert_eq!(scratch.mount(26..40), None);
    scratch.assert_clean();
    assert_eq!(scratch.numbers(), (0..40).collect::<Vec<_>>());
}

#[test]
fn numbers_that_no_trail_reaches_are_found_and_not_counted_with() {
    let most = u64::MAX.to_string();
    let scratch = Scratch::of_three_files();
    for line in [3, 0] {
        scratch.edit(2, |lines| {
            let text = String::from_utf8(lines[line].clone()).unwrap();
            let (_, rest) = text.split_once(',').unwrap();
            lines[line] = format!("{{\"sequence\":{most},{rest}").into_bytes();
            lines.truncate(if line == 3 { 4 } else { 1 });
        });
        assert_ne!(scratch.verify().findings, []);
        assert!(scratch.copy().mount(0..3).is_some());
    }
}

#[test]
fn a_file_of_the_far_future_is_found_and_does_not_stop_the_trail() {
    let mut scratch = Scratch::of_three_files();
    let future = scratch.path().join(format!("{:020}.jsonl", u64::MAX / 2));
    fs::copy(&scratch.files()[1], &future).unwrap();
    for mount in 3..6 {
        let numbers = mount * 10..mount * 10 + 10;
        assert!(scratch.mount(numbers.clone()).is_some(), "it is still there");
        assert_ne!(scratch.verify().findings, []);
        let found = scratch.numbers();
        assert!(numbers.clone().all(|number| found.contains(&number)), "{found:?}");
        assert!(scratch.verify().findings.iter().any(|finding| finding.line.is_some()));
    }
    assert_eq!(scratch.files().pop().unwrap(), future);
}

#[test]
fn a_file_of_nothing_but_broken_lines_is_told_of_in_so_many_words() {
    let scratch = Scratch::of_three_files();
    fs::write(&scratch.files()[1], "\n".repeat(100_000)).unwrap();
    cut_last_line(&scratch);
    let findings = scratch.verify().findings;
    assert!(findings.len() < 1100, "{}", findings.len());
    assert!(findings.iter().any(|finding| finding.what.contains("the last line")));
}

fn cut_last_line(scratch: &Scratch) {
    scratch.edit(2, |lines| drop(lines.pop()));
}

#[test]
fn two_do_not_write_one_trail() {
    let scratch = Scratch::of_three_files();
    let (trail, _) = scratch.start();
    let second = Trail::start(scratch.begin(), Vec::new());
    assert!(matches!(second, Err(TrailError::InUse(_))));
    trail.end();
    assert!(Trail::start(scratch.begin(), Vec::new()).is_ok());
}

#[test]
fn a_directory_that_others_may_enter_is_refused() {
    let scratch = Scratch::of_three_files();
    fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o750)).unwrap();
    let started = Trail::start(scratch.begin(), Vec::new());
    assert!(matches!(started, Err(TrailError::Exposed(_))));
    fs::remove_dir_all(scratch.path()).unwrap();
    let read = query(&scratch.path(), &Filter::default(), &mut |_, _| true);
    assert!(matches!(read, Err(TrailError::Missing(_))));
}

#[test]
fn a_head_reads_back_and_nothing_else_does() {
    let text = Scratch::of_three_files().verify().head;
    let head: Head = format!(" {text}\n").parse().unwrap();
    assert_eq!(head.to_string(), text);
    for wrong in ["", ":", "1", &text[1..text.len() - 1], &text.replace(':', "::"), "x:AAAA"] {
        assert!(wrong.parse::<Head>().is_err(), "{wrong}");
    }
}

#[test]
fn a_trail_goes_on_elsewhere() {
    let mut scratch = Scratch::of_files(10);
    assert_eq!(scratch.mount(0..5), None);
    let before = scratch.verify().last;
    let old = std::mem::replace(&mut scratch.directory, tempfile::tempdir().unwrap());
    assert_eq!(scratch.mount(5..8), None);
    let report = scratch.assert_clean();
    assert_eq!(report.first, before + 1);
    assert_eq!(scratch.numbers(), [5, 6, 7]);
    assert_eq!(scratch.mount(8..9), None);
    scratch.assert_clean();
    drop(old);
}
