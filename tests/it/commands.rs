//! The commands an operator runs: what they print, where, and what they never print.

use crate::support::{CLIENT_SECRET, World, until};
use std::fs;
use std::os::unix::fs::PermissionsExt;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_tells_what_a_start_would_do_and_makes_nothing() {
    let world = World::with().without_gateway().await;
    let checked = world.perch(&["check"]).await;
    assert_eq!((checked.code, checked.err.as_str()), (Some(0), ""), "{}", checked.out);
    for fact in [
        "perch.toml",
        "application sim-client",
        "finch.client_secret from env:FINCH_CLIENT_SECRET",
        "perch.db",
    ] {
        assert!(checked.out.contains(fact), "{fact:?} is not in: {}", checked.out);
    }
    let json = world.perch(&["check", "-o", "json"]).await.json();
    assert_eq!(json["ok"], true);
    assert!(!world.path("perch.db").exists(), "looking makes no store");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn config_shows_references_and_no_secret() {
    let world = World::with().settings("admin.token = \"env:ADMIN_TOKEN\"").without_gateway().await;
    world.set("finch.webhook_secret = \"file:hook\"");
    fs::write(world.path("hook"), format!("hook-{CLIENT_SECRET}\n")).expect("a writable folder");
    for words in [&["config"] as &[&str], &["config", "-o", "json"], &["check"], &["check", "-o", "json"]] {
        let mut command = world.command(words);
        command.env("ADMIN_TOKEN", format!("admin-{CLIENT_SECRET}"));
        let ended = world.run(command).await;
        assert_eq!(ended.code, Some(0), "{words:?}: {}", ended.err);
        for shown in ["env:FINCH_CLIENT_SECRET", "env:ADMIN_TOKEN", "file:hook"] {
            assert!(ended.out.contains(shown), "{words:?} does not show {shown}: {}", ended.out);
        }
        assert!(!ended.all().contains("CANARY"), "{words:?}: {}", ended.all());
    }
    let defaults = world.perch(&["config", "--defaults"]).await;
    assert_eq!(defaults.code, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_made_once_for_its_owner_alone() {
    let world = World::with().without_gateway().await;
    let made = world.perch(&["keys", "generate", "new.key"]).await;
    assert_eq!((made.code, made.err.as_str()), (Some(0), ""));
    let facts = fs::metadata(world.path("new.key")).expect("it was made");
    assert_eq!(facts.permissions().mode() & 0o777, 0o600);
    let key = fs::read_to_string(world.path("new.key")).expect("it is ours");
    assert!(!made.out.contains(key.trim()) && made.out.contains("Back it up"), "{}", made.out);
    let again = world.perch(&["keys", "generate", "new.key"]).await;
    assert_eq!((again.code, again.out.as_str()), (Some(1), ""));
    assert!(again.err.contains("exists already"), "{}", again.err);
    assert_eq!(fs::read_to_string(world.path("new.key")).expect("it is ours"), key);
    let nowhere = world.perch(&["keys", "generate", "no/such/new.key"]).await;
    assert_eq!(nowhere.code, Some(1));
    assert!(nowhere.err.contains("no/such/new.key"), "{}", nowhere.err);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn version_and_completions_need_no_configuration() {
    let world = World::with().without_gateway().await;
    fs::write(world.path("perch.toml"), "this is not TOML").expect("a writable folder");
    let version = world.perch(&["--version"]).await;
    assert_eq!((version.code, version.out.trim()), (Some(0), concat!("perch ", env!("CARGO_PKG_VERSION"))));
    let script = world.perch(&["completions", "bash"]).await;
    assert_eq!(script.code, Some(0));
    for word in ["complete -F", "connections", "completions", "serve"] {
        assert!(script.out.contains(word), "{word:?} is not in the completions");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_command_has_a_way_to_take_a_token_where_others_could_read_it() {
    let world = World::with().without_gateway().await;
    for words in [
        &["--help"] as &[&str],
        &["serve", "--help"],
        &["connections", "--help"],
        &["connections", "import", "--help"],
        &["connections", "list", "--help"],
        &["connections", "show", "--help"],
        &["connections", "assign", "--help"],
        &["apps", "--help"],
        &["apps", "add", "--help"],
        &["apps", "show", "--help"],
        &["keys", "--help"],
        &["keys", "generate", "--help"],
        &["keys", "rotate", "--help"],
        &["keys", "rotate-kek", "--help"],
        &["keys", "destroy", "--help"],
        &["vault", "--help"],
        &["vault", "backup", "--help"],
        &["vault", "restore", "--help"],
        &["config", "--help"],
        &["check", "--help"],
    ] {
        let help = world.perch(words).await;
        assert_eq!(help.code, Some(0), "{words:?}");
        let options =
            help.out.lines().filter(|line| line.trim_start().starts_with('-') || line.contains('<'));
        for line in options {
            let line = line.to_lowercase();
            assert!(!line.contains("token") && !line.contains("secret"), "{words:?}: {line}");
        }
        assert!(
            !help.out.contains("[env:"),
            "{words:?} reads an argument from the environment: {}",
            help.out
        );
    }
}

/// A reader that goes away, as `| head -1` does, is no defect.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn output_that_nobody_reads_ends_without_a_panic() {
    let world = World::with().without_gateway().await;
    for words in [
        &["config"] as &[&str],
        &["config", "--defaults"],
        &["check"],
        &["completions", "bash"],
        &["connections", "list"],
        &["--help"],
    ] {
        let ended = world.perch_unread(words).await;
        assert!(!ended.err.contains("panic") && !ended.err.contains("defect"), "{words:?}: {}", ended.err);
        assert_ne!(ended.code, Some(101), "{words:?}");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_holds_tokens_leaves_no_core_file() {
    let mut world = World::with().without_gateway().await;
    let gateway = world.serve().await;
    let import = world.perch_waiting(&["connections", "import"]);
    for process in [&gateway, &import] {
        let limits = format!("/proc/{}/limits", process.id());
        let is_none = |line: &str| line.split_whitespace().skip(4).take(2).all(|n| n == "0");
        until("core files are forbidden", async || {
            let limits = fs::read_to_string(&limits).expect("it runs");
            is_none(limits.lines().find(|line| line.starts_with("Max core file size")).expect("a limit"))
        })
        .await;
    }
}
