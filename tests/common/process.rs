//! Running programs with a limit on their time and their output at hand when they fail.

use std::fmt;
use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long a program may take unless the test says otherwise.
const LIMIT: Duration = Duration::from_secs(120);

/// A program that ended: its exit and what it printed.
pub struct Outcome {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
    what: String,
}

impl Outcome {
    /// The exit code; a program that a signal ended has none and fails the test.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| panic!("ended by a signal: {self}"))
    }

    pub fn success(&self) -> bool {
        self.status.success()
    }

    /// Fails the test, with all that the program printed, unless it exited with 0.
    #[track_caller]
    pub fn ok(self) -> Outcome {
        assert!(self.success(), "{self}");
        self
    }

    /// Fails the test unless the program failed by itself, with an exit code.
    #[track_caller]
    pub fn fails(self) -> Outcome {
        assert!(!self.success(), "should have failed: {self}");
        self.code();
        self
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Outcome { status, stdout, stderr, what } = self;
        write!(f, "{what}: {status}\n--- stdout\n{stdout}\n--- stderr\n{stderr}")
    }
}

impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Runs a program to its end.
#[track_caller]
pub fn run(command: &mut Command) -> Outcome {
    run_within(LIMIT, command)
}

/// Runs a program to its end, which must come within `limit`. Its output goes through files, so
/// that a daemon it leaves behind can't keep the test waiting for the end of a pipe.
#[track_caller]
pub fn run_within(limit: Duration, command: &mut Command) -> Outcome {
    let what = format!("{command:?}");
    let mut stdout = tempfile::tempfile().expect("a file for the output");
    let mut stderr = tempfile::tempfile().expect("a file for the output");
    command
        .stdin(Stdio::null())
        .stdout(stdout.try_clone().unwrap())
        .stderr(stderr.try_clone().unwrap());
    let mut child = command.spawn().unwrap_or_else(|e| panic!("can't run {what}: {e}"));
    let status = match wait_until(limit, || child.try_wait().expect("waitpid")) {
        Some(status) => status,
        None => {
            let _ = child.kill();
            let status = child.wait().expect("waitpid");
            let (stdout, stderr) = (text(&mut stdout), text(&mut stderr));
            panic!("not done in {limit:?}: {}", Outcome { status, stdout, stderr, what });
        }
    };
    Outcome { status, stdout: text(&mut stdout), stderr: text(&mut stderr), what }
}

fn text(file: &mut File) -> String {
    let mut bytes = Vec::new();
    file.rewind().expect("rewind");
    file.read_to_end(&mut bytes).expect("read the output");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Asks again and again, at most every 10 ms, until there is an answer or `limit` is over.
pub fn wait_until<T>(limit: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    let mut pause = Duration::from_micros(200);
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if start.elapsed() > limit {
            return None;
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    }
}

/// The full path of a program, or a failure that says how to get it.
#[track_caller]
pub fn require(program: &str) -> PathBuf {
    found(program).unwrap_or_else(|| {
        panic!("this test needs `{program}`, which is not installed; scripts/test.sh installs what the tests need")
    })
}

/// The full path of a program in the `PATH`, in the places of system programs, or among the third
/// parties' test programs that scripts/test.sh builds (`ATREST_TEST_PROGRAMS`).
fn found(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let built =
        std::env::var_os("ATREST_TEST_PROGRAMS").map(PathBuf::from).or_else(default_programs);
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .chain(built)
        .map(|dir| dir.join(program))
        .find(|file| is_executable(file))
}

fn default_programs() -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))?;
    Some(cache.join("atrest-tests/bin"))
}

fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}
