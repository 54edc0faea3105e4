//! The side that asks.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::net::sockopt::socket_peercred;

use super::super::exit::{Context, Exit, Failure};
use super::{Place, Reply, Request, told};
use crate::fs::Progress;

/// How long a daemon may take over what is no work.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection to a daemon, for one request.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
}

impl Client {
    /// Connects to the daemon at a place. None if none listens there, or it isn't the expected
    /// user's: in `/tmp` anybody could have put a socket.
    pub fn connect(place: &Place) -> Option<Self> {
        let stream = UnixStream::connect(place.path()).ok()?;
        let peer = socket_peercred(&stream).ok()?;
        (peer.uid.as_raw() == place.user()).then_some(Self { stream })
    }

    /// Sends a request and waits for its end.
    ///
    /// # Errors
    /// What the daemon failed with, or [`Exit::Failed`] if it did not answer.
    pub fn ask(
        mut self,
        request: &Request,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<serde_json::Value, Failure> {
        let lost = || "the daemon did not answer".to_owned();
        if !request.is_long() {
            self.stream.set_read_timeout(Some(PATIENCE)).or_fail(Exit::Failed, lost)?;
        }
        let mut line = serde_json::to_vec(request).or_fail(Exit::Failed, lost)?;
        line.push(b'\n');
        self.stream.write_all(&line).or_fail(Exit::Failed, lost)?;
        for line in BufReader::new(&self.stream).lines() {
            let line = line.or_fail(Exit::Failed, lost)?;
            match serde_json::from_str(&line).or_fail(Exit::Failed, lost)? {
                Reply::Progress(step) => progress(step),
                Reply::Done(value) => return Ok(value),
                Reply::Failed { exit, sentence } => return Err(told(exit, sentence)),
            }
        }
        Err(Failure::new(Exit::Failed, lost()))
    }
}
