//! What a request may say: each path and number is bounded before anything is done with it, since
//! nobody knows which program has sent it.

use std::path::{Component, Path};

use crate::service::failure::{Exit, Failure};
use crate::service::key_change::{Action, KeyChange};
use crate::service::request::{FileWork, PolicyChange, Request, TrailRequest};
use crate::store::METADATA_DIR;
use crate::trail::Filter;

/// Bytes of the longest path. A tree can be deeper than one that the kernel takes at once (limits.h:
/// PATH_MAX), and the walk below takes it in parts.
const LONGEST_PATH: usize = 256 * 1024;
/// Bytes of the longest name of a key, or of a head of the trail.
const LONGEST_NAME: usize = 256;
/// Groups that a process can be in (limits.h: NGROUPS_MAX).
const MOST_GROUPS: usize = 65_536;
/// Days of the longest period: a hundred years.
const MOST_DAYS: u32 = 36_525;
/// Kinds of events that a filter can name.
const MOST_EVENTS: usize = 256;

impl Request {
    /// Whether all that it says is within bounds.
    ///
    /// # Errors
    /// [`Exit::Usage`] that names the bound.
    pub fn check(&self) -> Result<(), Failure> {
        match self {
            Self::Status | Self::Keys | Self::Policies => Ok(()),
            Self::Simulate { groups, path, .. } => {
                at_most("groups", groups.len(), MOST_GROUPS)?;
                in_vault(path)
            }
            Self::Change(change) => change.check(),
            Self::Policy(change) => change.check(),
            Self::Work(FileWork::Rewrap { to, .. }) => to.as_deref().map_or(Ok(()), name),
            Self::Work(FileWork::Retire { name: key, .. } | FileWork::Count { name: key }) => {
                name(key)
            }
            Self::Work(FileWork::Assign { name: key, path }) => name(key).and(in_vault(path)),
            Self::Trail(TrailRequest::Flush) => Ok(()),
            Self::Note(_, mark) | Self::KeyFile(mark) => match mark.is_sound() {
                true => Ok(()),
                false => Err(Failure::new(Exit::Usage, "that is no state of a key file")),
            },
            Self::Trail(TrailRequest::Lines(filter)) => check_filter(filter),
            Self::Trail(TrailRequest::WhoRead(path)) | Self::Verify { path } => in_vault(path),
            Self::Trail(TrailRequest::Acknowledge(reason)) => {
                at_most("bytes of a reason", reason.len(), 1_000)
            }
            Self::Trail(TrailRequest::Verify(head)) => head.as_deref().map_or(Ok(()), name),
        }
    }
}

impl KeyChange {
    fn check(&self) -> Result<(), Failure> {
        name(&self.name)?;
        match self.action {
            Action::Create { rotate_every: days }
            | Action::Rotate { rotate_every: Some(days) }
            | Action::ScheduleDeletion { days } => {
                at_most("days", days as usize, MOST_DAYS as usize)
            }
            Action::Rotate { rotate_every: None }
            | Action::Enable
            | Action::Disable
            | Action::CancelDeletion
            | Action::Destroy => Ok(()),
        }
    }
}

impl PolicyChange {
    fn check(&self) -> Result<(), Failure> {
        name(&self.name)?;
        self.grant.under.as_deref().map_or(Ok(()), |path| in_vault(Path::new(path)))
    }
}

fn check_filter(filter: &Filter) -> Result<(), Failure> {
    at_most("events", filter.events.len(), MOST_EVENTS)?;
    filter.key.as_deref().map_or(Ok(()), name)?;
    // It is compared with paths, and leads nowhere.
    at_most("bytes of a path", filter.path.as_ref().map_or(0, String::len), LONGEST_PATH)
}

/// Refuses a path that is not one in the mount, from its root.
fn in_vault(path: &Path) -> Result<(), Failure> {
    at_most("bytes of a path", path.as_os_str().len(), LONGEST_PATH)?;
    let is_plain = path.components().all(|part| matches!(part, Component::Normal(_)));
    let has_nul = path.as_os_str().as_encoded_bytes().contains(&0);
    if !is_plain || has_nul || path.starts_with(METADATA_DIR) {
        return Err(refused("a path that is not one in the mount, from its root".to_owned()));
    }
    Ok(())
}

fn name(name: &str) -> Result<(), Failure> {
    at_most("bytes of a name", name.len(), LONGEST_NAME)
}

fn at_most(what: &str, found: usize, most: usize) -> Result<(), Failure> {
    if found <= most { Ok(()) } else { Err(refused(format!("{found} {what}, more than {most}"))) }
}

fn refused(what: String) -> Failure {
    Failure::new(Exit::Usage, format!("the request has {what}"))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::fs::Operation;

    #[test]
    fn paths_that_are_none_in_the_mount() {
        let long = "a/".repeat(150_000);
        let bad =
            ["/", "/etc/passwd", "..", "a/../..", "a/..", "./a", ".atrest", ".atrest/x", "a\0"];
        let simulate = |path: PathBuf| Request::Simulate {
            uid: 0,
            gid: 0,
            groups: Vec::new(),
            path,
            operation: Operation::Read,
        };
        let assign = |path| FileWork::Assign { name: "default".to_owned(), path };
        let each = |path: &str| {
            let path = PathBuf::from(path);
            let who_read = Request::Trail(TrailRequest::WhoRead(path.clone()));
            let verify = Request::Verify { path: path.clone() };
            [verify, who_read, simulate(path.clone()), Request::Work(assign(path))]
        };
        for path in bad.into_iter().chain([long.as_str()]) {
            for request in each(path) {
                let refused = request.check().map_err(|failure| failure.exit);
                assert_eq!(refused, Err(Exit::Usage), "{request:?}");
            }
        }
        for path in ["", "a", "a/b", "...", "a/.atrest", ".atrest2"] {
            assert!(each(path).iter().all(|request| request.check().is_ok()), "{path}");
        }
    }

    #[test]
    fn numbers_that_are_too_large() {
        use crate::service::key_change::Action;
        let change = |name: &str, action| {
            Request::Change(KeyChange { name: name.to_owned(), action, dry_run: true }).check()
        };
        change("default", Action::Create { rotate_every: 365 }).unwrap();
        change("default", Action::Create { rotate_every: u32::MAX }).unwrap_err();
        change("default", Action::ScheduleDeletion { days: u32::MAX }).unwrap_err();
        change(&"x".repeat(1000), Action::Enable).unwrap_err();
        let lines = |filter| Request::Trail(TrailRequest::Lines(filter)).check();
        lines(Filter::default()).unwrap();
        lines(Filter { path: Some("x".repeat(300_000)), ..Filter::default() }).unwrap_err();
    }
}
