//! `--spin`: asked for, it is as asked; else as the machine is.

use std::fs;
use std::thread::available_parallelism;

use crate::common::Vault;

#[test]
fn it_spins_as_long_as_was_asked() {
    let vault = Vault::init();
    for (options, microseconds) in [
        (&["--spin", "0"][..], 0),
        (&["--spin", "80"], 80),
        (&["-o", "spin=1000"], 1000),
        (&["-o", "spin=1000", "--spin", "7"], 7),
    ] {
        let mount = vault.mount(options);
        assert_eq!(mount.status_json()["spin_us"], microseconds, "{options:?}");
        fs::write(mount.join("file"), b"still answers").unwrap();
        assert_eq!(fs::read(mount.join("file")).unwrap(), b"still answers");
        mount.unmount();
    }
}

#[test]
fn by_itself_it_spins_where_a_processor_is_to_spare() {
    let found = Vault::init().mount(&[]).status_json()["spin_us"].as_u64();
    match available_parallelism().unwrap().get() {
        1 => assert_eq!(found, Some(0)),
        // None on battery.
        _ => assert!(matches!(found, Some(50 | 0)), "{found:?}"),
    }
}

#[test]
fn a_spin_without_bounds_is_refused() {
    let vault = Vault::init();
    for options in [["--spin", "1001"], ["--spin", "-1"], ["-o", "spin=1s"], ["-o", "spin=1001"]] {
        let Err(outcome) = vault.try_mount(&options) else { panic!("{options:?} was taken") };
        assert_eq!(outcome.code(), 2, "{outcome}");
        assert_eq!(outcome.stderr.lines().count(), 1, "{outcome}");
    }
}
