//! PostgreSQL from Debian: pgbench, the server killed, the daemon killed, and recovery from both.

use std::thread;
use std::time::Duration;

use crate::common::cluster::{Cluster, mount};
use crate::common::{Allow, Campaign, Vault};

fn bench_kill_recover(options: &[&str]) {
    let mount = mount(Vault::init(), options);
    let vault = mount.vault().clone();
    let mut cluster = Cluster::new(&mount);
    cluster.start();
    cluster.run("pgbench", &["-i", "-s", Campaign::pick("1", "5"), "-q", "postgres"]);
    let seconds = Campaign::pick(5, 30);
    let bench = cluster
        .run("pgbench", &["-T", &seconds.to_string(), "-c", "4", "-j", "2", "-n", "postgres"]);
    let figure = |words: &str| bench.stdout.lines().find(|line| line.contains(words)).unwrap_or("");
    let (done, rate) = (figure("actually processed"), figure("tps = "));
    Campaign::report(format!("pgbench, {seconds} s {options:?}: {done}, {rate}"));
    cluster.check();
    let kills = Campaign::pick(1, 3);
    for _ in 0..kills {
        let mut bench = cluster.bench(60);
        thread::sleep(Duration::from_secs(2));
        cluster.kill9();
        let _ = bench.wait();
        cluster.start();
        cluster.check();
    }
    cluster.stop();
    cluster.check_pages();
    let rows = |cluster: &Cluster| cluster.query("SELECT count(*) FROM pgbench_history");
    let mount = mount.remount(&[&["--allow-other"], options].concat());
    cluster.start();
    let kept = rows(&cluster);
    Campaign::report(format!("{kills} kills of the server: {kept} transactions, sums agree"));
    assert!(kept.parse::<u64>().unwrap() > 10);
    cluster.check();
    cluster.stop();
    drop(cluster);
    mount.unmount();
    vault.verify();
}

#[test]
fn pgbench_and_a_killed_server() {
    bench_kill_recover(&[]);
}

#[test]
fn pgbench_and_a_killed_server_without_the_writeback_cache() {
    bench_kill_recover(&["--no-writeback"]);
}

/// The filesystem dies under the server: what was committed is there when both are back.
#[test]
fn a_killed_daemon_loses_no_commit() {
    let mut mount = mount(Vault::init(), &[]);
    let mut cluster = Cluster::new(&mount);
    cluster.start();
    cluster.query("CREATE TABLE t(n INTEGER PRIMARY KEY)");
    cluster.run("pgbench", &["-i", "-s", "1", "-q", "postgres"]);
    let rounds = Campaign::pick(2, 10);
    for round in 0..rounds {
        let mut bench = cluster.bench(60);
        // Each row is a transaction of its own; what psql has returned for is promised.
        let mut committed = round * 1000;
        let end = committed + 40;
        while committed < end {
            cluster.query(&format!("INSERT INTO t VALUES ({committed})"));
            committed += 1;
        }
        mount.kill9();
        cluster.kill9_all();
        let _ = bench.kill();
        let _ = bench.wait();
        mount = mount.remount(&["--allow-other"]);
        mount.allow(Allow::Warnings);
        cluster.start();
        let rows =
            cluster.query(&format!("SELECT count(*), max(n) FROM t WHERE n >= {}", round * 1000));
        assert_eq!(rows, format!("40|{}", committed - 1), "round {round}");
        cluster.check();
    }
    cluster.stop();
    cluster.check_pages();
    Campaign::report(format!("{rounds} kills of the daemon under the server: no commit lost"));
}
