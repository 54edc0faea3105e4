//! The daemon: from the mount to the vault's clean end.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use serde_json::{Value, json};

use super::crash_walk::Recovery;
use crate::control::{Server, SocketPath};
use crate::daemon::handler::DaemonService;
use crate::daemon::logging;
use crate::daemon::monitor::{Monitor, NotUnmounted};
use crate::daemon::mount_guard::MountGuard;
use crate::daemon::mountpoint::lies_in;
use crate::daemon::plan::Plan;
use crate::daemon::reach::reach;
use crate::daemon::scheduler;
use crate::daemon::space;
use crate::daemon::trail::for_mount;
use crate::format::Epoch;
use crate::fs::Fs;
use crate::fuse::{Session, Settings};
use crate::keys::policy::Subject;
use crate::service::failure::{Context, Exit, Failure, vault_failure, warn_user};
use crate::service::keys::Keys;
use crate::service::mount_lock::MountLock;
use crate::service::paths::would_be;
use crate::service::trail_events::{keep_events, of_key};
use crate::service::vault::{self, Age};
use crate::store::{Access, Freshness};
use crate::sys::{self, Background, BlockedSignals, InheritedDescriptors, Limit, Show};
use crate::trail::EventName;

/// Mounts the vault, opens it, and answers until it is unmounted. With `background` the process
/// leaves its terminal once all is ready; `lock` is released then.
///
/// The mount comes before the vault is opened, so that nothing in the vault has changed when it
/// can't be mounted: the kernel holds early requests until the session starts.
///
/// # Errors
/// What kept it from being mounted, or from ending cleanly.
pub fn run(
    plan: &Plan,
    lock: MountLock,
    background: Option<Background>,
    inherited: InheritedDescriptors,
) -> Result<Exit, Failure> {
    sys::prepare_daemon().map_err(refusal)?;
    let log_is_kept = logging::start(plan.log())?;
    let id = vault::describe(&plan.vault)?.vault;
    let keys = Keys::open(&id, plan.options.key_file.as_deref(), &plan.options.unlock)?;
    // A passphrase may have come through one of them.
    inherited.close();
    let below = |dir: &Path| lies_in(&would_be(dir), &plan.mountpoint.path);
    sys::limit_path(|dir| !below(dir))?;
    let monitor = Monitor::start()?;
    sys::serve_memory();
    // After all that raises a limit of the daemon's own.
    sys::obey_limits();
    plan.mountpoint.recover()?;
    // Before any thread starts, so that all of them leave the signals to the one that waits.
    let signals = BlockedSignals::block(plan.foreground)?;
    let (mount, device) = MountGuard::make(plan, monitor)?;
    let mount = Arc::new(mount);
    // Still in the one thread that all others are started from.
    sys::confine().map_err(not_confined).inspect_err(|_| mount.detach())?;
    let start = Start { plan, lock, keys, background, log_is_kept, device, signals };
    open_and_serve(start, &mount).map(|()| Exit::Done)
}

/// The refusal of a mount that a limit of this user would end, or fail in the middle of its work.
fn refusal(limit: Limit) -> Failure {
    let Limit { option, of, value, needs } = limit;
    let needs = match needs {
        Some(needs) => format!("the daemon needs {needs} bytes"),
        None => "the daemon would be killed at its end".to_owned(),
    };
    let message = format!(
        "the limit on {of} is {value}, and {needs}: have the hard limit raised (ulimit -H {option})"
    );
    Failure::new(Exit::Mount, message)
}

fn not_confined(error: io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("the daemon can't be confined: {error}"))
}

/// What a session begins with.
struct Start<'a> {
    plan: &'a Plan,
    lock: MountLock,
    keys: Keys,
    background: Option<Background>,
    log_is_kept: bool,
    device: OwnedFd,
    signals: BlockedSignals,
}

