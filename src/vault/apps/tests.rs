//! Apps that come, change and go, in a store of their own.

use super::*;
use crate::types::{ApplicationId, Environment};
use crate::vault::{VaultOptions, kek};
use std::path::Path;
use std::time::Duration;

async fn vault(dir: &Path, environment: Environment) -> Arc<Vault> {
    let key = dir.join("perch.key");
    if !key.exists() {
        kek::generate(&key).unwrap();
    }
    Vault::open(VaultOptions {
        store: crate::config::Store::Sqlite(dir.join("perch.db")),
        keys: kek::from_file(&key, false).unwrap().into(),
        generation_file: None,
        accept_rollback: false,
        application: ApplicationId::new("app").unwrap(),
        environment,
        cache_ttl: Duration::from_secs(60),
        is_gateway: false,
        now: UnixMillis(1),
    })
    .await
    .unwrap()
}

fn name(text: &str) -> AppName {
    AppName::new(text).unwrap()
}

fn shown(key: &AppKey) -> Shown {
    Shown::read(key.expose()).unwrap()
}

#[tokio::test]
async fn an_app_is_known_by_its_key_until_it_is_revoked_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = vault(dir.path(), Environment::Sandbox).await;
    let command = vault(dir.path(), Environment::Sandbox).await;
    let (key, _) = command.add_app(name("payroll"), Policy::default(), UnixMillis(2)).await.unwrap();
    assert!(command.app_of(&shown(&key)).is_some(), "who made it knows it at once");
    assert!(gateway.app_of(&shown(&key)).is_none());
    assert!(gateway.refresh().await.unwrap());
    let app = gateway.app_of(&shown(&key)).unwrap();
    assert!(app.name == name("payroll") && gateway.app_now(&app) == Some(Arc::clone(&app)));
    command.revoke_app(name("payroll"), UnixMillis(3)).await.unwrap();
    gateway.refresh().await.unwrap();
    assert!(gateway.app_of(&shown(&key)).is_none() && gateway.app_now(&app).is_none());
    let unknown = command.revoke_app(name("payroll"), UnixMillis(4)).await;
    assert_eq!(unknown, Err(AppError::Unknown(name("payroll"))));
}

#[tokio::test]
async fn what_an_app_may_do_changes_and_its_key_stays() {
    let dir = tempfile::tempdir().unwrap();
    let vault = vault(dir.path(), Environment::Sandbox).await;
    let (key, _) = vault.add_app(name("a"), Policy::default(), UnixMillis(1)).await.unwrap();
    let before = vault.app_of(&shown(&key)).unwrap();
    vault.change_app(name("a"), Marks::default(), |policy| Policy { writes: true, ..policy }).await.unwrap();
    let now = vault.app_of(&shown(&key)).unwrap();
    assert!(!before.policy.writes && now.policy.writes);
    assert_eq!(vault.app_now(&before), Some(now));
    let unknown = vault.change_app(name("b"), Marks::default(), |policy| policy).await;
    assert_eq!(unknown, Err(AppError::Unknown(name("b"))));
}

#[tokio::test]
async fn a_name_has_one_good_key_and_no_other_key_with_its_id_is_it() {
    let dir = tempfile::tempdir().unwrap();
    let vault = vault(dir.path(), Environment::Sandbox).await;
    let (first, _) = vault.add_app(name("a"), Policy::default(), UnixMillis(1)).await.unwrap();
    let again = vault.add_app(name("a"), Policy::default(), UnixMillis(2)).await;
    assert_eq!(again.err(), Some(AppError::Exists(name("a"))));
    let (other, _) = vault.add_app(name("b"), Policy::default(), UnixMillis(3)).await.unwrap();
    let mixed = Shown { id: shown(&first).id, digest: shown(&other).digest };
    assert!(vault.app_of(&mixed).is_none());
    vault.revoke_app(name("a"), UnixMillis(4)).await.unwrap();
    let (second, _) = vault.add_app(name("a"), Policy::default(), UnixMillis(5)).await.unwrap();
    assert!(vault.app_of(&shown(&first)).is_none() && vault.app_of(&shown(&second)).is_some());
    let listed = vault.list_apps().await.unwrap();
    let revoked: Vec<bool> = listed.iter().map(|app| app.revoked_at.is_some()).collect();
    assert_eq!(revoked, [true, false, false]);
}

