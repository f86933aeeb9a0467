//! Three layers become one: the built-in manual, the file, the environment. What is left is one setting per key, which
//! the sections then read one by one. Every problem is noted and reading goes on.

use super::document::{self, Leaf};
use super::environ::Environ;
use super::problem::{Check, Complaint, Place, Problems, nearest, shown};
use super::value::Setting;
use crate::types::Product;
use std::collections::{BTreeMap, BTreeSet};
use toml::Value;

/// The settings of every key, and what is wrong with them so far.
pub(super) struct Reader<'a> {
    /// Every key there is, in the order of the manual.
    pub(super) keys: Vec<String>,
    /// The keys that are written as texts: a client id of digits only is still a text.
    texts: BTreeSet<String>,
    pub(super) settings: BTreeMap<String, Setting>,
    pub(super) env: &'a Environ,
    pub(super) problems: Problems,
}

/// The table of one limit per product; its keys are Finch's products.
const PRODUCTS: &str = "limits.products";

impl<'a> Reader<'a> {
    /// The defaults alone. The manual defines which keys there are.
    pub(super) fn of_manual(manual: &str, env: &'a Environ) -> Self {
        let mut problems = Problems::default();
        let place = |line, column| Place::Default { line, column };
        let mut leaves = document::leaves(manual, &place, &is_value, &mut problems);
        leaves.sort_by(|a, b| a.key_place.cmp(&b.key_place));
        let mut keys: Vec<String> = leaves.iter().map(|leaf| leaf.key.clone()).collect();
        let texts = leaves.iter().filter(|leaf| leaf.value.is_str()).map(|leaf| leaf.key.clone()).collect();
        let after_products = keys.iter().rposition(|key| key.starts_with(PRODUCTS)).map_or(0, |at| at + 1);
        let more =
            Product::ALL.into_iter().map(limit_key).filter(|key| !keys.contains(key)).collect::<Vec<_>>();
        keys.splice(after_products..after_products, more);
        let mut reader = Self { keys, texts, settings: BTreeMap::new(), env, problems };
        reader.lay(leaves);
        reader
    }

    /// Lays a file over what is there.
    pub(super) fn lay_file(&mut self, name: &str, text: &str) {
        let place = |line, column| Place::Line { file: name.to_owned(), line, column };
        let leaves = document::leaves(text, &place, &is_value, &mut self.problems);
        self.lay(leaves);
    }

    fn lay(&mut self, mut leaves: Vec<Leaf>) {
        leaves.sort_by(|a, b| a.key_place.cmp(&b.key_place));
        for Leaf { key, key_place, value, place } in leaves {
            if self.keys.contains(&key) {
                self.settings.insert(key, Setting { value, place });
            } else if !self.is_section(&key) {
                let suggestion = self.meant(&key).map(|meant| format!("did you mean `{meant}`?"));
                self.problems.push(key_place, format!("unknown key `{}`", shown(&key)), suggestion);
            } else if value.as_table().is_none_or(|table| !table.is_empty()) {
                let what = format!("`{key}` is a section, not a value");
                self.problems.push(place, what, Some(format!("write [{key}] and its keys below")));
            }
        }
    }

    /// Lays the environment over what is there. A name with a double underscore is meant for perch's keys.
    pub(super) fn lay_environment(&mut self) {
        let names: BTreeMap<String, String> =
            self.keys.iter().map(|key| (variable(key), key.clone())).collect();
        for (name, value) in self.env.beginning("PERCH_").filter(|(name, _)| name.contains("__")) {
            let place = Place::Variable(name.to_owned());
            let (Some(key), Some(text)) = (names.get(name), value.to_str()) else {
                let as_key = name["PERCH_".len()..].to_lowercase().replace("__", ".");
                let meant = self.meant(&as_key).map(|key| format!("did you mean {}?", variable(key)));
                let (what, suggestion) = if names.contains_key(name) {
                    ("its value is not UTF-8", None)
                } else if self.is_section(&as_key) {
                    ("is a section; each of its keys has a variable of its own", None)
                } else {
                    ("no key of perch has this name", meant)
                };
                self.problems.push(place, what.to_owned(), suggestion);
                continue;
            };
            let value = match document::value_of_text(text) {
                value @ (Value::String(_) | Value::Array(_) | Value::Table(_)) => value,
                _ if self.texts.contains(key) => Value::String(text.to_owned()),
                value => value,
            };
            self.settings.insert(key.clone(), Setting { value, place });
        }
    }

