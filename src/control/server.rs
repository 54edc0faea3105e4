//! The daemon's side.

use std::ffi::{OsStr, OsString};
use std::fs::{self, Permissions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, chownat, fstat, openat, unlinkat};
use rustix::io::Errno;

use crate::control::limits::{self, Connection, Connections};
use crate::control::protocol::Reply;
use crate::control::{Peer, SocketPath};
use crate::fs::Progress;
use crate::service::failure::{Exit, Failure};
use crate::service::request::Request;
use crate::service::response::Response;

/// How long a client may take over all of its request, and over taking an answer.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest request in bytes: a path takes up to 4096, escaped six times as much.
const MAX_REQUEST_LEN: usize = 512 * 1024;
/// How often a client hears of progress.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(50);

/// Performs the requests of clients.
pub trait RequestHandler: Send + Sync {
    /// Answers a request of `peer`. `progress` says whether to go on: not when the client has left or the
    /// daemon is to end.
    ///
    /// # Errors
    /// The failure to report to the client.
    fn answer(
        &self,
        request: Request,
        peer: &Peer,
        progress: &(dyn Fn(Progress) -> bool + Sync),
    ) -> Result<Response, Failure>;
}

/// A socket on which requests are answered, each in a thread of its own.
pub struct Server {
    directory: OwnedFd,
    name: OsString,
    work: Arc<Work>,
}

#[derive(Default)]
struct Work {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    running: usize,
    stopping: bool,
}

