//! `atrest mount`: from the command line to a mount that answers.

use std::path::{Path, PathBuf};

use crate::cli::mount_switches::Switches;
use crate::cli::status::is_opened_read_only;
use crate::cli::target::Target;
use crate::daemon::options::Options;
use crate::daemon::plan::Plan;
use crate::daemon::session;
use crate::service::failure::{Context, Exit, Failure};
use crate::service::passphrase::UnlockArgs;
use crate::sys::{
    self, Forked, InheritedDescriptors, MountTable, Show, Starting, fork_to_background,
};

/// Mount a vault on an empty directory.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct Args {
    /// The vault
    pub vault: PathBuf,
    /// The empty directory on which it appears
    pub mountpoint: PathBuf,
    /// Stay in the foreground, and log to the terminal
    #[arg(short, long)]
    pub foreground: bool,
    /// The vault's key file [default: $ATREST_KEY_FILE, or the place where init put it]
    #[arg(long, value_name = "F")]
    pub key_file: Option<PathBuf>,
    #[command(flatten)]
    pub unlock: UnlockArgs,
    #[command(flatten)]
    pub switches: Switches,
    /// Options as in fstab(5): ro, rw, suid, dev, noexec, noatime, sync, remount,
    /// allow_other, default_permissions, key-file=F, passphrase-file=F, max-argon2-memory=MIB,
    /// log-file=F, no-writeback, strict, accept-rollback,
    /// admin-group=G, spin=USECS, trail=DIR, no-trail, …
    #[arg(short = 'o', value_name = "OPT[,OPT…]")]
    pub options: Vec<String>,
}

impl Args {
    /// A plain mount.
    pub fn of(vault: PathBuf, mountpoint: PathBuf) -> Self {
        Self {
            vault,
            mountpoint,
            foreground: false,
            key_file: None,
            unlock: UnlockArgs::default(),
            switches: Switches::default(),
            options: Vec::new(),
        }
    }

    /// All options, whether they came as a switch or with `-o`. A switch wins.
    fn combined(&self) -> Result<Options, Failure> {
        let mut options = Options::default();
        self.options.iter().try_for_each(|list| options.apply(list))?;
        self.switches.apply(&mut options)?;
        if options.admin_group.is_some() && !rustix::process::geteuid().is_root() {
            let message = "--admin-group is for a mount that root makes: nobody reaches the socket of another user's daemon";
            return Err(Failure::new(Exit::Usage, message));
        }
        options.key_file = self.key_file.clone().or(options.key_file);
        if self.unlock != UnlockArgs::default() {
            options.unlock = self.unlock.clone();
        }
        Ok(options)
    }
}

/// Mounts, and returns when the mount answers; in the foreground, when it has ended.
///
/// # Errors
/// What kept it from being mounted; nothing is then.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let inherited = InheritedDescriptors::note();
    let options = args.combined()?;
    if options.remount {
        return remount(args);
    }
    let (plan, lock) = Plan::of(&args.vault, &args.mountpoint, options, args.foreground)?;
    if plan.foreground {
        return session::run(&plan, lock, None, inherited);
    }
    match fork_to_background()? {
        Forked::Child(background) => session::run(&plan, lock, Some(background), inherited),
        Forked::Parent(starting) => wait_for_mount(starting, &plan.mountpoint.path),
    }
}

fn wait_for_mount(starting: Starting, mountpoint: &Path) -> Result<Exit, Failure> {
    starting.wait().map_err(|ended| match ended {
        Some(code) if code != 0 => Failure::already_reported(Exit::from_code(code)),
        _ => Failure::new(Exit::Failed, "the daemon died before the mount was ready"),
    })?;
    let answers = rustix::fs::statfs(mountpoint).and_then(|_| rustix::fs::stat(mountpoint));
    answers.context(Exit::Mount, || {
        format!("mounted on {}, but the mount does not answer", mountpoint.shown())
    })?;
    Ok(Exit::Done)
}

/// Changes the flags of the mount: `ro` and `rw`, `suid`, `dev`, `exec`, `sync`. All else is as it was.
///
/// # Errors
/// [`Exit::Mount`] where no vault is mounted, or the kernel says no, as while a file is open for
/// writing; [`Exit::Usage`] for `rw` where the daemon has opened the vault to read it only, and for
/// another rule of the times of access.
fn remount(args: &Args) -> Result<Exit, Failure> {
    let shown = args.mountpoint.shown();
    let target = Target::find(&args.mountpoint)?;
    let Some(mounted) = &target.mounted else {
        return Err(Failure::new(Exit::Mount, format!("no vault is mounted on {shown}")));
    };
    let now = MountTable::read()?.flags_at(&mounted.mountpoint).unwrap_or_default();
    let mut options = Options { flags: now, ..Options::default() };
    args.options.iter().try_for_each(|list| options.apply(list))?;
    args.switches.apply(&mut options)?;
    if options.flags.atime != now.atime {
        let message = format!(
            "{shown} keeps the rule for times of access with which it was mounted: unmount it, and \
             mount it with the other one"
        );
        return Err(Failure::new(Exit::Usage, message));
    }
    if now.read_only && !options.flags.read_only && is_opened_read_only(&target)? {
        let message = format!(
            "{shown} can't be made writable: its daemon has opened the vault to read it only; \
             unmount it and mount it with rw"
        );
        return Err(Failure::new(Exit::Usage, message));
    }
    sys::remount(&mounted.mountpoint, options.flags)
        .context(Exit::Mount, || format!("{shown} can't be remounted"))?;
    Ok(Exit::Done)
}
