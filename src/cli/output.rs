//! Results go to stdout, as text or as JSON.

use std::io;

use serde::Serialize;

use crate::service::failure::{Context, Exit, Failure};
use crate::sys;

/// Prints a result to stdout: lines of text.
///
/// # Errors
/// Those of writing, except that a reader who has left (`atrest … | head`) is none.
pub fn print(text: &str) -> Result<(), Failure> {
    print_safe(&sys::harmless(text, true))
}

/// Prints a result to stdout as JSON.
///
/// # Errors
/// As [`print`].
pub fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let json = serde_json::to_string_pretty(value).context(Exit::Failed, || "the result".into())?;
    print_safe(&sys::harmless_json(&json))
}

fn print_safe(text: &str) -> Result<(), Failure> {
    use io::Write;
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.write_all(b"\n")) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
