//! The conversation with a running daemon, over a Unix socket of its own.
//!
//! The client sends one [`Request`] as a line of JSON and gets lines of JSON back: any number of
//! [`Reply::Progress`], then one [`Reply::Done`] or [`Reply::Failed`]. Only the daemon's user, root
//! and the members of the mount's admin group are heard; what they may is for the keys' policies.
//! A client may have 16 connections at a time, takes 10 seconds to ask and 10 to take the answer, and
//! asks for paths in the mount alone.

mod check;
mod client;
mod limits;
mod peer;
mod place;
mod server;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use client::Client;
pub use peer::Peer;
pub use place::Place;
pub use server::{Answers, Server};

use super::exit::{Exit, Failure};
use super::key::{FileWork, KeyChange, PolicyChange};
use super::trail::TrailRequest;
use crate::fs::{Operation, Progress};
use crate::keys::KeyFileMark;

/// What a daemon can be asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// How it is.
    Status,
    /// The master keys, as far as the client may see them.
    Keys,
    /// Their policies, as far as the client may see them.
    Policies,
    /// What the policies let somebody do with a file.
    Simulate {
        /// Their user.
        uid: u32,
        /// Their group.
        gid: u32,
        /// Their other groups.
        groups: Vec<u32>,
        /// The file's path in the mount.
        path: PathBuf,
        /// What.
        operation: Operation,
    },
    /// To change a master key.
    Change(KeyChange),
    /// To change a master key's policy.
    Policy(PolicyChange),
    /// To work on the keys of files.
    Work(FileWork),
    /// To record what the client is about to do with the key file itself, of which it has read this
    /// state.
    Note(Note, KeyFileMark),
    /// To take note of the state of the key file that the client has made of that.
    KeyFile(KeyFileMark),
    /// About the trail.
    Trail(TrailRequest),
    /// To check every block at or below a path in the mount.
    Verify {
        /// The path, empty for the whole vault.
        path: PathBuf,
    },
}

/// What a command does with the key file by itself, also while a daemon has the vault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Note {
    /// It writes all keys to a backup.
    Backup,
    /// It makes the key file from one.
    Restore,
    /// It adds a protector.
    AddProtector,
    /// It puts another in the place of this one.
    ChangeProtector(u32),
    /// It takes this one away.
    RemoveProtector(u32),
}

impl Request {
    /// Whether it is work on every file, which takes as long as it takes.
    fn is_long(&self) -> bool {
        match self {
            Self::Status
            | Self::Keys
            | Self::Policies
            | Self::Simulate { .. }
            | Self::Change(_)
            | Self::Policy(_)
            | Self::Note(..)
            | Self::KeyFile(_) => false,
            Self::Work(_) | Self::Verify { .. } | Self::Trail(_) => true,
        }
    }
}

/// What it answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Reply {
    Progress(Progress),
    Done(serde_json::Value),
    Failed { exit: u8, sentence: String },
}

impl From<Result<serde_json::Value, Failure>> for Reply {
    fn from(result: Result<serde_json::Value, Failure>) -> Self {
        match result {
            Ok(value) => Self::Done(value),
            Err(Failure { exit, sentence }) => Self::Failed { exit: exit as u8, sentence },
        }
    }
}

