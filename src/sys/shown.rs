//! Names as text for a person. A file's name may hold bytes that are commands to a terminal, end a line of a
//! log, or change the direction of text.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt::{self, Write};
use std::path::Path;

/// A name as it is shown: control characters, those that change the direction of text, bytes that
/// are no UTF-8 and the backslash are written as escapes, so that two names never look the same.
#[derive(Debug, Clone, Copy)]
pub struct Shown<'a>(&'a [u8]);

/// What can be shown.
pub trait Show {
    /// Its form for a terminal or a log.
    fn shown(&self) -> Shown<'_>;
}

impl Show for Path {
    fn shown(&self) -> Shown<'_> {
        Shown(self.as_os_str().as_encoded_bytes())
    }
}

impl Show for OsStr {
    fn shown(&self) -> Shown<'_> {
        Shown(self.as_encoded_bytes())
    }
}

impl Show for str {
    fn shown(&self) -> Shown<'_> {
        Shown(self.as_bytes())
    }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                if c == '\\' {
                    f.write_str("\\\\")?;
                } else if is_harmless(c) {
                    f.write_char(c)?;
                } else {
                    escape(f, c)?;
                }
            }
            chunk.invalid().iter().try_for_each(|byte| write!(f, "\\x{byte:02x}"))?;
        }
        Ok(())
    }
}

/// Text in which names may stand that were not [`Shown`]: as [`Shown`], but that a backslash stays,
/// and the end of a line where there may be many.
pub fn harmless(text: &str, many_lines: bool) -> Cow<'_, str> {
    let stays = |c| is_harmless(c) || (many_lines && c == '\n');
    if text.chars().all(stays) {
        return text.into();
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if stays(c) {
            safe.push(c);
        } else {
            // Writing to a string does not fail.
            let _ = escape(&mut safe, c);
        }
    }
    safe.into()
}

/// JSON in which such characters are escaped (RFC 8259, section 7), with the same meaning.
pub fn harmless_json(json: &str) -> Cow<'_, str> {
    let stays = |c: char| is_harmless(c) || c == '\n';
    if json.chars().all(stays) {
        return json.into();
    }
    let mut safe = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if stays(c) {
            safe.push(c);
        } else {
            // All of them are of the basic plane, and none but in a string.
            let _ = write!(safe, "\\u{:04x}", u32::from(c));
        }
    }
    safe.into()
}

fn escape(to: &mut impl Write, c: char) -> fmt::Result {
    match c {
        '\n' => to.write_str("\\n"),
        '\r' => to.write_str("\\r"),
        '\t' => to.write_str("\\t"),
        '\0'..='\x7f' => write!(to, "\\x{:02x}", u32::from(c)),
        c => write!(to, "\\u{{{:x}}}", u32::from(c)),
    }
}

/// Whether it is neither a control character (Unicode category Cc) nor one of those that order text
/// (UAX #9, section 2) or break lines (UAX #14, BK).
fn is_harmless(c: char) -> bool {
    !c.is_control()
        && !matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn nothing_reaches_a_terminal_but_text() {
        let cases: [(&[u8], &str); 7] = [
            (b"plain name.txt", "plain name.txt"),
            ("Grüße – 日本".as_bytes(), "Grüße – 日本"),
            (b"a\x1b]0;title\x07\x7f", r"a\x1b]0;title\x07\x7f"),
            (b"two\nlines\tand\r\0", r"two\nlines\tand\r\x00"),
            (b"\xff\xc3(\xe2\x80", r"\xff\xc3(\xe2\x80"),
            ("\u{9b}31m\u{202e}gpj.\u{2069}".as_bytes(), r"\u{9b}31m\u{202e}gpj.\u{2069}"),
            (br"back\slash\x1b", r"back\\slash\\x1b"),
        ];
        for (name, shown) in cases {
            assert_eq!(OsStr::from_bytes(name).shown().to_string(), shown);
        }
    }

    #[test]
    fn text_keeps_what_is_harmless() {
        assert_eq!(harmless("a\\x1b\u{1b}\n", false), "a\\x1b\\x1b\\n");
        assert_eq!(harmless("a\tb\n", true), "a\\tb\n");
        let json = serde_json::to_string_pretty(&["\u{1b}\u{7f}\u{9b}\u{202e}\n\\"]).unwrap();
        let safe = harmless_json(&json);
        assert!(safe.chars().all(|c| is_harmless(c) || c == '\n'));
        let back: [String; 1] = serde_json::from_str(&safe).unwrap();
        assert_eq!(back, ["\u{1b}\u{7f}\u{9b}\u{202e}\n\\"]);
    }
}
