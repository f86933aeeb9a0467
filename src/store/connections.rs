//! Connections in SQL. Every statement names the application and the environment it is about.

use super::StoreError;
use super::record::{Connection, Row, SealedToken, Status};
use super::sql::{Record, Tx, values};
use crate::types::{ConnectionId, CustomerId, EntityId, Environment, UnixMillis};

/// Whose connections are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// The Finch application.
    pub application: crate::types::ApplicationId,
    /// The environment.
    pub environment: Environment,
}

const COLUMNS: &str = "env, connection_id, customer_id, company_id, provider_id, products, entity_ids, \
    client_type, account_status, status, held_reason, sealed, dek_id, token_bidx, row_version, created_at, \
    updated_at, last_used_at, status_at, introspected_at, note";
/// The place behind [`COLUMNS`].
const APPLICATION: usize = 21;

/// The connection, in the scope's environment when it is there, else in another one.
///
/// # Errors
/// [`StoreError::Damaged`] when its row says what no perch wrote.
pub fn find(tx: &Tx<'_>, scope: &Scope, id: &ConnectionId) -> Result<Option<Row>, StoreError> {
    // The environments are spelled out so that the primary key finds each.
    let sql = format!(
        "SELECT {COLUMNS} FROM connection \
         WHERE app = ?1 AND env IN ('production', 'development', 'sandbox') AND connection_id = ?3 \
         ORDER BY env <> ?2 LIMIT 1"
    );
    tx.row(&sql, values![scope.application.as_str(), scope.environment.as_str(), id.as_str()], row_of)
}

/// The facts of a customer's connections, oldest first, at most `limit`.
///
/// # Errors
/// [`StoreError::Damaged`] when one of the rows says what no perch wrote.
pub fn of_customer(
    tx: &Tx<'_>,
    scope: &Scope,
    customer: &CustomerId,
    limit: usize,
) -> Result<Vec<Connection>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM connection WHERE app = ?1 AND env = ?2 AND customer_id = ?3 \
         ORDER BY created_at, connection_id LIMIT ?4"
    );
    let values = values![
        scope.application.as_str(),
        scope.environment.as_str(),
        customer.as_str(),
        i64::try_from(limit).unwrap_or(i64::MAX)
    ];
    tx.rows(&sql, values, |row| Ok(row_of(row)?.facts))
}

/// The facts of every connection of the scope, oldest first. A damaged row stands as its error.
///
/// # Errors
/// [`StoreError`] when the whole cannot be read.
pub fn all(tx: &Tx<'_>, scope: &Scope) -> Result<Vec<Result<Connection, StoreError>>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM connection WHERE app = ?1 AND env = ?2 ORDER BY created_at, connection_id"
    );
    tx.rows(&sql, values![scope.application.as_str(), scope.environment.as_str()], |row| {
        Ok(row_of(row).map(|row| row.facts))
    })
}

/// Which connections are meant, and where to go on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sought {
    /// Of this customer, by its whole id.
    pub customer: Option<CustomerId>,
    /// With this anywhere in the customer's or the connection's id, in any case (of ASCII letters at least).
    pub part: Option<String>,
    /// In this place of their life.
    pub status: Option<Status>,
    /// Those that come after this one.
    pub after: Option<ConnectionId>,
}

/// The facts of those that are sought, oldest first, at most `limit`. A damaged row stands as its error.
///
/// # Errors
/// [`StoreError`] when the whole cannot be read.
pub fn page(
    tx: &Tx<'_>,
    scope: &Scope,
    sought: &Sought,
    limit: u32,
) -> Result<Vec<Result<Connection, StoreError>>, StoreError> {
    // What a pattern means something by stands for itself here.
    let part = sought.part.as_ref().map(|part| {
        let part = part.to_lowercase().replace('!', "!!").replace('%', "!%").replace('_', "!_");
        format!("%{part}%")
    });
    let sql = format!(
        "SELECT {COLUMNS} FROM connection WHERE app = ?1 AND env = ?2 \
         AND (?3 IS NULL OR customer_id = ?3) AND (?4 IS NULL OR status = ?4) \
         AND (?5 IS NULL OR lower(customer_id) LIKE ?5 ESCAPE '!' OR lower(connection_id) LIKE ?5 ESCAPE '!') \
         AND (?6 IS NULL OR (created_at, connection_id) > (SELECT created_at, connection_id FROM connection \
              WHERE app = ?1 AND env = ?2 AND connection_id = ?6)) \
         ORDER BY created_at, connection_id LIMIT ?7"
    );
    let values = values![
        scope.application.as_str(),
        scope.environment.as_str(),
        sought.customer.as_ref().map(CustomerId::as_str),
        sought.status.map(Status::as_str),
        &part,
        sought.after.as_ref().map(ConnectionId::as_str),
        i64::from(limit),
    ];
    tx.rows(&sql, values, |row| Ok(row_of(row).map(|row| row.facts)))
}

