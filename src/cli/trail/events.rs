//! What is recorded of requests: of the daemon's, and of commands where there is none.

use serde_json::{Value, json};

use crate::keys::trail::{Event, EventName, Failed, Parameters, Trail, UsedKey, Who};
use crate::keys::{KeyRing, KeyState};

use super::super::control::Request;
use super::super::exit::{Exit, Failure};
use super::super::key::{Action, FileWork};
use super::source::TrailRequest;

/// Whether a request that is granted leaves a line of its own; a look does not, nor does what only
/// says what it would do, and a rewrap leaves one a file.
pub fn leaves_trail(request: &Request) -> bool {
    match request {
        Request::Status | Request::Keys | Request::Policies | Request::Simulate { .. } => false,
        Request::Change(change) => !change.dry_run,
        Request::Policy(change) => !change.dry_run,
        Request::Work(FileWork::Rewrap { dry_run, .. } | FileWork::Retire { dry_run, .. }) => {
            !dry_run
        }
        Request::Work(FileWork::Assign { .. }) | Request::Verify { .. } => true,
        // Whoever follows it would follow their own steps.
        Request::Trail(TrailRequest::Lines(filter)) => filter.after.is_none(),
        Request::Trail(TrailRequest::Flush) => false,
        Request::Trail(TrailRequest::WhoRead(_) | TrailRequest::Verify(_)) => true,
    }
}

/// Records what came of a request, which changed the keys from the one ring to the other. It is
/// durable when this returns, if it can be.
pub fn record(
    trail: &Trail,
    request: &Request,
    (before, after): (&KeyRing, &KeyRing),
    who: &Who,
    outcome: Result<(), &Failure>,
) {
    let rewraps = matches!(request, Request::Work(FileWork::Rewrap { .. }));
    let is_wanted = match outcome {
        Ok(()) => leaves_trail(request) && !rewraps,
        // The first asks what a change would be: what is refused for itself comes to no key.
        Err(failure) => failure.exit == Exit::Policy || leaves_trail(request),
    };
    if is_wanted {
        let mut event = event(request, after, who.clone());
        event.failed = outcome.err().map(failed);
        keep(trail, event);
    }
    for event in deleted(before, after, who) {
        keep(trail, event);
    }
}

/// The keys that were destroyed because their time was up.
pub fn deleted(before: &KeyRing, after: &KeyRing, who: &Who) -> Vec<Event> {
    let was_there = |key: &&crate::keys::MasterKey| {
        before.key_by_id(&key.id()).is_ok_and(|before| before.state() != KeyState::Destroyed)
    };
    let gone = after.keys().filter(|key| key.state() == KeyState::Destroyed).filter(was_there);
    gone.map(|key| of_key(EventName::DeleteKey, after, key.name(), who.clone())).collect()
}

/// An event about a whole master key, at its current version.
pub fn of_key(name: EventName, ring: &KeyRing, key: &str, who: Who) -> Event {
    let key = ring.key(key).ok().map(|key| UsedKey {
        id: key.id(),
        name: key.name().to_owned(),
        version: Some(key.current()),
    });
    Event { key, ..Event::new(name, who) }
}

/// Records an event that must not be lost. That the trail fails was logged by who writes it.
pub fn keep(trail: &Trail, event: Event) {
    let _ = trail.record_durably(event);
}

fn event(request: &Request, ring: &KeyRing, who: Who) -> Event {
    let default = || ring.default_key().name().to_owned();
    let (name, key, operation, details): (_, _, _, Option<Value>) = match request {
        Request::Status => (EventName::DescribeKey, default(), "status", None),
        Request::Keys => (EventName::DescribeKey, default(), "key list", None),
        Request::Policies => (EventName::DescribeKey, default(), "policy show", None),
        Request::Simulate { .. } => (EventName::DescribeKey, default(), "policy simulate", None),
        Request::Change(change) => {
            let action = change.policy_action();
            let name = EventName::of_action(action);
            (name, change.name.clone(), action.word(), details(&change.action))
        }
        Request::Policy(change) => {
            let operation = if change.revoke { "revoke" } else { "grant" };
            (EventName::PutKeyPolicy, change.name.clone(), operation, Some(json!(change.grant)))
        }
        Request::Work(FileWork::Rewrap { .. }) => (EventName::ReEncrypt, default(), "rewrap", None),
        Request::Work(FileWork::Retire { name, version, .. }) => {
            let details = Some(json!({ "version": version }));
            (EventName::RetireKeyVersion, name.clone(), "retire", details)
        }
        Request::Work(FileWork::Assign { name, .. }) => {
            (EventName::AssignKey, name.clone(), "assign", None)
        }
        Request::Verify { .. } => (EventName::Decrypt, default(), "verify", None),
        Request::Trail(_) => (EventName::LookupEvents, default(), "trail", None),
    };
    let path = match request {
        Request::Simulate { path, .. }
        | Request::Work(FileWork::Assign { path, .. })
        | Request::Verify { path } => Some(path.to_string_lossy().into_owned()),
        _ => None,
    };
    let parameters =
        Parameters { path, operation: Some(operation), details, ..Parameters::default() };
    Event { parameters, ..of_key(name, ring, &key, who) }
}

fn details(action: &Action) -> Option<Value> {
    match action {
        Action::Create { rotate_every: days } | Action::Rotate { rotate_every: Some(days) } => {
            Some(json!({ "rotateEveryDays": days }))
        }
        Action::ScheduleDeletion { days } => Some(json!({ "pendingWindowInDays": days })),
        Action::Rotate { rotate_every: None }
        | Action::Enable
        | Action::Disable
        | Action::CancelDeletion => None,
    }
}

fn failed(failure: &Failure) -> Failed {
    let message = failure.sentence.clone();
    match failure.exit {
        Exit::Policy => Failed::denied(message),
        Exit::Key => Failed { code: "KMSInvalidStateException", message },
        _ => Failed::other(message),
    }
}
