//! Mapped files.

use std::fs;
use std::os::unix::fs::FileExt;

use crate::common::files::{assert_same, open_rw, read_at};
use crate::common::{Mapping, Mounted, pattern, random_bytes};

each_cache!(
    a_shared_mapping_writes_the_file,
    a_mapping_that_is_only_dropped_is_written_too,
    mappings_and_writes_see_each_other,
    a_private_mapping_stays_private,
    stores_past_the_end_are_lost,
    a_mapping_outlives_its_descriptor_and_name,
    a_mapping_of_a_sparse_file,
);

fn a_shared_mapping_writes_the_file(mount: Mounted) {
    let path = mount.join("file");
    fs::write(&path, pattern(0, 50_000)).unwrap();
    let file = open_rw(&path);
    let mut mapping = Mapping::shared(&file, 50_000).unwrap();
    assert_same(mapping.bytes(), &pattern(0, 50_000), "mapped");
    let mut expected = pattern(0, 50_000);
    for at in [0, 3807, 3808, 4095, 4096, 7871, 7872, 49_999] {
        mapping.bytes_mut()[at] = 0;
        expected[at] = 0;
    }
    mapping.sync().unwrap();
    assert_same(&read_at(&file, 0, 60_000), &expected, "read after msync");
    drop((mapping, file));
    let mount = mount.remount(&[]);
    assert_same(&fs::read(mount.join("file")).unwrap(), &expected, "after a remount");
}

fn a_mapping_that_is_only_dropped_is_written_too(mount: Mounted) {
    let path = mount.join("file");
    let file = open_rw(&path);
    file.set_len(300_000).unwrap();
    let mut mapping = Mapping::shared(&file, 300_000).unwrap();
    mapping.bytes_mut().copy_from_slice(&random_bytes(1, 300_000));
    drop(file);
    drop(mapping);
    let mount = mount.remount(&[]);
    assert_same(
        &fs::read(mount.join("file")).unwrap(),
        &random_bytes(1, 300_000),
        "after a remount",
    );
}

fn mappings_and_writes_see_each_other(mount: Mounted) {
    let file = open_rw(mount.join("file"));
    file.write_all_at(&pattern(0, 40_000), 0).unwrap();
    let mut one = Mapping::shared(&file, 40_000).unwrap();
    let two = Mapping::shared(&file, 40_000).unwrap();
    for round in 0..50usize {
        let at = round * 797;
        one.bytes_mut()[at] = 0;
        assert_eq!(two.bytes()[at], 0);
        assert_eq!(read_at(&file, at as u64, 1), [0]);
        file.write_all_at(b"written", at as u64 + 1).unwrap();
        assert_eq!(&one.bytes()[at + 1..at + 8], b"written");
        assert_eq!(&two.bytes()[at + 1..at + 8], b"written");
    }
}

fn a_private_mapping_stays_private(mount: Mounted) {
    let path = mount.join("file");
    fs::write(&path, pattern(0, 20_000)).unwrap();
    let file = open_rw(&path);
    let mut mapping = Mapping::private(&file, 20_000).unwrap();
    mapping.bytes_mut().fill(0xEE);
    mapping.sync().unwrap();
    assert_same(&read_at(&file, 0, 30_000), &pattern(0, 20_000), "the file");
    drop((mapping, file));
    let mount = mount.remount(&[]);
    assert_same(&fs::read(mount.join("file")).unwrap(), &pattern(0, 20_000), "after a remount");
}

/// The last page reaches past the file's end; what is stored there is not part of the file.
fn stores_past_the_end_are_lost(mount: Mounted) {
    let path = mount.join("file");
    fs::write(&path, pattern(0, 5000)).unwrap();
    let file = open_rw(&path);
    let mut mapping = Mapping::shared(&file, 8192).unwrap();
    assert!(mapping.bytes()[5000..].iter().all(|byte| *byte == 0));
    mapping.bytes_mut()[4999] = 1;
    mapping.bytes_mut()[5000..].fill(0xEE);
    mapping.sync().unwrap();
    assert_eq!(file.metadata().unwrap().len(), 5000);
    drop((mapping, file));
    let mount = mount.remount(&[]);
    let file = open_rw(mount.join("file"));
    file.set_len(8192).unwrap();
    let mut expected = pattern(0, 5000);
    expected[4999] = 1;
    expected.resize(8192, 0);
    assert_same(&read_at(&file, 0, 9000), &expected, "grown over the stores");
}

fn a_mapping_outlives_its_descriptor_and_name(mount: Mounted) {
    let path = mount.join("file");
    fs::write(&path, pattern(0, 100_000)).unwrap();
    let mut mapping = Mapping::shared(&open_rw(&path), 100_000).unwrap();
    fs::remove_file(&path).unwrap();
    assert_same(mapping.bytes(), &pattern(0, 100_000), "mapped");
    mapping.bytes_mut()[50_000] = 0;
    mapping.sync().unwrap();
    assert_eq!(mapping.bytes()[50_000], 0);
}

fn a_mapping_of_a_sparse_file(mount: Mounted) {
    let file = open_rw(mount.join("file"));
    file.set_len(1 << 20).unwrap();
    let mut mapping = Mapping::shared(&file, 1 << 20).unwrap();
    assert!(mapping.bytes().iter().all(|byte| *byte == 0));
    mapping.bytes_mut()[700_000..700_006].copy_from_slice(b"mapped");
    drop((mapping, file));
    let mount = mount.remount(&[]);
    let mut expected = vec![0; 1 << 20];
    expected[700_000..700_006].copy_from_slice(b"mapped");
    assert_same(&fs::read(mount.join("file")).unwrap(), &expected, "after a remount");
}
