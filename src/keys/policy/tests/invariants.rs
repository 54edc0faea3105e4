//! What holds for every policy, on random ones, and of bodies that nobody wrote.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::format::VaultId;
use crate::keys::{DEFAULT_KEY, KeyRing};

const SEED: u64 = 0x00c0_ffee;
const PATHS: [&str; 5] = ["", "a", "a/b", "a/b/c", "d"];

fn pick<T: Clone>(rng: &mut StdRng, from: &[T]) -> T {
    from[rng.random_range(0..from.len())].clone()
}

fn random_grant(rng: &mut StdRng) -> Grant {
    let number = pick(rng, &[0, 7, 8, 500]);
    let principal = match rng.random_range(0..3) {
        0 => Principal::User(number),
        1 => Principal::Group(number),
        _ => Principal::Everyone,
    };
    let actions: Vec<_> = (0..3).map(|_| pick(rng, &Action::ALL)).collect();
    Grant {
        principal,
        effect: pick(rng, &[Effect::Allow, Effect::Deny]),
        actions: ActionSet::of(&actions),
        until: rng.random_bool(0.3).then(|| at(rng.random_range(1..20))),
        under: rng.random_bool(0.3).then(|| pick(rng, &PATHS[1..]).to_owned()),
    }
}

fn random_policy(rng: &mut StdRng) -> Policy {
    let mut policy = Policy::default();
    for _ in 0..rng.random_range(0..6) {
        policy.grant(random_grant(rng), at(0)).unwrap();
    }
    policy
}

/// Everything that can be asked of a policy, and the answers.
fn answers(policy: &Policy) -> Vec<(Subject, Action, bool)> {
    let mut all = Vec::new();
    for (uid, gid, groups) in
        [(0, 0, &[][..]), (500, 1, &[]), (7, 7, &[8]), (8, 1, &[7, 500]), (9, 9, &[])]
    {
        for action in Action::ALL {
            for path in PATHS {
                for now in [0, 5, 19, 20] {
                    let subject = subject(uid, gid, groups);
                    let answer = allowed(policy, &subject, action, path, now);
                    all.push((subject, action, answer));
                }
            }
        }
    }
    all
}

/// Whether `less` allows nothing that `more` does not.
fn within(less: &Policy, more: &Policy) -> bool {
    answers(less).iter().zip(answers(more)).all(|(less, more)| !less.2 || more.2)
}

#[test]
fn taking_away_never_grants() {
    let mut rng = StdRng::seed_from_u64(SEED);
    for _ in 0..300 {
        let policy = random_policy(&mut rng);
        let mut denying = policy.clone();
        let denial = Grant { effect: Effect::Deny, ..random_grant(&mut rng) };
        denying.grant(denial, at(0)).unwrap();
        assert!(within(&denying, &policy), "{policy:?} {denying:?}");
        for at in (0..policy.grants.len()).filter(|&at| policy.grants[at].effect == Effect::Allow) {
            let mut fewer = policy.clone();
            fewer.grants.remove(at);
            assert!(within(&fewer, &policy), "{policy:?} without {at}");
        }
        let mut denials = policy.clone();
        denials.grants.retain(|grant| grant.effect == Effect::Deny);
        assert!(within(&denials, &Policy::default()), "{denials:?}");
    }
}

#[test]
fn the_summary_promises_nothing_that_a_policy_refuses() {
    let mut rng = StdRng::seed_from_u64(SEED + 1);
    for _ in 0..500 {
        let policies: Vec<_> =
            (0..rng.random_range(1..4)).map(|_| random_policy(&mut rng)).collect();
        let summary = Summary::of(policies.iter());
        for policy in &policies {
            for (subject, action, allowed) in answers(policy) {
                let promised = summary.everybody.has(action)
                    || (ownership(&subject) == Ownership::Owner && summary.owner.has(action));
                assert!(allowed || !promised, "{policies:?} {subject:?} {action}");
            }
        }
    }
}

