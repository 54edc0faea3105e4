//! Policies and what they come to, line by line.

use super::*;
use crate::keys::KeyError;

/// The grants; who asks (user, group, other groups); for what; where; when; the answer.
type Line<'a> = (&'a [&'a str], (u32, u32, &'a [u32]), Action, &'a str, i64, bool);

#[test]
fn decisions() {
    use Action::{Decrypt, GenerateDataKey, PutPolicy, Rotate};
    let drop_box = &["allow group 80 generate-data-key", "allow user 7 decrypt"][..];
    let mixed = &["allow everyone decrypt", "deny group 80 decrypt", "allow user 7 decrypt"][..];
    let dated = &["allow user 7 decrypt until 100", "deny user 8 decrypt until 100"][..];
    let placed = &["allow user 7 decrypt under a/b", "deny user 500 decrypt under a/b"][..];
    let table: &[Line<'_>] = &[
        // The default.
        (&[], (0, 0, &[]), Decrypt, "f", 1, true),
        (&[], (500, 9, &[]), PutPolicy, "f", 1, true),
        (&[], (7, 7, &[]), Decrypt, "f", 1, false),
        (&[], (7, 0, &[0]), Decrypt, "f", 1, false),
        // A grant names its actions alone.
        (drop_box, (7, 7, &[]), Decrypt, "f", 1, true),
        (drop_box, (7, 7, &[]), GenerateDataKey, "f", 1, false),
        (drop_box, (8, 80, &[]), GenerateDataKey, "f", 1, true),
        (drop_box, (8, 8, &[3, 80]), GenerateDataKey, "f", 1, true),
        (drop_box, (8, 8, &[3, 80]), Decrypt, "f", 1, false),
        (drop_box, (80, 8, &[]), GenerateDataKey, "f", 1, false),
        (drop_box, (0, 0, &[]), Decrypt, "f", 1, true),
        // A denial wins, in whatever order, over the default too.
        (mixed, (9, 9, &[]), Decrypt, "f", 1, true),
        (mixed, (9, 80, &[]), Decrypt, "f", 1, false),
        (mixed, (7, 7, &[80]), Decrypt, "f", 1, false),
        (mixed, (0, 80, &[]), Decrypt, "f", 1, false),
        (mixed, (0, 80, &[]), Rotate, "f", 1, true),
        (&["deny everyone rotate"], (0, 0, &[]), Rotate, "f", 1, false),
        (&["deny everyone rotate"], (500, 1, &[]), Rotate, "f", 1, false),
        // Until, and not at.
        (dated, (7, 7, &[]), Decrypt, "f", 99, true),
        (dated, (7, 7, &[]), Decrypt, "f", 100, false),
        (&["deny user 0 decrypt until 100"], (0, 0, &[]), Decrypt, "f", 99, false),
        (&["deny user 0 decrypt until 100"], (0, 0, &[]), Decrypt, "f", 100, true),
        // At and below a path, by whole names.
        (placed, (7, 7, &[]), Decrypt, "a/b", 1, true),
        (placed, (7, 7, &[]), Decrypt, "a/b/c/d", 1, true),
        (placed, (7, 7, &[]), Decrypt, "a/bc", 1, false),
        (placed, (7, 7, &[]), Decrypt, "a", 1, false),
        (placed, (7, 7, &[]), Decrypt, "", 1, false),
        (placed, (7, 7, &[]), Decrypt, "x/a/b", 1, false),
        (placed, (500, 7, &[]), Decrypt, "a/b/c", 1, false),
        (placed, (500, 7, &[]), Decrypt, "a/c", 1, true),
    ];
    for (number, (lines, (uid, gid, groups), action, path, now, expected)) in
        table.iter().enumerate()
    {
        let found = allowed(&policy(lines), &subject(*uid, *gid, groups), *action, path, *now);
        assert_eq!(found, *expected, "line {number}: {lines:?} {uid}:{gid}{groups:?} {path} {now}");
    }
}

#[test]
fn the_reason_is_the_grant_that_decided() {
    let policy = policy(&["allow everyone decrypt", "deny user 7 decrypt,rotate"]);
    let decide = |uid, action| {
        let subject = subject(uid, 1, &[]);
        policy.decide(&subject, ownership(&subject), action, &[], at(1))
    };
    let by = |text| Reason::Grant(grant(text));
    assert_eq!(decide(7, Action::Decrypt).reason, by("deny user 7 decrypt,rotate"));
    assert_eq!(decide(8, Action::Decrypt).reason, by("allow everyone decrypt"));
    assert_eq!(decide(8, Action::Rotate).reason, Reason::NoGrant);
    assert_eq!(decide(500, Action::Rotate).reason, Reason::Default);
}