/// The failure that a daemon told of.
fn told(exit: u8, sentence: String) -> Failure {
    Failure::new(Exit::from_code(exit.into()), sentence)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::super::key::Action;
    use super::*;

    struct Echo;

    impl Answers for Echo {
        fn answer(
            &self,
            request: Request,
            peer: &Peer,
            progress: &(dyn Fn(Progress) -> bool + Sync),
        ) -> Result<Value, Failure> {
            match request {
                Request::Status => Ok(json!({"mounted": true})),
                Request::Keys => Ok(json!([peer.uid, peer.gid])),
                Request::Change(_) => Err(Failure::new(Exit::KeyFile, "no key")),
                Request::Work(_) => {
                    let steps = (1..=1000).map(|done| Progress { done, total: 1000 });
                    Ok(json!(steps.take_while(|step| progress(*step)).count()))
                }
                Request::Verify { path } => Ok(json!(path)),
                other => panic!("{other:?}"),
            }
        }
    }

    fn place() -> (tempfile::TempDir, PathBuf) {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("run/1-2.sock");
        (scratch, path)
    }

    fn uid() -> u32 {
        rustix::process::geteuid().as_raw()
    }

    #[test]
    fn a_request_is_answered_with_progress_on_the_way() {
        let (_scratch, path) = place();
        let place = Place::at(path, uid());
        let server = Server::listen(&place, None, Arc::new(Echo)).unwrap();
        let metadata = fs::metadata(place.path()).unwrap();
        assert_eq!((metadata.permissions().mode() & 0o777, metadata.uid()), (0o600, uid()));

        let mut seen = Vec::new();
        let rewrap = FileWork::Rewrap { to: None, rate: None, dry_run: false };
        let client = Client::connect(&place).unwrap();
        let done = client.ask(&Request::Work(rewrap), &mut |step| seen.push(step.done)).unwrap();
        assert_eq!(done, json!(1000));
        // Some steps are left out, so that telling of them does not hold up the work.
        assert!(seen.is_sorted() && seen.last() == Some(&1000), "{seen:?}");

        let ask = |request| Client::connect(&place).unwrap().ask(&request, &mut |_| ());
        let path = PathBuf::from("a/b");
        assert_eq!(ask(Request::Verify { path }).unwrap(), json!("a/b"));
        assert_eq!(ask(Request::Status).unwrap(), json!({"mounted": true}));
        let gid = rustix::process::getegid().as_raw();
        assert_eq!(ask(Request::Keys).unwrap(), json!([uid(), gid]));
        let action = Action::Rotate { rotate_every: None };
        let change = KeyChange { name: "default".to_owned(), action, dry_run: false };
        let failure = ask(Request::Change(change)).unwrap_err();
        assert_eq!((failure.exit, failure.sentence.as_str()), (Exit::KeyFile, "no key"));

        server.stop();
        assert!(!place.path().exists());
        assert!(Client::connect(&place).is_none());
    }

    #[test]
    fn a_socket_left_by_a_dead_daemon_is_replaced() {
        let (_scratch, path) = place();
        let place = Place::at(path, uid());
        std::mem::forget(Server::listen(&place, None, Arc::new(Echo)).unwrap());
        let server = Server::listen(&place, None, Arc::new(Echo)).unwrap();
        assert!(Client::connect(&place).is_some());
        server.stop();
    }

    #[test]
    fn who_listens_and_takes_no_connections_holds_up_nobody() {
        let (_scratch, path) = place();
        let directory = path.parent().unwrap();
        fs::create_dir(directory).unwrap();
        let place = Place::at(path.clone(), uid());
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        fs::set_permissions(directory, fs::Permissions::from_mode(0o700)).unwrap();
        let filled: Vec<_> = std::iter::from_fn(|| Client::connect(&place)).take(100).collect();
        assert!(!filled.is_empty() && filled.len() < 100, "{}", filled.len());
        fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
        drop(listener);
        let _listener = std::os::unix::net::UnixListener::bind(path.with_extension("x")).unwrap();
        assert!(Client::connect(&Place::at(path.with_extension("x"), uid())).is_none());
    }

    #[test]
    fn a_directory_that_others_may_write_is_refused() {
        let (_scratch, path) = place();
        let directory = path.parent().unwrap();
        fs::create_dir(directory).unwrap();
        fs::set_permissions(directory, fs::Permissions::from_mode(0o777)).unwrap();
        let place = Place::at(path, uid());
        assert!(Server::listen(&place, None, Arc::new(Echo)).is_err());
    }
}
