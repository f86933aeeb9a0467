//! The simulator over a real socket, through hyper's client.

use base64::Engine;
use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use perch::finch::Auth;
use perch::finch::endpoints::ENDPOINTS;
use perch::sim::{Options, Scenario, Sim};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

struct Answer {
    status: u16,
    headers: HeaderMap,
    bytes: Bytes,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or(Value::Null)
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default()
    }
}

struct Finch {
    address: SocketAddr,
}

impl Finch {
    async fn new(scenario: &str) -> Self {
        let scenario = Scenario::parse(scenario, "test.toml").expect("a sound scenario");
        let sim = Sim::new(Options { scenario, ..Options::default() });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(sim.serve(listener, std::future::pending()));
        Self { address }
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Answer, hyper::Error> {
        let socket = TcpStream::connect(self.address).await.expect("it listens");
        let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
        let running = tokio::spawn(connection);
        let response = sender.send_request(request).await?;
        let (head, body) = response.into_parts();
        let bytes = body.collect().await?.to_bytes();
        running.abort();
        Ok(Answer { status: head.status.as_u16(), headers: head.headers, bytes })
    }

    fn request(&self, method: &str, path: &str, authorization: &str, body: &Value) -> Request<Full<Bytes>> {
        let bytes = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", self.address.to_string())
            .header("finch-api-version", "2020-09-17");
        if !authorization.is_empty() {
            request = request.header("authorization", authorization);
        }
        request.body(Full::new(bytes)).expect("a request")
    }

    async fn call(&self, method: &str, path: &str, authorization: &str, body: Value) -> Answer {
        self.send(self.request(method, path, authorization, &body)).await.expect("an answer")
    }

    async fn get(&self, path: &str, token: &str) -> Answer {
        self.call("GET", path, &bearer(token), Value::Null).await
    }

    async fn post(&self, path: &str, token: &str, body: Value) -> Answer {
        self.call("POST", path, &bearer(token), body).await
    }

    async fn report(&self) -> Value {
        self.call("GET", "/_sim/report", "", Value::Null).await.json()
    }

    async fn connection(&self, customer: &str) -> Value {
        let all = self.call("GET", "/_sim/connections", "", Value::Null).await.json();
        let all = all["connections"].as_array().expect("a list").clone();
        all.into_iter().find(|c| c["customer_id"] == customer).expect("the customer is connected")
    }

    async fn token(&self, customer: &str) -> String {
        text(&self.connection(customer).await["access_token"])
    }

    /// What an employer does with the link, up to the code.
    async fn log_in(&self, session: &Answer) -> String {
        assert_eq!(session.status, 201);
        let url = text(&session.json()["connect_url"]);
        let path = url.strip_prefix(&format!("http://{}", self.address)).expect("it points here").to_owned();
        text(&self.call("GET", &path, "", Value::Null).await.json()["code"])
    }

    async fn exchange(&self, code: &str) -> Answer {
        let body = json!({ "client_id": "sim-client", "client_secret": "sim-secret", "code": code });
        self.call("POST", "/auth/token", "", body).await
    }

    async fn connect(&self, customer: &str, provider: &str) -> Value {
        let session = json!({
            "customer_id": customer, "customer_name": "A", "products": ["company", "directory"],
            "integration": { "provider": provider },
        });
        let session = self.call("POST", "/connect/sessions", &basic(), session).await;
        let code = self.log_in(&session).await;
        let token = self.exchange(&code).await;
        assert_eq!(token.status, 200);
        token.json()
    }
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

fn basic() -> String {
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode("sim-client:sim-secret"))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

const ACME: &str = "[[customer]]\nid = \"acme\"\nemployees = 250\n";

#[tokio::test]
async fn a_customer_connects_and_everything_about_it_can_be_read() {
    let finch = Finch::new("employees = 250").await;
    let session = json!({
        "customer_id": "acme", "customer_name": "Acme", "customer_email": "a@acme.example",
        "products": ["company", "directory", "individual", "employment", "payment", "pay_statement"],
    });
    let session = finch.call("POST", "/connect/sessions", &basic(), session).await;
    let code = finch.log_in(&session).await;
    let granted = finch.exchange(&code).await.json();
    for field in [
        "access_token",
        "token_type",
        "connection_id",
        "client_type",
        "connection_type",
        "products",
        "provider_id",
        "entity_ids",
        "customer_id",
        "customer_name",
        "company_id",
        "account_id",
    ] {
        assert!(!granted[field].is_null(), "{field} is missing: {granted}");
    }
    let again = finch.exchange(&code).await;
    assert_eq!((again.status, again.json()["name"].as_str()), (400, Some("invalid_grant_error")));

    let token = text(&granted["access_token"]);
    let company = finch.get("/employer/company", &token).await;
    assert_eq!(company.status, 200);
    assert_eq!(company.json()["id"], granted["company_id"]);
    assert_eq!(company.header("content-type"), "application/json");
    assert_eq!(company.header("finch-last-attempted-update-result"), "success");
    assert!(!company.header("finch-data-retrieved").is_empty());

    let mut ids = Vec::new();
    for offset in [0, 100, 200] {
        let page = finch.get(&format!("/employer/directory?offset={offset}"), &token).await.json();
        assert_eq!(page["paging"], json!({ "count": 250, "offset": offset }));
        ids.extend(page["individuals"].as_array().expect("a list").iter().map(|i| text(&i["id"])));
    }
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), 250);

