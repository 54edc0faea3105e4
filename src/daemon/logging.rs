//! Where the daemon's log goes.

use std::fs::{File, OpenOptions};
use std::io;
use std::panic;
use std::path::Path;

use log::{LevelFilter, Log, Metadata, Record};
use parking_lot::Mutex;
use rustix::fs::{CWD, OFlags};
use syslog::{Facility, Formatter3164, Logger, LoggerBackend};

use crate::service::failure::{Context, Exit, Failure};
use crate::sys::{self, Links, Show};

/// Where to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination<'a> {
    /// syslog(3), as a daemon.
    Syslog,
    /// To the end of a file, which only its owner may read: the log names files of the vault.
    File(&'a Path),
    /// The terminal.
    Stderr,
}

/// Sends the log there from now on, a panic included, which then ends the process at once: half
/// a daemon, with one of its threads gone, must not go on.
///
/// Returns whether anybody keeps the log: there may be no syslog.
///
/// # Errors
/// [`Exit::Failed`] when the file can't be written.
pub fn start(destination: Destination<'_>) -> Result<bool, Failure> {
    let target = match destination {
        Destination::Syslog => {
            let is_kept = start_syslog();
            abort_on_panic();
            return Ok(is_kept);
        }
        Destination::Stderr => env_logger::Target::Stderr,
        Destination::File(path) => {
            let file =
                open(path).context(Exit::Failed, || format!("the log file {}", path.shown()))?;
            env_logger::Target::Pipe(Box::new(file))
        }
    };
    let environment = env_logger::Env::default().default_filter_or("info,fuser=warn");
    let logger = env_logger::Builder::from_env(environment).target(target).build();
    log::set_max_level(logger.filter());
    let started = log::set_boxed_logger(Box::new(Cleaned(logger)));
    started.context(Exit::Failed, || "the log".to_owned())?;
    abort_on_panic();
    Ok(true)
}

fn open(path: &Path) -> io::Result<File> {
    // It throws away all at once; another device, or a FIFO, could keep the daemon waiting.
    if path == Path::new("/dev/null") {
        return OpenOptions::new().append(true).open(path);
    }
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE;
    sys::open_regular(CWD, path, flags, Links::Follow)
}

fn abort_on_panic() {
    panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("unnamed").to_owned();
        log::error!("thread {name} {panic}: the daemon ends");
        log::logger().flush();
        std::process::abort();
    }));
}

/// Passes on each record as one line of text, whatever names stand in it, but for one: at an unmount
/// the kernel takes back requests that are being answered, and `fuser` calls it an error that the
/// answer finds nobody.
struct Cleaned<L>(L);

impl<L: Log> Log for Cleaned<L> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.0.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) || crate::fuse::is_late_reply(record) {
            return;
        }
        let said = record.args().to_string();
        let line = sys::harmless(&said, false);
        self.0.log(
            &Record::builder()
                .metadata(record.metadata().clone())
                .args(format_args!("{line}"))
                .module_path(record.module_path())
                .file(record.file())
                .line(record.line())
                .build(),
        );
    }

    fn flush(&self) {
        self.0.flush();
    }
}

/// The logger of the crate `syslog` gives up when the system's daemon restarts; this one opens
/// the socket again.
struct Syslog {
    socket: Mutex<Option<Socket>>,
}

type Socket = Logger<LoggerBackend, Formatter3164>;

/// Returns whether there is a syslog now; one that comes later is found.
fn start_syslog() -> bool {
    let socket = open_socket();
    let is_kept = socket.is_some();
    let logger = Box::new(Cleaned(Syslog { socket: Mutex::new(socket) }));
    if log::set_boxed_logger(logger).is_ok() {
        log::set_max_level(LevelFilter::Info);
    }
    is_kept
}

fn open_socket() -> Option<Socket> {
    let formatter = Formatter3164 {
        facility: Facility::LOG_DAEMON,
        hostname: None,
        process: "atrest".to_owned(),
        pid: std::process::id(),
    };
    syslog::unix(formatter).ok()
}

impl Log for Syslog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let is_foreign = metadata.target().starts_with("fuser");
        metadata.level() <= if is_foreign { LevelFilter::Warn } else { LevelFilter::Info }
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let mut socket = self.socket.lock();
        let sent = socket.as_mut().is_some_and(|socket| send(socket, record).is_ok());
        if !sent {
            *socket = open_socket();
            if let Some(socket) = socket.as_mut() {
                // Twice in vain: there is nowhere left to tell.
                let _ = send(socket, record);
            }
        }
    }

    fn flush(&self) {}
}

fn send(socket: &mut Socket, record: &Record<'_>) -> Result<(), syslog::Error> {
    let line = format!("{} {}", record.level(), record.args());
    match record.level() {
        log::Level::Error => socket.err(line),
        log::Level::Warn => socket.warning(line),
        log::Level::Info => socket.info(line),
        log::Level::Debug | log::Level::Trace => socket.debug(line),
    }
}
