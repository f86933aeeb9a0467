//! Apps with keys: made as an operator makes them, calling as an app does.

use super::{App, World};
use perch::types::AppName;

impl World {
    /// Adds an app with these options; its key.
    pub async fn add_app(&self, name: &str, options: &[&str]) -> String {
        let words = [&["apps", "add", name], options].concat();
        let added = self.perch(&words).await;
        assert_eq!(added.code, Some(0), "{added:?}");
        let key = added.out.strip_suffix('\n').expect("a line").to_owned();
        assert!(key.starts_with("perch_") && !key.contains(char::is_whitespace), "{added:?}");
        key
    }

    /// Ends an app's key beside the running gateway, and not by a process.
    pub async fn revoke_app(&self, name: &str) {
        let name = AppName::new(name).expect("a name");
        let revoked = self.vault().await.revoke_app(name, perch::telemetry::clock::unix_now()).await;
        revoked.expect("it was good");
    }

    /// An app that shows this key and names nobody.
    pub fn with_key(&self, key: &str) -> App {
        self.app().with("perch-app-key", key)
    }
}
