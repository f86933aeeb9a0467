//! The manifests of `config/kubernetes`: Kubernetes' own schemas, checkov and the rules of a restricted namespace accept them,
//! and what they name is what perch has.

use crate::support::manifests::{
    JOBS, OVERLAYS, containers, documents, environment, folder, judge, list, of_kind, one, perches, pods,
    render, rendered, root, said, text,
};
use crate::support::tls::Authority;
use crate::support::{App, Process, World};
use perch::config::{Address, MANUAL};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What an app is given to stop in, unless its pod says more: Kubernetes' own default.
const APP_STOPS_WITHIN: u64 = 30;
/// The user and group of perch's image.
const PERCH: u64 = 65532;

#[test]
fn kubernetes_schemas_and_checkov_have_nothing_against_them_and_are_no_rubber_stamps() {
    let (dir, files) = rendered();
    let said = judge(&["--source", &root().join("config/kubernetes").display().to_string()], &files);
    assert_eq!(said["invalid"], json!([]));
    assert_eq!(said["failed"], json!([]));
    assert_eq!(
        said["loose"],
        json!([]),
        "a scalar that one reader takes for a boolean: put quotes around it"
    );
    // The Prometheus operator's own kinds; Kubernetes publishes no schema of them.
    assert_eq!(said["unknown"], json!(["PodMonitor", "PrometheusRule"]));
    assert!(said["passed"].as_u64() > Some(400), "{}", said["passed"]);

    // The pod alone: its judges take their time over boards.
    let good = fs::read_to_string(&files[0]).expect("it was rendered");
    let good =
        good.split("\n---\n").find(|part| part.contains("\nkind: Deployment\n")).expect("it makes a pod");
    let changes = [
        ("        startupProbe:", "        startUpProbe:"),
        ("terminationGracePeriodSeconds: 60", "terminationGracePeriodSeconds: \"60\""),
        ("allowPrivilegeEscalation: false", "allowPrivilegeEscalation: true"),
        ("automountServiceAccountToken: false", "automountServiceAccountToken: true"),
    ];
    let write = |(at, (from, to)): (usize, &(&str, &str))| {
        assert!(good.contains(from), "{from}");
        let file = dir.path().join(format!("wrong{at}.yaml"));
        fs::write(&file, good.replace(from, to)).expect("a writable folder");
        file
    };
    let wrong: Vec<PathBuf> = changes.iter().enumerate().map(write).collect();
    fs::write(dir.path().join("loose.yaml"), "answer: on\n").expect("a writable folder");
    let said = judge(&["--source", &dir.path().display().to_string()], &wrong);
    let complaints = format!("{}{}", said["invalid"], said["failed"]);
    for (at, change) in changes.iter().enumerate() {
        assert!(complaints.contains(&format!("wrong{at}")), "nobody minds {change:?}: {complaints}");
    }
    assert!(said["loose"].to_string().contains("loose.yaml:1: on"), "{}", said["loose"]);
}

#[test]
fn every_pod_keeps_the_rules_of_a_restricted_namespace_and_has_bounds() {
    for (name, documents) in documents() {
        let spaces = of_kind(&documents, "Namespace");
        assert_eq!(spaces.len(), usize::from(OVERLAYS.contains(&name.as_str())), "{name}");
        for space in spaces {
            assert_eq!(
                space["metadata"]["labels"]["pod-security.kubernetes.io/enforce"], "restricted",
                "{name}"
            );
        }
        assert!(!pods(&documents).is_empty(), "{name} makes no pod");
        for pod in pods(&documents) {
            assert_eq!(pod["automountServiceAccountToken"], false, "{name}");
            assert_eq!(pod["enableServiceLinks"], false, "{name}");
            for word in ["hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace", "serviceAccountName"] {
                assert_eq!(pod[word], Value::Null, "{name}: {word}");
            }
            assert_eq!(pod["securityContext"]["fsGroup"], PERCH, "{name}");
            for volume in list(&pod["volumes"]) {
                assert_eq!(volume["hostPath"], Value::Null, "{name}");
                if volume["secret"].is_object() {
                    assert_eq!(volume["secret"]["defaultMode"], 0o440, "{name}: {volume}");
                }
            }
            for container in containers(pod) {
                let what = format!("{name}, {}", container["name"]);
                let context = &container["securityContext"];
                let user = context["runAsUser"].as_u64().expect("a user");
                assert_eq!(
                    (&context["runAsNonRoot"], &context["allowPrivilegeEscalation"], &context["privileged"]),
                    (&json!(true), &json!(false), &Value::Null),
                    "{what}"
                );
                assert_eq!(context["readOnlyRootFilesystem"], true, "{what}");
                assert_eq!(context["capabilities"], json!({ "drop": ["ALL"] }), "{what}");
                assert_eq!(context["seccompProfile"]["type"], "RuntimeDefault", "{what}");
                assert_eq!(container["lifecycle"], Value::Null, "{what}: a hook of a sidecar runs too early");
                let (requests, limits) =
                    (&container["resources"]["requests"], &container["resources"]["limits"]);
                assert!(requests["cpu"].is_string() && requests["memory"].is_string(), "{what}");
                assert!(limits["memory"].is_string() && limits["cpu"].is_null(), "{what}: {limits}");
                let is_perch = perches(pod).contains(&container);
                assert_eq!(user == PERCH, is_perch, "{what}: perch's key is for perch's user alone");
                let mounts = list(&container["volumeMounts"]);
                let secret = mounts.iter().find(|mount| mount["mountPath"] == "/run/secrets/perch");
                assert_eq!(secret.is_some(), is_perch, "{what}");
                if is_perch {
                    assert_eq!(secret.expect("it is perch")["readOnly"], true, "{what}");
                    assert_eq!(context["runAsGroup"], PERCH, "{what}");
                    assert!(limits["ephemeral-storage"].is_string(), "{what}");
                }
            }
        }
    }
}

