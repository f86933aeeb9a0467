//! Importing connections from JSON lines: every line is read, checked and verified before the first
//! is stored, and all are stored in one transaction.
//!
//! What is wrong with a line is said in words of our own: a parser's message may repeat what it
//! read, and what it read may be a token in the wrong place.

use crate::cli::exit::Failure;
use crate::cli::output::Format;
use crate::types::json::RawObject;
use crate::types::{
    AccessToken, CompanyId, ConnectionId, CustomerId, EntityId, Environment, ProviderId, UnixMillis,
};
use crate::vault::{ImportError, LIST_ITEMS_MAX, NewConnection, Status, TOKEN_BYTES_MAX, Vault};
use indicatif::ProgressBar;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::io::{BufRead, IsTerminal, Read, Write};
use zeroize::Zeroizing;

/// The longest line read, in bytes: room for a token and some thousand entities.
pub const LINE_BYTES_MAX: usize = 256 * 1024;
/// Most lines of one import; larger sets are imported in parts.
pub const LINES_MAX: usize = 100_000;
/// Most bytes of one import.
pub const IMPORT_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Bad lines told one by one; of the rest the number.
const TOLD_MAX: usize = 1000;

const MEMBERS: [&str; 6] =
    ["customer_id", "connection_id", "access_token", "company_id", "provider_id", "entity_ids"];

/// One connection as the file tells it.
#[derive(Debug)]
pub struct ImportLine {
    /// Where it stands, counted from 1.
    pub line: usize,
    /// Whose it is.
    pub customer_id: CustomerId,
    /// Which connection.
    pub connection_id: ConnectionId,
    /// Its token.
    pub access_token: AccessToken,
    /// The company, when told.
    pub company_id: Option<CompanyId>,
    /// The employment system, when told.
    pub provider_id: Option<ProviderId>,
    /// The entities, when told.
    pub entity_ids: Option<Vec<EntityId>>,
}

/// What Finch's `/introspect` says of a line's token.
#[derive(Debug, Clone)]
pub struct Introspected {
    /// The connection the token belongs to.
    pub connection_id: ConnectionId,
    /// The customer it was made for; none with old ways of connecting.
    pub customer_id: Option<CustomerId>,
    /// The company.
    pub company_id: Option<CompanyId>,
    /// The employment system.
    pub provider_id: Option<ProviderId>,
    /// The kind of credentials.
    pub client_type: Environment,
    /// The scopes granted.
    pub products: Vec<String>,
    /// The entities.
    pub entity_ids: Vec<EntityId>,
    /// `connection_status.status`.
    pub status: Option<String>,
}

/// What is wrong, line by line.
type Faults = Vec<(usize, String)>;

/// Imports without asking Finch: what the lines say is believed, their environment is the vault's.
///
/// # Errors
/// [`Failure`] naming every bad line; nothing is stored then.
pub async fn import_unverified(
    vault: &Vault,
    source: impl BufRead,
    now: UnixMillis,
    format: Format,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let lines = read(source)?;
    let environment = vault.environment();
    let new = lines.into_iter().map(|line| (line.line, unverified(line, environment))).collect();
    store(vault, new, now, format, out).await
}