    let body = json!({ "requests": [{ "individual_id": ids[3] }, { "individual_id": "nobody" }] });
    for path in ["/employer/individual", "/employer/employment"] {
        let answer = finch.post(path, &token, body.clone()).await.json();
        let items = &answer["responses"];
        assert_eq!((items[0]["code"].as_u64(), &items[0]["body"]["id"]), (Some(200), &json!(ids[3])));
        assert_eq!((items[1]["code"].as_u64(), &items[1]["individual_id"]), (Some(404), &json!("nobody")));
        assert_eq!(items[1]["body"]["finch_code"], "individual_not_found");
    }
    let too_many: Vec<Value> = (0..10_001).map(|_| json!({ "individual_id": ids[0] })).collect();
    let refused = finch.post("/employer/individual", &token, json!({ "requests": too_many })).await;
    assert_eq!((refused.status, refused.json()["name"].as_str()), (400, Some("invalid_request_error")));

    let payments =
        finch.get("/employer/payment?start_date=2020-01-01&end_date=2099-01-01", &token).await.json();
    let payments = payments.as_array().expect("a bare list");
    assert!(payments.len() >= 48, "{}", payments.len());
    assert_eq!(finch.get("/employer/payment", &token).await.status, 400);

    let body = json!({ "requests": [
        { "payment_id": payments[0]["id"], "limit": 7, "offset": 248 }, { "payment_id": "none" },
    ]});
    let statements = finch.post("/employer/pay-statement", &token, body).await.json();
    let first = &statements["responses"][0];
    assert_eq!(first["body"]["paging"], json!({ "count": 250, "offset": 248 }));
    assert_eq!(first["body"]["pay_statements"].as_array().map(Vec::len), Some(2));
    assert_eq!(statements["responses"][1]["body"]["finch_code"], "payment_not_found");
    let eleven: Vec<Value> = (0..11).map(|_| json!({ "payment_id": "x" })).collect();
    assert_eq!(
        finch.post("/employer/pay-statement", &token, json!({ "requests": eleven })).await.status,
        400
    );

    let known = finch.get("/introspect", &token).await.json();
    assert_eq!(known["connection_id"], granted["connection_id"]);
    assert_eq!(known["connection_status"]["status"], "connected");
    assert_eq!(known["customer_email"], "a@acme.example");
    let documents = finch.get("/employer/documents", &token).await;
    assert_eq!(
        (documents.status, documents.json()["name"].as_str()),
        (403, Some("insufficient_scope_error"))
    );
}

#[tokio::test]
async fn the_same_login_again_is_the_same_connection_and_another_provider_another() {
    let finch = Finch::new("").await;
    let first = finch.connect("acme", "gusto").await;
    let second = finch.connect("acme", "gusto").await;
    let other = finch.connect("acme", "adp_run").await;
    assert_eq!(first["connection_id"], second["connection_id"]);
    assert_ne!(first["access_token"], second["access_token"]);
    assert_ne!(first["connection_id"], other["connection_id"]);
    for token in [&first, &second, &other] {
        assert_eq!(finch.get("/employer/company", &text(&token["access_token"])).await.status, 200);
    }
    assert_eq!(finch.post("/disconnect", &text(&first["access_token"]), Value::Null).await.status, 200);
    for token in [&first, &second] {
        let gone = finch.get("/employer/company", &text(&token["access_token"])).await;
        assert_eq!((gone.status, &gone.bytes[..]), (401, &b"Unauthorized"[..]));
    }
    assert_eq!(finch.get("/employer/company", &text(&other["access_token"])).await.status, 200);
    assert_ne!(finch.connect("acme", "gusto").await["connection_id"], first["connection_id"]);
}

