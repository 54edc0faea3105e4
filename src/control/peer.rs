//! The client of a connection, by the kernel's credentials.

use std::os::unix::net::UnixStream;

use rustix::net::sockopt::socket_peercred;

use crate::sys;
use crate::trail::Who;

/// The process at the other end, as it was when it connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its other groups; `None` where the kernel does not tell.
    pub groups: Option<Vec<u32>>,
    /// The same with its process, as the trail names it.
    pub who: Who,
}

impl Peer {
    /// At the other end of a connection; None where there is nobody any more.
    pub fn of(stream: &UnixStream) -> Option<Self> {
        let peer = socket_peercred(stream).ok()?;
        let groups = sys::peer_groups(stream).ok();
        let (uid, gid) = (peer.uid.as_raw(), peer.gid.as_raw());
        let who = Who::process(uid, gid, peer.pid.as_raw_nonzero().get().cast_unsigned());
        Some(Self { uid, gid, groups, who })
    }

    /// Whether it is in a group.
    pub fn is_in(&self, group: u32) -> bool {
        self.gid == group || self.groups.as_ref().is_some_and(|groups| groups.contains(&group))
    }
}