/// Imports what Finch confirms. `verify` asks `/introspect` with the line's token; it is awaited for
/// one line after another, so that the caller's limits decide the pace.
///
/// # Errors
/// [`Failure`] naming every bad line; nothing is stored then.
pub async fn import_verified(
    vault: &Vault,
    source: impl BufRead,
    now: UnixMillis,
    format: Format,
    out: &mut dyn Write,
    verify: impl AsyncFn(&ImportLine) -> Result<Introspected, String>,
) -> Result<(), Failure> {
    let lines = read(source)?;
    let bar = match std::io::stderr().is_terminal() {
        true => ProgressBar::new(lines.len() as u64).with_message("asking Finch"),
        false => ProgressBar::hidden(),
    };
    let (mut new, mut faults) = (Vec::with_capacity(lines.len()), Faults::new());
    for line in lines {
        let number = line.line;
        match verify(&line).await.and_then(|told| verified(line, told, vault.environment())) {
            Ok(connection) => new.push((number, connection)),
            Err(why) => faults.push((number, why)),
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    if !faults.is_empty() {
        return Err(refuse(faults));
    }
    store(vault, new, now, format, out).await
}

async fn store(
    vault: &Vault,
    new: Vec<(usize, NewConnection)>,
    now: UnixMillis,
    format: Format,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let (numbers, new): (Vec<usize>, Vec<NewConnection>) = new.into_iter().unzip();
    let stored = vault.import(new, now).await.map_err(|ImportError { at, error }| {
        match at.and_then(|at| numbers.get(at)) {
            Some(line) => {
                Failure { message: refuse(vec![(*line, error.to_string())]).message, ..Failure::from(error) }
            }
            None => error.into(),
        }
    })?;
    let replaced = stored.iter().filter(|sealed| sealed.replaced).count();
    let added = stored.len() - replaced;
    match format {
        Format::Text => {
            writeln!(out, "imported {} connections: {added} new, {replaced} replaced", stored.len())?
        }
        Format::Json => writeln!(
            out,
            "{}",
            serde_json::json!({"imported": stored.len(), "added": added, "replaced": replaced})
        )?,
    }
    Ok(())
}

fn unverified(line: ImportLine, environment: Environment) -> NewConnection {
    NewConnection {
        connection_id: line.connection_id,
        customer_id: Some(line.customer_id),
        company_id: line.company_id,
        provider_id: line.provider_id,
        products: Vec::new(),
        entity_ids: line.entity_ids.unwrap_or_default(),
        client_type: environment,
        account_status: None,
        token: line.access_token,
        status: Status::Active,
        held_reason: None,
    }
}

fn verified(line: ImportLine, told: Introspected, environment: Environment) -> Result<NewConnection, String> {
    if told.connection_id != line.connection_id {
        return Err(format!(
            "the token belongs to connection {}, the line says {}",
            told.connection_id, line.connection_id
        ));
    }
    if let Some(customer) = told.customer_id.as_ref().filter(|customer| **customer != line.customer_id) {
        return Err(format!("Finch knows the customer as {customer}, the line says {}", line.customer_id));
    }
    if told.client_type != environment {
        return Err(format!("the token is for {}, perch works with {environment}", told.client_type));
    }
    let differs = |what: &str| Err(format!("Finch names another {what} than the line"));
    if line.company_id.is_some() && told.company_id.is_some() && line.company_id != told.company_id {
        return differs("company");
    }
    if line.provider_id.is_some() && told.provider_id.is_some() && line.provider_id != told.provider_id {
        return differs("provider");
    }
    Ok(NewConnection {
        company_id: told.company_id.or(line.company_id.clone()),
        provider_id: told.provider_id.or(line.provider_id.clone()),
        products: told.products,
        entity_ids: told.entity_ids,
        account_status: told.status,
        ..unverified(line, environment)
    })
}

/// Reads every line, and refuses them all when one is not right.
fn read(source: impl BufRead) -> Result<Vec<ImportLine>, Failure> {
    let mut source = source.take(IMPORT_BYTES_MAX + 1);
    let (mut lines, mut faults) = (Vec::new(), Faults::new());
    let mut connections: HashMap<ConnectionId, usize> = HashMap::new();
    let mut tokens: HashMap<[u8; 32], usize> = HashMap::new();
    for number in 1.. {
        // Made for each line, so that no token lies in what a longer line leaves behind.
        let mut bytes = Zeroizing::new(Vec::new());
        let taken =
            (&mut source).take(LINE_BYTES_MAX as u64 + 1).read_until(b'\n', &mut bytes).map_err(|cause| {
                Failure::failed(format_args!(
                    "line {number} could not be read: {cause}; nothing was imported"
                ))
            })?;
        if taken == 0 {
            break;
        }
        if source.limit() == 0 {
            return Err(Failure::failed(
                "the import is larger than 256 MiB; import it in parts. Nothing was imported",
            ));
        }
        if taken > LINE_BYTES_MAX {
            faults.push((number, format!("is longer than {LINE_BYTES_MAX} bytes; the rest was not read")));
            break;
        }
        if bytes.trim_ascii().is_empty() {
            continue;
        }
        if lines.len() == LINES_MAX {
            return Err(Failure::failed(format_args!(
                "the import has more than {LINES_MAX} connections; import it in parts. Nothing was imported"
            )));
        }
        match parse(number, bytes.trim_ascii()) {
            Ok(line) => {
                if let Some(first) = connections.insert(line.connection_id.clone(), number) {
                    faults.push((number, format!("has the connection_id of line {first}")));
                }
                let digest: [u8; 32] = Sha256::digest(line.access_token.expose()).into();
                if let Some(first) = tokens.insert(digest, number) {
                    faults.push((number, format!("has the access_token of line {first}")));
                }
                lines.push(line);
            }
            Err(why) => faults.push((number, why)),
        }
        // Beyond this the file is of another kind; reading on would only fill memory with complaints.
        if faults.len() > LINES_MAX {
            break;
        }
    }
    match (faults.is_empty(), lines.is_empty()) {
        (false, _) => Err(refuse(faults)),
        (true, true) => Err(Failure::failed(
            "there was nothing to import: give one JSON object per line with customer_id, connection_id and access_token",
        )),
        (true, false) => Ok(lines),
    }
}

fn parse(line: usize, bytes: &[u8]) -> Result<ImportLine, String> {
    let object = RawObject::parse(bytes).ok_or("is not one JSON object")?;
    let mut seen = [0_u8; MEMBERS.len()];
    for name in object.names() {
        match MEMBERS.iter().position(|member| *member == name) {
            Some(at) if seen[at] > 0 => return Err(format!("has {name} twice")),
            Some(at) => seen[at] = 1,
            None => return Err(unknown(name)),
        }
    }
    let access_token: String = must(&object, "access_token")?;
    let access_token = AccessToken::new(access_token);
    let text = access_token.expose();
    if text.is_empty() || text.len() > TOKEN_BYTES_MAX || !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(format!(
            "access_token is not 1 to {TOKEN_BYTES_MAX} printable ASCII characters without blanks"
        ));
    }
    let entity_ids: Option<Vec<EntityId>> = may(&object, "entity_ids")?;
    if entity_ids.as_ref().is_some_and(|ids| ids.len() > LIST_ITEMS_MAX) {
        return Err(format!("entity_ids has more than {LIST_ITEMS_MAX} items"));
    }
    Ok(ImportLine {
        line,
        customer_id: must(&object, "customer_id")?,
        connection_id: must(&object, "connection_id")?,
        access_token,
        company_id: may(&object, "company_id")?,
        provider_id: may(&object, "provider_id")?,
        entity_ids,
    })
}

fn must<T: DeserializeOwned>(object: &RawObject, name: &str) -> Result<T, String> {
    may(object, name)?.ok_or_else(|| format!("has no {name}"))
}

fn may<T: DeserializeOwned>(object: &RawObject, name: &str) -> Result<Option<T>, String> {
    let Some(value) = object.get(name) else { return Ok(None) };
    serde_json::from_str(value.get()).map_err(|_| match name {
        "entity_ids" => "entity_ids is not a list of ids".to_owned(),
        "access_token" => "access_token is not a text".to_owned(),
        _ => format!("{name} is not a text of 1 to 255 printable characters"),
    })
}

/// Names the member that was probably meant, never the one that stands there.
fn unknown(name: &str) -> String {
    let meant = MEMBERS.iter().map(|member| (strsim::jaro_winkler(member, name), member));
    match meant.max_by(|a, b| a.0.total_cmp(&b.0)) {
        Some((likeness, member)) if likeness > 0.85 => {
            format!("has an unknown member; did you mean {member}?")
        }
        _ => format!("has an unknown member; known are {}", MEMBERS.join(", ")),
    }
}

fn refuse(mut faults: Faults) -> Failure {
    faults.sort_by_key(|(line, _)| *line);
    let mut message = String::from("nothing was imported:");
    for (line, why) in faults.iter().take(TOLD_MAX) {
        message.push_str(&format!("\nline {line}: {why}"));
    }
    if let Some(rest) = faults.len().checked_sub(TOLD_MAX).filter(|rest| *rest > 0) {
        message.push_str(&format!("\nand {rest} more lines"));
    }
    Failure::failed(message)
}
