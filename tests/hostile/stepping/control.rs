//! Each request to the daemon.

use super::world::{Act, Attacker, Before, Scene, World};

/// Of this many steps a short campaign does one.
const STRIDE: usize = 401;

const fn ask(name: &'static str, arguments: &'static [&'static str]) -> Scene {
    Scene { name, before: &[], act: Act::Ask(arguments) }
}

static REQUESTS: [Scene; 14] = [
    ask("status", &["status"]),
    ask("key list", &["key", "list"]),
    ask("key rotate", &["key", "rotate"]),
    Scene {
        name: "key rewrap",
        before: &[Before::Run(&["key", "rotate"])],
        act: Act::Ask(&["key", "rewrap"]),
    },
    ask("key retire", &["key", "retire", "--version", "1"]),
    ask("verify", &["verify"]),
    ask("policy show", &["policy", "show"]),
    ask("key grant", &["key", "grant", "--user", "7", "--allow", "decrypt"]),
    Scene {
        name: "key revoke",
        before: &[Before::Run(&["key", "grant", "--user", "7", "--allow", "decrypt"])],
        act: Act::Ask(&["key", "revoke", "--user", "7", "--allow", "decrypt"]),
    },
    ask("trail query", &["trail", "query"]),
    ask("trail verify", &["trail", "verify"]),
    Scene {
        name: "trail acknowledge",
        before: &[Before::ChangedTrail],
        act: Act::Ask(&["trail", "acknowledge", "--reason", "a test"]),
    },
    ask("trail head", &["trail", "head"]),
    Scene { name: "umount", before: &[Before::Written], act: Act::Unmount },
];

#[test]
fn nobody_changes_what_a_request_needs() {
    World::new(Attacker::Nobody).play(&REQUESTS, STRIDE);
}

#[test]
fn a_keeper_changes_what_a_request_needs() {
    World::new(Attacker::Keeper).play(&REQUESTS, STRIDE);
}