/// A span as the configuration writes it, in seconds.
fn seconds(span: &str) -> u64 {
    span.strip_suffix('s').and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{span}"))
}

/// A setting of perch's as an overlay has it: its own word, else the manual's.
fn setting(documents: &[Value], section: &str, key: &str) -> String {
    let own: toml::Table = settings(documents).parse().expect("TOML");
    let manual: toml::Table = MANUAL.parse().expect("TOML");
    let found = |table: &toml::Table| Some(table.get(section)?.get(key)?.as_str()?.to_owned());
    found(&own).or_else(|| found(&manual)).unwrap_or_else(|| panic!("{section}.{key}"))
}

fn settings(documents: &[Value]) -> String {
    text(&one(documents, "ConfigMap", "perch")["data"]["perch.toml"]).to_owned()
}

#[test]
fn a_sidecar_begins_before_its_app_ends_after_it_and_has_time_for_both() {
    for (name, documents) in documents() {
        let pod = pods(&documents)[0];
        if JOBS.contains(&name.as_str()) {
            continue;
        }
        let drain = seconds(&setting(&documents, "drain", "grace"));
        let grace = pod["terminationGracePeriodSeconds"].as_u64().expect("a number");
        let perch = perches(pod)[0];
        for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
            assert_eq!(perch[probe]["httpGet"]["port"], "perch-probes", "{name}: {probe}");
        }
        let path = |probe: &str| text(&perch[probe]["httpGet"]["path"]).to_owned();
        assert_eq!(
            (path("startupProbe"), path("livenessProbe")),
            ("/readyz".into(), "/livez".into()),
            "{name}"
        );
        if name == "gateway" {
            assert_eq!(path("readinessProbe"), "/readyz");
            assert!(grace >= drain + 10, "{name}: {grace}");
            continue;
        }
        assert_eq!(pod["initContainers"], json!([perch]), "{name}");
        assert_eq!(
            perch["restartPolicy"], "Always",
            "{name}: else it would have to end before the app begins"
        );
        assert_eq!(
            path("readinessProbe"),
            "/livez",
            "{name}: a lost store must not take the app out of its Service"
        );
        assert!(grace >= APP_STOPS_WITHIN + drain, "{name}: {grace}");
    }
}

