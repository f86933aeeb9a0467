//! Which collectors of traces load.

use super::{environ, load_text};

#[test]
fn a_collector_is_read_and_none_is_the_default() {
    let env = environ(&[("KEY", "k-1")]);
    let traces = load_text("", &env).expect("loads").config.traces;
    assert!(traces.collector.is_none() && !traces.propagate);
    assert_eq!((traces.sample, traces.service_name.as_str()), (100, "perch"));
    let text = "[traces]\nendpoint = \"https://otlp.example.com/in/\"\nsample = \"5%\"\npropagate = true\n\
                headers = { Api-Key = \"env:KEY\" }\nservice_name = \"payroll\"";
    let traces = load_text(text, &env).expect("loads").config.traces;
    let at = traces.collector.expect("a collector");
    assert_eq!(
        (at.base.to_string().as_str(), at.path.as_str()),
        ("https://otlp.example.com", "/in/v1/traces")
    );
    let (name, key) = &at.headers[0];
    assert_eq!((name.as_str(), key.expose()), ("api-key", "k-1"));
    assert_eq!((traces.sample, traces.propagate, traces.service_name.as_str()), (5, true, "payroll"));
    for (url, path) in [
        ("http://127.0.0.1:4318", "/v1/traces"),
        ("http://127.0.0.1:4318/", "/v1/traces"),
        ("http://localhost:4318/v1/traces", "/v1/traces"),
        ("http://[::1]:4318/a/v1/traces/", "/a/v1/traces"),
    ] {
        let text = format!("[traces]\nendpoint = \"{url}\"");
        let at = load_text(&text, &env).expect(url).config.traces.collector.expect("a collector");
        assert_eq!(at.path, path, "{url}");
    }
}

#[test]
fn a_collector_that_cannot_be_is_refused_and_no_secret_is_shown() {
    let env = environ(&[("KEY", "k-1"), ("NOT_ASCII", "k\u{e9}y")]);
    let here = "endpoint = \"http://127.0.0.1:4318\"\n";
    for (text, said) in [
        ("endpoint = \"http://collector:4318\"".to_owned(), "would travel in the clear"),
        ("endpoint = \"collector:4318\"".to_owned(), "`traces.endpoint`"),
        ("endpoint = \"http://127.0.0.1:4318/?key=1\"".to_owned(), "has a query"),
        ("endpoint = \"http://127.0.0.1:4601\"".to_owned(), "perch's own `listen.admin`"),
        ("propagate = true".to_owned(), "there is no `traces.endpoint`"),
        ("headers = { api-key = \"env:KEY\" }".to_owned(), "there is no `traces.endpoint`"),
        (format!("{here}headers = {{ api-key = \"hunter2-hunter2\" }}"), "`traces.headers` of \"api-key\""),
        (format!("{here}headers = {{ api-key = \"env:NOBODY\" }}"), "of \"api-key\""),
        (format!("{here}headers = {{ api-key = \"env:NOT_ASCII\" }}"), "cannot stand in a header"),
        (format!("{here}headers = {{ \"a b\" = \"env:KEY\" }}"), "names no header"),
        (format!("{here}headers = {{ Content-Type = \"env:KEY\" }}"), "perch sets itself"),
        (format!("{here}headers = [\"a\"]"), "a table is needed"),
        (format!("{here}sample = \"101%\""), "between \"0%\" and \"100%\""),
        (format!("{here}service_name = \"\""), "no name of a service"),
    ] {
        let problems = load_text(&format!("[traces]\n{text}"), &env).expect_err(&text).to_string();
        assert!(problems.contains(said), "{text}: {problems}");
        assert!(!problems.contains("hunter2") && !problems.contains("k-1"), "{problems}");
    }
}
