//! The manual's transcripts, run: each fenced block marked `console` in the chapter on running it.
//!
//! A line that begins with `$ ` is a command for the shell; those up to the next are what it
//! prints, where `…` stands for anything, and `[exit code N]` for how it ends if not with 0.

use std::process::Command;

use crate::common::{Vault, run};

const CHAPTER: &str = include_str!("../../src/manual/operations.md");

struct Step {
    command: String,
    printed: Vec<String>,
    code: i32,
}

/// The transcript under a heading.
fn transcript(heading: &str) -> Vec<Step> {
    let under = CHAPTER.split(&format!("\n## {heading}\n")).nth(1).expect("the heading");
    let block = under.split("```console\n").nth(1).and_then(|block| block.split("```").next());
    let mut steps: Vec<Step> = Vec::new();
    for line in block.expect("a transcript").lines() {
        match (line.strip_prefix("$ "), steps.last_mut()) {
            (Some(command), _) => {
                steps.push(Step { command: command.to_owned(), printed: Vec::new(), code: 0 });
            }
            (None, Some(step)) => match line.strip_prefix("[exit code ") {
                Some(code) => step.code = code.trim_end_matches(']').parse().unwrap(),
                None => step.printed.push(line.to_owned()),
            },
            (None, None) => panic!("{line:?} before any command"),
        }
    }
    steps
}

/// Whether `line` is what `expected` says, `…` for anything.
fn fits(line: &str, expected: &str) -> bool {
    let mut parts = expected.split('…');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = line.strip_prefix(first) else { return false };
    let parts: Vec<_> = parts.collect();
    let Some((last, between)) = parts.split_last() else { return rest.is_empty() };
    for part in between {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

fn plays(heading: &str) {
    // A home of its own. Its vault is made by the transcript.
    let place = Vault::prepare();
    let home = place.scratch().make_dir("person");
    let program = crate::common::vault::binary().parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let shell = |command: &str| {
        let mut shell = Command::new("bash");
        shell.args(["-c", &format!("{command} 2>&1")]).env("HOME", &home).env("PATH", &path);
        let ours = ["XDG_CONFIG_HOME", "XDG_STATE_HOME", "ATREST_KEY_FILE"];
        ours.into_iter().for_each(|name| _ = shell.env_remove(name));
        shell.current_dir(&home);
        run(&mut shell)
    };
    let played = std::panic::catch_unwind(|| {
        for step in transcript(heading) {
            let outcome = shell(&format!("{{ {}; }}", step.command));
            assert_eq!(outcome.code(), step.code, "{outcome}");
            let found: Vec<_> = outcome.stdout.lines().filter(|line| !is_chatter(line)).collect();
            let fit = found.len() == step.printed.len()
                && found.iter().zip(&step.printed).all(|(line, expected)| fits(line, expected));
            assert!(fit, "{}: expected {:#?}, found {found:#?}", step.command, step.printed);
        }
    });
    // Whatever happened, no mount stays.
    shell("! mountpoint -q ~/plain || atrest umount ~/plain");
    assert!(!crate::common::mounted::is_mounted(&home.join("plain")));
    if let Err(panic) = played {
        std::panic::resume_unwind(panic);
    }
}

/// What a daemon says where there is no syslog, which depends on the machine.
fn is_chatter(line: &str) -> bool {
    line.starts_with("atrest: there is no syslog here")
}

#[test]
fn rotating_monthly() {
    plays("Rotating monthly");
}

#[test]
fn a_lost_laptop() {
    plays("A lost laptop");
}

#[test]
fn a_leaked_key_version() {
    plays("A leaked key version");
}

#[test]
fn a_leaving_colleague() {
    plays("A leaving colleague");
}

#[test]
fn restoring_from_backup() {
    plays("Restoring from backup");
}

#[test]
fn a_drop_box() {
    plays("A drop box");
}

#[test]
fn separation_of_duties() {
    plays("Separation of duties");
}

#[test]
fn who_used_a_key() {
    plays("Who used a key");
}

/// No transcript is left out.
#[test]
fn all_of_them_are_run() {
    assert_eq!(CHAPTER.matches("```console").count(), 8);
}

#[test]
fn a_line_fits_or_does_not() {
    for (line, expected, is_fit) in [
        ("abc", "abc", true),
        ("abc", "ab", false),
        ("abc", "…", true),
        ("a-b-c", "a…b…c", true),
        ("a-b-", "a…b…c", false),
        ("version 1 of x", "version … of x", true),
        ("version 1 of y", "version … of x", false),
    ] {
        assert_eq!(fits(line, expected), is_fit, "{line} {expected}");
    }
}
