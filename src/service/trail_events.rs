//! The events of requests, performed by a daemon or offline.

use serde_json::{Value, json};

use crate::keys::KeyRing;
use crate::keys::policy::Subject;
use crate::service::failure::{Exit, Failure};
use crate::service::key_change::Action;
use crate::service::request::{FileWork, Note, Request, TrailRequest};
use crate::trail::{Event, EventName, Failed, Parameters, Trail, UsedKey};

/// Whether a request that is granted leaves a line of its own; a look does not, nor does what only
/// says what it would do, and a rewrap leaves one a file.
pub fn leaves_trail(request: &Request) -> bool {
    match request {
        Request::Status
        | Request::Keys
        | Request::Policies
        | Request::Simulate { .. }
        | Request::Work(FileWork::Count { .. })
        // The note before it has.
        | Request::KeyFile(_) => false,
        Request::Change(change) => !change.dry_run,
        Request::Policy(change) => !change.dry_run,
        Request::Work(FileWork::Rewrap { dry_run, .. } | FileWork::Retire { dry_run, .. }) => {
            !dry_run
        }
        Request::Work(FileWork::Assign { .. }) | Request::Verify { .. } | Request::Note(..) => true,
        Request::Trail(request) => *request != TrailRequest::Flush,
    }
}

/// The event of a request of which something came, and after which the keys are those of `ring`;
/// `None` for one that leaves none.
pub fn event(
    request: &Request,
    ring: &KeyRing,
    subject: &Subject,
    outcome: Result<(), &Failure>,
) -> Option<Event> {
    let rewraps = matches!(request, Request::Work(FileWork::Rewrap { .. }));
    let is_wanted = match outcome {
        Ok(()) => leaves_trail(request) && !rewraps,
        // A refused rehearsal uses no key.
        Err(failure) => failure.exit == Exit::Policy || leaves_trail(request),
    };
    is_wanted.then(|| Event {
        failed: outcome.err().map(failed),
        ..of_request(request, ring, subject.clone())
    })
}

/// An event about a whole master key, at its current version.
pub fn of_key(name: EventName, ring: &KeyRing, key: &str, subject: Subject) -> Event {
    let key = ring.key(key).ok().map(|key| UsedKey::of(key, Some(key.current())));
    Event { key, ..Event::new(name, subject) }
}

/// Records events that must not be lost. The trail's writer logs its own failures.
pub fn keep_events(trail: &Trail, events: impl IntoIterator<Item = Event>) {
    for event in events {
        let _ = trail.record_durably(event);
    }
}

fn of_request(request: &Request, ring: &KeyRing, subject: Subject) -> Event {
    let default = || ring.default_key().name().to_owned();
    let (name, key, operation, details): (_, _, _, Option<Value>) = match request {
        Request::Status => (EventName::DescribeKey, default(), "status", None),
        Request::Keys => (EventName::DescribeKey, default(), "key list", None),
        Request::Policies => (EventName::DescribeKey, default(), "policy show", None),
        Request::Simulate { .. } => (EventName::DescribeKey, default(), "policy simulate", None),
        Request::Change(change) if change.action == Action::Destroy => {
            (EventName::DeleteKey, change.name.clone(), "destroy", None)
        }
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
        Request::Work(FileWork::Count { name }) => {
            (EventName::DescribeKey, name.clone(), "count", None)
        }
        Request::Work(FileWork::Assign { name, .. }) => {
            (EventName::AssignKey, name.clone(), "assign", None)
        }
        Request::Verify { .. } => (EventName::Decrypt, default(), "verify", None),
        Request::KeyFile(_) => (EventName::ChangeProtectors, default(), "changed", None),
        Request::Note(note, _) => {
            let (name, operation, id) = of_note(*note);
            (name, default(), operation, id.map(|id| json!({ "protector": id })))
        }
        Request::Trail(request) => {
            (EventName::LookupEvents, default(), "trail", Some(json!(request)))
        }
    };
    let path = match request {
        Request::Simulate { path, .. }
        | Request::Work(FileWork::Assign { path, .. })
        | Request::Verify { path } => Some(path.to_string_lossy().into_owned()),
        _ => None,
    };
    let parameters =
        Parameters { path, operation: Some(operation), details, ..Parameters::default() };
    Event { parameters, ..of_key(name, ring, &key, subject) }
}

fn of_note(note: Note) -> (EventName, &'static str, Option<u32>) {
    match note {
        Note::Backup => (EventName::BackupKeyFile, "backup", None),
        Note::Restore => (EventName::RestoreKeyFile, "restore", None),
        Note::AddProtector => (EventName::ChangeProtectors, "add", None),
        Note::ChangeProtector(id) => (EventName::ChangeProtectors, "change", Some(id)),
        Note::RemoveProtector(id) => (EventName::ChangeProtectors, "remove", Some(id)),
    }
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
        | Action::CancelDeletion
        | Action::Destroy => None,
    }
}

fn failed(failure: &Failure) -> Failed {
    let message = failure.message.clone();
    match failure.exit {
        Exit::Policy => Failed::denied(message),
        Exit::Key => Failed { code: "KMSInvalidStateException", message },
        _ => Failed::other(message),
    }
}
