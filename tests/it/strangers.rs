//! V12, however apps are known: by whatever it names them, an app cannot obtain, use or tell from nobody the customers of
//! others.

use crate::apps::{COMPANY, SCENARIO, assert_alike, connection_of};
use crate::support::tls::{Authority, Identity};
use crate::support::{App, World, until};
use rcgen::SanType;
use std::path::PathBuf;
use tokio_rustls::TlsConnector;

/// How the two apps of a world are known.
enum Known {
    Keys {
        mine: String,
        theirs: String,
    },
    Certificates {
        mine: TlsConnector,
        theirs: TlsConnector,
    },
    /// There is one user here, and the two apps are it in turn.
    Users {
        socket: PathBuf,
        me: u32,
    },
}

const MINE: [&str; 2] = ["--customers", "acme,initech-*"];
const THEIRS: [&str; 2] = ["--customers", "globex"];
/// Nobody here runs as this user.
const ELSEWHERE: &str = "4000000001";

pub fn spiffe(name: &str) -> SanType {
    SanType::URI(format!("spiffe://example.org/{name}").try_into().expect("ASCII"))
}

impl World {
    /// Another address for the proxy door.
    pub fn set_proxy(&self, address: &str) {
        let file = self.path("perch.toml");
        let text = std::fs::read_to_string(&file).expect("settings");
        let other = text.replace("listen.proxy = \"127.0.0.1:0\"", &format!("listen.proxy = \"{address}\""));
        std::fs::write(&file, other).expect("a writable folder");
    }

    /// A door of this authority's that asks for certificates of this authority's.
    pub fn set_mtls(&self, authority: &Authority, server: &Identity) {
        let [cert, key, clients] = ["door.pem", "door.key", "clients.pem"].map(|name| self.path(name));
        server.write(&cert, &key);
        std::fs::write(&clients, &authority.pem).expect("a writable folder");
        self.set(&format!(
            "apps.auth = \"mtls\"\nlisten.cert_file = \"{}\"\nlisten.key_file = \"{}\"\napps.client_ca_file = \"{}\"",
            cert.display(),
            key.display(),
            clients.display()
        ));
    }

    /// Adds an app that has no key.
    pub async fn add_marked(&self, name: &str, mark: [&str; 2], options: &[&str]) {
        let words = [&["apps", "add", name], &mark[..], options].concat();
        let added = self.perch(&words).await;
        assert!(added.code == Some(0) && added.out.contains("is known by"), "{added:?}");
    }
}

impl Known {
    async fn by_keys(world: &World) -> Self {
        world.set("apps.auth = \"key\"");
        Self::Keys {
            mine: world.add_app("mine", &MINE).await,
            theirs: world.add_app("theirs", &THEIRS).await,
        }
    }

    async fn by_certificates(world: &World) -> Self {
        let authority = Authority::new();
        world.set_mtls(&authority, &authority.certify("localhost", (2020, 2100)));
        world.add_marked("mine", ["--certificate", "spiffe://example.org/mine"], &MINE).await;
        world.add_marked("theirs", ["--certificate", "theirs.internal"], &THEIRS).await;
        let (mine, theirs) = (spiffe("mine"), SanType::DnsName("theirs.internal".try_into().expect("ASCII")));
        let client = |name| authority.client(Some(&authority.vouch(&[name], None, |_| {})));
        Self::Certificates { mine: client(mine), theirs: client(theirs) }
    }

    async fn by_users(world: &World) -> Self {
        let (socket, me) = (world.path("proxy.sock"), nix::unistd::geteuid().as_raw());
        world.set_proxy(&format!("unix:{}", socket.display()));
        world.set("apps.auth = \"uid\"");
        world.add_marked("mine", ["--uid", &me.to_string()], &MINE).await;
        world.add_marked("theirs", ["--uid", ELSEWHERE], &THEIRS).await;
        Self::Users { socket, me }
    }

    fn mine(&self, world: &World) -> App {
        match self {
            Known::Keys { mine, .. } => world.with_key(mine),
            Known::Certificates { mine, .. } => world.app().over(mine),
            Known::Users { socket, .. } => App::on(socket),
        }
    }

    /// What the other app is answered.
    async fn theirs(&self, world: &World, path: &str) -> u16 {
        let app = match self {
            Known::Keys { theirs, .. } => world.with_key(theirs),
            Known::Certificates { theirs, .. } => world.app().over(theirs),
            Known::Users { socket, me } => {
                let me = me.to_string();
                self.swap(world, [("mine", ELSEWHERE), ("theirs", me.as_str())]).await;
                let answer = App::on(socket).with("perch-customer", "globex").get(path).await;
                self.swap(world, [("theirs", ELSEWHERE), ("mine", me.as_str())]).await;
                return answer.status;
            }
        };
        app.with("perch-customer", "globex").get(path).await.status
    }

    async fn swap(&self, world: &World, users: [(&str, &str); 2]) {
        for (name, uid) in [(users[0].0, "4000000002"), (users[1].0, users[1].1), (users[0].0, users[0].1)] {
            let changed = world.perch(&["apps", "change", name, "--uid", uid]).await;
            assert_eq!(changed.code, Some(0), "{changed:?}");
        }
        let own = if users[1].0 == "mine" { "acme" } else { "globex" };
        let Known::Users { socket, .. } = self else { return };
        let app = App::on(socket).with("perch-customer", own).with("perch-connection", "gusto");
        until("the gateway knows", async || app.get("/introspect").await.status == 200).await;
    }
}

