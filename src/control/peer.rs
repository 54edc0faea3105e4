//! The process at the other end of the socket, as the kernel names it.

use std::os::unix::net::UnixStream;

use rustix::net::sockopt::socket_peercred;

use crate::keys::policy::{Groups, Subject};
use crate::sys;

/// The process at the other end of a connection, as it was when it connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The process, with its groups and its program.
    pub subject: Subject,
}

impl Peer {
    /// At the other end of a connection; `None` where the process has ended.
    pub fn of(stream: &UnixStream) -> Option<Self> {
        let peer = socket_peercred(stream).ok()?;
        let groups = sys::peer_groups(stream).map_or(Groups::Unknown, Groups::Known);
        let (uid, gid) = (peer.uid.as_raw(), peer.gid.as_raw());
        let pid = peer.pid.as_raw_nonzero().get().cast_unsigned();
        let subject = Subject { groups, ..Subject::process(uid, gid, pid) };
        Some(Self { subject: subject.with_executable() })
    }
}