/// The port of an address.
fn port(address: &str) -> u64 {
    address.rsplit(':').next().and_then(|port| port.parse().ok()).unwrap_or_else(|| panic!("{address}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ports_are_perchs_own_and_every_path_that_is_asked_is_served_there() {
    let world = World::with().settings("listen.probes = \"127.0.0.1:0\"").start().await;
    let Some(Address::Tcp(probes)) = world.gateway.as_ref().expect("it runs").probes() else {
        panic!("there is no door for probes")
    };
    let (mut asked, probes) = (BTreeSet::new(), App::at(*probes));
    for (name, documents) in documents() {
        if JOBS.contains(&name.as_str()) {
            continue;
        }
        let pod = pods(&documents)[0];
        let perch = perches(pod)[0];
        let ports: BTreeMap<&str, u64> = list(&perch["ports"])
            .iter()
            .map(|port| (text(&port["name"]), port["containerPort"].as_u64().expect("a number")))
            .collect();
        assert_eq!(ports["perch-probes"], port(&environment(perch)["PERCH_LISTEN__PROBES"]), "{name}");
        let proxy = setting(&documents, "listen", "proxy");
        if name == "gateway" {
            assert_eq!(ports["http"], port(&proxy));
            assert_eq!(ports["webhooks"], port(&setting(&documents, "listen", "webhooks")));
            for port in list(&one(&documents, "Service", "perch")["spec"]["ports"]) {
                assert!(ports.contains_key(text(&port["targetPort"])), "{port}");
            }
        } else {
            assert_eq!(ports.len(), 1, "{name}: apps and operators stay on loopback");
            assert!(proxy.starts_with("127.0.0.1:"), "{proxy}");
            let app = containers(pod)[1];
            assert_eq!(environment(app)["FINCH_BASE_URL"], format!("http://{proxy}"), "{name}");
        }
        let may_come: BTreeSet<u64> = of_kind(&documents, "NetworkPolicy")
            .iter()
            .filter(|policy| policy["metadata"]["name"] != "app")
            .flat_map(|policy| list(&policy["spec"]["ingress"]))
            .flat_map(|rule| list(&rule["ports"]))
            .map(|port| port["port"].as_u64().expect("a number"))
            .collect();
        assert_eq!(
            may_come,
            ports.values().copied().collect(),
            "{name}: a port that nobody may reach, or the reverse"
        );
        let leaves: BTreeSet<u64> = list(&one(&documents, "NetworkPolicy", "perch")["spec"]["egress"])
            .iter()
            .flat_map(|rule| list(&rule["ports"]))
            .map(|port| port["port"].as_u64().expect("a number"))
            .collect();
        assert!(leaves.contains(&443) && leaves.contains(&53), "{name}: {leaves:?}");
        for store in [setting(&documents, "vault", "store"), setting(&documents, "limits", "store")] {
            let Some((_, rest)) = store.split_once("://") else { continue };
            let host = rest.split('/').next().expect("a host");
            assert!(leaves.contains(&port(host)), "{name}: {store} cannot be reached through {leaves:?}");
        }
        for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
            asked.insert(text(&perch[probe]["httpGet"]["path"]).to_owned());
        }
        for end in list(&one(&documents, "PodMonitor", "perch")["spec"]["podMetricsEndpoints"]) {
            assert_eq!(end["port"], "perch-probes", "{name}");
            asked.insert(text(&end["path"]).to_owned());
        }
    }
    assert_eq!(asked.iter().collect::<Vec<_>>(), ["/livez", "/metrics", "/readyz"]);
    for path in asked {
        assert_eq!(probes.get(&path).await.status, 200, "{path}");
    }
    assert_eq!(probes.get("/api/connections").await.status, 404, "the door serves nothing else");
}

/// A command of perch's as a container has it, with the paths of the pod here.
async fn run(world: &World, container: &Value, settings: &str, words: &[&str]) -> crate::support::Ended {
    let here = |text: &str| {
        let place = |name: &str| world.path(name).display().to_string();
        let text = text
            .replace("/run/secrets/perch-tls", &place("tls"))
            .replace("/run/secrets/perch-owner", &place("owner"))
            .replace("/run/secrets/perch", &place("secrets"));
        text.replace("/var/lib/perch", &place("state")).replace("/etc/perch", &place("etc"))
    };
    fs::write(world.path("etc/perch.toml"), here(settings)).expect("a writable folder");
    let mut command = world.command(words);
    command.env_clear();
    command.envs(environment(container).into_iter().map(|(name, value)| (name, here(&value))));
    Process::spawn(command, Some(Vec::new())).end().await
}

/// The folders of a pod, with every secret that a configuration names.
async fn furnished() -> World {
    let world = World::with().without_gateway().await;
    for name in ["etc", "owner", "secrets", "state", "tls"] {
        fs::create_dir(world.path(name)).expect("a writable folder");
    }
    for (name, secret) in [
        ("secrets/finch-client-id", "sim-client"),
        ("secrets/finch-client-secret", crate::support::CLIENT_SECRET),
        ("secrets/finch-webhook-secret", crate::support::hooks::SECRET),
        ("secrets/postgres-password", "CANARY-postgres-7731"),
        ("secrets/redis-password", "CANARY-redis-7733"),
        ("secrets/ca.pem", &Authority::new().pem),
        ("owner/postgres-owner-password", "CANARY-postgres-7732"),
    ] {
        fs::write(world.path(name), secret).expect("a writable folder");
    }
    let made = world.perch(&["keys", "generate", "secrets/sealing-key"]).await;
    assert_eq!(made.code, Some(0), "{}", made.err);
    // As a Secret's volume has it.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o440);
    fs::set_permissions(world.path("secrets/sealing-key"), mode).expect("it is ours");
    let identity = Authority::new().certify("perch.perch.svc", (2020, 2090));
    identity.write(&world.path("tls/tls.crt"), &world.path("tls/tls.key"));
    world
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_configuration_and_every_variable_is_one_that_perch_takes() {
    let world = furnished().await;
    let all = documents();
    for name in OVERLAYS {
        let documents = &all[name];
        let perch = perches(pods(documents)[0])[0];
        assert_eq!(perch["args"], json!(["serve"]), "{name}");
        let checked = run(&world, perch, &settings(documents), &["check"]).await;
        assert_eq!(checked.code, Some(0), "{name}: {}", checked.err);
        let wrong = settings(documents).replace("client_id", "client_name");
        let refused = run(&world, perch, &wrong, &["check"]).await;
        assert_eq!(refused.code, Some(64), "{name}: a wrong key goes by unnoticed: {}", refused.all());
        let mut misspelt = perch.clone();
        misspelt["env"]
            .as_array_mut()
            .expect("a list")
            .push(json!({ "name": "PERCH_LISTEN__PROBE", "value": "127.0.0.1:4603" }));
        let refused = run(&world, &misspelt, &settings(documents), &["check"]).await;
        assert_eq!(refused.code, Some(64), "{name}: {}", refused.all());
    }
    for name in JOBS {
        for container in containers(pods(&all[name])[0]) {
            let checked = run(&world, container, &settings(&all[name]), &["check"]).await;
            assert_eq!(checked.code, Some(0), "{name}, {}: {}", container["name"], checked.err);
        }
    }
}

#[test]
fn a_job_runs_where_its_overlay_runs_with_its_images_and_settings() {
    let all = documents();
    for name in JOBS {
        let (overlay, _) = name.split_once('.').expect("an overlay's");
        let (job, overlay) = (&all[name], &all[overlay]);
        let map = one(job, "ConfigMap", "perch");
        assert_eq!(map, one(overlay, "ConfigMap", "perch"), "{name}");
        let maker = of_kind(job, "Job")[0];
        assert_eq!(maker["metadata"]["namespace"], map["metadata"]["namespace"], "{name}");
        let image = &perches(pods(overlay)[0])[0]["image"];
        for container in containers(pods(job)[0]) {
            assert_eq!(container["image"], *image, "{name}");
        }
        // The owner's password is for the jobs that need it, and for no gateway.
        let secrets = |documents: &[Value]| -> BTreeSet<String> {
            let volumes = list(&pods(documents)[0]["volumes"]).iter();
            volumes.filter_map(|volume| volume["secret"]["secretName"].as_str().map(str::to_owned)).collect()
        };
        assert!(!secrets(overlay).contains("perch-owner"), "{name}");
        assert_eq!(secrets(job).contains("perch-owner"), !name.ends_with("restore"), "{name}");
    }
}

#[test]
fn rules_and_boards_are_those_of_the_dashboards() {
    let rules = root().join("dashboards/rules/perch.rules.yml");
    let groups = judge(&["--read"], &[rules])["documents"]["perch.rules"][0]["groups"].clone();
    assert!(groups[0]["rules"].as_array().map(Vec::len) >= Some(12));
    for (name, documents) in documents() {
        if JOBS.contains(&name.as_str()) {
            continue;
        }
        let spec = &one(&documents, "PrometheusRule", "perch")["spec"];
        assert!(
            *spec == json!({ "groups": groups }),
            "{name}: these are not the rules of dashboards/rules: {spec}"
        );
        for board in crate::dashboards::BOARDS {
            let map = one(&documents, "ConfigMap", &format!("perch-dashboard-{board}"));
            let file = crate::dashboards::read(&format!("dashboards/{board}.json"));
            assert_eq!(map["data"], json!({ format!("{board}.json"): file }), "{name}");
            assert_eq!(map["metadata"]["labels"]["grafana_dashboard"], "1", "{name}");
            // `kubectl apply` keeps what it applied in an annotation, which may have no more than this.
            assert!(serde_json::to_string(map).expect("JSON").len() < 256 * 1024, "{name}: {board}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_app_gets_its_answers_through_perch() {
    let world = World::with().settings("connections.introspect_every = \"off\"").start().await;
    world.connect("acme", "gusto").await;
    let all = documents();
    let map = of_kind(&all["sidecar-embedded"], "ConfigMap");
    let app = map.into_iter().find(|map| map["data"]["app.py"].is_string()).expect("the app's own");
    let python = root().join(".cache/sdk/python/bin/python");
    assert!(python.exists(), "the official SDKs are installed by `make test`, or by scripts/sdks.sh alone");
    fs::write(world.path("app.py"), text(&app["data"]["app.py"])).expect("a writable folder");
    let mut command = Command::new(python);
    command
        .arg(world.path("app.py"))
        .env("PORT", "0")
        .env("FINCH_BASE_URL", format!("http://{}", world.proxy));
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"] {
        command.env_remove(name);
    }
    let process = Process::spawn(command, None);
    assert!(process.out.says("listening on ").await, "{}", process.err.text());
    assert!(process.out.says("\n").await, "{}", process.err.text());
    let line = process.out.text();
    let port: u16 = line.trim().rsplit(' ').next().and_then(|port| port.parse().ok()).expect("a port");
    let app = App::at(([127, 0, 0, 1], port).into());
    assert_eq!(app.get("/healthz").await.status, 200);
    let answer = app.get("/acme").await;
    assert!(
        answer.status == 200 && answer.text().ends_with(" people\n"),
        "{} {}",
        answer.status,
        answer.text()
    );
    let unknown = app.get("/nobody").await;
    assert_eq!((unknown.status, unknown.text().as_str()), (404, "unknown_customer\n"));
    // As the first process of a container it gets no second chance: what perch has left of the pod's time depends on it.
    let ended = process.end_by(nix::sys::signal::Signal::SIGTERM).await;
    assert_eq!(ended.code, Some(0), "{}", ended.err);
}

#[test]
fn a_folder_of_ones_own_beside_the_overlays_renders_alike() {
    let dir = tempfile::tempdir().expect("a folder");
    said(
        Command::new("cp")
            .arg("-r")
            .arg(root().join("config"))
            .arg(root().join("dashboards"))
            .arg(dir.path()),
    );
    let overlays = dir.path().join("config/kubernetes/overlays");
    let (from, own) = (overlays.join("sidecar-embedded"), overlays.join("mine"));
    said(Command::new("cp").arg("-r").arg(from).arg(&own));
    assert_eq!(render(&own), render(&folder("sidecar-embedded")));
    assert!(Path::new(&own).exists());
}

#[test]
fn an_app_of_ones_own_keeps_its_time_and_its_group_by_the_patch_of_the_document() {
    let dir = tempfile::tempdir().expect("a folder");
    let copy = |from: &str| said(Command::new("cp").arg("-r").arg(root().join(from)).arg(dir.path()));
    copy("config");
    copy("dashboards");
    let own = dir.path().join("config/kubernetes/overlays/sidecar-embedded");
    let app = dir.path().join("config/kubernetes/app/app.yaml");
    let theirs = "    spec:\n      terminationGracePeriodSeconds: 300\n      securityContext:\n        fsGroup: 2000\n      containers:\n";
    let text = fs::read_to_string(&app).expect("a manifest");
    assert!(text.contains("    spec:\n      containers:\n"));
    fs::write(&app, text.replace("    spec:\n      containers:\n", theirs)).expect("a writable folder");
    let pod = || {
        let file = dir.path().join("own.yaml");
        fs::write(&file, render(&own)).expect("a writable folder");
        let documents = judge(&["--read"], &[file])["documents"]["own"].clone();
        pods(list(&documents))[0].clone()
    };
    let told = |pod: &Value| {
        (pod["terminationGracePeriodSeconds"].as_u64(), pod["securityContext"]["fsGroup"].as_u64())
    };
    let replaced = pod();
    assert_eq!(told(&replaced), (Some(60), Some(PERCH)), "the document says that it is replaced");
    let document = fs::read_to_string(root().join("docs/install.md")).expect("a document");
    let patch =
        document.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a patch");
    let file = own.join("kustomization.yaml");
    let kustomization = fs::read_to_string(&file).expect("an overlay");
    fs::write(&file, format!("{kustomization}{patch}")).expect("a writable folder");
    let patched = pod();
    assert_eq!(told(&patched), (Some(330), Some(2000)));
    assert_eq!(patched["initContainers"], replaced["initContainers"], "and nothing else");
}
