//! The chain: each line carries a MAC of itself and of the one before.

use std::fmt;
use std::str::FromStr;

use base64::prelude::{BASE64_STANDARD, Engine};

use super::Line;
use crate::crypto::{MacKey, scrubbed};

/// What stands before the MAC at the end of a line, and behind it.
const BEFORE: &[u8] = b",\"chain\":\"";
const BEHIND: &[u8] = b"\"}";
/// Characters of a MAC in base64.
const TEXT_LEN: usize = 44;

/// The MAC that links a line to all before it (HMAC-SHA256).
pub(super) type Link = [u8; MacKey::LEN];

/// The end of a trail: how many lines there are, and the last one's link. Kept elsewhere, it shows
/// later that the trail still holds the line.
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

/// Puts lines one behind the other.
#[derive(Debug, Clone)]
pub(super) struct Chain {
    key: MacKey,
    head: Head,
    /// The last link and a line, one behind the other.
    scratch: Vec<u8>,
}

impl Chain {
    /// That goes on behind `head`.
    pub fn after(key: MacKey, head: Head) -> Self {
        Self { key, head, scratch: Vec::new() }
    }

    /// Where it ends.
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
        out.extend_from_slice(BEFORE);
        out.extend_from_slice(link_to_text(&link).as_bytes());
        out.extend_from_slice(BEHIND);
        out.push(b'\n');
        self.head = Head { sequence: line.sequence, link };
        Ok(())
    }

    /// Goes on behind a line, whether or not it belongs here.
    pub fn go_on_behind(&mut self, head: Head) {
        self.head = head;
    }

    /// Whether a line belongs behind the last one.
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

/// A whole line, without its end, as what was linked and the link; `None` for what has none.
pub(super) fn split(line: &[u8]) -> Option<(&[u8], Link)> {
    let rest = line.strip_suffix(BEHIND)?;
    let (rest, link) = rest.split_at_checked(rest.len().checked_sub(TEXT_LEN)?)?;
    Some((rest.strip_suffix(BEFORE)?, link_from_text(link)?))
}

/// A line, without its end, as JSON that can be read: an unlinked body closed again.
pub(super) fn closed(body: &[u8], out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(body);
    out.push(b'}');
}
