//! The daemon's start.

use super::Change;
use super::world::{Act, Attacker, Before, Scene, World};

/// Of this many steps a short campaign does one.
const STRIDE: usize = 401;

static MOUNTS: [Scene; 4] = [
    Scene { name: "mount", before: &[], act: Act::Mount(&["--admin-group", "41078"]) },
    Scene { name: "first mount", before: &[Before::FirstSeen], act: Act::Mount(&[]) },
    Scene { name: "mount after a crash", before: &[Before::Crash], act: Act::Mount(&[]) },
    Scene { name: "mount to read", before: &[], act: Act::Mount(&["--read-only"]) },
];

#[test]
fn nobody_changes_what_a_mount_needs() {
    World::new(Attacker::Nobody).play(&MOUNTS, STRIDE);
}

#[test]
fn a_keeper_changes_what_a_mount_needs() {
    World::new(Attacker::Keeper).play(&MOUNTS, STRIDE);
}

#[test]
fn a_lock_with_another_name_is_not_written_to() {
    World::new(Attacker::Nobody).play_only(&MOUNTS[..1], |_, target, change| {
        target.ends_with(".atrest/lock") && change == Change::HardLinkOfSecret
    });
}
