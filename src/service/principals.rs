//! Users and groups by name or number, as the system's databases have them.

use std::ffi::CString;

use crate::service::failure::{Context, Exit, Failure};
use nix::unistd::{Gid, Group, Uid, User, getgrouplist};

/// A user's number, from their name or from the number itself.
///
/// # Errors
/// [`Exit::Usage`] for a name that nobody has.
pub fn user(text: &str) -> Result<u32, Failure> {
    if let Some(number) = number(text) {
        return Ok(number);
    }
    let found = User::from_name(text).context(Exit::Failed, || format!("the user `{text}`"))?;
    found.map(|user| user.uid.as_raw()).ok_or_else(|| unknown("user", text))
}

/// A group's number, from its name or from the number itself.
///
/// # Errors
/// [`Exit::Usage`] for a name that no group has.
pub fn group(text: &str) -> Result<u32, Failure> {
    if let Some(number) = number(text) {
        return Ok(number);
    }
    let found = Group::from_name(text).context(Exit::Failed, || format!("the group `{text}`"))?;
    found.map(|group| group.gid.as_raw()).ok_or_else(|| unknown("group", text))
}

/// A user's own group and their others, as a login would give them.
///
/// # Errors
/// [`Exit::Usage`] for a number that the system does not know.
pub fn groups_of(uid: u32) -> Result<(u32, Vec<u32>), Failure> {
    let failed = || format!("the groups of user {uid}");
    let user = User::from_uid(Uid::from_raw(uid)).context(Exit::Failed, failed)?;
    let user = user.ok_or_else(|| unknown("user", &uid.to_string()))?;
    let name = CString::new(user.name).context(Exit::Failed, failed)?;
    let groups = getgrouplist(&name, user.gid).context(Exit::Failed, failed)?;
    Ok((user.gid.as_raw(), groups.into_iter().map(Gid::as_raw).collect()))
}

/// A user's name, or the number of one who has none.
pub fn user_name(uid: u32) -> String {
    let found = User::from_uid(Uid::from_raw(uid)).ok().flatten();
    found.map_or_else(|| uid.to_string(), |user| user.name)
}

/// A group's name, or the number of one that has none.
pub fn group_name(gid: u32) -> String {
    let found = Group::from_gid(Gid::from_raw(gid)).ok().flatten();
    found.map_or_else(|| gid.to_string(), |group| group.name)
}

/// The last number is no user's: the kernel means «none» by it.
fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|number| *number != u32::MAX)
}

fn unknown(what: &str, text: &str) -> Failure {
    Failure::new(Exit::Usage, format!("there is no {what} `{text}` on this machine"))
}