/// Which connection of the scope has the token with this index.
///
/// # Errors
/// [`StoreError`].
pub fn holder(tx: &Tx<'_>, scope: &Scope, index: &[u8; 16]) -> Result<Option<String>, StoreError> {
    tx.row(
        "SELECT connection_id FROM connection WHERE app = ?1 AND env = ?2 AND token_bidx = ?3",
        values![scope.application.as_str(), scope.environment.as_str(), index],
        |row| row.get(0),
    )
}

/// Writes the whole row, new or not. `change` is the store's count of changes.
///
/// # Errors
/// [`StoreError`].
pub fn put(tx: &Tx<'_>, scope: &Scope, row: &Row, change: i64) -> Result<(), StoreError> {
    let Row { facts, sealed, environment: _ } = row;
    let number = |n: u64| i64::try_from(n).map_err(|_| StoreError::Damaged("a number ran over".to_owned()));
    let list = |items: Result<String, serde_json::Error>| {
        items.map_err(|cause| StoreError::Damaged(cause.to_string()))
    };
    let sql = "INSERT INTO connection (app, env, connection_id, customer_id, company_id, provider_id, products, \
            entity_ids, client_type, account_status, status, held_reason, sealed, dek_id, token_bidx, \
            row_version, change_seq, created_at, updated_at, last_used_at, status_at, introspected_at, note) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, \
            ?22, ?23) \
         ON CONFLICT (app, env, connection_id) DO UPDATE SET customer_id = excluded.customer_id, \
            company_id = excluded.company_id, provider_id = excluded.provider_id, \
            products = excluded.products, entity_ids = excluded.entity_ids, \
            client_type = excluded.client_type, account_status = excluded.account_status, \
            status = excluded.status, held_reason = excluded.held_reason, sealed = excluded.sealed, \
            dek_id = excluded.dek_id, token_bidx = excluded.token_bidx, \
            row_version = excluded.row_version, change_seq = excluded.change_seq, \
            updated_at = excluded.updated_at, last_used_at = excluded.last_used_at, \
            status_at = excluded.status_at, introspected_at = excluded.introspected_at, note = excluded.note";
    let (products, entities) =
        (list(serde_json::to_string(&facts.products))?, list(serde_json::to_string(&facts.entity_ids))?);
    let values = values![
        scope.application.as_str(),
        scope.environment.as_str(),
        facts.connection_id.as_str(),
        facts.customer_id.as_ref().map(|id| id.as_str()),
        facts.company_id.as_ref().map(|id| id.as_str()),
        facts.provider_id.as_ref().map(|id| id.as_str()),
        &products,
        &entities,
        facts.client_type.as_str(),
        &facts.account_status,
        facts.status.as_str(),
        &facts.held_reason,
        sealed.as_ref().map(|s| s.blob.as_slice()),
        sealed.as_ref().map(|s| number(s.dek_id)).transpose()?,
        sealed.as_ref().map(|s| s.index.as_slice()),
        number(facts.version)?,
        change,
        facts.created_at.0,
        facts.updated_at.0,
        facts.last_used_at.map(|at| at.0),
        facts.status_at.map(|at| at.0),
        facts.introspected_at.map(|at| at.0),
        &facts.note,
    ];
    tx.execute(sql, values)?;
    Ok(())
}

/// Where a walk over all connections of a store has come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The application of the last one.
    pub application: String,
    /// Its environment, as stored.
    pub environment: String,
    /// Its id, as stored.
    pub connection_id: String,
}

