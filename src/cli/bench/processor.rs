//! What the processor does by itself: ciphers, blocks, headers.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::hint::black_box;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::cli::bench::interrupt::Interrupt;
use crate::crypto::{Aead, BlockCipher, DataKey, FileKeys, PortableCipher, Secret};
use crate::format::{
    BLOCK_LEN, BlockIndex, Epoch, FileId, Header, Holes, NEXT_CAPACITY, VaultId, open_block,
    seal_block,
};
use crate::keys::KeyRing;
use crate::service::failure::{Exit, Failure};

/// How long a try at one figure takes, of [`TRIES`].
const SPAN: Duration = Duration::from_millis(60);
const TRIES: usize = 5;

/// Figures of one thread.
#[derive(Debug, Serialize)]
pub struct Processor {
    /// AES-256-GCM over 4096 bytes by each implementation in this build, in 10⁹ bytes a second.
    pub ciphers: BTreeMap<&'static str, Cipher>,
    /// Microseconds to seal a full block, nonce and all.
    pub block_seal_us: f64,
    /// Microseconds to open a full block.
    pub block_open_us: f64,
    /// Microseconds to open a file's header: parse it, unwrap the data key, derive what it is
    /// used through, authenticate. Once for each file that is opened and read.
    pub header_open_us: f64,
}

/// 10⁹ bytes a second.
#[derive(Debug, Serialize)]
pub struct Cipher {
    /// Sealing in place.
    pub seal_gb_per_s: f64,
    /// Opening into another buffer.
    pub open_gb_per_s: f64,
}

/// Times sealing and opening by one cipher; the two have the same methods and no trait.
macro_rules! time_cipher {
    ($cipher:expr, $interrupt:expr) => {{
        let (cipher, nonce) = ($cipher, [7; 12]);
        let mut data = [0x5a; BLOCK_LEN];
        let mut plain = [0; BLOCK_LEN];
        let seal = microseconds($interrupt, || {
            black_box(cipher.seal(&nonce, &[], black_box(&mut data)));
        })?;
        let tag = cipher.seal(&nonce, &[], &mut data);
        let open = microseconds($interrupt, || {
            let opened = cipher.open(&nonce, &[], black_box(&data), &tag, &mut plain);
            let _ = black_box(opened);
        })?;
        let speed = |us: f64| BLOCK_LEN as f64 / us / 1000.0;
        Cipher { seal_gb_per_s: speed(seal), open_gb_per_s: speed(open) }
    }};
}

impl Processor {
    /// Takes about two seconds.
    ///
    /// # Errors
    /// After a signal.
    pub fn measure(interrupt: &Interrupt) -> Result<Self, Failure> {
        let secret = Secret::random();
        let mut ciphers = BTreeMap::new();
        #[cfg(feature = "aws-lc")]
        {
            let cipher = crate::crypto::AwsLcCipher::new(&secret);
            ciphers.insert("aws-lc", time_cipher!(cipher, interrupt));
        }
        ciphers.insert("aes-gcm", time_cipher!(PortableCipher::new(&secret), interrupt));

        let (cipher, file, index) = (BlockCipher::new(&secret), FileId::random(), BlockIndex(1));
        let mut plain = vec![0x5a; NEXT_CAPACITY];
        let mut block = vec![0; BLOCK_LEN];
        let block_seal_us = microseconds(interrupt, || {
            seal_block(&cipher, &file, index, black_box(&plain), &mut block);
        })?;
        let block_open_us = microseconds(interrupt, || {
            let _ = black_box(open_block(&cipher, &file, index, black_box(&block), &mut plain));
        })?;
        let header_open_us = time_header(interrupt)?;
        Ok(Self { ciphers, block_seal_us, block_open_us, header_open_us })
    }

    /// The figures as lines of a table.
    pub fn to_text(&self) -> String {
        let mut text = format!("{:<32} {:>10} {:>10}\n", "one thread", "seal", "open");
        // Writing to a String cannot fail.
        for (name, cipher) in &self.ciphers {
            let label = format!("AES-256-GCM by {name}, GB/s");
            let (seal, open) = (cipher.seal_gb_per_s, cipher.open_gb_per_s);
            let _ = writeln!(text, "{label:<32} {seal:>10.2} {open:>10.2}");
        }
        let (seal, open) = (self.block_seal_us, self.block_open_us);
        let _ = writeln!(text, "{:<32} {seal:>10.2} {open:>10.2}", "a block of 4 KiB, µs");
        let _ = writeln!(text, "{:<32} {:>10} {:>10.2}", "a header, µs", "", self.header_open_us);
        text
    }
}

fn time_header(interrupt: &Interrupt) -> Result<f64, Failure> {
    let failed = |error| Failure::new(Exit::Failed, format!("a header: {error}"));
    let (vault_id, file_id, key) = (VaultId::random(), FileId::random(), DataKey::random());
    let ring = KeyRing::create(vault_id);
    let id = ring.default_key().id();
    let (master_key, version, wrapped) = ring
        .wrap_by_id(&id, file_id.as_bytes(), &key)
        .map_err(|error| failed(error.to_string()))?;
    let (holes, epoch) = (Holes::default(), Epoch(1));
    let committed_len = 4096;
    let header =
        Header { file_id, vault_id, master_key, version, wrapped, holes, committed_len, epoch };
    let bytes = header.to_bytes(&FileKeys::derive(&key, file_id.as_bytes()).header);
    let open = || -> Option<FileKeys> {
        let header = Header::parse(black_box(&bytes)).ok()?;
        let subject = header.file_id.as_bytes();
        let key = ring.unwrap(&header.master_key, header.version, subject, &header.wrapped).ok()?;
        let keys = FileKeys::derive(&key, subject);
        Header::authenticate(&bytes, &keys.header).ok()?;
        Some(keys)
    };
    if open().is_none() {
        return Err(failed("what was sealed does not open".to_owned()));
    }
    microseconds(interrupt, || {
        let _ = black_box(open());
    })
}

/// The time of one call, in microseconds: of the try that was disturbed least.
fn microseconds(interrupt: &Interrupt, mut call: impl FnMut()) -> Result<f64, Failure> {
    let mut least = f64::INFINITY;
    for _ in 0..TRIES {
        interrupt.check()?;
        let (begun, mut calls) = (Instant::now(), 0.0);
        while begun.elapsed() < SPAN {
            (0..16).for_each(|_| call());
            calls += 16.0;
        }
        least = least.min(begun.elapsed().as_secs_f64() * 1e6 / calls);
    }
    Ok(least)
}
