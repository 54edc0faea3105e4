//! JSON with a MAC of itself beside it: the small files of a vault, of its trail and of a machine.

use std::io;

use base64::prelude::{BASE64_STANDARD, Engine};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::crypto::MacKey;

/// An HMAC-SHA256 of a value's compact JSON, in base64.
#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JsonMac(String);

impl JsonMac {
    /// The MAC of `content`.
    ///
    /// # Errors
    /// Content that is no JSON.
    pub fn of(content: &impl Serialize, key: &MacKey) -> io::Result<Self> {
        Ok(Self(BASE64_STANDARD.encode(key.mac(&serde_json::to_vec(content)?))))
    }

    /// Whether it is the MAC of `content`.
    pub fn verifies(&self, content: &impl Serialize, key: &MacKey) -> bool {
        let mac = BASE64_STANDARD.decode(&self.0).ok().and_then(|mac| mac.try_into().ok());
        let content = serde_json::to_vec(content).ok();
        mac.zip(content).is_some_and(|(mac, content)| key.verify(&content, &mac).is_ok())
    }
}

/// Content and, as the last field, its MAC.
#[derive(Debug, Serialize, Deserialize)]
pub struct Authenticated<T> {
    #[serde(flatten)]
    content: T,
    mac: JsonMac,
}

impl<T: Serialize> Authenticated<T> {
    /// Gives `content` its MAC.
    ///
    /// # Errors
    /// Content that is no JSON.
    pub fn new(content: T, key: &MacKey) -> io::Result<Self> {
        Ok(Self { mac: JsonMac::of(&content, key)?, content })
    }

    /// As [`padded_line`].
    ///
    /// # Errors
    /// Content that is no JSON.
    pub fn to_line(&self, unit: usize) -> io::Result<Vec<u8>> {
        padded_line(self, unit)
    }

    /// As lines for a human reader.
    ///
    /// # Errors
    /// Content that is no JSON.
    pub fn to_lines(&self) -> io::Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec_pretty(self)?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}

impl<T: Serialize + DeserializeOwned> Authenticated<T> {
    /// The content of a file's bytes; `None` where it is not what was written.
    pub fn open(bytes: &[u8], key: &MacKey) -> Option<T> {
        let Self { content, mac } = serde_json::from_slice(bytes).ok()?;
        mac.verifies(&content, key).then_some(content)
    }
}

impl<T> Authenticated<T> {
    /// The content, which is not authenticated yet, and its MAC.
    pub fn into_unverified(self) -> (T, JsonMac) {
        (self.content, self.mac)
    }
}

/// `value` as one line of JSON, padded with spaces to a multiple of `unit` bytes: its successor has
/// the same length, and can overwrite it in place on a full disk.
///
/// # Errors
/// A value that is no JSON.
pub fn padded_line(value: &impl Serialize, unit: usize) -> io::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(value)?;
    bytes.resize((bytes.len() + 1).next_multiple_of(unit) - 1, b' ');
    bytes.push(b'\n');
    Ok(bytes)
}
