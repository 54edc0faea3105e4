//! Users × grants × operations, against a table made by hand.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, chown};
use std::path::Path;

use crate::common::{Allow, Mounted, User, Vault};
use crate::people::People;
use crate::{grant, key, revoke, simulate};

/// What somebody does in the directory, and which uses of the key it takes: `d` for decrypt, `g` for
/// generate-data-key.
type Operation = (&'static str, &'static str, fn(&Path) -> io::Result<()>);

fn open(path: &Path, options: &mut OpenOptions) -> io::Result<()> {
    options.open(path).map(drop)
}

fn make(dir: &Path, options: &mut OpenOptions) -> io::Result<()> {
    let made = open(&dir.join("new"), options.create_new(true).mode(0o666));
    let _ = fs::remove_file(dir.join("new"));
    made
}

const OPERATIONS: &[Operation] = &[
    ("read", "d", |dir| File::open(dir.join("full")).map(drop)),
    ("read what is empty", "d", |dir| File::open(dir.join("empty")).map(drop)),
    ("change", "dg", |dir| open(&dir.join("full"), OpenOptions::new().write(true))),
    ("append", "dg", |dir| open(&dir.join("full"), OpenOptions::new().append(true))),
    ("read and change", "dg", |dir| {
        open(&dir.join("full"), OpenOptions::new().read(true).write(true))
    }),
    ("empty and write", "g", |dir| {
        open(&dir.join("spare"), OpenOptions::new().write(true).truncate(true))
    }),
    ("empty, write and read", "dg", |dir| {
        open(&dir.join("spare"), OpenOptions::new().write(true).truncate(true).read(true))
    }),
    ("fill", "g", |dir| open(&dir.join("empty"), OpenOptions::new().write(true))),
    ("fill and read", "dg", |dir| {
        open(&dir.join("empty"), OpenOptions::new().write(true).read(true))
    }),
    ("make", "g", |dir| make(dir, OpenOptions::new().write(true))),
    ("make and read", "dg", |dir| make(dir, OpenOptions::new().write(true).read(true))),
    ("make a node", "g", |dir| {
        let path = dir.join("node");
        let kind = rustix::fs::FileType::RegularFile;
        let made = rustix::fs::mknodat(rustix::fs::CWD, &path, kind, 0o666.into(), 0);
        let _ = fs::remove_file(path);
        Ok(made?)
    }),
    ("truncate to nothing", "g", |dir| truncate(&dir.join("spare"), 0)),
    ("truncate", "dg", |dir| truncate(&dir.join("full"), 4999)),
    ("rename over content", "g", |dir| fs::rename(dir.join("mine"), dir.join("over"))),
    ("rename over nothing", "", |dir| fs::rename(dir.join("mine"), dir.join("empty"))),
    ("rename", "", |dir| fs::rename(dir.join("mine"), dir.join("other"))),
    ("link", "", |dir| fs::hard_link(dir.join("full"), dir.join("link"))),
    ("unlink", "", |dir| fs::remove_file(dir.join("full"))),
    ("stat", "", |dir| fs::metadata(dir.join("full")).map(drop)),
    ("list", "", |dir| fs::read_dir(dir).map(|entries| assert_eq!(entries.count(), 5))),
    ("make a directory", "", |dir| fs::create_dir(dir.join("dir"))),
];

