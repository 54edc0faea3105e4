//! What a command does with the key file itself, recorded in the trail.

use crate::cli::target::{Daemon, Target};
use crate::service::failure::Failure;
use crate::service::keys::Keys;
use crate::service::request::{Note, Request};
use crate::service::trail_keeping::recorded;

/// Records in the trail what a command is about to do with the key file itself.
///
/// # Errors
/// [`Exit::Trail`](crate::service::failure::Exit::Trail) where the trail can't be kept and fails closed; those of the daemon.
pub fn record(target: &Target, keys: &Keys, note: Note) -> Result<(), Failure> {
    let request = Request::Note(note, keys.read()?.mark().clone());
    match target.daemon()? {
        Daemon::Reached(client) => client.ask(&request, &|_| ()).map(drop),
        Daemon::None => recorded(&target.vault, keys, &request, |_| Ok(((), keys.read()?.ring))),
    }
}
