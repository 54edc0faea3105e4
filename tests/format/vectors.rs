//! A header and blocks, frozen: `tests/fixtures/v1/*.bin`, made once under keys that are for
//! tests alone. They are read by the library, and made again without its format layer.

use std::path::{Path, PathBuf};

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit};
use atrest::crypto::{DataKey, FileKeys, Secret, WrappedKey, unwrap};
use atrest::format::{
    BlockContent, BlockIndex, BlockSpan, Epoch, FileId, HEADER_LEN, Header, HoleExtents, Holes,
    KeyVersion, MasterKeyId, VaultId, open_block, seal_block,
};
use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::bytes::pattern;

const DATA_KEY: [u8; 32] = *b"data key that is for tests alone";
const MASTER_KEY: [u8; 32] = *b"master key that is for tests too";
const FILE_ID: [u8; 16] = *b"the file's id is";
const VOLUME_ID: [u8; 16] = *b"the volume's one";
const MASTER_KEY_ID: [u8; 16] = *b"the master key's";

/// The frozen blocks: index, plaintext bytes, file name.
const BLOCKS: [(u64, usize, &str); 4] = [
    (0, 3808, "block-0.bin"),
    (1, 4064, "block-1.bin"),
    (2, 5, "block-2.bin"),
    (7, 0, "block-7.bin"),
];

pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1")
}

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(fixtures().join(name)).unwrap()
}

fn file_keys() -> FileKeys {
    FileKeys::derive(&DataKey::from_bytes(&DATA_KEY), &FILE_ID)
}

/// The hole extents, as first block and the block behind the last.
const EXTENTS: [(u64, u64); 3] = [(1, 2), (129, 130), (1000, 1000 + 0x4_0000_0000)];

fn holes() -> Holes {
    let span = |(first, end)| BlockSpan { first: BlockIndex(first), end: BlockIndex(end) };
    let (extents, 0) = HoleExtents::covering(&EXTENTS.map(span)) else { panic!("they fit") };
    Holes { extents, uncertain: 0x0405_0607, durable: 0x1234_5678_9abc }
}

fn header(wrapped: WrappedKey) -> Header {
    Header {
        file_id: FileId::from_bytes(FILE_ID),
        vault_id: VaultId::from_bytes(VOLUME_ID),
        master_key: MasterKeyId::from_bytes(MASTER_KEY_ID),
        version: KeyVersion(0x0102_0304),
        wrapped,
        holes: holes(),
        committed_len: 0x1122_3344_5566,
        epoch: Epoch(0x0a0b_0c0d_0e0f),
    }
}

/// HKDF-SHA256 (RFC 5869) for one block of output, written out.
fn derived(label: &str) -> [u8; 32] {
    let hmac = |key: &[u8], parts: &[&[u8]]| {
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key).unwrap();
        parts.iter().for_each(|part| mac.update(part));
        <[u8; 32]>::from(mac.finalize().into_bytes())
    };
    let extracted = hmac(&FILE_ID, &[&DATA_KEY]);
    hmac(&extracted, &[label.as_bytes(), &[1]])
}

#[test]
fn the_header_reads_as_the_fields_it_was_made_of() {
    let bytes: [u8; HEADER_LEN] = fixture("header.bin").try_into().unwrap();
    let read = Header::parse(&bytes).unwrap();
    Header::authenticate(&bytes, &file_keys().header).unwrap();
    assert_eq!(read, header(read.wrapped));
    let key = unwrap(&Secret::from_bytes(&MASTER_KEY), &read.wrap_context(), &read.wrapped);
    assert_eq!(key.unwrap().expose(), &DATA_KEY);
    assert_eq!(read.to_bytes(&file_keys().header), bytes);
}

