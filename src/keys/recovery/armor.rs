//! The recovery form as text for paper.
//!
//! Each line has a number, 20 bytes in Crockford's base32 and a checksum of two characters, which
//! finds a typing error in its line. Case does not matter; O reads as 0, I and L as 1. Lines outside
//! the armor and lines that do not start with a digit are comments.

use data_encoding::{Encoding, Specification};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::keys::ring::{KeyRing, now};
use crate::keys::{KeyError, RecoveryError};

const BEGIN: &str = "-----BEGIN ATREST RECOVERY-----";
const END: &str = "-----END ATREST RECOVERY-----";
const LINE_BYTES: usize = 20;

impl KeyRing {
    /// The whole ring as text, material included: it opens the vault without a passphrase.
    pub fn export_recovery(&self) -> Zeroizing<String> {
        let bytes = self.recovery_bytes();
        let lines = bytes.len().div_ceil(LINE_BYTES);
        let mut text = Zeroizing::new(String::with_capacity(512 + 64 * lines));
        text.push_str(BEGIN);
        text.push_str(&format!("\nVault: {}\nMade: {}\n", self.vault_id, now()));
        text.push_str("Whoever reads this can read the vault.\n\n");
        for (number, line) in (1..).zip(bytes.chunks(LINE_BYTES)) {
            push_line(&mut text, number, line);
        }
        text.push_str(END);
        text.push('\n');
        text
    }

    /// Reads a text of [`KeyRing::export_recovery`].
    ///
    /// # Errors
    /// [`RecoveryError::Line`] names the first line that is wrong or missing,
    /// [`RecoveryError::Damaged`] when it is none of them, [`RecoveryError::FromTheFuture`].
    pub fn import_recovery(text: &str) -> Result<Self, KeyError> {
        let encoding = base32();
        let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
        let mut lines = text.lines().map(str::trim);
        lines.by_ref().find(|line| *line == BEGIN).ok_or(RecoveryError::Damaged)?;
        let inside = lines.take_while(|line| *line != END);
        let numbered = inside.filter(|line| line.starts_with(|first: char| first.is_ascii_digit()));
        for (number, line) in (1..).zip(numbered) {
            let decoded = decode_line(&encoding, number, line);
            bytes.extend_from_slice(&decoded.ok_or(RecoveryError::Line(number))?);
        }
        Self::from_recovery_bytes(&bytes)
    }
}

/// Crockford's base32, without letters that look like digits.
fn base32() -> Encoding {
    let mut specification = Specification::new();
    specification.symbols.push_str("0123456789ABCDEFGHJKMNPQRSTVWXYZ");
    specification.translate.from.push_str("abcdefghjkmnpqrstvwxyzOoIiLl");
    specification.translate.to.push_str("ABCDEFGHJKMNPQRSTVWXYZ001111");
    specification.encoding().expect("32 symbols, and translations to them")
}

fn push_line(text: &mut String, number: u32, line: &[u8]) {
    let encoding = base32();
    let symbols = Zeroizing::new(encoding.encode(line));
    text.push_str(&format!("{number:02} "));
    for (at, symbol) in symbols.char_indices() {
        if at % 4 == 0 {
            text.push(' ');
        }
        text.push(symbol);
    }
    text.push_str("  ");
    text.push_str(&check(&encoding, number, line));
    text.push('\n');
}

/// The bytes of a line; `None` unless it is line `number` with a valid checksum.
fn decode_line(encoding: &Encoding, number: u32, line: &str) -> Option<Zeroizing<Vec<u8>>> {
    let (found, rest) = line.split_once(char::is_whitespace)?;
    if found.parse() != Ok(number) {
        return None;
    }
    let mut symbols = Zeroizing::new(Vec::with_capacity(rest.len()));
    symbols.extend(rest.bytes().filter(|byte| !byte.is_ascii_whitespace() && *byte != b'-'));
    let (symbols, sum) = symbols.split_last_chunk::<2>()?;
    let bytes = Zeroizing::new(encoding.decode(symbols).ok()?);
    let sum: String = sum.iter().map(|&symbol| canonical(symbol)).collect();
    (sum == check(encoding, number, &bytes)).then_some(bytes)
}

/// The symbol that [`base32`] writes for this one.
fn canonical(symbol: u8) -> char {
    match symbol.to_ascii_uppercase() {
        b'O' => '0',
        b'I' | b'L' => '1',
        other => other.into(),
    }
}

/// Ten bits of SHA-256 over the line's number and bytes.
fn check(encoding: &Encoding, number: u32, line: &[u8]) -> String {
    let digest = Sha256::new().chain_update(number.to_le_bytes()).chain_update(line).finalize();
    let mut symbols = encoding.encode(&digest[..5]);
    symbols.truncate(2);
    symbols
}