#[tokio::test]
async fn a_key_of_one_environment_is_nobodys_in_another() {
    let dir = tempfile::tempdir().unwrap();
    let sandbox = vault(dir.path(), Environment::Sandbox).await;
    let (key, _) = sandbox.add_app(name("a"), Policy::default(), UnixMillis(1)).await.unwrap();
    let production = vault(dir.path(), Environment::Production).await;
    assert!(production.app_of(&shown(&key)).is_none() && sandbox.app_of(&shown(&key)).is_some());
    assert_eq!(production.list_apps().await.unwrap(), []);
}

#[tokio::test]
async fn a_policy_that_is_not_understood_makes_its_app_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = vault(dir.path(), Environment::Sandbox).await;
    let (key, _) = gateway.add_app(name("a"), Policy::default(), UnixMillis(1)).await.unwrap();
    let (well, _) = gateway.add_app(name("b"), Policy::default(), UnixMillis(1)).await.unwrap();
    let db = rusqlite::Connection::open(dir.path().join("perch.db")).unwrap();
    db.execute("UPDATE app SET policy = '{\"hours\":\"9-17\"}' WHERE name = 'a'", []).unwrap();
    gateway.refresh().await.unwrap();
    assert!(gateway.app_of(&shown(&key)).is_none() && gateway.app_of(&shown(&well)).is_some());
}

#[tokio::test]
async fn while_the_store_is_out_whoever_was_known_stays_known() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = vault(dir.path(), Environment::Sandbox).await;
    let (key, _) = gateway.add_app(name("a"), Policy::default(), UnixMillis(1)).await.unwrap();
    let db = rusqlite::Connection::open(dir.path().join("perch.db")).unwrap();
    db.execute("ALTER TABLE app RENAME TO gone", []).unwrap();
    assert!(gateway.refresh().await.is_err());
    assert!(gateway.app_of(&shown(&key)).is_some());
    db.execute("UPDATE gone SET revoked_at = 2", []).unwrap();
    db.execute("ALTER TABLE gone RENAME TO app", []).unwrap();
    gateway.refresh().await.unwrap();
    assert!(gateway.app_of(&shown(&key)).is_none(), "the change is read once it can be");
}

#[tokio::test]
async fn the_store_has_no_key_and_forgets_the_oldest_revoked() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = vault(dir.path(), Environment::Sandbox).await;
    let (key, facts) = gateway.add_app(name("a"), Policy::default(), UnixMillis(1)).await.unwrap();
    let secret = key.expose().rsplit('_').next().unwrap().to_owned();
    let shared = Arc::clone(&gateway.shared);
    let row = AppRow {
        name: "old".to_owned(),
        key_id: String::new(),
        key_hash: [0; 32],
        policy: "{}".to_owned(),
        certificate: None,
        uid: None,
        created_at: UnixMillis(0),
        revoked_at: None,
    };
    let left = gateway
        .store
        .write(
            move |tx| {
                for n in 0..5 {
                    let key_id = format!("{n:016x}");
                    let row = AppRow { key_id, revoked_at: Some(UnixMillis(n)), ..row.clone() };
                    apps::add(tx, &shared.scope, &row, 3)?;
                }
                Ok::<_, VaultError>(apps::all(tx, &shared.scope)?)
            },
            |_| (),
        )
        .await
        .unwrap();
    let mut ids: Vec<&str> = left.iter().map(|row| row.key_id.as_str()).collect();
    ids.sort_unstable();
    let mut expected =
        vec!["0000000000000002", "0000000000000003", "0000000000000004", facts.key_id.as_deref().unwrap()];
    expected.sort_unstable();
    assert_eq!(ids, expected);
    drop(gateway);
    for file in std::fs::read_dir(dir.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(secret.len()).any(|w| w == secret.as_bytes()));
    }
}
