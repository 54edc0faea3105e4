//! The recovery form as words of BIP-39's English list, to be read out or written by hand: 11 bits a
//! word, the last one padded with zero bits.

use bip39::Language;
use zeroize::Zeroizing;

use crate::keys::ring::KeyRing;
use crate::keys::{KeyError, RecoveryError};

const BITS: usize = 11;

impl KeyRing {
    /// The whole ring, material included, as words separated by spaces.
    pub fn recovery_words(&self) -> Zeroizing<String> {
        let bytes = self.recovery_bytes();
        let list = Language::English.word_list();
        let words = (bytes.len() * 8).div_ceil(BITS);
        let mut text = Zeroizing::new(String::with_capacity(9 * words));
        for word in 0..words {
            let index = (0..BITS)
                .map(|bit| word * BITS + bit)
                .fold(0, |index, at| index << 1 | usize::from(bit_at(&bytes, at)));
            if word > 0 {
                text.push(' ');
            }
            text.push_str(list[index]);
        }
        text
    }

    /// Reads the output of [`KeyRing::recovery_words`]. Case, line breaks, and numbers before the words
    /// do not matter.
    ///
    /// # Errors
    /// [`RecoveryError::Word`] names the first word that is not of the list,
    /// [`RecoveryError::Damaged`], [`RecoveryError::FromTheFuture`].
    pub fn from_recovery_words(text: &str) -> Result<Self, KeyError> {
        let mut bits = Zeroizing::new(Vec::with_capacity(text.len() * BITS));
        let is_word = |word: &&str| word.starts_with(char::is_alphabetic);
        for (number, word) in (1..).zip(text.split_whitespace().filter(is_word)) {
            let lower = Zeroizing::new(word.to_ascii_lowercase());
            let index = Language::English.find_word(&lower);
            let index = index.ok_or(RecoveryError::Word(number))?;
            bits.extend((0..BITS).rev().map(|bit| index >> bit & 1 == 1));
        }
        let mut bytes = Zeroizing::new(Vec::with_capacity(bits.len() / 8));
        let whole = bits.chunks_exact(8);
        bytes.extend(whole.map(|byte| byte.iter().fold(0, |all, &bit| all << 1 | u8::from(bit))));
        // The padding of the last word can be a whole byte: the checksum decides.
        let shorter = bytes.len().saturating_sub(1);
        Self::from_recovery_bytes(&bytes)
            .or_else(|error| Self::from_recovery_bytes(&bytes[..shorter]).map_err(|_| error))
    }
}

/// One bit, the highest of a byte first; zero past the end.
fn bit_at(bytes: &[u8], at: usize) -> bool {
    bytes.get(at / 8).is_some_and(|byte| byte >> (7 - at % 8) & 1 == 1)
}