/// A row that was walked to; a damaged one stands as its error.
pub type Walked = (Place, Result<Row, StoreError>);

/// The next rows of the whole store, of every application and environment, in the order of their places:
/// those that hold a token, and with `except` only those that another key has sealed. A damaged row stands
/// as its error.
///
/// # Errors
/// [`StoreError`] when the whole cannot be read.
pub fn walk(
    tx: &Tx<'_>,
    after: Option<&Place>,
    except: Option<u64>,
    limit: usize,
) -> Result<Vec<Walked>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS}, app FROM connection WHERE sealed IS NOT NULL \
         AND (app, env, connection_id) > (?1, ?2, ?3) AND dek_id <> ?4 \
         ORDER BY app, env, connection_id LIMIT ?5"
    );
    let text = |part: fn(&Place) -> &String| after.map_or("", |place| part(place).as_str());
    let values = values![
        text(|place| &place.application),
        text(|place| &place.environment),
        text(|place| &place.connection_id),
        // No key has this number.
        except.map_or(-1, |id| i64::try_from(id).unwrap_or(i64::MAX)),
        i64::try_from(limit).unwrap_or(i64::MAX),
    ];
    tx.rows(&sql, values, |row| {
        let place = Place {
            application: row.get(APPLICATION)?,
            environment: row.get(0)?,
            connection_id: row.get(1)?,
        };
        Ok((place, row_of(row)))
    })
}

/// Puts a token that was sealed anew into its row, unless the row has changed since it was read at
/// `version`. Answers whether it was put there.
///
/// # Errors
/// [`StoreError`].
pub fn reseal(
    tx: &Tx<'_>,
    place: &Place,
    version: u64,
    sealed: &SealedToken,
    change: i64,
) -> Result<bool, StoreError> {
    let number = |n: u64| i64::try_from(n).map_err(|_| StoreError::Damaged("a number ran over".to_owned()));
    let changed = tx.execute(
        "UPDATE connection SET sealed = ?5, dek_id = ?6, row_version = row_version + 1, change_seq = ?7 \
         WHERE app = ?1 AND env = ?2 AND connection_id = ?3 AND row_version = ?4 AND sealed IS NOT NULL",
        values![
            &place.application,
            &place.environment,
            &place.connection_id,
            number(version)?,
            &sealed.blob,
            number(sealed.dek_id)?,
            change,
        ],
    )?;
    Ok(changed == 1)
}

/// How many connections of the store have no token any more.
///
/// # Errors
/// [`StoreError`].
pub fn erased(tx: &Tx<'_>) -> Result<u64, StoreError> {
    let count: i64 = tx.value("SELECT count(*) FROM connection WHERE sealed IS NULL", values![])?;
    Ok(count.unsigned_abs())
}

/// The applications that have connections in the store.
///
/// # Errors
/// [`StoreError`].
pub fn applications(tx: &Tx<'_>) -> Result<Vec<String>, StoreError> {
    tx.rows("SELECT DISTINCT app FROM connection ORDER BY app", values![], |row| row.get(0))
}

/// Notes that a call used the connection. No change in the sense of [`put`]: nobody's view is stale.
///
/// # Errors
/// [`StoreError`].
pub fn used(tx: &Tx<'_>, scope: &Scope, id: &ConnectionId, at: UnixMillis) -> Result<(), StoreError> {
    tx.execute(
        "UPDATE connection SET last_used_at = ?4 WHERE app = ?1 AND env = ?2 AND connection_id = ?3 \
         AND coalesce(last_used_at, 0) < ?4",
        values![scope.application.as_str(), scope.environment.as_str(), id.as_str(), at.0],
    )?;
    Ok(())
}

/// The connections of the scope that are in this part of their life, each with when `/introspect` was last asked
/// about it.
///
/// # Errors
/// [`StoreError::Damaged`] when an id is none.
pub fn in_status(
    tx: &Tx<'_>,
    scope: &Scope,
    status: Status,
) -> Result<Vec<(ConnectionId, Option<UnixMillis>)>, StoreError> {
    let sql = "SELECT connection_id, introspected_at FROM connection WHERE app = ?1 AND env = ?2 AND status = ?3 \
         ORDER BY connection_id";
    let values = values![scope.application.as_str(), scope.environment.as_str(), status.as_str()];
    tx.rows(sql, values, |row| Ok((id_of(row)?, row.get::<Option<i64>>(1)?.map(UnixMillis))))
}

