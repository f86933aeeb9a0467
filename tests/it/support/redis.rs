//! Real servers of Redis or Valkey: private ones in folders of their own, one alone or three as a cluster.

use super::process::{Process, until, within};
use ::redis::aio::MultiplexedConnection;
use ::redis::{AsyncConnectionConfig, Client, Cmd, Value};
use nix::sys::signal::Signal::{self, SIGCONT, SIGKILL, SIGSTOP};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;
use tempfile::TempDir;

/// Where a server listens.
#[derive(Clone)]
enum Door {
    /// On a socket of its folder: no port that another test could take.
    Socket(PathBuf),
    /// On loopback, as the nodes of a cluster have to.
    Port(u16),
}

/// One server. It is killed when it is dropped.
pub struct RedisServer {
    process: Option<Process>,
    folder: TempDir,
    door: Door,
    options: Vec<String>,
    admin: String,
}

/// The server's program, whichever is installed.
fn program() -> &'static str {
    let is_there =
        |name: &&str| Command::new(name).arg("--version").output().is_ok_and(|done| done.status.success());
    ["redis-server", "valkey-server"]
        .into_iter()
        .find(is_there)
        .expect("neither redis-server nor valkey-server is installed: run scripts/setup.sh test")
}

impl RedisServer {
    /// An empty server that keeps nothing.
    pub async fn start() -> Self {
        Self::with(&[]).await
    }

    /// An empty server with more options, such as `--appendonly yes`.
    pub async fn with(options: &[&str]) -> Self {
        let folder = TempDir::new().expect("a folder");
        let door = Door::Socket(folder.path().join("s"));
        let mut server = Self::new(folder, door, options);
        assert!(server.open().await, "the server does not start");
        server
    }

    fn new(folder: TempDir, door: Door, options: &[&str]) -> Self {
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        Self { process: None, folder, door, options, admin: String::new() }
    }

    /// A server that wants this password from everyone.
    pub async fn with_password(password: &str) -> Self {
        let mut server = Self::start().await;
        server.ask(&["CONFIG", "SET", "requirepass", password]).await;
        server.admin = format!("?pass={password}");
        server
    }

    /// Starts the process and waits until it takes calls; `false` when it ends instead.
    async fn open(&mut self) -> bool {
        let mut command = Command::new(program());
        command.current_dir(self.folder.path()).args(["--save", "", "--loglevel", "notice"]);
        match &self.door {
            Door::Socket(path) => command.args(["--port", "0", "--unixsocket"]).arg(path),
            Door::Port(port) => command.args(["--bind", "127.0.0.1", "--port", &port.to_string()]),
        };
        command.args(&self.options);
        let process = Process::spawn(command, None);
        let is_open = process.out.says("eady to accept connections").await;
        self.process = Some(process);
        is_open
    }

    /// For `limits.store`.
    pub fn url(&self) -> String {
        match &self.door {
            Door::Socket(path) => format!("redis+unix:{}", path.display()),
            Door::Port(port) => format!("redis://127.0.0.1:{port}"),
        }
    }

    /// The socket, for those who put something in front of it.
    pub fn socket(&self) -> PathBuf {
        match &self.door {
            Door::Socket(path) => path.clone(),
            Door::Port(_) => panic!("this one listens on a port"),
        }
    }

    /// A connection of the test's own.
    pub async fn connection(&self) -> MultiplexedConnection {
        let url = match &self.door {
            Door::Socket(path) => format!("redis+unix://{}{}", path.display(), self.admin),
            Door::Port(port) => format!("redis://127.0.0.1:{port}"),
        };
        let client = Client::open(url).expect("a sound address");
        // What hangs is noticed by whoever waits for it.
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let connecting = client.get_multiplexed_async_connection_with_config(&config);
        within("a connection to the server", connecting).await.expect("it listens")
    }

