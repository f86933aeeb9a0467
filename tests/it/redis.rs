//! The way to a shared quota, against real servers: what is found, what is told, and what never is.

use crate::support::redis::{RedisCluster, RedisServer};
use crate::support::tls::Authority;
use crate::support::{World, until};
use perch::config::{self, Environ, LimitStore, RedisUrl};
use perch::store::redis::info::Mode;
use perch::store::redis::{Link, LinkError, Redis, Reply};
use std::time::Duration;
use tokio::net::{TcpListener, UnixStream};

/// Tells its key, its arguments and the server's clock, and counts its calls.
const SCRIPT: &str = "local n = redis.call('INCR', KEYS[1] .. ':calls')
return {KEYS[1], n, tonumber(redis.call('TIME')[1]), ARGV}";

/// Reads only, so that a slot without keys stays without.
const ECHO: &str = "return {KEYS[1], redis.call('EXISTS', KEYS[1]), ARGV}";

/// Far longer than anything takes; what must not answer is given less.
const LONG: Duration = Duration::from_secs(30);

pub(crate) fn url(text: &str) -> RedisUrl {
    with_settings(text, "")
}

/// A URL as the configuration gives it, with more settings.
fn with_settings(text: &str, more: &str) -> RedisUrl {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("perch.toml");
    std::fs::write(&path, more).expect("a writable folder");
    let env: Environ =
        [("FINCH_CLIENT_ID", "id"), ("FINCH_CLIENT_SECRET", "secret"), ("PERCH_LIMITS__STORE", text)]
            .into_iter()
            .collect();
    match config::load(Some(&path), &env).expect("a sound configuration").config.limits.store {
        LimitStore::Redis(url) => url,
        LimitStore::Memory => panic!("{text} is no URL"),
    }
}

fn way(text: &str) -> Redis {
    Redis::new(url(text), "test", SCRIPT).expect("no TLS, no trust")
}

