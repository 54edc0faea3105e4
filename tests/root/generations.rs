//! The generation that goes with an inode number in a file handle (open_by_handle_at(2)).

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::common::Vault;
use crate::common::files::lstat;
use crate::common::require_root;

/// The handle's bytes: of a FUSE mount the number and the generation.
fn handle(path: &Path) -> Vec<u8> {
    let path = std::ffi::CString::new(path.as_os_str().as_bytes()).unwrap();
    let mut room = [0_u32; 34];
    room[0] = 128;
    let mut mount_id = 0;
    // SAFETY: `room` is a struct file_handle of 8 bytes and the 128 that its first field names.
    let done = unsafe {
        let handle = room.as_mut_ptr().cast();
        libc::name_to_handle_at(libc::AT_FDCWD, path.as_ptr(), handle, &mut mount_id, 0)
    };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
    room[2..2 + room[0] as usize / 4].iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn drop_caches() {
    fs::write("/proc/sys/vm/drop_caches", "2").expect("drop_caches, which root may write");
}

#[test]
fn a_number_used_again_has_another_generation_and_an_old_one_keeps_its_own() {
    require_root();
    let vault = Vault::init();
    let mount = vault.mount(&[]);
    let kept = mount.join("kept");
    fs::write(&kept, b"kept").unwrap();
    let first = handle(&kept);
    let mut seen = std::collections::HashMap::new();
    let mut used_again = 0;
    for round in 0..200 {
        let path = mount.join(format!("file-{round}"));
        fs::write(&path, b"x").unwrap();
        let number = lstat(&path).ino();
        if let Some(before) = seen.insert(number, handle(&path)) {
            assert_ne!(before, handle(&path), "of number {number}");
            used_again += 1;
        }
        fs::remove_file(&path).unwrap();
        // Longer than a tick of the clock, which is 10 ms at most (CONFIG_HZ).
        std::thread::sleep(std::time::Duration::from_millis(11));
    }
    if used_again == 0 {
        eprintln!("not tested: the filesystem below gives no number twice");
    }
    drop_caches();
    assert_eq!(handle(&kept), first, "after the kernel has forgotten it");
    fs::rename(&kept, mount.join("moved")).unwrap();
    let mount = mount.remount(&[]);
    assert_eq!(handle(&mount.join("moved")), first, "after a remount");
    assert!(vault.run(&["key", "rotate"]).success() && vault.run(&["key", "rewrap"]).success());
    drop_caches();
    assert_eq!(handle(&mount.join("moved")), first, "after a rewrap");
}