    /// Sends one command; it must succeed.
    pub async fn ask(&self, words: &[&str]) -> Value {
        let mut command = Cmd::new();
        command.arg(words);
        let mut connection = self.connection().await;
        let answer = within(words[0], connection.send_packed_command(&command)).await;
        answer.unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    /// The same, as text.
    pub async fn text(&self, words: &[&str]) -> String {
        match self.ask(words).await {
            Value::BulkString(bytes) => String::from_utf8(bytes).expect("text"),
            Value::SimpleString(text) => text,
            Value::Int(n) => n.to_string(),
            Value::Okay => "OK".to_owned(),
            other => panic!("{words:?}: {other:?}"),
        }
    }

    fn signal(&self, signal: Signal) {
        self.process.as_ref().expect("it runs").signal(signal);
    }

    /// Stops it where it is: connections stay open and nothing is answered.
    pub fn freeze(&self) {
        self.signal(SIGSTOP);
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal(SIGCONT);
    }

    /// Ends it without a chance to say or save anything.
    pub async fn kill(&mut self) {
        let process = self.process.take().expect("it runs");
        process.end_by(SIGKILL).await;
    }

    /// Starts it again with what it had on disk: nothing, but for `--appendonly yes`.
    pub async fn start_again(&mut self) {
        assert!(self.process.is_none(), "it still runs");
        if let Door::Socket(path) = &self.door {
            // A killed server leaves its socket behind.
            let _ = std::fs::remove_file(path);
        }
        assert!(self.open().await, "the server does not start again");
    }
}

/// Three servers that share the slots. They are killed when it is dropped.
pub struct RedisCluster {
    pub nodes: Vec<RedisServer>,
}

impl RedisCluster {
    /// Starts three masters and waits until each of them takes calls.
    pub async fn start() -> Self {
        let mut nodes = Vec::new();
        while nodes.len() < 3 {
            nodes.push(Self::node().await);
        }
        for (at, node) in nodes.iter().enumerate() {
            let epoch = (at + 1).to_string();
            node.ask(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch]).await;
            // Not by ranges: servers before version 7 do not know them.
            let slots: Vec<String> =
                (at * 16_384 / 3..(at + 1) * 16_384 / 3).map(|slot| slot.to_string()).collect();
            let words = ["CLUSTER", "ADDSLOTS"].into_iter().chain(slots.iter().map(String::as_str));
            node.ask(&words.collect::<Vec<_>>()).await;
        }
        for node in &nodes[1..] {
            nodes[0].ask(&["CLUSTER", "MEET", "127.0.0.1", &node.port().to_string()]).await;
        }
        for node in &nodes {
            until("the cluster is whole", async || {
                let info = node.text(&["CLUSTER", "INFO"]).await;
                info.contains("cluster_state:ok") && info.contains("cluster_size:3")
            })
            .await;
        }
        Self { nodes }
    }

    async fn node() -> RedisServer {
        loop {
            let folder = TempDir::new().expect("a folder");
            let options =
                ["--cluster-enabled", "yes", "--cluster-node-timeout", "5000", "--appendonly", "no"];
            let mut node = RedisServer::new(folder, Door::Port(free_port()), &options);
            // A port that was free may be taken meanwhile.
            if node.open().await {
                return node;
            }
        }
    }

    /// The node that owns this key's slot, and the slot.
    pub async fn owner(&self, key: &str) -> (usize, u16) {
        let slot: u16 = self.nodes[0].text(&["CLUSTER", "KEYSLOT", key]).await.parse().expect("a slot");
        for (at, node) in self.nodes.iter().enumerate() {
            let list = node.text(&["CLUSTER", "NODES"]).await;
            let own = list.lines().find(|line| line.contains("myself")).expect("it knows itself");
            let owns = |range: &str| {
                let (first, last) = range.split_once('-').unwrap_or((range, range));
                first
                    .parse()
                    .ok()
                    .zip(last.parse().ok())
                    .is_some_and(|(a, b): (u16, u16)| (a..=b).contains(&slot))
            };
            if own.split(' ').skip(8).any(owns) {
                return (at, slot);
            }
        }
        panic!("nobody owns slot {slot}");
    }

    /// Gives a slot without keys to another node.
    pub async fn give(&self, slot: u16, from: usize, to: usize) {
        let id = self.nodes[to].text(&["CLUSTER", "MYID"]).await;
        for node in [to, from] {
            self.nodes[node].ask(&["CLUSTER", "SETSLOT", &slot.to_string(), "NODE", &id]).await;
        }
    }
}

impl RedisServer {
    /// The port of a node.
    pub fn port(&self) -> u16 {
        match self.door {
            Door::Port(port) => port,
            Door::Socket(_) => panic!("this one listens on a socket"),
        }
    }
}

/// A port that is free now, as is the one of the cluster's own talk, 10000 above it.
fn free_port() -> u16 {
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        if port <= 55_535 && TcpListener::bind(("127.0.0.1", port + 10_000)).is_ok() {
            return port;
        }
    }
}
