//! The output of the commands that print lines of a trail.

use std::io::{self, BufWriter, Write};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::cli::trail::show;
use crate::service::failure::{Exit, Failure};
use crate::sys;

/// Whether the reader of an output has closed it (poll(2), POLLERR).
fn has_left(out: &BufWriter<io::StdoutLock<'static>>) -> bool {
    let mut ends = [PollFd::new(out.get_ref(), PollFlags::empty())];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut ends, Some(&at_once)).is_ok()
        && ends.iter().any(|end| end.revents().contains(PollFlags::ERR))
}

/// Lines of a trail on their way to stdout, until its reader has left.
pub struct Lines {
    out: BufWriter<io::StdoutLock<'static>>,
    as_json: bool,
    names: show::Names,
    failed: Option<io::Error>,
}

impl Lines {
    /// Lines on stdout: as JSON, or for people.
    pub fn new(as_json: bool) -> Self {
        let out = BufWriter::with_capacity(64 * 1024, io::stdout().lock());
        Self { out, as_json, names: show::Names::default(), failed: None }
    }

    /// Writes a line. Returns whether there is a reader for more.
    pub fn put(&mut self, line: &str) -> bool {
        let written = match self.as_json {
            true => writeln!(self.out, "{}", sys::harmless_json(line)),
            false => writeln!(self.out, "{}", show::line(line, &mut self.names)),
        };
        self.failed = written.err();
        self.failed.is_none()
    }

    /// Writes what is buffered. Returns whether there is a reader for more.
    ///
    /// # Errors
    /// Those of write(2), but for a reader that has left.
    pub fn flush(&mut self) -> Result<bool, Failure> {
        let flushed = self.failed.take().map_or_else(|| self.out.flush(), Err);
        match flushed {
            Ok(()) => Ok(!has_left(&self.out)),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes what is left.
    ///
    /// # Errors
    /// As [`Lines::flush`].
    pub fn finish(mut self) -> Result<Exit, Failure> {
        self.flush().map(|_| Exit::Done)
    }
}
