//! The conversation with a running daemon, over a Unix socket of its own.
//!
//! The client sends one [`crate::service::request::Request`] as a line of JSON and gets lines of JSON back: any number of
//! [`protocol::Reply::Progress`], then one [`protocol::Reply::Done`] or [`protocol::Reply::Failed`]. Only the daemon's user, root
//! and the members of the mount's admin group are heard; what they may is for the keys' policies.
//! A client may have 16 connections at a time, takes 10 seconds to ask and 10 to take the answer, and
//! asks for paths in the mount alone.

mod check;
mod client;
mod limits;
mod peer;
mod protocol;
mod server;
mod socket;

pub use client::Client;
pub use peer::Peer;
pub use server::{RequestHandler, Server};
pub use socket::SocketPath;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::sync::Arc;

    use std::path::PathBuf;
    use std::sync::Mutex;

    use super::*;
    use crate::format::VaultId;
    use crate::fs::{Progress, RewrapSummary, VerifySummary};
    use crate::service::failure::{Exit, Failure};
    use crate::service::key_change::{Action, KeyChange};
    use crate::service::request::{FileWork, Request};
    use crate::service::response::{Listed, Response};
    use crate::service::status::Status;

    struct Echo;

    impl RequestHandler for Echo {
        fn answer(
            &self,
            request: Request,
            peer: &Peer,
            progress: &(dyn Fn(Progress) -> bool + Sync),
        ) -> Result<Response, Failure> {
            match request {
                Request::Status => Ok(Status { mounted: true, ..Status::default() }.into()),
                Request::Keys => {
                    let key_file = format!("{}:{}", peer.subject.uid, peer.subject.gid);
                    let vault_id = VaultId::random();
                    Ok(Listed { vault_id, key_file, keys: Vec::new() }.into())
                }
                Request::Change(_) => Err(Failure::new(Exit::KeyFile, "no key")),
                Request::Work(_) => {
                    let steps = (1..=1000).map(|done| Progress { done, total: 1000 });
                    let rewrapped = steps.take_while(|step| progress(*step)).count() as u64;
                    Ok(RewrapSummary { rewrapped, ..RewrapSummary::default() }.into())
                }
                Request::Verify { path } => {
                    let left_by_crash = vec![path];
                    Ok(VerifySummary { left_by_crash, ..VerifySummary::default() }.into())
                }
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
        let place = SocketPath::at(path, uid());
        let server = Server::listen(&place, None, Arc::new(Echo)).unwrap();
        let metadata = fs::metadata(place.path()).unwrap();
        assert_eq!((metadata.permissions().mode() & 0o777, metadata.uid()), (0o600, uid()));

        let seen = Mutex::new(Vec::new());
        let rewrap = FileWork::Rewrap { to: None, rate: None, dry_run: false };
        let client = Client::connect(&place).unwrap();
        let note = |step: Progress| seen.lock().unwrap().push(step.done);
        let Response::Rewrapped(done) = client.ask(&Request::Work(rewrap), &note).unwrap() else {
            panic!()
        };
        assert_eq!(done.rewrapped, 1000);
        let seen = seen.into_inner().unwrap();
        // Some steps are left out, so that telling of them does not hold up the work.
        assert!(seen.is_sorted() && seen.last() == Some(&1000), "{seen:?}");

        let ask = |request| Client::connect(&place).unwrap().ask(&request, &|_| ());
        let path = PathBuf::from("a/b");
        let Ok(Response::Verified(found)) = ask(Request::Verify { path: path.clone() }) else {
            panic!()
        };
        assert_eq!(found.left_by_crash, [path]);
        let Ok(Response::Status(status)) = ask(Request::Status) else { panic!() };
        assert!(status.mounted);
        let gid = rustix::process::getegid().as_raw();
        let Ok(Response::Keys(listed)) = ask(Request::Keys) else { panic!() };
        assert_eq!(listed.key_file, format!("{}:{gid}", uid()));
        let action = Action::Rotate { rotate_every: None };
        let change = KeyChange { name: "default".to_owned(), action, dry_run: false };
        let failure = ask(Request::Change(change)).unwrap_err();
        assert_eq!((failure.exit, failure.message.as_str()), (Exit::KeyFile, "no key"));

        server.stop();
        assert!(!place.path().exists());
        assert!(Client::connect(&place).is_none());
    }

    #[test]
    fn a_socket_left_by_a_dead_daemon_is_replaced() {
        let (_scratch, path) = place();
        let place = SocketPath::at(path, uid());
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
        let place = SocketPath::at(path.clone(), uid());
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        fs::set_permissions(directory, fs::Permissions::from_mode(0o700)).unwrap();
        let filled: Vec<_> = std::iter::from_fn(|| Client::connect(&place)).take(100).collect();
        assert!(!filled.is_empty() && filled.len() < 100, "{}", filled.len());
        fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
        drop(listener);
        let _listener = std::os::unix::net::UnixListener::bind(path.with_extension("x")).unwrap();
        assert!(Client::connect(&SocketPath::at(path.with_extension("x"), uid())).is_none());
    }

    #[test]
    fn a_directory_that_others_may_write_is_refused() {
        let (_scratch, path) = place();
        let directory = path.parent().unwrap();
        fs::create_dir(directory).unwrap();
        fs::set_permissions(directory, fs::Permissions::from_mode(0o777)).unwrap();
        let place = SocketPath::at(path, uid());
        assert!(Server::listen(&place, None, Arc::new(Echo)).is_err());
    }
}
