//! Commands against a real vault, with what they print in hand.

use super::*;
use crate::cli::exit::Exit;
use crate::types::{ApplicationId, EntityId, Environment, Kek, ProviderId, UnixMillis};
use crate::vault::{OpenError, Status, Vault, VaultError, VaultOptions};
use clap::{CommandFactory, Parser};
use std::io::BufReader;
use std::sync::Arc;
use std::time::Duration;

const NOW: UnixMillis = UnixMillis(1_700_000_000_000);

#[derive(Parser)]
struct Program {
    #[command(flatten)]
    connections: ConnectionsArgs,
}

async fn vault() -> (tempfile::TempDir, Arc<Vault>) {
    let dir = tempfile::tempdir().unwrap();
    let vault = Vault::open(VaultOptions {
        store: crate::config::Store::Sqlite(dir.path().join("perch.db")),
        keys: Kek::new([1; 32]).into(),
        application: ApplicationId::new("app-1").unwrap(),
        environment: Environment::Sandbox,
        cache_ttl: Duration::from_secs(60),
        is_gateway: false,
        generation_file: None,
        accept_rollback: false,
        now: NOW,
    })
    .await
    .unwrap();
    (dir, vault)
}

fn line(connection: &str, token: &str) -> String {
    format!(r#"{{"customer_id":"acme","connection_id":"{connection}","access_token":"{token}"}}"#)
}

async fn import(vault: &Vault, lines: &str) -> Result<String, Failure> {
    let mut out = Vec::new();
    import_unverified(vault, lines.as_bytes(), NOW, Format::Text, &mut out).await?;
    Ok(String::from_utf8(out).unwrap())
}

fn told(connection: &str) -> Introspected {
    Introspected {
        connection_id: ConnectionId::new(connection).unwrap(),
        customer_id: Some(CustomerId::new("acme").unwrap()),
        company_id: None,
        provider_id: Some(ProviderId::new("gusto").unwrap()),
        client_type: Environment::Sandbox,
        products: vec!["directory".to_owned()],
        entity_ids: vec![EntityId::new("e1").unwrap()],
        status: Some("connected".to_owned()),
    }
}

async fn import_as(
    vault: &Vault,
    lines: &str,
    answer: impl Fn(&ImportLine) -> Result<Introspected, String>,
) -> Result<String, Failure> {
    let mut out = Vec::new();
    import_verified(vault, lines.as_bytes(), NOW, Format::Json, &mut out, async |line| answer(line)).await?;
    Ok(String::from_utf8(out).unwrap())
}

#[tokio::test]
async fn every_bad_line_is_named_and_no_line_is_stored() {
    let (_dir, vault) = vault().await;
    let secret = "tok-7e965183-9332";
    let lines = [
        line("c1", "t1"),
        "{".to_owned(),
        String::new(),
        line("c1", "t2"),
        line("c2", "t1"),
        r#"{"customer_id":"acme","connection_id":"c3"}"#.to_owned(),
        format!(r#"{{"customer_id":"acme","connection_id":"c4","acess_token":"{secret}"}}"#),
        format!(r#"{{"customer_id":"acme","connection_id":"c5","access_token":"t5","{secret}":1}}"#),
        format!(
            r#"{{"customer_id":"acme","connection_id":"c6","access_token":"t6","entity_ids":"{secret}"}}"#
        ),
        format!(r#"{{"customer_id":"acme","connection_id":"c7","access_token":["{secret}"]}}"#),
        r#"{"customer_id":"","connection_id":"c8","access_token":"t8"}"#.to_owned(),
        r#"{"customer_id":"a","customer_id":"b","connection_id":"c9","access_token":"t9"}"#.to_owned(),
        line("c10", "two words"),
        format!("{secret} {}", line("c11", "t11")),
    ];
    let failure = import(&vault, &lines.join("\n")).await.unwrap_err();
    assert_eq!(failure.exit, Exit::Failed);
    let said: Vec<&str> = failure.message.lines().collect();
    let expected = [
        "nothing was imported:",
        "line 2: is not one JSON object",
        "line 4: has the connection_id of line 1",
        "line 5: has the access_token of line 1",
        "line 6: has no access_token",
        "line 7: has an unknown member; did you mean access_token?",
        "line 8: has an unknown member; known are customer_id, connection_id, access_token, company_id, provider_id, entity_ids",
        "line 9: entity_ids is not a list of ids",
        "line 10: access_token is not a text",
        "line 11: customer_id is not a text of 1 to 255 printable characters",
        "line 12: has customer_id twice",
        "line 13: access_token is not 1 to 4096 printable ASCII characters without blanks",
        "line 14: is not one JSON object",
    ];
    assert_eq!(said, expected);
    assert!(!failure.message.contains(secret));
    assert!(vault.list().await.unwrap().is_empty());
}

#[tokio::test]
async fn good_lines_are_stored_and_counted() {
    let (_dir, vault) = vault().await;
    let full = r#"{"customer_id":"zeta","connection_id":"c2","access_token":"t2","company_id":"co","provider_id":"gusto","entity_ids":["e1","e2"]}"#;
    let said = import(&vault, &format!("{}\r\n\n{full}", line("c1", "t1"))).await.unwrap();
    assert_eq!(said, "imported 2 connections: 2 new, 0 replaced\n");
    let said = import(&vault, &line("c1", "t9")).await.unwrap();
    assert_eq!(said, "imported 1 connections: 0 new, 1 replaced\n");
    let entry = vault.connection(&ConnectionId::new("c2").unwrap()).await.unwrap();
    assert_eq!(entry.facts.entity_ids.len(), 2);
    assert_eq!(entry.facts.status, Status::Active);
    assert_eq!(entry.token.as_ref().unwrap().expose(), "t2");
}

#[tokio::test]
async fn v13_a_line_with_a_token_stored_elsewhere_stops_the_whole_import() {
    let (_dir, vault) = vault().await;
    import(&vault, &line("c1", "t1")).await.unwrap();
    let failure = import(&vault, &format!("{}\n{}", line("c2", "t2"), line("c3", "t1"))).await.unwrap_err();
    assert_eq!(failure.exit, Exit::Failed);
    assert!(
        failure.message.contains("line 2: the token given for connection c3 is already stored"),
        "{failure}"
    );
    assert_eq!(vault.list().await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_finch_says_otherwise_is_refused_with_its_line() {
    let (_dir, vault) = vault().await;
    let lines: Vec<String> = (1..=6).map(|n| line(&format!("c{n}"), &format!("t{n}"))).collect();
    let failure = import_as(&vault, &lines.join("\n"), |line| {
        let right = told(line.connection_id.as_str());
        match line.line {
            1 => Ok(right),
            2 => Ok(told("c9")),
            3 => Ok(Introspected { customer_id: Some(CustomerId::new("zeta").unwrap()), ..right }),
            4 => Ok(Introspected { client_type: Environment::Production, ..right }),
            5 => Err("Finch refuses the token".to_owned()),
            _ => Ok(Introspected { customer_id: None, ..right }),
        }
    })
    .await
    .unwrap_err();
    let said: Vec<&str> = failure.message.lines().collect();
    assert_eq!(
        said,
        [
            "nothing was imported:",
            "line 2: the token belongs to connection c9, the line says c2",
            "line 3: Finch knows the customer as zeta, the line says acme",
            "line 4: the token is for production, perch works with sandbox",
            "line 5: Finch refuses the token",
        ]
    );
    assert!(vault.list().await.unwrap().is_empty());

    let said =
        import_as(&vault, &lines.join("\n"), |line| Ok(told(line.connection_id.as_str()))).await.unwrap();
    assert_eq!(said, "{\"added\":6,\"imported\":6,\"replaced\":0}\n");
    let entry = vault.connection(&ConnectionId::new("c1").unwrap()).await.unwrap();
    assert_eq!(entry.facts.account_status.as_deref(), Some("connected"));
    assert_eq!(entry.facts.provider_id, Some(ProviderId::new("gusto").unwrap()));
}

#[tokio::test]
async fn an_import_is_bounded() {
    let (_dir, vault) = vault().await;
    assert!(import(&vault, "\n \n").await.unwrap_err().message.contains("nothing to import"));
    let long = format!("{}\n{}", line("c1", "t1"), "x".repeat(LINE_BYTES_MAX + 1));
    let failure = import(&vault, &long).await.unwrap_err();
    assert!(failure.message.contains("line 2: is longer than"), "{failure}");
    // An endless source without one newline is given up as soon as the line is too long.
    let mut out = Vec::new();
    let endless = BufReader::new(std::io::repeat(b'x'));
    assert!(import_unverified(&vault, endless, NOW, Format::Text, &mut out).await.is_err());
}

#[tokio::test]
async fn list_show_and_assign_tell_the_facts_and_never_the_token() {
    let (_dir, vault) = vault().await;
    let mut out = Vec::new();
    list(&vault, Format::Text, &mut out).await.unwrap();
    assert!(String::from_utf8(out).unwrap().contains("no connections yet"));

    import(&vault, &line("c1", "secret-token")).await.unwrap();
    let (id, other) = (ConnectionId::new("c1").unwrap(), ConnectionId::new("c2").unwrap());
    let (acme, zeta) = (CustomerId::new("acme").unwrap(), CustomerId::new("zeta").unwrap());
    let mut printed = Vec::new();
    for format in [Format::Text, Format::Json] {
        list(&vault, format, &mut printed).await.unwrap();
        show(&vault, &id, format, &mut printed).await.unwrap();
        assign(&vault, &id, &acme, NOW, format, &mut printed).await.unwrap();
    }
    let printed = String::from_utf8(printed).unwrap();
    assert!(!printed.contains("secret-token"), "{printed}");
    assert!(
        printed.contains("c1          acme      -         active  2023-11-14T22:13:20.000Z"),
        "{printed}"
    );
    assert!(printed.contains(r#""connection_id":"c1","customer_id":"acme""#), "{printed}");

    let mut out = Vec::new();
    let failure = show(&vault, &other, Format::Text, &mut out).await.unwrap_err();
    assert_eq!(failure.exit, Exit::Failed);
    let failure = assign(&vault, &id, &zeta, NOW, Format::Text, &mut out).await.unwrap_err();
    assert!(failure.message.contains("belongs to another customer"), "{failure}");
    assert!(out.is_empty());
}

#[test]
fn v15_no_argument_and_no_variable_can_carry_a_token() {
    fn look(command: &clap::Command, seen: &mut Vec<String>) {
        for argument in command.get_arguments() {
            seen.push(argument.get_id().to_string());
        }
        command.get_subcommands().for_each(|sub| look(sub, seen));
    }
    let mut seen = Vec::new();
    let mut command = Program::command();
    command.build();
    look(&command, &mut seen);
    seen.retain(|name| !["help", "version", "subcommand"].contains(&name.as_str()));
    seen.sort();
    seen.dedup();
    assert_eq!(
        seen,
        ["all", "customer", "file", "id", "no_verify", "output", "redirect_uri", "yes"],
        "a new argument: can it hold a token?"
    );
    let help = command.render_long_help().to_string();
    assert!(!help.contains("[env"), "{help}");

    for args in [
        &["connections", "import", "--token", "t"][..],
        &["connections", "import", "--access-token=t"],
        &["connections", "import", "file", "t"],
    ] {
        assert!(Program::try_parse_from(args).is_err(), "{args:?}");
    }
    assert!(Program::try_parse_from(["connections", "import", "-o", "json", "--no-verify"]).is_ok());
    assert!(Program::try_parse_from(["connections", "show", " "]).is_err());
}

#[test]
fn exit_codes_are_those_of_the_contract() {
    assert_eq!(Failure::from(OpenError::Key("k".to_owned())).exit, Exit::Key);
    assert_eq!(Failure::from(OpenError::Store("s".to_owned())).exit, Exit::Unavailable);
    assert_eq!(Failure::from(VaultError::Store("s".to_owned())).exit, Exit::Unavailable);
    assert_eq!(Failure::from(VaultError::UnknownConnection).exit, Exit::Failed);
}
