//! Who asks over the socket, by the kernel's word.

use std::os::unix::net::UnixStream;

use rustix::net::sockopt::socket_peercred;

use crate::sys;

/// The process at the other end, as it was when it connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its other groups; `None` where the kernel does not tell.
    pub groups: Option<Vec<u32>>,
}

impl Peer {
    /// At the other end of a connection; None where there is nobody any more.
    pub fn of(stream: &UnixStream) -> Option<Self> {
        let peer = socket_peercred(stream).ok()?;
        let groups = sys::peer_groups(stream).ok();
        Some(Self { uid: peer.uid.as_raw(), gid: peer.gid.as_raw(), groups })
    }

    /// Whether it is in a group.
    pub fn is_in(&self, group: u32) -> bool {
        self.gid == group || self.groups.as_ref().is_some_and(|groups| groups.contains(&group))
    }
}
