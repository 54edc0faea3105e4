//! Bytes in JSON as base64 (RFC 4648). Secrets leave no copy in memory.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use zeroize::{Zeroize, Zeroizing};

use crate::crypto::Secret;

/// A [`Secret`] that is base64 in JSON.
#[derive(Debug, Clone)]
pub(super) struct SecretText(pub(super) Secret);

impl Serialize for SecretText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = Zeroizing::new([0; 44]);
        let length = STANDARD
            .encode_slice(self.0.expose(), &mut text[..])
            .expect("44 characters are the base64 of 32 bytes");
        let text = std::str::from_utf8(&text[..length]).expect("base64 is ASCII");
        serializer.serialize_str(text)
    }
}

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = SecretText;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("32 bytes in base64")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<SecretText, E> {
                let bad = || E::custom("not 32 bytes in base64");
                // The decoder needs 33 bytes, since it sees the padding last.
                let mut room = Zeroizing::new([0; 33]);
                let length = STANDARD.decode_slice(text, &mut room[..]).map_err(|_| bad())?;
                let mut bytes: [u8; 32] = room[..length].try_into().map_err(|_| bad())?;
                let secret = Secret::from_bytes(&bytes);
                bytes.zeroize();
                Ok(SecretText(secret))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// Public bytes of a fixed length that are base64 in JSON.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct BytesText<const N: usize>(pub(super) [u8; N]);

impl<const N: usize> fmt::Debug for BytesText<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl<const N: usize> Serialize for BytesText<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(self.0))
    }
}

impl<'de, const N: usize> Deserialize<'de> for BytesText<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = STANDARD.decode(text).map_err(de::Error::custom)?;
        let length = bytes.len();
        bytes.try_into().map(Self).map_err(|_| de::Error::invalid_length(length, &"another"))
    }
}

/// `value` as JSON in one allocation of the right size, so that no reallocation leaves a copy.
pub(super) fn to_secret_json(value: &impl Serialize) -> Zeroizing<Vec<u8>> {
    struct Count(usize);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    serde_json::to_writer(&mut count, value).expect("these types are JSON");
    let mut json = Zeroizing::new(Vec::with_capacity(count.0));
    serde_json::to_writer(&mut *json, value).expect("these types are JSON");
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_comes_back_from_its_text() {
        let secret = SecretText(Secret::random());
        let json = to_secret_json(&secret);
        assert_eq!(json.len(), json.capacity());
        let back: SecretText = serde_json::from_slice(&json).unwrap();
        assert_eq!(back.0.expose(), secret.0.expose());
        for bad in [r#""""#, r#""AAAA""#, "7", &format!("\"{}\"", "A".repeat(44))] {
            assert!(serde_json::from_str::<SecretText>(bad).is_err(), "{bad}");
        }
    }
}
