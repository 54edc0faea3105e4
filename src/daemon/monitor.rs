//! The daemon's monitor: a process that unmounts the mount, and finds the processes that hold it busy.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use base64::prelude::{BASE64_STANDARD, Engine};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::service::failure::{Context, Exit, Failure};
use crate::sys::{self, Device, MountTable, UnmountError};

/// A mount that the daemon has made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    #[serde(serialize_with = "write_path", deserialize_with = "read_path")]
    mountpoint: OsString,
    #[serde(serialize_with = "write_path", deserialize_with = "read_path")]
    vault: OsString,
    device: (u32, u32),
}

/// Of any bytes, and in few: serde makes a list of numbers of them.
fn write_path<S: Serializer>(path: &OsString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&BASE64_STANDARD.encode(path.as_bytes()))
}

fn read_path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<OsString, D::Error> {
    let text = String::deserialize(deserializer)?;
    BASE64_STANDARD.decode(text).map(OsString::from_vec).map_err(de::Error::custom)
}

impl Made {
    /// That of a vault, on a mount point, with a device number.
    pub fn new(mountpoint: PathBuf, vault: PathBuf, device: Device) -> Self {
        let device = (device.major, device.minor);
        Self { mountpoint: mountpoint.into(), vault: vault.into(), device }
    }

    /// Where it is.
    pub fn mountpoint(&self) -> PathBuf {
        PathBuf::from(&self.mountpoint)
    }

    /// Its number.
    pub fn device(&self) -> Device {
        Device { major: self.device.0, minor: self.device.1 }
    }

    /// Whether it is still what lies on its mount point. Device numbers are used again, but not
    /// for the same vault, whose lock its daemon holds.
    pub fn is_there(&self) -> bool {
        let on_it = MountTable::read().ok().and_then(|table| table.vault_at(&self.mountpoint()));
        on_it.is_some_and(|mounted| {
            mounted.device == self.device() && mounted.vault.as_os_str() == self.vault
        })
    }
}

#[derive(Debug, Serialize, Deserialize)]
enum Question {
    /// That it is to be unmounted when asked: the first one, and no other.
    Made(Made),
    Unmount {
        lazily: bool,
    },
    Holders,
    HoldersElsewhere,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Answer {
    Done,
    Busy,
    NotMounted,
    Failed(String),
    /// Nobody, where it is empty.
    Holders(String),
}

impl Answer {
    /// With no more text than a message holds: paths make a list of holders as long as they like.
    fn cut(self) -> Self {
        const MAX_TEXT_LEN: usize = 4096;
        let cut = |said: String| said.chars().take(MAX_TEXT_LEN).collect();
        match self {
            Self::Failed(said) => Self::Failed(cut(said)),
            Self::Holders(said) => Self::Holders(cut(said)),
            other => other,
        }
    }
}

/// The daemon's side.
#[derive(Debug)]
pub struct Monitor(sys::Monitor);

impl Monitor {
    /// Starts it.
    ///
    /// # Errors
    /// [`Exit::Failed`].
    pub fn start() -> Result<Self, Failure> {
        let started = sys::Monitor::start();
        started
            .map(Self)
            .context(Exit::Failed, || "the daemon's monitor can't be started".to_owned())
    }

    /// Tells it which mount it is about.
    ///
    /// # Errors
    /// When it has ended, or does not understand.
    pub fn tell(&self, made: &Made) -> io::Result<()> {
        match self.ask(&Question::Made(made.clone()))? {
            Answer::Done => Ok(()),
            other => Err(io::Error::other(format!("{other:?}"))),
        }
    }

    /// Has the mount taken away.
    ///
    /// # Errors
    /// As [`sys::unmount`]; also when the monitor has ended.
    pub fn unmount(&self, lazily: bool) -> Result<(), NotUnmounted> {
        match self.ask(&Question::Unmount { lazily }).map_err(NotUnmounted::NoMonitor)? {
            Answer::Done => Ok(()),
            Answer::Busy => Err(NotUnmounted::Busy),
            Answer::NotMounted => Err(NotUnmounted::NotMounted),
            Answer::Failed(said) | Answer::Holders(said) => Err(NotUnmounted::Failed(said)),
        }
    }

    /// The processes that hold it busy.
    pub fn holders(&self) -> String {
        self.list(&Question::Holders)
    }

    /// The processes that have it in another mount namespace; empty for none.
    pub fn holders_elsewhere(&self) -> String {
        self.list(&Question::HoldersElsewhere)
    }

    fn list(&self, question: &Question) -> String {
        match self.ask(question) {
            Ok(Answer::Holders(holders)) => holders,
            _ => String::new(),
        }
    }