    /// Gives every metered product without a number of its own the default one. An operator's default also replaces the
    /// numbers of the manual: "others fall to `default`" is meant for every product that the operator did not name.
    pub(super) fn spread_default_limit(&mut self) {
        let Some(default) = self.settings.get(&format!("{PRODUCTS}.default")).cloned() else { return };
        for product in Product::ALL.into_iter().filter(|product| product.is_metered()) {
            let own = self.settings.get(&limit_key(product));
            if own.is_none_or(|own| own.place.is_default() && !default.place.is_default()) {
                self.settings.insert(limit_key(product), default.clone());
            }
        }
    }

    /// Reads one key; a problem is noted and gives `None`.
    pub(super) fn get<T>(&mut self, key: &str, parse: impl FnOnce(&Setting) -> Check<T>) -> Option<T> {
        let Some(setting) = self.settings.get(key) else {
            let place = Place::Default { line: 1, column: 1 };
            self.problems.push(place, format!("`{key}` has no default"), None);
            return None;
        };
        match parse(setting) {
            Ok(value) => Some(value),
            Err(complaint) => {
                self.complain(key, complaint);
                None
            }
        }
    }

    /// Reads a key that may be left empty.
    pub(super) fn get_unless_empty<T>(
        &mut self,
        key: &str,
        parse: impl FnOnce(&Setting) -> Check<T>,
    ) -> Option<Option<T>> {
        if self.is_empty(key) { Some(None) } else { self.get(key, parse).map(Some) }
    }

    /// Whether the key is set to nothing.
    pub(super) fn is_empty(&self, key: &str) -> bool {
        self.settings.get(key).is_some_and(|setting| setting.text() == Ok(""))
    }

    /// Reads a key again, for a rule between keys; what is wrong with it alone was noted before.
    pub(super) fn again<T>(&self, key: &str, parse: impl FnOnce(&Setting) -> Check<T>) -> Option<T> {
        self.settings.get(key).and_then(|setting| parse(setting).ok())
    }

    /// Where the key's value stands.
    pub(super) fn place(&self, key: &str) -> Option<&Place> {
        self.settings.get(key).map(|setting| &setting.place)
    }

    /// Whether nobody set the key.
    pub(super) fn is_default(&self, key: &str) -> bool {
        self.place(key).is_some_and(Place::is_default)
    }

    /// Notes what is wrong with a key's value.
    pub(super) fn complain(&mut self, key: &str, complaint: Complaint) {
        let Some(setting) = self.settings.get(key) else { return };
        let message = format!("`{key}` {}", complaint.what);
        self.problems.push(setting.place.clone(), message, complaint.suggestion);
    }

    fn is_section(&self, key: &str) -> bool {
        self.keys.iter().any(|known| known.strip_prefix(key).is_some_and(|rest| rest.starts_with('.')))
    }

    /// The key that was probably meant: one spelt alike, else one of the same name in another section.
    fn meant(&self, key: &str) -> Option<&str> {
        if self.problems.is_full() {
            return None;
        }
        let keys = || self.keys.iter().map(String::as_str);
        let last = key.rsplit('.').next().unwrap_or(key);
        nearest(key, keys()).or_else(|| keys().find(|known| known.rsplit('.').next() == Some(last)))
    }
}

/// A table that is a value by itself, not a section.
fn is_value(key: &str) -> bool {
    matches!(key, "merge.cache" | "limits.weights" | "traces.headers")
}

/// The key of a product's limit.
pub(super) fn limit_key(product: Product) -> String {
    format!("{PRODUCTS}.{product}")
}

/// The variable that sets a key.
pub(super) fn variable(key: &str) -> String {
    format!("PERCH_{}", key.replace('.', "__").replace('-', "_").to_uppercase())
}
