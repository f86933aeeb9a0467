//! A real browser: headless Chromium behind its own driver, spoken to in W3C `WebDriver`. It has a folder of its own, reaches
//! nothing but this machine, and is ended by its id, with everything it has started.

use super::process::{Process, within};
use super::{Answer, App};
use base64::Engine;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// Keys as `WebDriver` writes them.
pub const TAB: &str = "\u{e004}";
pub const ENTER: &str = "\u{e007}";
pub const SPACE: &str = " ";

/// The member of an answer that names an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// What keeps it quiet, on this machine, and inside a container.
const FLAGS: [&str; 13] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
    "--window-size=1280,900",
    "--lang=en",
];

/// A browser with one window.
pub struct Browser {
    driver: Process,
    app: App,
    session: String,
    _profile: TempDir,
}

impl Browser {
    /// Starts it.
    pub async fn start() -> Self {
        let profile = TempDir::new().expect("a temporary folder");
        let mut command = Command::new("chromedriver");
        command.arg("--port=0").env("HOME", profile.path()).env("TMPDIR", profile.path());
        let driver = Process::spawn(command, None);
        assert!(driver.out.says("started successfully on port").await, "{}", driver.err.text());
        let said = driver.out.text();
        let port = said.split("successfully on port ").nth(1).and_then(|rest| rest.split('.').next());
        let port: u16 = port.and_then(|text| text.trim().parse().ok()).unwrap_or_else(|| panic!("{said}"));
        let app = App::at(SocketAddr::from(([127, 0, 0, 1], port)));
        let folder = format!("--user-data-dir={}", profile.path().join("profile").display());
        let flags: Vec<&str> = FLAGS.into_iter().chain([folder.as_str()]).collect();
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": { "args": flags },
            "goog:loggingPrefs": { "browser": "ALL" },
        }}});
        let opened = within("the browser opens", app.post("/session", &wanted)).await;
        let session = value(&opened)["sessionId"].as_str().expect("a session").to_owned();
        Self { driver, app, session, _profile: profile }
    }

    async fn post(&self, path: &str, body: &Value) -> Value {
        let path = format!("/session/{}/{path}", self.session);
        value(&within(&path, self.app.post(&path, body)).await)
    }

    async fn get(&self, path: &str) -> Value {
        let path = format!("/session/{}/{path}", self.session);
        value(&within(&path, self.app.get(&path)).await)
    }

    /// A command of Chromium's own protocol.
    pub async fn chromium(&self, command: &str, parameters: Value) -> Value {
        self.post("goog/cdp/execute", &json!({ "cmd": command, "params": parameters })).await
    }

    /// Opens a page.
    pub async fn open(&self, url: &str) {
        self.post("url", &json!({ "url": url })).await;
    }

    /// Where it is.
    pub async fn url(&self) -> String {
        self.get("url").await.as_str().expect("a URL").to_owned()
    }

    /// Carries out a script and answers what it returns.
    pub async fn script(&self, script: &str, arguments: Value) -> Value {
        self.post("execute/sync", &json!({ "script": script, "args": arguments })).await
    }

    /// The same, where it awaits something.
    pub async fn script_that_waits(&self, script: &str) -> Value {
        let script = format!(
            "const done = arguments[arguments.length - 1]; (async () => {{ {script} }})().then(done, e => done('failed: ' + e));"
        );
        self.post("execute/async", &json!({ "script": script, "args": [] })).await
    }

    /// The text of the page, as somebody sees it.
    pub async fn text(&self) -> String {
        self.script("return document.body.innerText", json!([])).await.as_str().unwrap_or_default().to_owned()
    }

    /// The only thing with this CSS selector.
    pub async fn find(&self, css: &str) -> Element<'_> {
        let found = self.post("element", &json!({ "using": "css selector", "value": css })).await;
        let id = found[ELEMENT].as_str().unwrap_or_else(|| panic!("nothing is {css}: {found}")).to_owned();
        Element { browser: self, id }
    }

    /// The link with this text.
    pub async fn link(&self, text: &str) -> Element<'_> {
        let found = self.post("element", &json!({ "using": "link text", "value": text })).await;
        let id = found[ELEMENT].as_str().unwrap_or_else(|| panic!("no link says {text}: {found}")).to_owned();
        Element { browser: self, id }
    }

    /// What has the keyboard's focus.
    pub async fn focused(&self) -> Element<'_> {
        let found = self.get("element/active").await;
        Element { browser: self, id: found[ELEMENT].as_str().expect("something has the focus").to_owned() }
    }

    /// Presses keys, wherever the focus is.
    pub async fn press(&self, keys: &str) {
        let each = keys.chars().flat_map(|key| {
            let key = key.to_string();
            [json!({ "type": "keyDown", "value": key }), json!({ "type": "keyUp", "value": key })]
        });
        let actions: Vec<Value> = each.collect();
        self.post("actions", &json!({ "actions": [{ "type": "key", "id": "keys", "actions": actions }] }))
            .await;
    }

    /// A screen of this size; a phone's behaves like one.
    pub async fn resize(&self, width: u32, height: u32, is_phone: bool) {
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": is_phone });
        self.chromium("Emulation.setDeviceMetricsOverride", metrics).await;
    }

    /// What its user likes: `light` or `dark`.
    pub async fn prefer(&self, scheme: &str) {
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.chromium("Emulation.setEmulatedMedia", features).await;
    }

    /// Lets pages of this origin use the clipboard.
    pub async fn allow_clipboard(&self, origin: &str) {
        let wanted =
            json!({ "origin": origin, "permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"] });
        self.chromium("Browser.grantPermissions", wanted).await;
    }

    /// Writes what is on the screen.
    pub async fn screenshot(&self, file: &Path) {
        let shot = self.get("screenshot").await;
        let bytes = base64::engine::general_purpose::STANDARD.decode(shot.as_str().expect("a picture"));
        std::fs::write(file, bytes.expect("base64")).expect("a writable folder");
    }

    /// What pages have complained about since it was last asked: errors, refusals of the policy.
    pub async fn complaints(&self) -> Vec<String> {
        let log = self.post("se/log", &json!({ "type": "browser" })).await;
        let all = log.as_array().cloned().unwrap_or_default();
        let loud = all.iter().filter(|entry| matches!(entry["level"].as_str(), Some("SEVERE" | "WARNING")));
        loud.map(|entry| entry["message"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Closes it.
    pub async fn close(self) {
        let path = format!("/session/{}", self.session);
        within("the browser closes", self.app.call("DELETE", &path, "".into())).await;
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver's children are groups of their own: each is ended by its id, before the driver is.
        for id in descendants(self.driver.id()) {
            if let Ok(id) = i32::try_from(id) {
                let _ = kill(Pid::from_raw(id), Signal::SIGKILL);
            }
        }
        self.driver.stop(Signal::SIGKILL);
    }
}

/// Everything that a process has started, and what that has.
fn descendants(of: u32) -> Vec<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        // The name stands in parentheses and may hold anything; the parent is the second word behind them.
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok());
        if let Some(parent) = parent {
            children.entry(parent).or_default().push(id);
        }
    }
    let (mut found, mut queue) = (Vec::new(), vec![of]);
    while let Some(next) = queue.pop() {
        let own = children.remove(&next).unwrap_or_default();
        found.extend(&own);
        queue.extend(own);
    }
    found
}

/// The `value` of an answer; an error is the test's end.
fn value(answer: &Answer) -> Value {
    let said = answer.json();
    assert_eq!(answer.status, 200, "{}: {}", said["value"]["error"], said["value"]["message"]);
    said["value"].clone()
}

/// Something on the page.
pub struct Element<'b> {
    browser: &'b Browser,
    id: String,
}

impl Element<'_> {
    /// Presses it with the mouse.
    pub async fn click(&self) {
        self.browser.post(&format!("element/{}/click", self.id), &json!({})).await;
    }

    /// Types into it, with the keyboard.
    pub async fn keys(&self, text: &str) {
        self.browser.post(&format!("element/{}/value", self.id), &json!({ "text": text })).await;
    }

    /// Its text, as somebody sees it.
    pub async fn text(&self) -> String {
        self.browser.get(&format!("element/{}/text", self.id)).await.as_str().unwrap_or_default().to_owned()
    }

    /// What it holds, is, or was given.
    pub async fn property(&self, name: &str) -> Value {
        self.browser.get(&format!("element/{}/property/{name}", self.id)).await
    }
}