    fn ask(&self, question: &Question) -> io::Result<Answer> {
        let answer = self.0.ask(&serde_json::to_vec(question)?)?;
        Ok(serde_json::from_slice(&answer)?)
    }
}

/// Why the monitor did not unmount.
#[derive(Debug, thiserror::Error)]
pub enum NotUnmounted {
    /// A process has a file or a directory of it open.
    #[error("the mount is in use")]
    Busy,
    /// Nothing is mounted there.
    #[error("nothing is mounted there")]
    NotMounted,
    /// The kernel, or fusermount3, said no.
    #[error("{0}")]
    Failed(String),
    /// There is no monitor any more.
    #[error("the daemon's monitor, which unmounts for it, has ended ({0})")]
    NoMonitor(io::Error),
}

/// The monitor's process, until the daemon ends.
///
/// # Errors
/// [`Exit::Failed`].
pub fn run() -> Result<Exit, Failure> {
    let mut made = None;
    let served = sys::serve_daemon(|question| {
        let answer = match serde_json::from_slice(question) {
            Ok(question) => answer(question, &mut made),
            Err(error) => Answer::Failed(error.to_string()),
        };
        serde_json::to_vec(&answer.cut()).unwrap_or_default()
    });
    // A daemon that has ended reads no answer.
    served.map(|()| Exit::Done).context(Exit::Failed, || "the monitor".to_owned())
}

fn answer(question: Question, made: &mut Option<Made>) -> Answer {
    let mount = match (question, made) {
        (Question::Made(_), Some(_)) => return Answer::Failed("it has a mount".to_owned()),
        (Question::Made(told), made @ None) => {
            *made = Some(told);
            return Answer::Done;
        }
        (_, None) => return Answer::Failed("it has no mount".to_owned()),
        (question, Some(made)) => (question, made.clone()),
    };
    let (vault, device) = (PathBuf::from(&mount.1.vault), mount.1.device());
    let at = mount.1.mountpoint();
    match mount.0 {
        Question::Made(_) => Answer::Done,
        Question::Unmount { .. } if !mount.1.is_there() => Answer::NotMounted,
        Question::Unmount { lazily } => {
            let unmounted = if lazily { sys::detach(&at) } else { sys::unmount(&at) };
            match unmounted {
                Ok(()) => Answer::Done,
                Err(UnmountError::Busy) => Answer::Busy,
                Err(UnmountError::NotMounted) => Answer::NotMounted,
                Err(error) => Answer::Failed(error.to_string()),
            }
        }
        Question::Holders => {
            let found = sys::search_holders(move || sys::holders(&at, device));
            Answer::Holders(sys::describe_holders(&found))
        }
        Question::HoldersElsewhere => {
            let elsewhere = sys::search_holders(move || sys::holders_elsewhere(&vault, device));
            let none = elsewhere.is_empty();
            Answer::Holders(if none { String::new() } else { sys::describe_holders(&elsewhere) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever their bytes are.
    #[test]
    fn the_longest_paths_of_the_kernel_fit_into_a_question() {
        let longest = |byte| PathBuf::from(OsString::from_vec(vec![byte; 4095]));
        let device = Device { major: 0, minor: 1 };
        let made = Made::new(longest(b'\xff'), longest(b'\n'), device);
        let question = serde_json::to_vec(&Question::Made(made.clone())).unwrap();
        assert!(question.len() < 16 << 10, "{}", question.len());
        let Ok(Question::Made(told)) = serde_json::from_slice(&question) else { panic!() };
        assert_eq!(told, made);
        let holders = Answer::Holders("\\".repeat(100_000)).cut();
        assert!(serde_json::to_vec(&holders).unwrap().len() < 16 << 10);
    }

    fn made(mountpoint: &str) -> Made {
        let device = Device { major: 4095, minor: 1 };
        Made::new(mountpoint.into(), "/vault".into(), device)
    }

    #[test]
    fn the_monitor_unmounts_one_mount_alone() {
        let mut told = None;
        let unmount = || Question::Unmount { lazily: true };
        assert!(matches!(answer(unmount(), &mut told), Answer::Failed(_)));
        assert_eq!(answer(Question::Made(made("/nowhere")), &mut told), Answer::Done);
        assert!(matches!(answer(Question::Made(made("/proc")), &mut told), Answer::Failed(_)));
        assert_eq!(told, Some(made("/nowhere")));
        assert_eq!(answer(unmount(), &mut told), Answer::NotMounted);
        // What is mounted there is another.
        let mut told = Some(made("/proc"));
        assert_eq!(answer(unmount(), &mut told), Answer::NotMounted);
    }
}