#[tokio::test]
async fn a_redirect_brings_code_and_state_and_must_be_named_again() {
    let finch = Finch::new("").await;
    let session = json!({
        "customer_id": "acme", "customer_name": "A", "products": ["company"],
        "redirect_uri": "http://localhost/back?x=1",
    });
    let session = finch.call("POST", "/connect/sessions", &basic(), session).await.json();
    let path = format!("/connect/authorize?session={}&state=a%20b", text(&session["session_id"]));
    let back = finch.call("GET", &path, "", Value::Null).await;
    assert_eq!(back.status, 302);
    let location = back.header("location").to_owned();
    let rest = location.strip_prefix("http://localhost/back?x=1&code=").expect("the code is added");
    let (code, state) = rest.split_once('&').expect("the state is added");
    assert_eq!(state, "state=a%20b");
    assert_eq!(finch.exchange(code).await.json()["name"], "invalid_grant_error");
    let body = json!({
        "client_id": "sim-client", "client_secret": "sim-secret", "code": code,
        "redirect_uri": "http://localhost/back?x=1",
    });
    assert_eq!(finch.call("POST", "/auth/token", "", body).await.status, 200);
}

#[tokio::test]
async fn a_reauthentication_brings_a_new_token_for_the_same_connection() {
    let finch = Finch::new(ACME).await;
    let (old, connection) = (finch.token("acme").await, finch.connection("acme").await);
    let order = json!({ "connection_status": "error_reauth" });
    assert_eq!(finch.call("PUT", "/sandbox/connections/accounts", &bearer(&old), order).await.status, 200);
    let refused = finch.get("/employer/directory", &old).await;
    assert_eq!(refused.status, 401);
    assert_eq!(refused.json()["name"], "authentication_error");
    assert_eq!(refused.json()["finch_code"], "reauthenticate_user");
    assert_eq!(finch.get("/introspect", &old).await.json()["connection_status"]["status"], "reauth");

    let body = json!({ "connection_id": connection["connection_id"] });
    let session = finch.call("POST", "/connect/sessions/reauthenticate", &basic(), body).await;
    let code = finch.log_in(&session).await;
    let granted = finch.exchange(&code).await.json();
    assert_eq!(granted["connection_id"], connection["connection_id"]);
    assert_eq!(granted["customer_id"], "acme");
    let new = text(&granted["access_token"]);
    assert_ne!(new, old);
    assert_eq!(finch.get("/employer/directory", &new).await.status, 200);
    assert_eq!(finch.get("/employer/directory", &old).await.json()["name"], "invalid_token_error");
}

#[tokio::test]
async fn who_cannot_prove_who_it_is_is_told_in_finchs_words() {
    let finch = Finch::new(ACME).await;
    let name = |answer: Answer| (answer.status, text(&answer.json()["name"]));
    let unauthorized = (401, "unauthorized_request_error".to_owned());
    let wrong_client = (401, "invalid_client_error".to_owned());
    assert_eq!(name(finch.call("GET", "/employer/company", "", Value::Null).await), unauthorized);
    assert_eq!(
        name(finch.get("/employer/company", "made-up").await),
        (401, "invalid_token_error".to_owned())
    );
    assert_eq!(name(finch.call("POST", "/connect/sessions", "", json!({})).await), unauthorized);
    assert_eq!(name(finch.call("POST", "/connect/sessions", "Basic eDp5", json!({})).await), wrong_client);
    let body = json!({ "client_id": "sim-client", "client_secret": "no", "code": "x" });
    assert_eq!(name(finch.call("POST", "/auth/token", "", body).await), wrong_client);
    assert_eq!(finch.call("GET", "/providers", "", Value::Null).await.status, 200);
    assert_eq!(finch.get("/employer/companies", "x").await.status, 404);
}

