//! What policies come to: a table, and what holds for all of them.

mod invariants;
mod table;

use std::path::Path;

use jiff::Timestamp;

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn subject(uid: u32, gid: u32, groups: &[u32]) -> Subject {
    Subject::user(uid, gid, groups.to_vec())
}

fn ownership(subject: &Subject) -> Ownership {
    if subject.uid == 0 || subject.uid == 500 { Ownership::Owner } else { Ownership::Other }
}

/// `allow user 7 decrypt,rotate until 100 under a/b`, and the like.
fn grant(text: &str) -> Grant {
    let mut words = text.split(' ').peekable();
    let effect = match words.next() {
        Some("allow") => Effect::Allow,
        Some("deny") => Effect::Deny,
        other => panic!("{other:?}"),
    };
    let number = |words: &mut dyn Iterator<Item = &str>| words.next().unwrap().parse().unwrap();
    let principal = match words.next() {
        Some("user") => Principal::User(number(&mut words)),
        Some("group") => Principal::Group(number(&mut words)),
        Some("everyone") => Principal::Everyone,
        other => panic!("{other:?}"),
    };
    let actions: Vec<_> =
        words.next().unwrap().split(',').map(|word| Action::of_word(word).unwrap()).collect();
    let (mut until, mut under) = (None, None);
    while let Some(word) = words.next() {
        match word {
            "until" => until = Some(at(words.next().unwrap().parse().unwrap())),
            "under" => under = words.next().map(str::to_owned),
            other => panic!("{other}"),
        }
    }
    Grant { principal, effect, actions: ActionSet::of(&actions), until, under }
}

fn policy(lines: &[&str]) -> Policy {
    let mut policy = Policy::default();
    for line in lines {
        policy.grant(grant(line), at(0)).unwrap();
    }
    policy
}

fn allowed(policy: &Policy, subject: &Subject, action: Action, path: &str, now: i64) -> bool {
    policy.decide(subject, ownership(subject), action, &[Path::new(path)], at(now)).allowed
}
