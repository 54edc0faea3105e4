//! Further destinations of the trail's lines: syslog and the systemd journal.

use std::path::{Path, PathBuf};

use libsystemd::logging::{Priority, connected_to_journal, journal_send};
use syslog::{Facility, Formatter5424, Logger, LoggerBackend};

use crate::service::failure::{Context, Exit, Failure};
use crate::sys::Show;
use crate::trail::{Event, Sink};

/// Of which the line has no need: it is structured itself.
type StructuredData =
    std::collections::BTreeMap<String, std::collections::BTreeMap<String, String>>;

/// Where syslog listens.
pub const SYSLOG: &str = "/dev/log";
/// Where the journal does.
const JOURNAL: &str = "/run/systemd/journal/socket";

/// Syslog, in the form of RFC 5424, facility `authpriv`: `notice` for what was done, `warning` for
/// what was refused or failed.
pub struct Syslog {
    socket: PathBuf,
    logger: Option<Logger<LoggerBackend, Formatter5424>>,
    /// Whether it was said that nobody listens.
    told: bool,
}

impl Syslog {
    /// At a socket.
    ///
    /// # Errors
    /// [`Exit::Trail`] when nobody listens there.
    pub fn open(socket: &Path) -> Result<Self, Failure> {
        let logger = connect(socket)
            .context(Exit::Trail, || format!("--trail-syslog: {}", socket.shown()))?;
        Ok(Self { socket: socket.to_owned(), logger: Some(logger), told: false })
    }
}

fn connect(socket: &Path) -> syslog::Result<Logger<LoggerBackend, Formatter5424>> {
    let formatter = Formatter5424 {
        facility: Facility::LOG_AUTHPRIV,
        hostname: None,
        process: "atrest".to_owned(),
        pid: std::process::id(),
    };
    syslog::unix_custom(formatter, socket)
}

fn send(logger: &mut Logger<LoggerBackend, Formatter5424>, event: &Event, line: &str) -> bool {
    let message = (0, StructuredData::new(), line);
    match event.failed {
        None => logger.notice(message).is_ok(),
        Some(_) => logger.warning(message).is_ok(),
    }
}

impl Sink for Syslog {
    fn write_line(&mut self, event: &Event, line: &str) {
        let sent = self.logger.as_mut().is_some_and(|logger| send(logger, event, line));
        if !sent {
            // It may have begun anew.
            self.logger = connect(&self.socket).ok();
            let again = self.logger.as_mut().is_some_and(|logger| send(logger, event, line));
            note(&mut self.told, again, "syslog");
        }
    }
}

/// The journal, by its own protocol: the line as MESSAGE, and fields to look for.
pub struct Journal {
    told: bool,
}

impl Journal {
    /// The one of this machine.
    ///
    /// # Errors
    /// [`Exit::Trail`] when there is none.
    pub fn open() -> Result<Self, Failure> {
        if connected_to_journal() || Path::new(JOURNAL).exists() {
            return Ok(Self { told: false });
        }
        let message = format!("--trail-journald: there is no systemd journal here, at {JOURNAL}");
        Err(Failure::new(Exit::Trail, message))
    }
}

impl Sink for Journal {
    fn write_line(&mut self, event: &Event, line: &str) {
        let priority = if event.failed.is_some() { Priority::Warning } else { Priority::Notice };
        let uid = event.subject.uid.to_string();
        let outcome = event.failed.as_ref().map_or("allowed", |failed| failed.code);
        let fields = [
            ("SYSLOG_IDENTIFIER", "atrest"),
            ("ATREST_EVENT", event.name.word()),
            ("ATREST_UID", &uid),
            ("ATREST_OUTCOME", outcome),
        ];
        let sent = journal_send(priority, line, fields.into_iter()).is_ok();
        note(&mut self.told, sent, "the systemd journal");
    }
}

/// Logs once that a destination gets no lines: the trail itself is whole.
fn note(told: &mut bool, sent: bool, destination: &str) {
    if !sent && !*told {
        log::warn!("{destination} does not take the trail's lines; the trail itself is kept");
    }
    *told = !sent;
}
