//! The daemon's start.

use std::path::Path;

use super::Change;
use super::parts::SOCKETS;
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

#[test]
fn a_link_in_the_place_of_the_trail_leads_nowhere() {
    World::new(Attacker::Nobody).play_only(&MOUNTS[..1], |call, target, change| {
        let is_trail = target.parent().is_some_and(|parent| parent.ends_with("state/atrest"));
        let is_named = call.paths.iter().any(|path| path == target);
        is_trail && is_named && change == Change::LinkToDirectory
    });
}

#[test]
fn a_link_in_the_place_of_the_socket_leads_nowhere() {
    World::new(Attacker::Nobody).play_only(&MOUNTS[..1], |call, target, change| {
        let is_named = call.paths.iter().any(|path| path == target);
        let (directory, socket) = (Change::LinkToDirectory, Change::LinkToSecret);
        let links = if target == Path::new(SOCKETS) { directory } else { socket };
        target.starts_with(SOCKETS) && is_named && change == links
    });
}
