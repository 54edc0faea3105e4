//! `mount -o remount`: other flags for a vault that is mounted.

use crate::sys::{self, MountTable, Show};

use super::exit::{Context, Exit, Failure};
use super::mount::Args;
use super::options::Options;
use super::status::Status;
use super::target::Target;

/// Changes the flags of the mount: `ro` and `rw`, `suid`, `dev`, `exec`, `sync`. All else is as it was.
///
/// # Errors
/// [`Exit::Mount`] where no vault is mounted, or the kernel says no, as while a file is open for
/// writing; [`Exit::Usage`] for `rw` where the daemon has opened the vault to read it only, and for
/// another rule of the times of access.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let shown = args.mountpoint.shown();
    let target = Target::find(&args.mountpoint)?;
    let Some(mounted) = &target.mounted else {
        return Err(Failure::new(Exit::Mount, format!("no vault is mounted on {shown}")));
    };
    let now = MountTable::read()?.flags_at(&mounted.mountpoint).unwrap_or_default();
    let mut options = Options { flags: now, ..Options::default() };
    args.options.iter().try_for_each(|list| options.apply(list))?;
    options.flags.read_only |= args.read_only;
    if options.flags.atime != now.atime {
        let sentence = format!(
            "{shown} keeps the rule for times of access with which it was mounted: unmount it, and \
             mount it with the other one"
        );
        return Err(Failure::new(Exit::Usage, sentence));
    }
    if now.read_only && !options.flags.read_only && Status::is_read_only(&target)? {
        let sentence = format!(
            "{shown} can't be made writable: its daemon has opened the vault to read it only; \
             unmount it and mount it with rw"
        );
        return Err(Failure::new(Exit::Usage, sentence));
    }
    sys::remount(&mounted.mountpoint, options.flags)
        .or_fail(Exit::Mount, || format!("{shown} can't be remounted"))?;
    Ok(Exit::Done)
}
