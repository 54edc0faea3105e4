//! The chain: each line ends with a MAC of itself and of the line before.

use std::fmt;
use std::str::FromStr;

use base64::prelude::{BASE64_STANDARD, Engine};

use super::Line;
use crate::crypto::{MacKey, scrubbed};

/// The bytes around the MAC at the end of a line.
const MAC_PREFIX: &[u8] = b",\"chain\":\"";
const MAC_SUFFIX: &[u8] = b"\"}";
/// The length of a MAC in base64.
const MAC_TEXT_LEN: usize = 44;

/// The MAC that links a line to all before it (HMAC-SHA256).
pub(super) type Link = [u8; MacKey::LEN];

/// The end of a trail: the number of the last line and its link. Kept elsewhere, it proves later
/// whether the trail still holds that line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The line's number; 0 before the first.
    pub sequence: u64,
    pub(super) link: Link,
}

impl Head {
    /// Before the first line.
    pub(super) const START: Self = Self { sequence: 0, link: [0; MacKey::LEN] };
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.sequence, BASE64_STANDARD.encode(self.link))
    }
}

impl FromStr for Head {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text.trim().split_once(':');
        let head = parts.and_then(|(sequence, link)| {
            let link = link_from_text(link.as_bytes())?;
            Some(Self { sequence: sequence.parse().ok()?, link })
        });
        head.ok_or(
            "a head is a number, a colon and 44 characters, as `atrest trail head` prints it",
        )
    }
}

pub(super) fn link_to_text(link: &Link) -> String {
    BASE64_STANDARD.encode(link)
}

pub(super) fn link_from_text(text: &[u8]) -> Option<Link> {
    BASE64_STANDARD.decode(text).ok()?.try_into().ok()
}

/// Numbers and links lines.
#[derive(Debug, Clone)]
pub(super) struct Chain {
    key: MacKey,
    head: Head,
    /// A buffer for the last link and a line.
    scratch: Vec<u8>,
}

impl Chain {
    /// A chain that continues after `head`.
    pub fn after(key: MacKey, head: Head) -> Self {
        Self { key, head, scratch: Vec::new() }
    }

    /// The last line.
    pub fn head(&self) -> Head {
        self.head
    }

    /// Gives a line its number and its link, and appends it to `out`. The caller wipes the stack
    /// ([`scrubbed`]), once for many lines.
    pub fn append(&mut self, line: &mut Line<'_>, out: &mut Vec<u8>) -> serde_json::Result<()> {
        line.sequence = self.head.sequence + 1;
        let begin = out.len();
        serde_json::to_writer(&mut *out, line)?;
        // Without the closing brace.
        out.pop();
        let link = self.link(&out[begin..]);
        out.extend_from_slice(MAC_PREFIX);
        out.extend_from_slice(link_to_text(&link).as_bytes());
        out.extend_from_slice(MAC_SUFFIX);
        out.push(b'\n');
        self.head = Head { sequence: line.sequence, link };
        Ok(())
    }

    /// Continues after `head`, whether or not that line fits.
    pub fn continue_from(&mut self, head: Head) {
        self.head = head;
    }

    /// Whether a line is the next one.
    pub fn fits(&mut self, sequence: u64, body: &[u8], link: Link) -> bool {
        sequence == self.head.sequence.wrapping_add(1) && scrubbed(|| self.link(body)) == link
    }

    fn link(&mut self, body: &[u8]) -> Link {
        self.scratch.clear();
        self.scratch.extend_from_slice(&self.head.link);
        self.scratch.extend_from_slice(body);
        self.key.mac_of_many(&self.scratch)
    }
}

/// Splits a line, without its newline, into the body and its link; `None` where it has no link.
pub(super) fn split(line: &[u8]) -> Option<(&[u8], Link)> {
    let rest = line.strip_suffix(MAC_SUFFIX)?;
    let (rest, link) = rest.split_at_checked(rest.len().checked_sub(MAC_TEXT_LEN)?)?;
    Some((rest.strip_suffix(MAC_PREFIX)?, link_from_text(link)?))
}

/// Writes the body of a line, as [`split`] returns it, to `out` as complete JSON.
pub(super) fn close_json(body: &[u8], out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(body);
    out.push(b'}');
}