#[tokio::test]
async fn a_connection_with_several_entities_must_be_told_which() {
    let finch = Finch::new("[[customer]]\nid = \"acme\"\nemployees = 11\nentities = 2\n").await;
    let connection = finch.connection("acme").await;
    let token = text(&connection["access_token"]);
    let (a, b) = (text(&connection["entity_ids"][0]), text(&connection["entity_ids"][1]));
    let unsaid = finch.get("/employer/directory", &token).await;
    assert_eq!((unsaid.status, unsaid.json()["name"].as_str()), (400, Some("invalid_request_error")));
    let both = format!("/employer/directory?entity_ids%5B%5D={a}&entity_ids%5B%5D={b}");
    assert_eq!(finch.get(&both, &token).await.status, 400);
    let count = async |id: &str| {
        finch.get(&format!("/employer/directory?entity_ids[]={id}"), &token).await.json()["paging"]["count"]
            .clone()
    };
    assert_eq!((count(&a).await, count(&b).await), (json!(6), json!(5)));
    let ended = finch.post("/disconnect-entity", &token, json!({ "entity_ids": [b] })).await;
    assert_eq!(ended.status, 200);
    assert_eq!(finch.get(&format!("/employer/company?entity_ids[]={b}"), &token).await.status, 401);
    assert_eq!(finch.get(&format!("/employer/company?entity_ids[]={a}"), &token).await.status, 200);
}

#[tokio::test]
async fn the_twenty_first_call_is_refused_and_the_report_says_so() {
    let finch = Finch::new(ACME).await;
    let token = finch.token("acme").await;
    for _ in 0..20 {
        assert_eq!(finch.get("/employer/company", &token).await.status, 200);
    }
    let refused = finch.get("/employer/company", &token).await;
    assert_eq!((refused.status, refused.json()["finch_code"].as_str()), (429, Some("finch_application_rl")));
    assert_eq!(refused.json()["name"], "rate_limit_exceeded_error");
    assert!(refused.headers.get("retry-after").is_none());
    assert_eq!(finch.get("/employer/directory", &token).await.status, 200);
    let report = finch.report().await;
    let company = &report["products"]["company"];
    assert_eq!((company["arrivals"].as_u64(), company["worst_window"].as_u64()), (Some(21), Some(21)));
    assert_eq!(company["refused"], 1);
    assert_eq!((&company["limit"], &company["within"]), (&json!(20), &json!(false)));
    let arrivals = finch.call("GET", "/_sim/arrivals", "", Value::Null).await.json();
    let [company, directory] = ["company", "directory"].map(|product| &arrivals["products"][product]);
    let times = |list: &Value| list.as_array().map(Vec::len);
    assert_eq!((times(&company["at_ms"]), times(&company["refused_at_ms"])), (Some(21), Some(1)));
    assert_eq!((times(&directory["at_ms"]), times(&directory["refused_at_ms"])), (Some(1), Some(0)));
    let last = |list: &Value| list.as_array().and_then(|times| times.last()?.as_u64());
    assert_eq!(last(&company["refused_at_ms"]), last(&company["at_ms"]));
    assert!(last(&directory["at_ms"]) <= arrivals["now_ms"].as_u64(), "{arrivals}");
    assert_eq!(report["rate_limited"], json!({ "finch_application_rl": 1 }));
    assert_eq!(report["operations"]["GetCompany"], json!({ "200": 20, "429": 1 }));
    assert_eq!(report["products"]["directory"]["within"], true);
    finch.call("POST", "/_sim/reset", "", Value::Null).await;
    assert_eq!(finch.get("/employer/company", &token).await.status, 200);
}

#[tokio::test]
async fn an_address_that_goes_over_is_blocked_on_every_path() {
    let finch = Finch::new(&format!("[limits.ip]\nrequests = 3\n{ACME}")).await;
    for _ in 0..3 {
        assert_eq!(finch.get("/providers", "x").await.status, 200);
    }
    let token = finch.token("acme").await;
    for path in ["/providers", "/employer/company", "/introspect"] {
        let refused = finch.get(path, &token).await;
        assert_eq!((refused.status, refused.json()["finch_code"].as_str()), (429, Some("finch_api_ip_rl")));
    }
}

