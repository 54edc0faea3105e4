//! A server of PostgreSQL on a mount.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::mounted::kill_and_wait;
use super::{Mounted, Outcome, User, Vault, require_root, run_within, wait_until};

/// A mount that the server's user may use.
pub fn mount(vault: Vault, options: &[&str]) -> Mounted {
    require_root();
    let mount = vault.shared().mount(&[&["--allow-other"], options].concat());
    rustix::fs::chmod(mount.path(), 0o755.into()).unwrap();
    mount
}

/// A cluster on the mount, run by the user that Debian's package makes. It refuses to run as root.
pub struct Cluster {
    programs: PathBuf,
    user: User,
    data: PathBuf,
    /// For the socket and the log, outside of the mount.
    place: PathBuf,
    /// The first process of the server: a child of the test's own, so that it is reaped when it is
    /// killed. A dead process that nobody has reaped is a running server to the next one.
    server: Option<Child>,
}

/// Debian keeps the server's programs out of the PATH, by version.
fn programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let found = versions
        .map(|version| version.path().join("bin"))
        .filter(|bin| bin.join("initdb").exists())
        .max();
    found.unwrap_or_else(|| panic!("this test needs PostgreSQL's server, which is not installed; scripts/test.sh installs what the tests need"))
}

fn postgres_user() -> User {
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    let line = passwd
        .lines()
        .find(|line| line.starts_with("postgres:"))
        .expect("the user postgres, of Debian's package");
    let field = |at: usize| line.split(':').nth(at).unwrap().parse().unwrap();
    User { uid: field(2), gid: field(3), groups: vec![field(3)] }
}

impl Cluster {
    /// initdb, with checksums of PostgreSQL's own on every page.
    pub fn new(mount: &Mounted) -> Cluster {
        require_root();
        let user = postgres_user();
        let place = mount.vault().scratch().make_dir_for("postgres", user.uid, user.gid);
        let data = mount.join("data");
        fs::create_dir(&data).unwrap();
        std::os::unix::fs::chown(&data, Some(user.uid), Some(user.gid)).unwrap();
        let cluster = Cluster { programs: programs(), user, data, place, server: None };
        cluster.run(
            "initdb",
            &[
                "-k",
                "-A",
                "trust",
                "--no-locale",
                "-E",
                "UTF8",
                "-U",
                "postgres",
                "-D",
                cluster.data(),
            ],
        );
        cluster
    }

    fn data(&self) -> &str {
        self.data.to_str().unwrap()
    }

    pub fn command(&self, program: &str, args: &[&str]) -> Command {
        use std::os::unix::process::CommandExt;
        let mut command = Command::new(self.programs.join(program));
        command
            .args(args)
            .env("PGHOST", &self.place)
            .env("PGUSER", "postgres")
            .env("HOME", &self.place)
            .current_dir(&self.place)
            .uid(self.user.uid)
            .gid(self.user.gid);
        command
    }

    pub fn run(&self, program: &str, args: &[&str]) -> Outcome {
        run_within(Duration::from_secs(600), &mut self.command(program, args)).ok()
    }

    pub fn start(&mut self) {
        let log = fs::File::options().append(true).create(true).open(self.log()).unwrap();
        let mut server = self.command("postgres", &["-D", self.data()]);
        for setting in ["listen_addresses=", "shared_buffers=32MB", "checkpoint_timeout=30s"] {
            server.args(["-c", setting]);
        }
        server.arg("-c").arg(format!("unix_socket_directories={}", self.place.display()));
        server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.server = Some(server.spawn().unwrap());
        let ready = wait_until(Duration::from_secs(300), || {
            let ended = self.server.as_mut().unwrap().try_wait().unwrap().is_some();
            let mut ask = self.command("pg_isready", &["-q"]);
            (ended || run_within(Duration::from_secs(60), &mut ask).success()).then_some(!ended)
        });
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        assert_eq!(ready, Some(true), "the server does not start: {log}");
    }

    /// An orderly end: SIGINT is PostgreSQL's word for a fast shutdown.
    pub fn stop(&mut self) {
        let mut server = self.server.take().unwrap();
        kill_process(Pid::from_child(&server), Signal::INT).unwrap();
        let ended = wait_until(Duration::from_secs(300), || server.try_wait().unwrap());
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        assert!(ended.is_some_and(|status| status.success()), "the server does not stop: {log}");
    }

    pub fn query(&self, text: &str) -> String {
        self.run("psql", &["-At", "-d", "postgres", "-c", text]).stdout.trim().to_owned()
    }

    /// pgbench in the background, four clients.
    pub fn bench(&self, seconds: u32) -> Child {
        let mut bench = self.command(
            "pgbench",
            &["-T", &seconds.to_string(), "-c", "4", "-j", "2", "-n", "postgres"],
        );
        bench.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// The server's processes, known by the log that all of them write to: their names for files on
    /// the mount say nothing once that is dead.
    fn processes(&self) -> Vec<u32> {
        let log = self.log();
        let all = fs::read_dir("/proc").unwrap().flatten();
        let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        pids.filter(|pid| fs::read_link(format!("/proc/{pid}/fd/2")).is_ok_and(|file| file == log))
            .collect()
    }

    fn log(&self) -> PathBuf {
        self.place.join("log")
    }

    /// Kills the first process; the others see it and end by themselves.
    pub fn kill9(&mut self) {
        let mut server = self.server.take().unwrap();
        server.kill().unwrap();
        server.wait().unwrap();
        let gone =
            wait_until(Duration::from_secs(60), || self.processes().is_empty().then_some(()));
        assert!(gone.is_some(), "processes of the server outlive it: {:?}", self.processes());
    }

    /// Kills all processes at once.
    pub fn kill9_all(&mut self) {
        // A server that begins anew after a crash starts others until it is dead itself.
        loop {
            let left = self.processes();
            if left.is_empty() {
                break;
            }
            left.into_iter().for_each(kill_and_wait);
        }
        if let Some(mut server) = self.server.take() {
            let _ = server.kill();
            let _ = server.wait();
        }
    }

    /// pgbench moves money: the sums of all four tables agree if no transaction was torn.
    pub fn check(&self) {
        let sums = self.query(
            "SELECT (SELECT sum(abalance) FROM pgbench_accounts) = coalesce((SELECT sum(delta) FROM pgbench_history), 0),
                    (SELECT sum(bbalance) FROM pgbench_branches) = coalesce((SELECT sum(delta) FROM pgbench_history), 0),
                    (SELECT sum(tbalance) FROM pgbench_tellers) = coalesce((SELECT sum(delta) FROM pgbench_history), 0)",
        );
        assert_eq!(sums, "t|t|t", "the sums of pgbench's tables");
        self.run("pg_amcheck", &["--all", "--install-missing", "--heapallindexed"]);
    }

    pub fn check_pages(&self) {
        self.run("pg_checksums", &["--check", "-D", self.data()]);
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Whatever is still there when the test has failed would keep the mount busy.
        self.kill9_all();
    }
}
