//! Whose calls share requests: products and apps.

use super::problem::{Check, Complaint, nearest, shown};
use super::value::{Setting, flag, kind};
use crate::finch::endpoints::ENDPOINTS;
use crate::types::{AppName, Product};
use toml::Value;

/// The most apps in the list.
const APPS_MAX: usize = 100;

/// `true` for every product whose calls can share a request, `false` for none, or a list of them.
pub(super) fn batch(setting: &Setting) -> Check<Vec<Product>> {
    let all: Vec<Product> =
        ENDPOINTS.iter().filter(|e| e.reads_by_ids()).map(|endpoint| endpoint.product).collect();
    let Value::Array(list) = &setting.value else {
        return Ok(if flag(setting)? { all } else { Vec::new() });
    };
    let names = || all.iter().map(|product| product.as_str());
    let mut products = Vec::new();
    for value in list {
        let word = text(value, "products")?;
        let Some(product) = all.iter().find(|product| product.as_str() == word) else {
            let known = names().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
            let complaint = Complaint::new(format!(
                "has \"{}\" in it; the products whose calls can share a request are {known}",
                shown(word)
            ));
            return Err(match nearest(word, names()) {
                Some(name) => complaint.hint(format!("did you mean \"{name}\"?")),
                None => complaint,
            });
        };
        if !products.contains(product) {
            products.push(*product);
        }
    }
    Ok(products)
}

/// The names of apps.
pub(super) fn apps(setting: &Setting) -> Check<Vec<AppName>> {
    let Value::Array(list) = &setting.value else {
        let found = kind(&setting.value);
        return Err(
            Complaint::new(format!("is {found}; a list of apps is needed")).hint("write [] for every app")
        );
    };
    if list.len() > APPS_MAX {
        return Err(Complaint::new(format!("has {} apps; {APPS_MAX} is the most", list.len())));
    }
    let app = |value: &Value| {
        let name = text(value, "apps")?;
        let wrong = |_| Complaint::new(format!("has \"{}\" in it, which no app can be called", shown(name)));
        AppName::new(name).map_err(wrong)
    };
    list.iter().map(app).collect()
}

fn text<'a>(value: &'a Value, what: &str) -> Check<&'a str> {
    value.as_str().ok_or_else(|| Complaint::new(format!("has {} in it; {what} are texts", kind(value))))
}