impl Server {
    /// Listens at a place, where nobody else does: who holds the vault's lock may. The members of
    /// `admins`, if that is a group, are heard too.
    ///
    /// # Errors
    /// Those of making the directory, the socket and the thread.
    pub fn listen(
        place: &SocketPath,
        admins: Option<u32>,
        answers: Arc<dyn RequestHandler>,
    ) -> io::Result<Self> {
        let directory = place.prepare(admins.is_some())?;
        match unlinkat(&directory, place.name(), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
        let listener = bind(directory.as_fd(), place.name())?;
        // A client that connects before the mode is set has its credentials checked like any other.
        open_to(directory.as_fd(), place.name(), admins)?;
        let work = Arc::new(Work::default());
        let server = Self { directory, name: place.name().to_owned(), work: Arc::clone(&work) };
        let user = place.user();
        thread::Builder::new().name("control".to_owned()).spawn(move || {
            let door = Door { user, admins, connections: Arc::default() };
            for stream in listener.incoming() {
                match stream {
                    Ok(stream) => door.receive(stream, &work, &answers),
                    // Out of descriptors, say: it may pass.
                    Err(error) => {
                        log::warn!("control socket: {error}");
                        thread::sleep(Duration::from_secs(1));
                    }
                }
            }
        })?;
        Ok(server)
    }

    /// Takes no more requests, tells those that run to end, and waits until they have.
    pub fn stop(self) {
        // Gone already, it is as it should be.
        let _ = unlinkat(&self.directory, &self.name, AtFlags::empty());
        let mut state = self.work.state.lock();
        state.stopping = true;
        self.work.changed.wait_while(&mut state, |state| state.running > 0);
    }
}

/// A socket with that name in a directory, wherever that is moved.
fn bind(directory: BorrowedFd<'_>, name: &OsStr) -> io::Result<UnixListener> {
    UnixListener::bind(link_of(directory).join(name))
}

/// The way to what is open through a link that the kernel follows by itself (proc(5)).
fn link_of(opened: BorrowedFd<'_>) -> PathBuf {
    format!("/proc/self/fd/{}", opened.as_raw_fd()).into()
}

/// Lets the daemon's user connect to a socket, and the group `admins`.
fn open_to(directory: BorrowedFd<'_>, name: &OsStr, admins: Option<u32>) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let socket = openat(directory, name, flags, Mode::empty())?;
    // Another file may have its name by now.
    if FileType::from_raw_mode(fstat(&socket)?.st_mode) != FileType::Socket {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the socket was exchanged"));
    }
    let mode = match admins {
        Some(group) => {
            chownat(&socket, "", None, Some(Gid::from_raw(group)), AtFlags::EMPTY_PATH)?;
            0o660
        }
        None => 0o600,
    };
    fs::set_permissions(link_of(socket.as_fd()), Permissions::from_mode(mode))
}

impl Work {
    /// Counts a request in, unless the daemon is ending.
    fn begin(self: &Arc<Self>) -> Option<Running> {
        let mut state = self.state.lock();
        if state.stopping {
            return None;
        }
        state.running += 1;
        Some(Running(Arc::clone(self)))
    }
}

/// A request that is being answered; counted out on drop.
struct Running(Arc<Work>);

impl Running {
    fn may_go_on(&self) -> bool {
        !self.0.state.lock().stopping
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.state.lock().running -= 1;
        self.0.changed.notify_all();
    }
}

/// Which clients are let in, and how many at a time.
struct Door {
    user: u32,
    admins: Option<u32>,
    connections: Arc<Connections>,
}

impl Door {
    fn receive(&self, stream: UnixStream, work: &Arc<Work>, answers: &Arc<dyn RequestHandler>) {
        let Some(peer) = Peer::of(&stream) else { return };
        let privileged = [0, self.user];
        let is_admin = || self.admins.is_some_and(|group| peer.subject.is_in_group(group));
        if !privileged.contains(&peer.subject.uid) && !is_admin() {
            log::warn!("control socket: user {} was refused", peer.subject.uid);
            return;
        }
        let Some(connection) = self.connections.begin(peer.subject.uid, &privileged) else {
            // The first line of a connection always finds room in its buffer.
            let message = "the daemon has enough to answer: ask again later";
            send(&stream, &Err(Failure::new(Exit::Busy, message)).into());
            return;
        };
        let (work, answers) = (Arc::clone(work), Arc::clone(answers));
        let conversation = thread::Builder::new()
            .name("control request".to_owned())
            .spawn(move || converse(&stream, (&peer, connection), &work, answers.as_ref()));
        if let Err(error) = conversation {
            log::warn!("control socket: {error}");
        }
    }
}

fn converse(
    stream: &UnixStream,
    (peer, _connection): (&Peer, Connection),
    work: &Arc<Work>,
    answers: &dyn RequestHandler,
) {
    let Some(request) = read_request(stream) else { return };
    let request = request.map(|request| request.check().map(|()| request));
    let answered = match (request, work.begin()) {
        (Ok(Err(failure)), _) => Err(failure),
        (Ok(Ok(request)), Some(running)) => {
            let teller = Mutex::new(Teller { stream, told: None });
            answers.answer(request, peer, &|step| teller.lock().tell(step) && running.may_go_on())
        }
        (Ok(Ok(_)), None) => Err(Failure::new(Exit::Busy, "the vault is being unmounted")),
        (Err(error), _) => Err(Failure::new(
            Exit::Failed,
            format!("the daemon does not know this request; is it of another version? ({error})"),
        )),
    };
    send(stream, &answered.into());
}

/// Tells the client of progress, not of every step.
struct Teller<'a> {
    stream: &'a UnixStream,
    told: Option<(Instant, Progress)>,
}

impl Teller<'_> {
    /// Whether the client is still there.
    fn tell(&mut self, step: Progress) -> bool {
        let is_due = match self.told {
            // Steps of several threads can come out of order.
            Some((_, told)) if told.done >= step.done => false,
            Some((when, _)) => when.elapsed() >= PROGRESS_INTERVAL || step.done == step.total,
            None => true,
        };
        if is_due {
            self.told = Some((Instant::now(), step));
            return send(self.stream, &Reply::Progress(step));
        }
        true
    }
}

/// The request; None from a client that leaves or waits too long.
fn read_request(stream: &UnixStream) -> Option<serde_json::Result<Request>> {
    let line = limits::read_line(stream, MAX_REQUEST_LEN, Instant::now() + CLIENT_TIMEOUT).ok()?;
    (!line.is_empty()).then(|| serde_json::from_slice(&line))
}

/// Sends a reply; whether the client has it.
fn send(stream: &UnixStream, reply: &Reply<Response>) -> bool {
    match serde_json::to_vec(reply) {
        Ok(mut line) => {
            line.push(b'\n');
            limits::write_all(stream, &line, Instant::now() + CLIENT_TIMEOUT).is_ok()
        }
        Err(error) => {
            log::error!("control socket: {error}");
            false
        }
    }
}