fn open_and_serve(start: Start<'_>, mount: &Arc<MountGuard>) -> Result<(), Failure> {
    let vault = &start.plan.vault;
    let read_only = start.plan.options.flags.read_only;
    let access = if read_only { Access::ReadOnly } else { Access::ReadWrite };
    let options = &start.plan.options;
    let own_trail = options.trail.off || options.trail.directory.is_some();
    let age = Age { accept_rollback: options.accept_rollback, own_trail };
    let opened = vault::open(vault, &start.keys, access, age).inspect_err(|_| mount.detach());
    let fs = Arc::new(opened?);
    // Not before it is open: whether it is a copy shows in directories where it was.
    let foreign = fs.vault().foreign_trail();
    let reach = reach(start.plan, &start.keys, foreign.as_deref(), mount.device());
    let confined = sys::confine_files(&reach).map_err(not_confined);
    let served = confined.and_then(|()| serve_opened(start, &fs, mount));
    // Half a session leaves a mount that would keep waiting for answers.
    mount.detach();
    // Before the vault, whose record of mounts says how far the trail has come.
    if let Some(kept) = fs.trail() {
        kept.end();
    }
    let closed = fs.close().map_err(|error| vault_failure(vault, error));
    match &closed {
        Ok(()) => log::info!("closed the vault {}", vault.shown()),
        Err(failure) => {
            log::error!("{failure}: what was fsynced is safe, but this mount did not end cleanly");
        }
    }
    served.and(closed)
}

fn serve_opened(start: Start<'_>, fs: &Arc<Fs>, mount: &Arc<MountGuard>) -> Result<(), Failure> {
    let vault = &start.plan.vault;
    for lack in fs.vault().lacks() {
        let message = format!("the filesystem of the vault {} has {lack}", vault.shown());
        log::info!("{message}");
        warn_user(&message);
    }
    if start.plan.options.strict {
        fs.be_strict();
    }
    fs.keep_access_times(start.plan.options.access_times);
    if !start.plan.options.no_writeback {
        fs.kernel_keeps_times();
    }
    vault::reread(&start.keys, fs)?;
    let kept = for_mount(start.plan, &start.keys, fs)?;
    kept.into_iter().for_each(|kept| fs.keep_trail(kept));
    serve(start, fs, mount)
}

/// Reports what is known of the vault's age, unless it is as the last mount left it.
fn tell_age(fs: &Fs, vault: &Path) {
    let failing = fs.vault().record_failing();
    if let Some(message) = age(fs, failing.is_some(), &vault.shown().to_string()) {
        match fs.vault().freshness() {
            Some(Freshness::Accepted(_)) => log::warn!("{message}"),
            _ => log::info!("{message}"),
        }
        warn_user(&message);
    }
    if let Some(reason) = failing {
        let message = format!(
            "this machine can't keep what it knows of the vault {}, so that it may be put back to an \
             older state unnoticed: {reason}",
            vault.shown()
        );
        log::info!("{message}");
        warn_user(&message);
    }
}

fn age(fs: &Fs, is_failing: bool, vault: &str) -> Option<String> {
    Some(match fs.vault().freshness() {
        None | Some(Freshness::Fresh | Freshness::NoPlace) => return None,
        // It may have seen it often.
        Some(Freshness::FirstSeen) if is_failing => return None,
        Some(Freshness::FirstSeen) => format!(
            "this machine sees the vault {vault} for the first time, and can't know whether it is as \
             new as it should be"
        ),
        Some(Freshness::Moved(from)) => {
            format!("the vault {vault} was in {} when it was last seen", from.shown())
        }
        Some(Freshness::Copy(of)) => {
            format!("the vault {vault} is a copy of the one in {}", of.shown())
        }
        Some(Freshness::Accepted(findings)) => {
            format!("the vault {vault} is accepted as it is, older or not: {}", findings.join("; "))
        }
    })
}

fn serve(start: Start<'_>, fs: &Arc<Fs>, mount: &Arc<MountGuard>) -> Result<(), Failure> {
    let plan = start.plan;
    // The trail has the line of the mount before any request is answered, and the vault records that it
    // must have it.
    record(fs, EventName::Mount, plan);
    let served = begin_service(fs, plan).and_then(|()| serve_requests(start, fs, mount));
    record(fs, EventName::Unmount, plan);
    served
}

fn begin_service(fs: &Fs, plan: &Plan) -> Result<(), Failure> {
    if let Some(Freshness::Accepted(findings)) = fs.vault().freshness() {
        record_with(fs, EventName::AcceptRollback, json!({ "findings": findings }));
    }
    // Where no key may be used without a line, there is no mount without its own.
    if let Some(kept) = fs.trail().filter(|_| plan.options.trail.fails_closed()) {
        kept.check_writable()?;
    }
    let noted = fs.vault().note_served(!plan.options.trail.off);
    noted.map_err(|error| vault_failure(&plan.vault, error))?;
    tell_age(fs, &plan.vault);
    Ok(())
}

