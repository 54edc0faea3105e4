//! What a fuzzer does with bytes of this layer.

use super::MountTable;

/// `/proc/self/mountinfo`, which has paths and sources that others choose.
pub fn mountinfo(bytes: &[u8]) -> bool {
    let table = MountTable::parse(bytes);
    for mounted in table.vaults() {
        assert!(table.is_mountpoint(&mounted.mountpoint));
        assert!(table.mounts_of(&mounted.vault).any(|other| other == mounted));
        assert!(table.has_mount_of(&mounted.vault, mounted.device));
        assert!(table.flags_at(&mounted.mountpoint).is_some());
        assert!(table.below(&mounted.mountpoint).all(|below| below != mounted.mountpoint));
        table.vault_at(&mounted.mountpoint);
    }
    table.vaults().next().is_some()
}