#[tokio::test]
async fn the_report_names_what_a_gateway_should_not_have_sent() {
    let finch = Finch::new("token_marker = \"CANARY7\"\n[[customer]]\nid = \"acme\"\n").await;
    let token = finch.token("acme").await;
    assert!(token.contains("CANARY7"));
    let clean = finch.get("/employer/company", &token).await;
    assert_eq!(clean.status, 200);
    let report = finch.report().await;
    assert_eq!(report["suspicious"]["count"], 0, "{report}");
    assert!(!report.to_string().contains("CANARY7"));
    let print = &report["authorizations"][0];
    assert_eq!(print["fingerprint"].as_str().map(str::len), Some(8));
    assert_eq!(print["connection_ids"], json!([finch.connection("acme").await["connection_id"]]));

    let odd = Request::get("/employer/company")
        .header("host", "x")
        .header("perch-customer", "acme")
        .header("authorization", "Bearer customer:acme")
        .header("authorization", "Bearer x")
        .header("connection", "keep-alive, x-secret")
        .header("proxy-authorization", "x")
        .header("x-stainless-retry-count", "2")
        .body(Full::new(Bytes::from("body")))
        .expect("a request");
    assert_eq!(finch.send(odd).await.expect("an answer").status, 401);
    let report = finch.report().await;
    assert_eq!(
        report["suspicious"]["by_kind"],
        json!({
            "framing": 1, "hop_by_hop_header": 2, "no_api_version": 1, "perch_header": 1, "reference_token": 1,
            "several_authorizations": 1,
        })
    );
    assert_eq!(report["retry_count_header"], json!({ "2": 1, "none": 1 }));
    let ids: HashSet<String> =
        report["recent"].as_array().expect("a list").iter().map(|r| text(&r["finch_request_id"])).collect();
    assert!(ids.len() == 2 && ids.contains(clean.header("finch-request-id")));
}

#[tokio::test]
async fn every_status_and_every_broken_connection_can_be_ordered() {
    let finch = Finch::new(ACME).await;
    let token = finch.token("acme").await;
    for (preset, status, code) in [
        ("reauth", 401, json!("reauthenticate_user")),
        ("payment_required", 402, json!("payment_required")),
        ("permissions", 403, json!("insufficient_account_permissions")),
        ("not_found", 404, json!("item_not_found")),
        ("unprocessable", 422, json!("unsupported_parameters")),
        ("app_limit", 429, json!("finch_application_rl")),
        ("ip_limit", 429, json!("finch_api_ip_rl")),
        ("provider_limit", 429, json!("upstream_rate_limit_exceeded")),
        ("refresh_quota", 429, Value::Null),
        ("server_error", 500, json!("internal_server_error")),
        ("not_implemented", 501, json!("internal_server_error")),
        ("bad_gateway", 502, json!("upstream_provider_error")),
        ("accepted", 202, Value::Null),
        ("accepted_json", 202, json!("data_sync_in_progress")),
    ] {
        let fault = json!({ "operation": "introspect", "preset": preset, "times": 1 });
        let set = finch.call("POST", "/_sim/faults", "", fault).await;
        assert_eq!(set.status, 200, "{preset}: {}", set.json());
        let answer = finch.get("/introspect", &token).await;
        assert_eq!((answer.status, &answer.json()["finch_code"]), (status, &code), "{preset}");
        if preset == "accepted" {
            assert!(answer.bytes.is_empty() && answer.headers.get("content-type").is_none());
        }
    }
    assert_eq!(finch.get("/introspect", &token).await.status, 200);

    for fault in ["reset", "rubbish", "truncated"] {
        finch
            .call("POST", "/_sim/faults", "", json!({ "path": "/introspect", fault: true, "times": 1 }))
            .await;
        let request = finch.request("GET", "/introspect", &bearer(&token), &Value::Null);
        let Err(error) = finch.send(request).await else { panic!("{fault} was answered") };
        assert_eq!(error.is_parse(), fault == "rubbish", "{fault}: {error:?}");
    }
    finch
        .call(
            "POST",
            "/_sim/faults",
            "",
            json!({ "path": "/introspect", "status": 503, "body": "{authorization}" }),
        )
        .await;
    let reflected = finch.get("/introspect", &token).await;
    assert_eq!((reflected.status, reflected.bytes), (503, Bytes::from(bearer(&token))));
    finch.call("DELETE", "/_sim/faults", "", Value::Null).await;
    assert_eq!(finch.get("/introspect", &token).await.status, 200);
    let wrong = finch.call("POST", "/_sim/faults", "", json!({ "preset": "reath" })).await;
    assert_eq!(wrong.status, 400);
    assert!(text(&wrong.json()["message"]).contains("reath"));
}