fn serve_requests(start: Start<'_>, fs: &Arc<Fs>, mount: &Arc<MountGuard>) -> Result<(), Failure> {
    let Start { plan, lock, keys, background, log_is_kept, device, signals } = start;
    let mountpoint = plan.mountpoint.path.shown();
    let settings = Settings {
        mount: mount.id(),
        writeback: !plan.options.no_writeback,
        busy_poll: plan.options.spin.limit(),
    };
    let session = Session::start(device, Arc::clone(fs), settings)
        .context(Exit::Mount, || format!("{mountpoint}: the FUSE handshake"))?;
    mount.tune();
    if !plan.options.flags.read_only {
        space::watch(fs, mount.device())?;
    }
    let service = DaemonService::new(plan, Arc::clone(fs), keys, Arc::clone(session.connection()));
    let service = Arc::new(service);
    scheduler::spawn(&service)?;
    let server = listen(plan, Arc::clone(&service));
    unmount_on_signal(signals, Arc::clone(mount), service)?;
    if !log_is_kept {
        warn_user(
            "there is no syslog here: the daemon's log is lost unless --log-file names a place",
        );
    }
    drop(lock);
    match background {
        Some(background) => background.detach()?,
        // Else the directory in which it was started could not be unmounted.
        None => std::env::set_current_dir("/")?,
    }
    log::info!("mounted {} on {mountpoint}", plan.vault.shown());
    let recovery = Recovery::start(fs);
    let ended = session.run();
    if let Err(error) = &ended {
        log::error!("{mountpoint}: the FUSE session failed: {error}");
    }
    if let Some(server) = server {
        server.stop();
    }
    if let Some(recovery) = recovery {
        recovery.finish();
    }
    ended.context(Exit::Failed, || "the FUSE session".to_owned())
}

/// Records the begin or the end of the mount, by the user who runs the daemon.
fn record(fs: &Fs, name: EventName, plan: &Plan) {
    let epochs = fs.vault().context().epochs();
    let details = json!({
        "mountpoint": plan.mountpoint.path.to_string_lossy(),
        "readOnly": plan.options.flags.read_only,
        "epoch": epochs.current,
        "afterCleanEnd": !epochs.crashed(Epoch(epochs.current.0.saturating_sub(1))),
    });
    record_with(fs, name, details);
}

fn record_with(fs: &Fs, name: EventName, details: Value) {
    let Some(kept) = fs.trail() else { return };
    let mut event = {
        let ring = fs.vault().context().ring();
        of_key(name, &ring, ring.default_key().name(), Subject::this_process())
    };
    event.parameters.details = Some(details);
    keep_events(kept, [event]);
}

/// The control socket. A mount without one works; only nobody can ask it anything.
fn listen(plan: &Plan, served: Arc<DaemonService>) -> Option<Server> {
    let user = rustix::process::geteuid().as_raw();
    let listening = SocketPath::of(&plan.vault, user)
        .and_then(|place| Server::listen(&place, plan.options.admin_group, served));
    listening.inspect_err(|error| log::warn!("there is no control socket: {error}")).ok()
}

fn unmount_on_signal(
    signals: BlockedSignals,
    mount: Arc<MountGuard>,
    served: Arc<DaemonService>,
) -> io::Result<()> {
    let wait = move || {
        while let Ok(signal) = signals.wait() {
            log::info!("{signal}: unmounting");
            if let Err(error) = mount.unmount_or_detach() {
                end_mounted(&error, &served);
            }
        }
    };
    thread::Builder::new().name("signals".to_owned()).spawn(wait).map(|_| ())
}

/// Ends a daemon that can't unmount: what programs wrote is durable first. The next mount of the vault
/// finds one that did not end cleanly.
fn end_mounted(error: &NotUnmounted, served: &DaemonService) -> ! {
    log::error!("{error}: the daemon ends and leaves its mount, which `atrest umount` takes away");
    if let Err(error) = served.write_back() {
        log::error!("what was written may not be durable: {error}");
    }
    served.end_trail();
    log::logger().flush();
    std::process::exit(Exit::Failed as i32)
}