/// A body that was changed, as nobody without the key file's key can: it is refused, or says what
/// a sound policy can say, and grants no more than the default wherever no sound grant allows.
#[test]
fn a_mutated_policy_is_refused_or_sound() {
    let mut rng = StdRng::seed_from_u64(SEED + 2);
    let (mut refused, mut read) = (0, 0);
    for _ in 0..20_000 {
        let json = serde_json::to_vec(&random_policy(&mut rng)).unwrap();
        let mut bytes = json.clone();
        for _ in 0..rng.random_range(1..4) {
            let at = rng.random_range(0..bytes.len());
            match rng.random_range(0..3) {
                0 => bytes[at] = rng.random(),
                1 => bytes.insert(at, rng.random()),
                _ => drop(bytes.remove(at)),
            }
            if bytes.is_empty() {
                bytes.push(b'[');
            }
        }
        match serde_json::from_slice::<Policy>(&bytes) {
            Ok(policy) if policy.is_sound() => {
                read += 1;
                let no_allow = policy.grants.iter().all(|grant| grant.effect == Effect::Deny);
                assert!(!no_allow || within(&policy, &Policy::default()), "{policy:?}");
                assert_eq!(
                    serde_json::from_slice::<Policy>(&serde_json::to_vec(&policy).unwrap())
                        .unwrap(),
                    policy
                );
            }
            Ok(_) | Err(_) => refused += 1,
        }
    }
    assert!(refused > read && read > 0, "{refused} refused, {read} read");
}

#[test]
fn what_is_not_of_the_list_is_refused() {
    let body = |actions: &str, more: &str| {
        format!(r#"[{{"principal":"everyone","effect":"allow","actions":[{actions}]{more}}}]"#)
    };
    let is_read =
        |text: &str| serde_json::from_str::<Policy>(text).is_ok_and(|policy| policy.is_sound());
    assert!(is_read(&body("\"decrypt\"", "")));
    for bad in [
        body("", ""),
        body("\"all\"", ""),
        body("\"Decrypt\"", ""),
        body("\"rotate\",\"decrypt\"", ""),
        body("\"decrypt\",\"decrypt\"", ""),
        body("\"decrypt\"", r#","more":1"#),
        body("\"decrypt\"", r#","under":"/etc""#),
        body("\"decrypt\"", r#","under":"a/../b""#),
        body("\"decrypt\"", r#","until":"soon""#),
        body("\"decrypt\"", "").replace("\"everyone\"", "{\"user\":-1}"),
        body("\"decrypt\"", "").replace("\"everyone\"", "\"nobody\""),
        body("\"decrypt\"", "").replace("allow", "permit"),
    ] {
        assert!(!is_read(&bad), "{bad}");
    }
}

#[test]
fn a_ring_keeps_its_policies_and_an_older_one_has_none() {
    let mut ring = KeyRing::create(VaultId::random());
    let plain = crate::keys::key_file::ring_to_json(&ring);
    assert!(!String::from_utf8_lossy(&plain).contains("policy"), "as before there were any");
    let read = crate::keys::key_file::ring_from_json(ring.vault_id(), &plain).unwrap();
    assert!(read.default_key().policy().is_default());
    let line = grant("allow group 7 decrypt,rotate until 99 under a/b");
    ring.policy_mut(DEFAULT_KEY).unwrap().grant(line.clone(), at(0)).unwrap();
    let json = crate::keys::key_file::ring_to_json(&ring);
    let read = crate::keys::key_file::ring_from_json(ring.vault_id(), &json).unwrap();
    assert_eq!(read.default_key().policy().grants(), [line]);
    let text = String::from_utf8(json.to_vec()).unwrap();
    for (from, to) in [("a/b", "../b"), ("\"allow\"", "\"yes\""), ("\"rotate\"", "\"all\"")] {
        let broken = text.replacen(from, to, 1);
        assert!(
            crate::keys::key_file::ring_from_json(ring.vault_id(), broken.as_bytes()).is_none()
        );
    }
}
