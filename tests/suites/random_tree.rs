//! Random operations by several threads at once, like fsstress, each against a model of its own;
//! all is compared while mounted and again after every remount.

use std::thread;

use crate::common::{Backing, Campaign, Mounted, Vault};
use crate::tree_model::TreeModel;

const THREADS: u64 = 4;

fn campaign(vault: Vault, options: &[&str], seed: u64) {
    let (rounds, steps) = Campaign::pick((3, 500), (20, 4000));
    let mut mount = vault.mount(options);
    let root = |mount: &Mounted, thread: usize| mount.join(format!("tree-{thread}"));
    let mut models: Vec<TreeModel> = (0..THREADS)
        .map(|thread| TreeModel::new(root(&mount, thread as usize), seed * 100 + thread))
        .collect();
    for round in 0..rounds {
        thread::scope(|scope| {
            for model in &mut models {
                scope.spawn(|| {
                    for _ in 0..steps {
                        model.step();
                    }
                    model.check("while mounted");
                });
            }
        });
        models.iter_mut().for_each(TreeModel::close_all);
        mount = mount.remount(options);
        for (thread, model) in models.iter_mut().enumerate() {
            model.moved_to(root(&mount, thread));
            model.check(&format!("seed {seed}, after remount {round}"));
        }
    }
    drop(models);
    mount.unmount();
    vault.verify();
}

#[test]
fn with_the_writeback_cache() {
    for seed in 1..=Campaign::pick(1, 3) {
        campaign(Vault::init_on(Backing::Disk), &[], seed);
    }
}

#[test]
fn without_the_writeback_cache() {
    for seed in 11..=Campaign::pick(11, 13) {
        campaign(Vault::init_on(Backing::Disk), &["--no-writeback"], seed);
    }
}

#[test]
fn on_tmpfs() {
    campaign(Vault::init_on(Backing::Tmpfs), &[], 21);
    campaign(Vault::init_on(Backing::Tmpfs), &["--no-writeback"], 22);
}
