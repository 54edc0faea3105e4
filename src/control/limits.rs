//! How much one client may take of the daemon: connections in number, lines in bytes, and time.

use std::collections::HashMap;
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{SendFlags, send};

/// Connections of one user at a time, each of which takes a thread.
pub const OF_USER: usize = 16;
/// Connections of all users together but root and the daemon's own, who are never kept out by
/// others.
pub const OF_OTHERS: usize = 64;

/// The connections that there are, by their users.
#[derive(Debug, Default)]
pub struct Connections(Mutex<HashMap<u32, usize>>);

impl Connections {
    /// Counts a connection of `user` in; `None` where there are enough. The `privileged` count by
    /// themselves.
    pub fn begin(self: &Arc<Self>, user: u32, privileged: &[u32]) -> Option<Connection> {
        let mut counts = self.0.lock();
        let others: usize =
            counts.iter().filter(|(user, _)| !privileged.contains(user)).map(|(_, n)| n).sum();
        let is_full = !privileged.contains(&user) && others >= OF_OTHERS;
        let count = counts.entry(user).or_default();
        if is_full || *count >= OF_USER {
            return None;
        }
        *count += 1;
        Some(Connection { all: Arc::clone(self), user })
    }
}

/// A connection; counted out on drop.
#[derive(Debug)]
pub struct Connection {
    all: Arc<Connections>,
    user: u32,
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut counts = self.all.0.lock();
        if let Some(count) = counts.get_mut(&self.user) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.user);
            }
        }
    }
}

/// Reads a line of at most `longest` bytes, which must have come by `deadline`, however slowly its
/// bytes drip. It ends with a newline, or with what the other end sends.
///
/// # Errors
/// `InvalidData` for a longer one; `TimedOut`; what the socket says.
pub fn read_line(stream: &UnixStream, longest: usize, deadline: Instant) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        stream.set_read_timeout(Some(left(deadline)?))?;
        let read = match (&mut &*stream).read(&mut chunk) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        let part = &chunk[..read];
        let end = part.iter().position(|byte| *byte == b'\n');
        line.extend_from_slice(&part[..end.unwrap_or(read)]);
        if line.len() > longest {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the line is too long"));
        }
        if end.is_some() || read == 0 {
            return Ok(line);
        }
    }
}

/// Writes all of `bytes` by `deadline`, however slowly the other end takes them.
///
/// # Errors
/// `TimedOut`; what the socket says.
pub fn write_all(stream: &UnixStream, mut bytes: &[u8], deadline: Instant) -> io::Result<()> {
    while !bytes.is_empty() {
        // A call that waits would begin its time anew with each part that the other end takes.
        match send(stream, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::AGAIN) => {
                let left = Timespec::try_from(left(deadline)?).map_err(io::Error::other)?;
                match poll(&mut [PollFd::new(stream, PollFlags::OUT)], Some(&left)) {
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(errno) => return Err(errno.into()),
                }
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// The time until `deadline`, of which there is some.
fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::thread;

    use super::*;

    #[test]
    fn nobody_keeps_out_root_and_one_user_keeps_out_no_other() {
        let connections = Arc::new(Connections::default());
        let begin = |user| connections.begin(user, &[0, 7]);
        let mut held: Vec<_> = (0..OF_USER).map(|_| begin(1000).unwrap()).collect();
        assert!(begin(1000).is_none());
        held.extend((0..OF_USER).map(|_| begin(1001).unwrap()));
        held.extend((0..OF_USER).map(|_| begin(1002).unwrap()));
        held.extend((0..OF_USER).map(|_| begin(1003).unwrap()));
        assert!(begin(1004).is_none());
        held.extend((0..OF_USER).map(|_| begin(0).unwrap()));
        assert!(begin(0).is_none());
        held.extend(begin(7));
        held.truncate(OF_USER);
        assert!(begin(1004).is_some() && begin(0).is_some() && begin(1000).is_none());
        drop(held);
        assert!(begin(1000).is_some());
        assert!(connections.0.lock().is_empty());
    }

    #[test]
    fn bytes_that_drip_in_or_out_do_not_extend_the_time() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let soon = || Instant::now() + Duration::from_millis(300);
        thread::scope(|scope| {
            scope.spawn(|| {
                while (&theirs).write_all(b"x").is_ok() {
                    thread::sleep(Duration::from_millis(20));
                }
            });
            read_line(&ours, 1 << 20, soon()).unwrap_err();
            ours.shutdown(std::net::Shutdown::Read).unwrap();
        });
        let (ours, theirs) = UnixStream::pair().unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut chunk = [0; 4096];
                while (&mut &theirs).read(&mut chunk).is_ok_and(|read| read > 0) {
                    thread::sleep(Duration::from_millis(20));
                }
            });
            write_all(&ours, &vec![0; 64 << 20], soon()).unwrap_err();
            ours.shutdown(std::net::Shutdown::Both).unwrap();
        });
    }
}