async fn link(text: &str) -> Link {
    way(text).connect(LONG).await.unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// How often the script has been called, this call included.
async fn calls(link: &Link) -> i64 {
    let reply = link.call(&[], LONG).await.expect("an answer");
    reply.as_list().and_then(|list| list[1].as_int()).expect("a number")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_is_called_with_its_key_and_its_arguments() {
    let server = RedisServer::start().await;
    let link = link(&server.url()).await;
    let info = server.text(&["INFO", "server"]).await;
    assert!(info.contains(&format!("run_id:{}", link.run_id())), "{info}");
    assert_eq!(link.server().mode, Mode::Standalone);
    let reply = link.call(&[b"ask", b"\x00\xff\r\n", b""], LONG).await.expect("an answer");
    let [key, calls, time, args] = reply.as_list().expect("a list") else { panic!("{reply:?}") };
    assert_eq!((key.as_str(), calls.as_int()), (Some("perch:{test}"), Some(1)));
    assert!(time.as_int() > Some(1_600_000_000), "the server's clock: {time:?}");
    let sent = [&b"ask"[..], b"\x00\xff\r\n", b""].map(|arg| Reply::Text(arg.to_vec()));
    assert_eq!(args.as_list(), Some(&sent[..]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_forgot_the_script_is_told_it_once_more_and_runs_it_once() {
    let server = RedisServer::start().await;
    let link = link(&server.url()).await;
    assert_eq!(calls(&link).await, 1);
    server.ask(&["SCRIPT", "FLUSH"]).await;
    assert_eq!(calls(&link).await, 2);
    assert_eq!(calls(&link).await, 3);
    let stats = server.text(&["INFO", "commandstats"]).await;
    assert!(stats.contains("cmdstat_eval:calls=1,"), "told once: {stats}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_at_once_are_each_given_their_own_answer() {
    let server = RedisServer::start().await;
    let link = std::sync::Arc::new(link(&server.url()).await);
    let tasks: Vec<_> = (0..200)
        .map(|n: u32| {
            let link = std::sync::Arc::clone(&link);
            tokio::spawn(async move {
                let reply = link.call(&[n.to_string().as_bytes()], LONG).await.expect("an answer");
                assert_eq!(
                    reply.as_list().expect("a list")[3],
                    Reply::List(vec![Reply::Text(n.to_string().into())])
                );
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("its own answer");
    }
    assert_eq!(calls(&link).await, 201);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_server_is_another_run_and_the_old_link_never_comes_back() {
    for (options, calls_after) in [(&[][..], 1), (&["--appendonly", "yes", "--appendfsync", "always"][..], 2)]
    {
        let mut server = RedisServer::with(options).await;
        let first = link(&server.url()).await;
        assert_eq!(calls(&first).await, 1);
        server.kill().await;
        server.start_again().await;
        assert!(matches!(first.call(&[], LONG).await, Err(LinkError::Broken(_))));
        assert!(matches!(first.call(&[], LONG).await, Err(LinkError::Broken(_))), "it does not reconnect");
        let second = link(&server.url()).await;
        assert_ne!(first.run_id(), second.run_id());
        assert_eq!(calls(&second).await, calls_after, "{options:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stops_answering_costs_each_call_its_own_time_and_no_more() {
    let server = RedisServer::start().await;
    let link = link(&server.url()).await;
    let short = Duration::from_millis(20);
    server.freeze();
    assert_eq!(link.call(&[], short).await, Err(LinkError::TimedOut));
    assert_eq!(way(&server.url()).connect(short).await.expect_err("nobody answers"), LinkError::TimedOut);
    server.thaw();
    // What was asked is done after all: a caller that gave up must not take it for undone.
    until("the first call was done", async || calls(&link).await > 1).await;

    server.freeze();
    let mut failures = 0;
    while link.call(&[], Duration::from_millis(1)).await == Err(LinkError::TimedOut) {
        failures += 1;
        assert!(failures <= 64, "what is not answered is kept without a bound");
    }
    assert!(matches!(link.call(&[], LONG).await, Err(LinkError::Broken(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_not_there_is_named_in_the_failure() {
    let mut server = RedisServer::start().await;
    let socket = server.socket().display().to_string();
    server.kill().await;
    let error = way(&server.url()).connect(LONG).await.expect_err("nobody is there");
    assert!(matches!(&error, LinkError::Broken(why) if why.contains(&socket)), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_refused_and_told_to_nobody() {
    let server = RedisServer::with_password("right").await;
    // A Unix socket's URL has no place for a password, so it comes as it does from a secret.
    for (password, refusal) in [
        (None, Some("set limits.password")),
        (Some("CANARY-wrong"), Some("user or password is wrong")),
        (Some("right"), None),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let secret = folder.path().join("secret");
        let more = match password {
            Some(password) => {
                std::fs::write(&secret, password).expect("a writable folder");
                format!("limits.password = \"file:{}\"", secret.display())
            }
            None => String::new(),
        };
        let way = Redis::new(with_settings(&server.url(), &more), "test", SCRIPT).expect("no TLS");
        match (way.connect(LONG).await, refusal) {
            (Ok(link), None) => assert_eq!(calls(&link).await, 1),
            (Err(error @ LinkError::Refused(_)), Some(words)) => {
                assert!(error.to_string().contains(words), "{error}");
                assert!(!format!("{error} {error:?} {way} {way:?}").contains("CANARY"));
            }
            (other, _) => panic!("{password:?}: {other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_and_databases_are_those_of_the_url() {
    let server = RedisServer::start().await;
    server.ask(&["ACL", "SETUSER", "perch", "on", ">pw", "~perch:*", "+@all"]).await;
    server.ask(&["ACL", "SETUSER", "narrow", "on", ">pw", "~other:*", "+@all"]).await;
    server.ask(&["ACL", "SETUSER", "reader", "on", ">pw", "~*", "+@read", "+info"]).await;
    let proxy = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = proxy.local_addr().expect("an address").port();
    let socket = server.socket();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = proxy.accept().await {
            let mut inner = UnixStream::connect(&socket).await.expect("it listens");
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut client, &mut inner).await });
        }
    });
    let by = |user: &str, db: &str| format!("redis://{user}:pw@127.0.0.1:{port}{db}");
    assert_eq!(calls(&link(&by("perch", "/3")).await).await, 1);
    let size = async |db| {
        server.text(&["EVAL", "redis.call('SELECT', ARGV[1]) return redis.call('DBSIZE')", "0", db]).await
    };
    assert_eq!((size("0").await, size("3").await), ("0".to_owned(), "1".to_owned()));
    let narrow = link(&by("narrow", "")).await;
    let refused = narrow.call(&[], LONG).await.expect_err("not its keys");
    assert!(matches!(refused, LinkError::Refused(why) if why.contains("ACL")), "{refused}");
    let reader = way(&by("reader", "")).connect(LONG).await.expect_err("no scripts");
    assert!(matches!(reader, LinkError::Refused(_)), "{reader}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_turns_into_a_replica_is_told() {
    let server = RedisServer::start().await;
    let link = link(&server.url()).await;
    assert_eq!(calls(&link).await, 1);
    // Its primary is nowhere: a replica all the same.
    server.ask(&["REPLICAOF", "127.0.0.1", "1"]).await;
    assert_eq!(link.call(&[], LONG).await, Err(LinkError::ReadOnly));
    assert_eq!(way(&server.url()).connect(LONG).await.expect_err("a replica"), LinkError::ReadOnly);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_will_not_work_says_why() {
    let server = RedisServer::start().await;
    let link = link(&server.url()).await;
    for (setting, value, back, word) in
        [("maxmemory", "1", "0", "OOM"), ("min-replicas-to-write", "1", "0", "NOREPLICAS")]
    {
        server.ask(&["CONFIG", "SET", setting, value]).await;
        let error = link.call(&[], LONG).await.expect_err(setting);
        assert!(matches!(error, LinkError::Unwilling(why) if why.contains(word)), "{setting}: {error:?}");
        server.ask(&["CONFIG", "SET", setting, back]).await;
    }
    assert_eq!(calls(&link).await, 1, "nothing was done meanwhile");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_defect_of_the_script_is_a_bad_reply_and_the_link_goes_on() {
    let server = RedisServer::start().await;
    let script = "if ARGV[1] == 'fail' then return nothing.here end return 0.5";
    let way = Redis::new(url(&server.url()), "test", script).expect("no TLS");
    let link = way.connect(LONG).await.expect("it listens");
    let error = link.call(&[b"fail"], LONG).await.expect_err("a defect");
    assert!(matches!(&error, LinkError::BadReply(what) if what.contains("nothing")), "{error}");
    assert_eq!(link.call(&[b"go on"], LONG).await, Ok(Reply::Int(0)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_speak_the_protocol_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let _ =
                tokio::io::AsyncWriteExt::write_all(&mut client, b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let error = way(&format!("redis://127.0.0.1:{port}")).connect(LONG).await.expect_err("HTTP");
    assert!(matches!(error, LinkError::BadReply(_) | LinkError::Broken(_)), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_is_verified_against_the_anchor_that_is_named() {
    let server = RedisServer::start().await;
    let (known, unknown) = (Authority::new(), Authority::new());
    let folder = tempfile::tempdir().expect("a folder");
    let pem = folder.path().join("ca.pem");
    std::fs::write(&pem, &known.pem).expect("a writable folder");
    for (authority, name, is_trusted) in
        [(&known, "localhost", true), (&known, "elsewhere", false), (&unknown, "localhost", false)]
    {
        let acceptor = authority.certify(name, (2000, 2100)).acceptor(&[]);
        let at =
            tokio::net::lookup_host(("localhost", 0)).await.expect("it resolves").next().expect("an address");
        let listener = TcpListener::bind(at).await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let socket = server.socket();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(mut client) = acceptor.accept(client).await else { continue };
                let mut inner = UnixStream::connect(&socket).await.expect("it listens");
                tokio::spawn(async move { tokio::io::copy_bidirectional(&mut client, &mut inner).await });
            }
        });
        let settings = format!("limits.ca_file = \"{}\"", pem.display());
        let url = with_settings(&format!("rediss://localhost:{port}"), &settings);
        let way = Redis::new(url, "test", ECHO).expect("an anchor");
        match way.connect(LONG).await {
            Ok(link) => {
                assert!(is_trusted, "{name} was trusted");
                link.call(&[], LONG).await.expect("an answer");
            }
            Err(error) => assert!(!is_trusted && error.to_string().contains("ertificate"), "{name}: {error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_owner_is_found_from_any_node_and_found_anew_when_the_slot_moves() {
    let cluster = RedisCluster::start().await;
    let way = |at: usize| Redis::new(url(&cluster.nodes[at].url()), "test", ECHO).expect("no TLS");
    let (owner, slot) = cluster.owner("perch:{test}").await;
    let run_id = |link: &Link| link.run_id().to_owned();
    let mut runs = Vec::new();
    for at in 0..3 {
        let link = way(at).connect(LONG).await.expect("the cluster is whole");
        assert_eq!(link.server().mode, Mode::Cluster);
        assert_eq!(link.server().address.to_string(), format!("127.0.0.1:{}", cluster.nodes[owner].port()));
        assert_eq!(link.call(&[], LONG).await.expect("it is the owner").as_list().expect("a list").len(), 3);
        runs.push(run_id(&link));
    }
    runs.dedup();
    assert_eq!(runs.len(), 1, "one owner");

    let link = way(0).connect(LONG).await.expect("the cluster is whole");
    let other = (owner + 1) % 3;
    cluster.give(slot, owner, other).await;
    assert_eq!(link.call(&[], LONG).await, Err(LinkError::Moved));
    // The third node hears of it a little later; the other two know.
    let found = way(other).connect(LONG).await.expect("the cluster is whole");
    assert_ne!(run_id(&found), runs[0]);
    found.call(&[], LONG).await.expect("it is the owner now");

    let two = format!("redis://127.0.0.1:1,127.0.0.1:{}", cluster.nodes[owner].port());
    let past_a_dead_seed =
        Redis::new(url(&two), "test", ECHO).expect("no TLS").connect(LONG).await.expect("found");
    assert_eq!(run_id(&past_a_dead_seed), run_id(&found));
    let with_database =
        Redis::new(url(&format!("{two}/2")), "test", ECHO).expect("no TLS").connect(LONG).await;
    assert!(with_database.expect_err("no databases").to_string().contains("database 0 only"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_misses_a_node_is_told_as_moved_until_it_is_whole() {
    let mut cluster = RedisCluster::start().await;
    let (owner, _) = cluster.owner("perch:{test}").await;
    let witness = (owner + 1) % 3;
    let way = Redis::new(url(&cluster.nodes[witness].url()), "test", ECHO).expect("no TLS");
    let link = way.connect(LONG).await.expect("the cluster is whole");
    cluster.nodes[owner].kill().await;
    assert!(matches!(link.call(&[], LONG).await, Err(LinkError::Broken(_))));
    assert!(matches!(way.connect(LONG).await, Err(LinkError::Broken(_) | LinkError::Moved)));
    cluster.nodes[owner].start_again().await;
    until("the node is back", async || {
        way.connect(LONG).await.is_ok_and(|new| new.run_id() != link.run_id())
    })
    .await;
}

/// `perch check --online` with this server, as text and as JSON, with its exit code.
async fn check_online(world: &World) -> (Option<i32>, String, serde_json::Value) {
    let text = world.perch(&["check", "--online"]).await;
    let json = world.perch(&["check", "--online", "-o", "json"]).await;
    assert_eq!(text.code, json.code);
    assert!(!format!("{}{}", text.all(), json.all()).contains("CANARY"), "{}", text.all());
    (text.code, text.out, json.json())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_online_tells_the_servers_kind_and_its_unsafe_settings() {
    let server = RedisServer::start().await;
    let world = World::with().without_gateway().await;
    world.set(&format!("limits.store = \"{}\"", server.url()));
    let (code, text, json) = check_online(&world).await;
    assert_eq!(code, Some(0), "{text}");
    for words in [
        "ok  vault",
        "not there yet",
        "takes connections",
        "standalone",
        "round trip",
        "AOF is off, which is fine",
    ] {
        assert!(text.contains(words), "{words:?} is not in: {text}");
    }
    assert!(!text.contains("!!"), "{text}");
    assert!(!world.path("perch.db").exists(), "looking makes no store");
    let quota = &json["online"]["quota"];
    assert_eq!((quota["ok"].as_bool(), quota["mode"].as_str()), (Some(true), Some("standalone")), "{json}");
    assert!(quota["round_trip_us"].as_u64().is_some_and(|us| us > 0), "{quota}");

    for (setting, value) in [("maxmemory-policy", "allkeys-lru"), ("timeout", "3")] {
        server.ask(&["CONFIG", "SET", setting, value]).await;
    }
    let (code, text, json) = check_online(&world).await;
    assert_eq!(code, Some(0), "a warning is no failure: {text}");
    let warned: Vec<&str> = text.lines().filter(|line| line.starts_with("!!")).collect();
    assert_eq!(warned.len(), 2, "{text}");
    assert!(text.contains("set maxmemory-policy noeviction") && text.contains("set timeout 0"), "{text}");
    assert_eq!(json["online"]["quota"]["findings"][0]["weight"], "warning");

    let other = RedisServer::start().await;
    other.ask(&["ACL", "SETUSER", "default", "-config"]).await;
    let world = World::with().without_gateway().await;
    world.set(&format!("limits.store = \"{}\"", other.url()));
    let (code, text, _) = check_online(&world).await;
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("forbids CONFIG GET") && text.contains("timeout (0)"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_online_fails_when_the_store_is_not_to_be_had() {
    let mut server = RedisServer::with_password("right").await;
    let world = World::with().without_gateway().await;
    world.set(&format!("limits.store = \"{}\"\nlimits.password = \"file:pw\"", server.url()));
    std::fs::write(world.path("pw"), "CANARY-wrong").expect("a writable folder");
    let (code, text, json) = check_online(&world).await;
    assert_eq!((code, json["ok"].as_bool()), (Some(69), Some(false)), "{text}");
    assert!(text.contains("no  quota") && text.contains("user or password is wrong"), "{text}");
    server.kill().await;
    let (code, text, _) = check_online(&world).await;
    assert_eq!(code, Some(69));
    assert!(text.contains("no  quota") && text.contains("no connection"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_online_names_the_node_of_a_cluster_that_holds_the_quota() {
    let cluster = RedisCluster::start().await;
    let world = World::with().without_gateway().await;
    world.set(&format!("limits.store = \"{}\"\nlimits.namespace = \"test\"", cluster.nodes[0].url()));
    let (owner, _) = cluster.owner("perch:{test}").await;
    let (code, text, _) = check_online(&world).await;
    assert_eq!(code, Some(0), "{text}");
    let place = format!("cluster, the quota's slot is on 127.0.0.1:{}", cluster.nodes[owner].port());
    assert!(text.contains(&place), "{place} is not in: {text}");
}
