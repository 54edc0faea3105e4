//! JSON with a MAC of itself beside it: what a vault, and a machine, keep where others can write.

use std::io;

use base64::prelude::{BASE64_STANDARD, Engine};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::description;
use crate::crypto::MacKey;

/// Content and, as the last field, its MAC in base64: HMAC-SHA256 of the content's JSON.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Authenticated<T> {
    #[serde(flatten)]
    content: T,
    mac: String,
}

impl<T: Serialize> Authenticated<T> {
    /// Gives `content` its MAC.
    ///
    /// # Errors
    /// Content that is no JSON.
    pub fn new(content: T, key: &MacKey) -> io::Result<Self> {
        let mac = BASE64_STANDARD.encode(key.mac(&serde_json::to_vec(&content)?));
        Ok(Self { content, mac })
    }

    /// As one line, filled up with spaces to a multiple of `unit` bytes: the next one is then as long,
    /// and can be written over it where the disk is full.
    ///
    /// # Errors
    /// Content that is no JSON.
    pub fn to_line(&self, unit: usize) -> io::Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec(self)?;
        bytes.resize((bytes.len() + 1).next_multiple_of(unit) - 1, b' ');
        bytes.push(b'\n');
        Ok(bytes)
    }
}

impl<T: Serialize + DeserializeOwned> Authenticated<T> {
    /// The content of a file's bytes; `None` where it is not what was written.
    pub fn open(bytes: &[u8], key: &MacKey) -> Option<T> {
        let Self { content, mac } = serde_json::from_slice(bytes).ok()?;
        let mac = description::decode(&mac).ok()?;
        key.verify(&serde_json::to_vec(&content).ok()?, &mac).ok()?;
        Some(content)
    }

    /// The content, which is not authenticated.
    pub fn peek(bytes: &[u8]) -> Option<T> {
        serde_json::from_slice::<Self>(bytes).ok().map(|found| found.content)
    }
}
