//! The side that asks.

use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::sockopt::socket_peercred;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use serde_json::Value;

use crate::control::SocketPath;
use crate::control::limits;
use crate::control::protocol::{Reply, failure_of};
use crate::fs::Progress;
use crate::service::failure::{Context, Exit, Failure};
use crate::service::request::Request;
use crate::service::response::Response;

/// How long a daemon may take for a request that is not long.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(30);
/// How long it may take to hear that somebody connects, and how often to try.
const TO_CONNECT: Duration = Duration::from_secs(5);
const CONNECT_RETRY_INTERVAL: Duration = Duration::from_millis(10);
/// Bytes of the longest reply: lines of a trail, or a list of damaged files.
const MAX_REPLY_LEN: u64 = 256 << 20;

/// A connection to a daemon, for one request.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
}

impl Client {
    /// Connects to the daemon at a place. None if none listens there, or it isn't the expected
    /// user's: in `/tmp` anybody could have put a socket.
    pub fn connect(place: &SocketPath) -> Option<Self> {
        if !place.is_ours() {
            return None;
        }
        let stream = connect_to(place.path()).ok()?;
        let peer = socket_peercred(&stream).ok()?;
        (peer.uid.as_raw() == place.user()).then_some(Self { stream })
    }

    /// Sends a request and waits for its end.
    ///
    /// # Errors
    /// What the daemon failed with, or [`Exit::Failed`] if it did not answer.
    pub fn ask(
        self,
        request: &Request,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<Response, Failure> {
        let lost = || "the daemon did not answer".to_owned();
        if !request.is_long() {
            self.stream.set_read_timeout(Some(CLIENT_TIMEOUT)).context(Exit::Failed, lost)?;
        }
        let mut line = serde_json::to_vec(request).context(Exit::Failed, lost)?;
        line.push(b'\n');
        // A busy daemon refuses before it has read the request; its reply is the error to report.
        let sent = limits::write_all(&self.stream, &line, Instant::now() + CLIENT_TIMEOUT);
        if let Err(error) = sent
            && error.kind() != io::ErrorKind::BrokenPipe
        {
            return Err(Failure::new(Exit::Failed, format!("{}: {error}", lost())));
        }
        let mut stream = BufReader::new(&self.stream);
        loop {
            let mut line = Vec::new();
            let read = stream.by_ref().take(MAX_REPLY_LEN).read_until(b'\n', &mut line);
            match read.context(Exit::Failed, lost)? as u64 {
                0 => return Err(Failure::new(Exit::Failed, lost())),
                MAX_REPLY_LEN => {
                    let message = "the daemon's answer is too long: ask for less";
                    return Err(Failure::new(Exit::Failed, message));
                }
                _ => {}
            }
            match serde_json::from_slice::<Reply<Value>>(&line).context(Exit::Failed, lost)? {
                Reply::Progress(step) => progress(step),
                Reply::Done(answer) => return Response::decode(request, answer),
                Reply::Failed { exit, message } => return Err(failure_of(exit, message)),
            }
        }
    }
}

/// Connects without waiting, unless nobody listens or the backlog is full.
fn connect_to(path: &Path) -> io::Result<UnixStream> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    let address = SocketAddrUnix::new(path)?;
    let until = Instant::now() + TO_CONNECT;
    loop {
        match connect(&socket, &address) {
            Err(Errno::AGAIN) if Instant::now() < until => thread::sleep(CONNECT_RETRY_INTERVAL),
            connected => break connected?,
        }
    }
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}