/// The connections of the scope that were changed after so many changes of the store, the first `limit` of them.
///
/// # Errors
/// [`StoreError::Damaged`] when an id is none.
pub fn changed_after(
    tx: &Tx<'_>,
    scope: &Scope,
    change: i64,
    limit: u32,
) -> Result<Vec<ConnectionId>, StoreError> {
    let sql = "SELECT connection_id FROM connection WHERE app = ?1 AND env = ?2 AND change_seq > ?3 LIMIT ?4";
    tx.rows(sql, values![scope.application.as_str(), scope.environment.as_str(), change, limit], id_of)
}

fn id_of(row: &Record<'_>) -> Result<ConnectionId, StoreError> {
    ConnectionId::new(row.get::<String>(0)?)
        .map_err(|_| StoreError::Damaged("a connection's connection_id is not what perch writes".to_owned()))
}

/// How many connections of the scope there are, by status and provider.
///
/// # Errors
/// [`StoreError`].
pub fn counts(tx: &Tx<'_>, scope: &Scope) -> Result<Vec<(Status, Option<String>, u64)>, StoreError> {
    let sql =
        "SELECT status, provider_id, count(*) FROM connection WHERE app = ?1 AND env = ?2 GROUP BY 1, 2";
    let mut counted = Vec::new();
    tx.each(sql, values![scope.application.as_str(), scope.environment.as_str()], |row| {
        let (status, provider, count): (String, Option<String>, i64) =
            (row.get(0)?, row.get(1)?, row.get(2)?);
        if let Some(status) = Status::parse(&status) {
            counted.push((status, provider, count.unsigned_abs()));
        }
        Ok::<_, StoreError>(())
    })?;
    Ok(counted)
}

fn row_of(row: &Record<'_>) -> Result<Row, StoreError> {
    fn no(column: &str) -> StoreError {
        StoreError::Damaged(format!("a connection's {column} is not what perch writes"))
    }
    let text = |at: usize| row.get::<String>(at);
    let maybe = |at: usize| row.get::<Option<String>>(at);
    let environment = |at: usize, column| Environment::parse(&text(at)?).ok_or_else(|| no(column));
    let sealed = match (row.get(11)?, row.get::<Option<i64>>(12)?, row.get(13)?) {
        (Some(blob), Some(dek), Some(index)) => {
            Some(SealedToken { blob, dek_id: u64::try_from(dek).map_err(|_| no("dek_id"))?, index })
        }
        (None, _, _) => None,
        _ => return Err(no("sealed")),
    };
    Ok(Row {
        environment: environment(0, "env")?,
        sealed,
        facts: Connection {
            connection_id: ConnectionId::new(text(1)?).map_err(|_| no("connection_id"))?,
            customer_id: maybe(2)?.map(CustomerId::new).transpose().map_err(|_| no("customer_id"))?,
            company_id: maybe(3)?
                .map(crate::types::CompanyId::new)
                .transpose()
                .map_err(|_| no("company_id"))?,
            provider_id: maybe(4)?
                .map(crate::types::ProviderId::new)
                .transpose()
                .map_err(|_| no("provider_id"))?,
            products: serde_json::from_str(&text(5)?).map_err(|_| no("products"))?,
            entity_ids: serde_json::from_str::<Vec<EntityId>>(&text(6)?).map_err(|_| no("entity_ids"))?,
            client_type: environment(7, "client_type")?,
            account_status: maybe(8)?,
            status: Status::parse(&text(9)?).ok_or_else(|| no("status"))?,
            held_reason: maybe(10)?,
            version: u64::try_from(row.get::<i64>(14)?).map_err(|_| no("row_version"))?,
            created_at: UnixMillis(row.get(15)?),
            updated_at: UnixMillis(row.get(16)?),
            last_used_at: row.get::<Option<i64>>(17)?.map(UnixMillis),
            status_at: row.get::<Option<i64>>(18)?.map(UnixMillis),
            introspected_at: row.get::<Option<i64>>(19)?.map(UnixMillis),
            note: maybe(20)?,
        },
    })
}