/// By path: std has it for open files alone.
fn truncate(path: &Path, len: u64) -> io::Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(path.as_os_str().as_bytes()).unwrap();
    // SAFETY: the path is a C string.
    match unsafe { libc::truncate(path.as_ptr(), len as libc::off_t) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Grants, and what they come to for root, the vault's owner, one named, a member of the group, and
/// a stranger. `N`, `G` and `O` stand for the names.
const POLICIES: &[(&[&str], [&str; 5])] = &[
    (&[], ["dg", "dg", "", "", ""]),
    (&["--user N --allow decrypt"], ["dg", "dg", "d", "", ""]),
    (&["--user N --allow generate-data-key"], ["dg", "dg", "g", "", ""]),
    (&["--group G --allow decrypt,generate-data-key"], ["dg", "dg", "", "dg", ""]),
    (&["--everyone --allow decrypt,generate-data-key"], ["dg", "dg", "dg", "dg", "dg"]),
    (&["--everyone --allow decrypt"], ["dg", "dg", "d", "d", "d"]),
    (
        &["--everyone --allow decrypt,generate-data-key", "--group G --deny decrypt"],
        ["dg", "dg", "dg", "g", "dg"],
    ),
    (
        &["--everyone --allow decrypt", "--user N --deny decrypt,generate-data-key"],
        ["dg", "dg", "", "d", "d"],
    ),
    (&["--user O --deny decrypt"], ["dg", "g", "", "", ""]),
    (&["--user 0 --deny generate-data-key", "--user N --allow decrypt"], ["d", "dg", "d", "", ""]),
    (
        &[
            "--user N --allow decrypt --until 2999-01-01T00:00:00Z",
            "--group G --allow decrypt --under dir",
        ],
        ["dg", "dg", "d", "d", ""],
    ),
    (
        &[
            "--user N --allow decrypt --under elsewhere",
            "--group G --allow generate-data-key --under dir",
        ],
        ["dg", "dg", "", "g", ""],
    ),
    (
        &[
            "--everyone --allow decrypt,generate-data-key",
            "--everyone --deny generate-data-key --under dir",
        ],
        ["d", "d", "d", "d", "d"],
    ),
    (&["--group G --allow rotate,describe"], ["dg", "dg", "", "", ""]),
];

/// What the operations find, afresh for each; whoever may not use the key may all else.
fn prepare(dir: &Path) {
    let _ = fs::remove_dir_all(dir);
    fs::create_dir(dir).unwrap();
    fs::set_permissions(dir, Permissions::from_mode(0o777)).unwrap();
    for (name, len) in
        [("full", 5000), ("spare", 5000), ("over", 5000), ("mine", 100), ("empty", 0)]
    {
        fs::write(dir.join(name), vec![7; len]).unwrap();
        fs::set_permissions(dir.join(name), Permissions::from_mode(0o666)).unwrap();
    }
}

/// A file that another is renamed over must belong to nobody in a directory without sticky bit:
/// modes let everybody everything.
fn mount(people: &People, options: &[&str]) -> (Vault, Mounted) {
    let vault = Vault::init();
    let mount = vault.mount(&[&["--allow-other"], options].concat());
    chown(mount.path(), Some(people.owner.user.uid), None).unwrap();
    fs::create_dir(mount.join("elsewhere")).unwrap();
    prepare(&mount.join("dir"));
    (vault, mount)
}

fn every_answer_is_as_expected(options: &[&str]) {
    let people = People::make();
    let (vault, mount) = mount(&people, options);
    let dir = mount.join("dir");
    let root = User { uid: 0, gid: 0, groups: vec![0] };
    let [owner, named, member, stranger] = people.all().map(|person| (&*person.name, &person.user));
    let everybody = [("root", &root), owner, named, member, stranger];
    let mut wrong = Vec::new();
    let mut asked = 0;
    for (grants, expected) in POLICIES {
        let filled = |line: &str| {
            let word = |word: &str| match word {
                "N" => people.named.name.clone(),
                "O" => people.owner.name.clone(),
                "G" => people.group.clone(),
                word => word.to_owned(),
            };
            line.split(' ').map(word).collect::<Vec<_>>().join(" ")
        };
        // Set by one who may make files; where nobody may any more, it stays as it was.
        let setter = everybody.iter().zip(expected).find(|(_, has)| **has == "dg");
        let set = || {
            if let Some(((_, user), _)) = setter {
                user.run(|| prepare(&dir));
            }
        };
        prepare(&dir);
        grants.iter().for_each(|line| grant(&vault, &filled(line)));
        for ((name, user), has) in everybody.iter().zip(expected) {
            for (what, takes, act) in OPERATIONS {
                if setter.is_none() && takes.is_empty() && !matches!(*what, "stat" | "list") {
                    continue;
                }
                set();
                let may = takes.chars().all(|needed| has.contains(needed));
                let found = user.run(|| act(&dir).map_err(|error| error.raw_os_error()));
                let right = if may { Ok(()) } else { Err(Some(libc::EACCES)) };
                asked += 1;
                if found != right {
                    wrong.push(format!("{grants:?}: {name} ({has:?}) {what}: {found:?}"));
                }
            }
            set();
            for (operation, path, takes) in [
                ("read", "dir/full", "d"),
                ("write", "dir/full", "dg"),
                ("write", "dir/empty", "g"),
                ("create", "dir/full", "g"),
                ("create", "dir/new", "g"),
            ] {
                let may = takes.chars().all(|needed| has.contains(needed));
                let said = simulate(&vault, name, path, operation);
                if said["allowed"] != may {
                    wrong.push(format!("{grants:?}: {name} simulates {operation} {path}: {said}"));
                }
            }
        }
        grants.iter().for_each(|line| revoke(&vault, &filled(line)));
    }
    assert!(wrong.is_empty(), "{} of {asked} are wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(asked > 1300, "{asked}");
    mount.unmount();
    vault.verify();
}

#[test]
fn with_the_writeback_cache() {
    every_answer_is_as_expected(&[]);
}

#[test]
fn without_the_writeback_cache() {
    every_answer_is_as_expected(&["--no-writeback"]);
}

#[test]
fn strictly() {
    every_answer_is_as_expected(&["--strict"]);
}

/// The groups are those of the moment, and a grant ends when it says.
#[test]
fn groups_and_times_are_of_the_moment() {
    let people = People::make();
    let (vault, mount) = mount(&people, &[]);
    let file = mount.join("dir/full");
    grant(&vault, &format!("--group {} --allow decrypt", people.group));
    let reads = |user: &User| user.run(|| fs::read(&file).is_ok());
    let stranger = people.stranger.user.clone();
    assert!(reads(&people.member.user));
    assert!(!reads(&people.member.user.clone().with_groups(&[])));
    assert!(!reads(&stranger));
    assert!(reads(&stranger.clone().with_groups(&[5, people.gid, 6])));
    assert!(reads(&User { gid: people.gid, ..stranger.clone() }));

    let soon = atrest::keys::Timestamp::now().as_second() + 10;
    let soon = atrest::keys::Timestamp::from_second(soon).unwrap();
    grant(&vault, &format!("--user {} --allow decrypt --until {soon}", people.named.name));
    // On a machine that does much else the command may end after the grant.
    let has_read = reads(&people.named.user);
    assert!(has_read || atrest::keys::Timestamp::now() >= soon, "refused before {soon}");
    while atrest::keys::Timestamp::now() <= soon {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert!(!reads(&people.named.user));
}

/// Without a grant, another user sees names and attributes and no content; of a vault at rest too.
#[test]
fn a_new_vault_is_its_owners() {
    let people = People::make();
    let (vault, mount) = mount(&people, &[]);
    people.stranger.user.run(|| {
        let refused = fs::read(mount.join("dir/full")).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EACCES));
        assert_eq!(fs::metadata(mount.join("dir/full")).unwrap().len(), 5000);
        assert_eq!(fs::read_dir(mount.join("dir")).unwrap().count(), 5);
    });
    people.owner.user.run(|| assert_eq!(fs::read(mount.join("dir/full")).unwrap(), [7; 5000]));
    mount.unmount();
    let says = |name: &str| simulate(&vault, name, "dir/full", "read");
    assert_eq!(says(&people.stranger.name)["uses"][0]["reason"], "no-grant");
    assert_eq!(says(&people.owner.name)["uses"][0]["reason"], "default");
    grant(&vault, &format!("--user {} --allow decrypt", people.stranger.name));
    let said = says(&people.stranger.name);
    assert_eq!(said["uses"][0]["reason"]["grant"]["principal"]["user"], people.stranger.user.uid);
    let mount = vault.mount(&["--allow-other"]);
    people.stranger.user.run(|| assert_eq!(fs::read(mount.join("dir/full")).unwrap(), [7; 5000]));
}

/// Of a key out of use the simulation says what a mount does.
#[test]
fn a_disabled_key_is_simulated_as_it_is() {
    let people = People::make();
    let (vault, mut mount) = mount(&people, &[]);
    mount.allow(Allow::Warnings);
    let owner = &people.owner;
    key(&vault, "disable", "").ok();
    for (path, operation) in ["dir/full", "dir/empty"]
        .into_iter()
        .flat_map(|path| ["read", "write", "create"].map(|operation| (path, operation)))
    {
        let mut options = OpenOptions::new();
        let options = match operation {
            "read" => options.read(true),
            "write" => options.write(true),
            _ => options.write(true).create(true).truncate(true),
        };
        let opened = owner.user.run(|| options.open(mount.join(path)).is_ok());
        let said = simulate(&vault, &owner.name, path, operation);
        assert_eq!(said["allowed"], opened, "{operation} {path}: {said}");
        assert_eq!(opened, (path, operation) == ("dir/empty", "read"), "{operation} {path}");
    }
}