#[tokio::test]
async fn half_an_answer_is_exactly_half_and_a_reset_is_a_reset() {
    let finch = Finch::new(
        "[[fault]]\npath = \"/providers\"\ntruncated = true\nnth = 1\n\
         [[fault]]\npath = \"/providers\"\nreset = true\nnth = 2\n",
    )
    .await;
    let raw = b"GET /providers HTTP/1.1\r\nhost: x\r\n\r\n";
    let mut socket = TcpStream::connect(finch.address).await.expect("it listens");
    socket.write_all(raw).await.expect("sent");
    let mut bytes = Vec::new();
    socket.read_to_end(&mut bytes).await.expect("an orderly end");
    let answer = String::from_utf8(bytes).expect("text");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let promised: usize = head
        .lines()
        .find_map(|l| l.strip_prefix("content-length: "))
        .and_then(|n| n.parse().ok())
        .expect("a length");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert_eq!(body.len(), promised / 2);

    let mut socket = TcpStream::connect(finch.address).await.expect("it listens");
    socket.write_all(raw).await.expect("sent");
    let end = socket.read_to_end(&mut Vec::new()).await;
    assert_eq!(end.expect_err("no orderly end").kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_stalled_call_is_seen_and_never_answered_while_others_are() {
    let finch = Finch::new(&format!("{ACME}[[fault]]\noperation = \"get_company\"\nstall = true\n")).await;
    let token = finch.token("acme").await;
    let request = finch.request("GET", "/employer/company", &bearer(&token), &Value::Null);
    let stalled = finch.send(request);
    tokio::pin!(stalled);
    // The stalled call is driven beside the others until the simulator has seen it.
    loop {
        tokio::select! {
            biased;
            _ = &mut stalled => panic!("it was answered"),
            report = finch.report() => if report["operations"]["GetCompany"]["stall"] == 1 { break },
        }
    }
    tokio::select! {
        biased;
        _ = &mut stalled => panic!("it was answered"),
        answer = finch.get("/introspect", &token) => assert_eq!(answer.status, 200),
    }
}

#[tokio::test]
async fn a_lost_answer_may_have_been_carried_out() {
    let finch = Finch::new(&format!(
        "{ACME}[[fault]]\noperation = \"create_rule\"\nreset = true\ncarried_out = true\ntimes = 1\n"
    ))
    .await;
    let token = finch.token("acme").await;
    let body = json!({ "attributes": {} });
    let request = finch.request("POST", "/employer/pay-statement-item/rule", &bearer(&token), &body);
    assert!(finch.send(request).await.is_err());
    let rules = finch.get("/employer/pay-statement-item/rule", &token).await.json();
    assert_eq!(rules["responses"].as_array().map(Vec::len), Some(1));
    assert_eq!(finch.report().await["carried_out"]["CreateRule"], 1);
}

#[tokio::test]
async fn items_of_a_batch_fail_or_are_not_ready_on_demand() {
    let finch = Finch::new(&format!(
        "{ACME}\
         [[fault]]\noperation = \"read_individuals\"\npreset = \"partial\"\nitems = [1]\nitem_preset = \"reauth\"\n\
         [[fault]]\noperation = \"read_pay_statements\"\npreset = \"item_202\"\nitems = [0]\n"
    ))
    .await;
    let token = finch.token("acme").await;
    let directory = finch.get("/employer/directory?limit=2", &token).await.json();
    let requests: Vec<Value> =
        [0, 1].map(|n| json!({ "individual_id": directory["individuals"][n]["id"] })).to_vec();
    let answer = finch.post("/employer/individual", &token, json!({ "requests": requests })).await;
    assert_eq!((answer.status, answer.header("finch-last-attempted-update-result")), (200, "partial_error"));
    let items = &answer.json()["responses"];
    assert_eq!((&items[0]["code"], &items[1]["code"]), (&json!(200), &json!(401)));
    assert_eq!(items[1]["body"]["finch_code"], "reauthenticate_user");

    let payments =
        finch.get("/employer/payment?start_date=2020-01-01&end_date=2099-01-01", &token).await.json();
    let body =
        json!({ "requests": [{ "payment_id": payments[0]["id"] }, { "payment_id": payments[1]["id"] }] });
    let statements = finch.post("/employer/pay-statement", &token, body).await.json();
    let items = &statements["responses"];
    assert_eq!((&items[0]["code"], &items[1]["code"]), (&json!(202), &json!(200)));
    assert_eq!(items[0]["body"]["finch_code"], "data_sync_in_progress");
    assert_eq!(items[0]["body"]["name"], "accepted");
}

#[tokio::test]
async fn a_status_is_what_the_data_calls_say() {
    for (status, http, code) in [
        ("pending", 202, Value::Null),
        ("error_no_account_setup", 401, json!("account_setup_required")),
        ("error_permissions", 403, json!("insufficient_account_permissions")),
        ("reauth", 401, json!("reauthenticate_user")),
        ("processing", 200, Value::Null),
    ] {
        let finch = Finch::new(&format!("[[customer]]\nid = \"acme\"\nstatus = \"{status}\"\n")).await;
        let token = finch.token("acme").await;
        let answer = finch.get("/employer/company", &token).await;
        assert_eq!((answer.status, &answer.json()["finch_code"]), (http, &code), "{status}");
        assert_eq!(finch.get("/introspect", &token).await.json()["connection_status"]["status"], status);
    }
}

#[tokio::test]
async fn forced_refreshes_are_queued_once_and_then_out_of_quota() {
    let finch = Finch::new(&format!("[jobs]\nduration = \"1h\"\nwindow = \"2h\"\n{ACME}")).await;
    let token = finch.token("acme").await;
    let body = json!({ "type": "data_sync_all" });
    let first = finch.post("/jobs/automated", &token, body.clone()).await;
    let second = finch.post("/jobs/automated", &token, body.clone()).await;
    assert_eq!((first.status, second.status), (201, 202));
    assert_eq!(first.json()["job_id"], second.json()["job_id"]);
    let id = text(&first.json()["job_id"]);
    assert_eq!(finch.get(&format!("/jobs/automated/{id}"), &token).await.json()["status"], "in_progress");
    let list = finch.get("/jobs/automated", &token).await.json();
    assert_eq!(list["meta"]["quotas"]["data_sync_all"]["remaining_refreshes"], 0);

    let finch = Finch::new(&format!("[jobs]\nduration = \"1ms\"\nrefreshes = 0\n{ACME}")).await;
    let token = finch.token("acme").await;
    let refused = finch.post("/jobs/automated", &token, body).await;
    assert_eq!(refused.status, 429);
    let refused = refused.json();
    assert!(refused["retry_at"].is_string() && refused["name"].is_null() && refused["finch_code"].is_null());
}

#[tokio::test]
async fn sandbox_changes_are_seen_after_a_sync() {
    let finch = Finch::new("").await;
    let body = json!({ "provider_id": "gusto", "employee_size": 3 });
    let made = finch.call("POST", "/sandbox/connections", &basic(), body).await.json();
    let token = text(&made["access_token"]);
    let people = finch.get("/employer/directory", &token).await.json();
    assert_eq!(people["paging"]["count"], 3);
    let id = text(&people["individuals"][0]["id"]);
    let new = json!({ "first_name": "Zed" });
    let path = format!("/sandbox/individual/{id}");
    assert_eq!(finch.call("PUT", &path, &bearer(&token), new).await.status, 200);
    finch.post("/sandbox/directory", &token, json!([{ "first_name": "Yara" }])).await;
    finch
        .post("/sandbox/payment", &token, json!({ "start_date": "2019-01-01", "end_date": "2019-01-15" }))
        .await;
    let before = finch.get("/employer/directory", &token).await.json();
    assert_eq!(before, people);
    finch.post("/sandbox/jobs", &token, json!({ "type": "data_sync_all" })).await;
    let after = finch.get("/employer/directory", &token).await.json();
    assert_eq!(after["individuals"][0]["first_name"], "Zed");
    assert_eq!(after["individuals"][3]["first_name"], "Yara");
    let payments =
        finch.get("/employer/payment?start_date=2019-01-01&end_date=2019-12-31", &token).await.json();
    assert_eq!(payments.as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn each_of_the_48_endpoints_answers_a_well_formed_request() {
    let finch = Finch::new(
        "[[customer]]\nid = \"acme\"\n[[customer]]\nid = \"assisted\"\nauthentication = \"assisted\"\n\
         [[customer]]\nid = \"leaving\"\n[[customer]]\nid = \"parting\"\n",
    )
    .await;
    let connection = finch.connection("acme").await;
    let token = text(&connection["access_token"]);
    let person = text(&finch.get("/employer/directory", &token).await.json()["individuals"][0]["id"]);
    let group = text(&finch.get("/employer/pay-groups", &token).await.json()[0]["id"]);
    let document = text(&finch.get("/employer/documents", &token).await.json()["documents"][0]["id"]);
    let benefit = text(&finch.get("/employer/benefits", &token).await.json()[0]["benefit_id"]);
    let rule = finch.post("/employer/pay-statement-item/rule", &token, json!({ "attributes": {} })).await;
    let rule = text(&rule.json()["id"]);
    let manual = finch.post(&format!("/employer/benefits/{benefit}"), &token, json!({})).await;
    let manual = text(&manual.json()["job_id"]);
    let automated = finch.post("/sandbox/jobs", &token, json!({ "type": "data_sync_all" })).await;
    let automated = text(&automated.json()["job_id"]);
    let session = json!({ "customer_id": "new", "customer_name": "New", "products": ["company"] });
    let session = finch.call("POST", "/connect/sessions", &basic(), session).await;
    let code = finch.log_in(&session).await;

    for endpoint in &ENDPOINTS {
        let body = match (endpoint.method.as_str(), endpoint.path) {
            ("POST", "/connect/sessions") => {
                json!({ "customer_id": "c", "customer_name": "C", "products": ["company"] })
            }
            ("POST", "/connect/sessions/reauthenticate") => {
                json!({ "connection_id": connection["connection_id"] })
            }
            ("POST", "/auth/token") => {
                json!({ "client_id": "sim-client", "client_secret": "sim-secret", "code": code })
            }
            ("POST", "/employer/individual" | "/employer/employment") => {
                json!({ "requests": [{ "individual_id": person }] })
            }
            ("POST", "/employer/pay-statement") => json!({ "requests": [] }),
            ("POST", "/employer/benefits" | "/employer/benefits/register") => json!({ "type": "401k" }),
            ("POST", "/employer/benefits/{benefit_id}/individuals") => {
                json!([{ "individual_id": person, "configuration": {} }])
            }
            ("DELETE", "/employer/benefits/{benefit_id}/individuals") => {
                json!({ "individual_ids": [person] })
            }
            ("POST", "/disconnect-entity") => {
                json!({ "entity_ids": [finch.connection("parting").await["entity_ids"][0]] })
            }
            ("POST", "/forward") => json!({ "method": "GET", "route": "/v1/people" }),
            ("POST", "/jobs/automated" | "/sandbox/jobs") => json!({ "type": "data_sync_all" }),
            ("POST", "/sandbox/connections") => json!({ "provider_id": "gusto" }),
            ("POST", "/sandbox/connections/accounts") => json!({ "company_id": connection["company_id"] }),
            ("POST", "/sandbox/directory") => json!([{ "first_name": "Ana" }]),
            ("PUT", "/sandbox/jobs/configuration") => {
                json!({ "type": "data_sync_all", "completion_status": "complete" })
            }
            ("GET", _) | ("POST", "/disconnect") => Value::Null,
            _ => json!({}),
        };
        let path = endpoint
            .path
            .replace("/jobs/manual/{job_id}", &format!("/jobs/manual/{manual}"))
            .replace("{job_id}", &automated)
            .replace("{individual_id}", &person)
            .replace("{pay_group_id}", &group)
            .replace("{document_id}", &document)
            .replace("{benefit_id}", &benefit)
            .replace("{rule_id}", &rule)
            .replace("/employer/payment", "/employer/payment?start_date=2024-01-01&end_date=2024-12-31");
        let holder = match endpoint.path {
            "/employer/benefits/register" => "assisted",
            "/disconnect" => "leaving",
            "/disconnect-entity" => "parting",
            _ => "acme",
        };
        let authorization = match endpoint.auth {
            Auth::Bearer => bearer(&finch.token(holder).await),
            Auth::Basic => basic(),
            Auth::InBody | Auth::NoAuth => String::new(),
        };
        let answer = finch.call(endpoint.method.as_str(), &path, &authorization, body).await;
        let what = format!("{} {}: {} {:?}", endpoint.method, path, answer.status, answer.bytes);
        assert!((200..300).contains(&answer.status), "{what}");
        assert!(!answer.json().is_null(), "{what}");
        assert!(!answer.header("finch-request-id").is_empty(), "{what}");
        let is_data = endpoint.path.starts_with("/employer/");
        assert_eq!(answer.headers.contains_key("finch-data-retrieved"), is_data, "{what}");
    }
    assert_eq!(finch.report().await["suspicious"]["count"], 0);
}

#[test]
fn every_example_scenario_is_sound() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config/scenarios");
    let mut read = 0;
    for entry in std::fs::read_dir(folder).expect("the folder").map(|e| e.expect("an entry").path()) {
        let text = std::fs::read_to_string(&entry).expect("a text");
        Scenario::parse(&text, &entry.display().to_string()).unwrap_or_else(|e| panic!("{e}"));
        read += 1;
    }
    assert!(read >= 3, "{read}");
}
