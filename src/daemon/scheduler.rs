//! What the daemon does every ten seconds.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::daemon::handler::DaemonService;
use crate::keys::Timestamp;
use crate::keys::policy::Subject;
use crate::service::trail_events::{keep_events, of_key};
use crate::service::vault;
use crate::sys;
use crate::trail::EventName;

/// How often the daemon looks for work that is due.
const INTERVAL: Duration = Duration::from_secs(10);

/// Runs what is due, now and every ten seconds for as long as the process lives: keys whose time has
/// come are rotated, caches of a strict mount dropped where a grant has ended, the busy poll fitted to
/// the power supply, and keys in memory that can be swapped out logged once. No key is destroyed: the
/// clock may have jumped, and destruction can't be undone.
///
/// # Errors
/// When no thread can be started.
pub fn spawn(service: &Arc<DaemonService>) -> std::io::Result<()> {
    let service = Arc::clone(service);
    let mut logged = rotate_due(&service, String::new());
    let mut swappable = log_swappable(false);
    let run = move || {
        let mut seen = Timestamp::now();
        loop {
            thread::sleep(INTERVAL);
            seen = drop_caches_on_grant_expiry(&service, seen);
            service.connection.set_busy_poll(service.spin.limit());
            logged = rotate_due(&service, std::mem::take(&mut logged));
            swappable = log_swappable(swappable);
        }
    };
    thread::Builder::new().name("schedule".to_owned()).spawn(run).map(drop)
}

/// Has the kernel of a strict mount drop its caches if a grant has ended after `seen`. Returns the time
/// until which that is known.
fn drop_caches_on_grant_expiry(service: &DaemonService, seen: Timestamp) -> Timestamp {
    let now = Timestamp::now();
    let ended = || {
        let ring = service.fs.vault().context().ring();
        let mut grants = ring.keys().flat_map(|key| key.policy().grants());
        grants.any(|grant| grant.until.is_some_and(|until| seen < until && until <= now))
    };
    if service.fs.is_strict() && ended() {
        service.connection.drop_cached(&service.fs.known_files());
    }
    now
}

/// Rotates the keys whose time has come. A failure that differs from `logged` is logged; returns it.
fn rotate_due(service: &DaemonService, logged: String) -> String {
    let now = Timestamp::now();
    let context = service.fs.vault().context();
    if context.ring().rotation_due(now).is_empty() {
        return String::new();
    }
    let done = vault::update(&service.keys, &service.fs, |ring| {
        let due: Vec<_> = ring.rotation_due(now).iter().map(|key| key.name().to_owned()).collect();
        for name in &due {
            ring.rotate(name)?;
        }
        Ok(due)
    });
    match done {
        Ok(rotated) => {
            record_rotations(service, &rotated);
            rotated
                .iter()
                .for_each(|name| log::info!("rotated the master key `{name}`: it was due"));
            String::new()
        }
        Err(failure) => {
            if failure.message != logged {
                log::error!("a master key is due and could not be changed: {failure}");
            }
            failure.message
        }
    }
}

fn record_rotations(service: &DaemonService, keys: &[String]) {
    if let Some(kept) = service.fs.trail() {
        let ring = service.fs.vault().context().ring();
        let of = |key: &String| of_key(EventName::RotateKey, &ring, key, Subject::this_process());
        let events: Vec<_> = keys.iter().map(of).collect();
        keep_events(kept, events);
    }
}

/// Logs that keys can be swapped out, unless that is `logged`; returns whether it is now.
fn log_swappable(logged: bool) -> bool {
    let unlocked = sys::locked_memory().unlocked;
    if unlocked > 0 && !logged {
        log::info!(
            "{unlocked} bytes of memory for keys can be swapped out: RLIMIT_MEMLOCK lets no more \
             be locked"
        );
    }
    logged || unlocked > 0
}
