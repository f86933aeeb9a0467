//! An operator at the page, without a browser: signs in, reads views, sends forms as a browser would.

use super::{Answer, App, Setup, World};
use std::io::Write;
use tempfile::NamedTempFile;

/// The admin token of worlds that have one; a canary: it must turn up nowhere.
pub const ADMIN_TOKEN: &str = "CANARY-admin-token-77f0";

/// The views that everybody inside may read, whatever is in the vault.
pub const VIEWS: [&str; 7] =
    ["/", "/connections", "/quota", "/requests", "/webhooks", "/pauses", "/configuration"];

/// A world whose admin door wants a token. The file with it has to stay.
pub async fn guarded(setup: Setup) -> (World, NamedTempFile) {
    let mut file = NamedTempFile::new().expect("a file");
    file.write_all(ADMIN_TOKEN.as_bytes()).expect("a writable file");
    let world = setup.settings(&format!("admin.token = \"file:{}\"", file.path().display())).start().await;
    (world, file)
}

/// A text as forms carry it.
pub fn encoded(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~".contains(&b);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// Fields as forms carry them.
pub fn form(fields: &[(&str, &str)]) -> String {
    let fields: Vec<String> = fields.iter().map(|(n, v)| format!("{n}={}", encoded(v))).collect();
    fields.join("&")
}

/// The value of a hidden field of a page.
pub fn hidden(page: &str, name: &str) -> Option<String> {
    let from = page.find(&format!("name=\"{name}\" value=\""))?;
    let value = page[from..].split("value=\"").nth(1)?.split('"').next()?;
    Some(value.to_owned())
}

/// Somebody with a session.
#[derive(Clone)]
pub struct Operator {
    pub app: App,
    pub cookie: String,
}

impl World {
    /// Where the page is, as browsers say it.
    pub fn origin(&self) -> String {
        format!("http://{}", self.admin)
    }

    /// Who calls the admin API with the token.
    pub fn known(&self) -> App {
        self.operator().with("authorization", &format!("Bearer {ADMIN_TOKEN}"))
    }

    /// What a browser gets for a token.
    pub async fn show_token(&self, token: &str) -> Answer {
        let page = self.operator().with("origin", &self.origin());
        page.call("POST", "/sign-in", form(&[("token", token)]).into()).await
    }

    /// Signs in.
    pub async fn sign_in(&self) -> Operator {
        let answer = self.show_token(ADMIN_TOKEN).await;
        assert_eq!((answer.status, answer.header("location")), (303, "/"), "{}", answer.text());
        let cookie = answer.header("set-cookie").split(';').next().expect("a cookie").to_owned();
        let app = self.operator().with("cookie", &cookie);
        Operator { app, cookie }
    }

    /// Sends a form of the page's own for this operator.
    pub async fn submit(&self, operator: &Operator, path: &str, fields: &[(&str, &str)]) -> Answer {
        operator.app.clone().with("origin", &self.origin()).call("POST", path, form(fields).into()).await
    }

    /// Asks for a deed, and confirms it with these fields. `path` may have a query.
    pub async fn confirm(&self, operator: &Operator, path: &str, fields: &[(&str, &str)]) -> Answer {
        let asked = operator.app.get(path).await;
        assert_eq!(asked.status, 200, "{path}: {}", asked.text());
        let seal = hidden(&confirmation(&asked), "seal").expect("a form with a seal");
        let kept = ["id", "scope", "name"].map(|name| (name, hidden(&confirmation(&asked), name)));
        let mut all: Vec<(&str, &str)> = vec![("seal", &seal)];
        all.extend(kept.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?))));
        all.extend_from_slice(fields);
        self.submit(operator, path.split('?').next().unwrap_or_default(), &all).await
    }
}

/// The part of a page that asks.
fn confirmation(page: &Answer) -> String {
    page.text().split("<main").nth(1).unwrap_or_default().to_owned()
}