#[test]
fn of_several_names_one_is_enough_for_either() {
    let policy = policy(&["allow user 7 decrypt under pub", "deny user 7 decrypt under secret"]);
    let names = |names: &[&str]| {
        let paths: Vec<_> = names.iter().map(Path::new).collect();
        policy.decide(&subject(7, 7, &[]), Ownership::Other, Action::Decrypt, &paths, at(1)).allowed
    };
    assert!(names(&["x/f", "pub/f"]));
    assert!(!names(&["pub/f", "secret/f"]));
    assert!(!names(&[]));
}

#[test]
fn groups_that_are_not_known_deny_and_do_not_allow() {
    let policy =
        policy(&["allow group 80 decrypt", "deny group 81 rotate", "allow everyone rotate"]);
    let unknown = |gid| Subject { groups: Groups::Unknown, ..subject(7, gid, &[]) };
    let decide = |subject: Subject, action| {
        policy.decide(&subject, Ownership::Other, action, &[], at(1)).allowed
    };
    assert!(!decide(unknown(7), Action::Decrypt));
    assert!(decide(unknown(80), Action::Decrypt));
    assert!(!decide(unknown(7), Action::Rotate));
    assert!(decide(subject(7, 7, &[]), Action::Rotate));
}

#[test]
fn grants_merge_and_are_taken_back() {
    let mut policy = policy(&["allow user 7 decrypt", "allow user 7 rotate", "deny user 7 enable"]);
    assert_eq!(policy.grants().len(), 2);
    policy.grant(grant("allow user 7 decrypt until 50"), at(1)).unwrap();
    assert_eq!(policy.grants().len(), 3);
    let refused = policy.grant(grant("allow user 7 decrypt until 1"), at(1));
    assert!(matches!(refused, Err(KeyError::PastGrant(_))));
    for other in ["allow user 8 decrypt", "deny user 7 decrypt", "allow group 7 decrypt"] {
        let refused = policy.revoke(&grant(other), at(1));
        assert!(matches!(refused, Err(KeyError::NoSuchGrant)), "{other}");
    }
    let refused = policy.revoke(&grant("allow user 7 decrypt under a"), at(1));
    assert!(matches!(refused, Err(KeyError::NoSuchGrant)));
    let taken = policy.revoke(&grant("allow user 7 decrypt,enable"), at(1)).unwrap();
    assert_eq!(taken, ActionSet::of(&[Action::Decrypt]), "both of them, and nothing else");
    assert_eq!(policy.grants(), [grant("allow user 7 rotate"), grant("deny user 7 enable")]);
    // Whose time is up goes with the next change.
    policy.grant(grant("allow user 9 decrypt until 50"), at(1)).unwrap();
    policy.grant(grant("allow user 7 decrypt"), at(50)).unwrap();
    assert_eq!(policy.grants().len(), 2);
}

#[test]
fn a_policy_takes_so_many_grants_and_sound_ones() {
    let mut policy = Policy::default();
    for uid in 0..MAX_GRANTS as u32 {
        policy.grant(grant(&format!("allow user {uid} decrypt")), at(0)).unwrap();
    }
    let more = policy.grant(grant("allow group 1 decrypt"), at(0));
    assert!(matches!(more, Err(KeyError::Full { .. })));
    policy.grant(grant("allow user 1 rotate"), at(0)).unwrap();
    let long = "x/".repeat(3000) + "x";
    for under in ["", "/", "a/", "/a", "a//b", ".", "..", "a/../b", "a/.", "a\0", &long] {
        let bad = Grant { under: Some(under.to_owned()), ..grant("allow user 1 decrypt") };
        assert!(matches!(policy.grant(bad, at(0)), Err(KeyError::BadGrant)), "{under}");
    }
}

#[test]
fn who_locks_everybody_out_is_found_out() {
    let locks_out = |lines: &[&str]| !policy(lines).lets_anybody(Action::Decrypt, 500, at(1));
    for lines in [
        &["deny everyone decrypt"][..],
        &["deny user 0 decrypt", "deny user 500 decrypt"],
        &["deny user 0 decrypt", "deny user 500 decrypt", "allow user 7 rotate"],
        &["allow everyone decrypt", "deny everyone decrypt"],
        &[
            "deny group 5 decrypt",
            "allow group 5 decrypt",
            "deny user 0 decrypt",
            "deny user 500 decrypt",
        ],
    ] {
        assert!(locks_out(lines), "{lines:?}");
    }
    for lines in [
        &[][..],
        &["deny everyone rotate"],
        &["deny user 0 decrypt"],
        &["deny everyone decrypt under a"],
        &["deny everyone decrypt until 1"],
        &["deny user 0 decrypt", "deny user 500 decrypt", "allow user 7 decrypt"],
        &["deny user 0 decrypt", "deny user 500 decrypt", "allow group 7 decrypt under a"],
    ] {
        // A denial that ends at the moment of asking counts no more.
        let mut policy = Policy::default();
        for line in lines {
            policy.grant(grant(line), at(0)).unwrap();
        }
        assert!(policy.lets_anybody(Action::Decrypt, 500, at(1)), "{lines:?}");
    }
}
