//! The processes that read the trail through the daemon. The first request of each leaves a line,
//! those that continue it leave none: else `tail -f` would print its own requests for ever.

use parking_lot::Mutex;
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

use crate::keys::policy::Subject;
use crate::service::request::{Request, TrailRequest};

/// The processes that read, each with the number of the last line that it was handed.
#[derive(Debug, Default)]
pub struct Readers(Mutex<Vec<(Subject, u64)>>);

impl Readers {
    /// Whether a request is for what follows the lines that the same process was handed last.
    pub fn goes_on(&self, subject: &Subject, request: &Request) -> bool {
        let Request::Trail(TrailRequest::Lines(filter)) = request else { return false };
        let readers = self.0.lock();
        readers.iter().any(|(reader, last)| reader == subject && filter.after == Some(*last))
    }

    /// Notes the last line that a process was handed. Those that have ended are forgotten when
    /// another begins.
    pub fn note(&self, subject: &Subject, last: u64) {
        let mut readers = self.0.lock();
        match readers.iter_mut().find(|(reader, _)| reader == subject) {
            Some((_, known)) => *known = last,
            None => {
                readers.retain(|(reader, _)| is_running(reader.pid));
                readers.push((subject.clone(), last));
            }
        }
    }
}

fn is_running(pid: u32) -> bool {
    let pid = Pid::from_raw(pid.cast_signed());
    pid.is_some_and(|pid| test_kill_process(pid) != Err(Errno::SRCH))
}

#[cfg(test)]
mod tests {
    use crate::trail::Filter;

    use super::*;

    fn lines(after: Option<u64>) -> Request {
        Request::Trail(TrailRequest::Lines(Filter { after, ..Filter::default() }))
    }

    #[test]
    fn going_on_is_told_from_beginning() {
        let readers = Readers::default();
        let reader = Subject::this_process();
        let other = Subject { uid: reader.uid + 1, ..reader.clone() };
        assert!(!readers.goes_on(&reader, &lines(Some(0))));
        readers.note(&reader, 7);
        assert!(readers.goes_on(&reader, &lines(Some(7))));
        for after in [None, Some(0), Some(6), Some(8)] {
            assert!(!readers.goes_on(&reader, &lines(after)), "{after:?}");
        }
        assert!(!readers.goes_on(&other, &lines(Some(7))));
        assert!(!readers.goes_on(&reader, &Request::Trail(TrailRequest::Flush)));
        readers.note(&reader, 9);
        assert!(readers.goes_on(&reader, &lines(Some(9))));
        assert!(!readers.goes_on(&reader, &lines(Some(7))));
    }

    #[test]
    fn those_that_have_ended_are_forgotten() {
        let readers = Readers::default();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let ended = Subject { pid: child.id(), ..Subject::this_process() };
        readers.note(&ended, 1);
        readers.note(&Subject::this_process(), 1);
        assert_eq!(readers.0.lock().len(), 1);
    }
}