async fn quiet_world() -> World {
    let settings = "limits.products.default = 1000";
    let world = World::with().scenario(SCENARIO).settings(settings).without_gateway().await;
    world.import().await;
    world
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v12_another_apps_customer_is_nobody_where_apps_have_keys() {
    let world = quiet_world().await;
    let known = Known::by_keys(&world).await;
    another_apps_customer_is_nobody(world, known).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v12_another_apps_customer_is_nobody_where_apps_have_certificates() {
    let world = quiet_world().await;
    let known = Known::by_certificates(&world).await;
    another_apps_customer_is_nobody(world, known).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v12_another_apps_customer_is_nobody_where_apps_are_users() {
    let world = quiet_world().await;
    let known = Known::by_users(&world).await;
    another_apps_customer_is_nobody(world, known).await;
}

async fn another_apps_customer_is_nobody(mut world: World, known: Known) {
    world.open().await;
    // What is left of a limit is told in each answer, and another while a shared ledger is not joined yet.
    let app = known.mine(&world);
    let nobody = app.clone().with("perch-customer", "nobody");
    let is_joined = async || {
        let answer = nobody.get("/employer/directory").await;
        answer.headers.contains_key("ratelimit") && answer.header("ratelimit").contains("r=1000")
    };
    until("quota is counted as it will be", is_joined).await;
    let (globex, acme) =
        (connection_of(&world, "globex", "gusto").await, connection_of(&world, "acme", "gusto").await);
    let bearer = |text: String| app.clone().with("authorization", &format!("Bearer {text}"));
    let nowhere = "00000000-0000-4000-8000-000000000000";
    // Each way of naming, for somebody who is there and for somebody who is not.
    let ways = |customer: &str, connection: &str| {
        [
            app.clone().with("perch-customer", customer),
            bearer(format!("customer:{customer}")),
            app.clone().with("perch-customer", customer).with("perch-connection", "gusto"),
            app.clone().with("perch-customer", customer).with("perch-connection", connection),
            app.clone().with("perch-connection", connection),
            bearer(format!("connection:{connection}")),
            bearer(format!("connection:{connection}")).with("perch-customer", customer),
            bearer(format!("connection:{connection}")).with("perch-customer", "acme"),
            bearer(format!("connection:{connection}")).with("perch-connection", "gusto"),
            app.clone().with("perch-customer", "acme").with("perch-connection", connection),
        ]
    };
    let calls = [
        ("GET", COMPANY, ""),
        ("POST", "/employer/individual", r#"{"requests":[]}"#),
        ("GET", "/introspect", ""),
    ];
    // Before and after its own app has used it: what is cached must not show.
    for _ in 0..2 {
        for (there, none) in ways("globex", &globex).into_iter().zip(ways("nobody", nowhere)) {
            for (method, path, body) in calls {
                let there = there.call(method, path, body.into()).await;
                let none = none.call(method, path, body.into()).await;
                assert_eq!((there.status, there.class()), (404, "unknown_customer"), "{}", there.text());
                assert_alike((&there, &["globex", &globex]), (&none, &["nobody", nowhere]));
            }
        }
        assert_eq!(known.theirs(&world, COMPANY).await, 200);
    }
    // However their connection fares.
    for status in ["held", "needs_reauth", "disconnecting"] {
        world
            .database
            .sql(&format!("UPDATE connection SET status = '{status}' WHERE customer_id = 'globex'"))
            .await;
        world.restart().await;
        let there = known.mine(&world);
        let told = |connection: &str| {
            there.clone().with("authorization", &format!("Bearer connection:{connection}"))
        };
        let (there, none) = (told(&globex).get(COMPANY).await, told(nowhere).get(COMPANY).await);
        assert_alike((&there, &[&globex]), (&none, &[nowhere]));
    }
    let nonsense = world.database.bytes("00");
    world
        .database
        .sql(&format!("UPDATE connection SET sealed = {nonsense} WHERE customer_id = 'globex'"))
        .await;
    world.restart().await;
    let told = |connection: &str| known.mine(&world).with("perch-connection", connection);
    let (there, none) = (told(&globex).get(COMPANY).await, told(nowhere).get(COMPANY).await);
    assert_alike((&there, &[&globex]), (&none, &[nowhere]));
    // And in another environment of the same store.
    world.database.sql("UPDATE connection SET env = 'production' WHERE customer_id = 'globex'").await;
    world.restart().await;
    let told = |connection: &str| known.mine(&world).with("perch-connection", connection);
    let (there, none) = (told(&globex).get(COMPANY).await, told(nowhere).get(COMPANY).await);
    assert_alike((&there, &[&globex]), (&none, &[nowhere]));
    // Their own are theirs all along.
    assert_eq!(known.mine(&world).with("perch-connection", &acme).get(COMPANY).await.status, 200);
    assert_eq!(known.mine(&world).with("perch-customer", "initech-1").get(COMPANY).await.status, 200);
    assert_eq!(world.report().await["suspicious"]["count"], 0);
}