#[test]
fn the_header_is_made_of_the_bytes_that_the_format_names() {
    let bytes = fixture("header.bin");
    let expected = [
        &b"atrest\x01\x00"[..],
        &[0; 4],
        &[4, 3, 2, 1],
        &FILE_ID,
        &VOLUME_ID,
        &MASTER_KEY_ID,
        &bytes[64..124],
        &[7, 6, 5, 4],
        &[0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0, 0],
        &[0x0f, 0x0e, 0x0d, 0x0c, 0x0b, 0x0a, 0, 0],
        &[0xbc, 0x9a, 0x78, 0x56, 0x34, 0x12, 0, 0],
        // Blocks between, then blocks: 0 and 1, 127 and 1, 870 and 2^34.
        &[0, 1, 127, 1, 0xe6, 0x06, 0x80, 0x80, 0x80, 0x80, 0x40],
        &[0; 72 - 11],
    ]
    .concat();
    assert_eq!(bytes[..224], expected);
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(&derived("atrest v1 header")).unwrap();
    mac.update(&expected);
    mac.verify_slice(&bytes[224..]).unwrap();
    let context = [&VOLUME_ID[..], &FILE_ID, &MASTER_KEY_ID, &[4, 3, 2, 1]].concat();
    let payload = Payload { msg: &bytes[76..124], aad: &context };
    let nonce = <[u8; 12]>::try_from(&bytes[64..76]).unwrap();
    let key = Aes256Gcm::new(&MASTER_KEY.into()).decrypt(&nonce.into(), payload).unwrap();
    assert_eq!(key, DATA_KEY);
}

#[test]
fn the_blocks_open() {
    for (index, len, name) in BLOCKS {
        let (index, block) = (BlockIndex(index), fixture(name));
        let mut plain = vec![0xff; index.capacity()];
        let file = FileId::from_bytes(FILE_ID);
        let opened = open_block(&file_keys().content, &file, index, &block, &mut plain);
        assert_eq!(opened, Ok(BlockContent::Data(len)), "{name}");
        assert_eq!(plain[..len], pattern(index.start(), len), "{name}");
        assert!(plain[len..].iter().all(|&byte| byte == 0), "{name}");
    }
}

#[test]
fn the_blocks_are_made_of_the_bytes_that_the_format_names() {
    let cipher = Aes256Gcm::new(&derived("atrest v1 content").into());
    for (index, len, name) in BLOCKS {
        let block = fixture(name);
        let header = if index == 0 { HEADER_LEN } else { 0 };
        assert_eq!((block.len(), &block[..header]), (4096, &fixture("header.bin")[..header]));
        let nonce = <[u8; 12]>::try_from(&block[header..header + 12]).unwrap();
        let n = (len as u16).to_le_bytes();
        let aad = [&FILE_ID[..], &index.to_le_bytes(), &n, &[0, 0]].concat();
        let plain = pattern(BlockIndex(index).start(), len);
        let sealed = cipher.encrypt(&nonce.into(), Payload { msg: &plain, aad: &aad }).unwrap();
        let (body, tag) = sealed.split_at(len);
        let padding = vec![0; 4096 - header - 32 - len];
        let made = [&nonce[..], &n, &[0, 0], body, &padding, tag].concat();
        assert_eq!(block[header..], made, "{name}");
    }
}

#[test]
#[ignore = "writes the fixtures anew: by hand, and only while format v1 is not released"]
fn make_the_vectors() {
    let keys = file_keys();
    let outer = Secret::from_bytes(&MASTER_KEY);
    let context = header(WrappedKey::from_bytes(&[0; WrappedKey::LEN])).wrap_context();
    let wrapped = atrest::crypto::wrap(&outer, &context, &DataKey::from_bytes(&DATA_KEY));
    let header = header(wrapped).to_bytes(&keys.header);
    std::fs::create_dir_all(fixtures()).unwrap();
    std::fs::write(fixtures().join("header.bin"), header).unwrap();
    for (index, len, name) in BLOCKS {
        let mut block = vec![0; 4096];
        let (index, file) = (BlockIndex(index), FileId::from_bytes(FILE_ID));
        let plain = pattern(index.start(), len);
        seal_block(&keys.content, &file, index, &plain, &mut block);
        if index.0 == 0 {
            block[..HEADER_LEN].copy_from_slice(&header);
        }
        std::fs::write(fixtures().join(name), block).unwrap();
    }
}
