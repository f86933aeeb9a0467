//! Finds calls, newest first. Every search walks an index; how many calls it looks at is bounded, and when the bound ends
//! it, it says so and where to go on.

use super::record::Recorded;
use crate::config::parse_duration;
use crate::policy::Class;
use crate::store::StoreError;
use crate::store::connections::Scope;
use crate::store::sql::{Cell, Tx, Value, values};
use crate::types::{AppName, CompanyId, ConnectionId, CustomerId, FinchRequestId, RequestId, UnixMillis};

/// The most calls of one answer.
pub const LIMIT_MAX: u32 = 1000;

/// The most calls that are looked at for one answer where a condition has no index of its own. Some hundred milliseconds.
pub const LOOKED_MAX: u32 = 50_000;

/// Which calls are wanted: those for which everything holds that is set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Search {
    /// Finch's id of an attempt.
    pub finch_request_id: Option<FinchRequestId>,
    /// perch's id of the call.
    pub request_id: Option<RequestId>,
    /// Whom they were for.
    pub customer: Option<CustomerId>,
    /// Through which connection.
    pub connection: Option<ConnectionId>,
    /// Finch's company.
    pub company: Option<CompanyId>,
    /// Whose they were.
    pub app: Option<AppName>,
    /// What they counted against, or `unknown`.
    pub product: Option<String>,
    /// What became of them.
    pub class: Option<Class>,
    /// Those that came in then or later.
    pub since: Option<UnixMillis>,
    /// Those that came in before then.
    pub until: Option<UnixMillis>,
    /// Those after this one in the order of answers: the number of the last one seen.
    pub before: Option<i64>,
    /// How many; between 1 and [`LIMIT_MAX`].
    pub limit: u32,
}

impl Search {
    /// Reads a moment: so long ago (`2h`), or RFC 3339.
    ///
    /// # Errors
    /// What to write.
    pub fn moment(text: &str, now: UnixMillis) -> Result<UnixMillis, String> {
        let by_clock = UnixMillis::parse(text);
        by_clock.or_else(|| parse_duration(text).ok().map(|ago| now.minus(ago))).ok_or_else(|| {
            "is neither so long ago, such as 2h, nor a time, such as 2026-11-23T10:00:00Z".to_owned()
        })
    }
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Found {
    /// The calls, newest first.
    pub calls: Vec<Recorded>,
    /// Where to go on, for [`Search::before`]; nothing when there are no more.
    pub next: Option<i64>,
    /// Whether [`LOOKED_MAX`] ended the search before there were enough: older calls were not looked at.
    pub is_cut: bool,
    /// How many calls cannot be read: they are damaged, or from a newer perch.
    pub unreadable: u64,
}

/// Conditions, and their values by number.
#[derive(Clone, Default)]
struct Wanted<'a> {
    conditions: Vec<String>,
    values: Vec<Value<'a>>,
}

impl<'a> Wanted<'a> {
    /// A value's place in the statement.
    fn place(&mut self, value: impl Into<Value<'a>>) -> String {
        self.values.push(value.into());
        format!("?{}", self.values.len())
    }

    fn holds(&mut self, column: &str, sign: &str, value: impl Into<Value<'a>>) {
        let place = self.place(value);
        self.conditions.push(format!("{column} {sign} {place}"));
    }

    /// All of them, or one that always holds.
    fn text(&self) -> String {
        match self.conditions.is_empty() {
            true => "1 = 1".to_owned(),
            false => self.conditions.join(" AND "),
        }
    }
}

/// The conditions of a search. What leads is walked along an index; what it narrows is looked at one by one.
struct Plan<'a> {
    from: &'static str,
    leads: Wanted<'a>,
    narrows: Vec<(&'static str, Value<'a>)>,
    /// Whether few can satisfy what leads: an id names one call, or the few that shared a request.
    is_narrow: bool,
}

impl<'a> Plan<'a> {
    fn of(scope: &'a Scope, search: &'a Search) -> Self {
        let by_finch = search.finch_request_id.is_some();
        let by_name = search.request_id.is_some() && !by_finch;
        // The few rows that an id names are found apart and first: asked at once for the newest, SQLite, which keeps no
        // statistics here, would rather walk through all calls by time.
        let (from, name) = match (by_finch, by_name) {
            (true, _) => ("finch_request f CROSS JOIN request r", "r.request_id"),
            (false, true) => ("request f CROSS JOIN request r", "f.request_id"),
            (false, false) => ("request r", "r.request_id"),
        };
        let mut equal = Vec::new();
        let mut add = |column, value: Option<&'a str>| {
            equal.extend(value.map(|value| (column, Value::from(value))));
        };
        // Who narrows most leads.
        add("f.finch_request_id", search.finch_request_id.as_ref().map(FinchRequestId::as_str));
        add(name, search.request_id.as_ref().map(RequestId::as_str));
        add("r.connection_id", search.connection.as_ref().map(ConnectionId::as_str));
        add("r.customer", search.customer.as_ref().map(CustomerId::as_str));
        add("r.company_id", search.company.as_ref().map(CompanyId::as_str));
        let indexed = equal.len();
        let mut add = |column, value: Option<&'a str>| {
            equal.extend(value.map(|value| (column, Value::from(value))));
        };
        add("r.app", search.app.as_ref().map(AppName::as_str));
        add("r.product", search.product.as_deref());
        add("r.class", search.class.map(Class::as_str));
        let mut leads = Wanted::default();
        leads.holds("r.application", "=", scope.application.as_str());
        leads.holds("r.env", "=", scope.environment.as_str());
        // In this order: an id of Finch's names few, an application all.
        let is_narrow = by_finch || by_name;
        leads.conditions.extend(is_narrow.then(|| "r.seq = f.seq".to_owned()));
        let narrows = equal.split_off(indexed.min(1));
        for (column, value) in equal {
            leads.holds(column, "=", value);
        }
        if let Some(since) = search.since {
            leads.holds("r.ts", ">=", since.0);
        }
        if let Some(until) = search.until {
            leads.holds("r.ts", "<", until.0);
        }
        Self { from, leads, narrows, is_narrow }
    }
}

/// A search as a statement, with what it must not look beyond.
struct Statement<'a> {
    ask: String,
    values: Vec<Value<'a>>,
    /// The oldest call that is looked at, when there are more of them than may be.
    edge: Option<(i64, i64)>,
}

/// What a search becomes; nothing when nothing can be found.
fn statement<'a>(
    tx: &Tx<'_>,
    scope: &'a Scope,
    search: &'a Search,
    limit: u32,
) -> Result<Option<Statement<'a>>, StoreError> {
    let Plan { from, mut leads, narrows, is_narrow } = Plan::of(scope, search);
    if let Some(before) = search.before {
        let ts = tx.row("SELECT ts FROM request WHERE seq = ?1", values![before], |row| row.get::<i64>(0))?;
        // It went for its age, and what is older went before it.
        let Some(ts) = ts else { return Ok(None) };
        let (ts, seq) = (leads.place(ts), leads.place(before));
        leads.conditions.push(format!("r.ts <= {ts} AND (r.ts < {ts} OR r.seq < {seq})"));
    }
    let mut edge = None;
    if !narrows.is_empty() && !is_narrow {
        let (ask, values) = the_last_to_look_at(leads.clone());
        edge = tx.row(&ask, &values, |row| Ok((row.get(0)?, row.get(1)?)))?;
        if let Some((ts, seq)) = edge {
            let (ts, seq) = (leads.place(ts), leads.place(seq));
            leads.conditions.push(format!("r.ts >= {ts} AND (r.ts > {ts} OR r.seq >= {seq})"));
        }
    }
    let mut wanted = leads;
    for (column, value) in narrows {
        wanted.holds(column, "=", value);
    }
    let most = wanted.place(limit);
    let ask = format!(
        "SELECT r.seq, r.facts FROM {from} WHERE {} ORDER BY r.ts DESC, r.seq DESC LIMIT {most}",
        wanted.text()
    );
    Ok(Some(Statement { ask, values: wanted.values, edge }))
}

/// Carries a search out.
pub(super) fn run(tx: &Tx<'_>, scope: &Scope, search: &Search) -> Result<Found, StoreError> {
    let limit = search.limit.clamp(1, LIMIT_MAX);
    let Some(Statement { ask, values, edge }) = statement(tx, scope, search, limit)? else {
        return Ok(Found::default());
    };
    let (mut found, mut rows, mut last) = (Found::default(), 0, None);
    tx.each(&ask, &values, |row| {
        let seq = row.get::<i64>(0)?;
        (rows, last) = (rows + 1, Some(seq));
        match row.cell(1).ok().and_then(read) {
            Some(call) => found.calls.push(Recorded { seq, ..call }),
            None => found.unreadable += 1,
        }
        Ok::<_, StoreError>(())
    })?;
    if rows == limit {
        found.next = last;
    } else if let Some((_, seq)) = edge {
        (found.is_cut, found.next) = (true, Some(seq));
    }
    Ok(found)
}

/// Finds the oldest call that is looked at; no row when there are no more of them than may be.
fn the_last_to_look_at(mut leads: Wanted<'_>) -> (String, Vec<Value<'_>>) {
    let skipped = leads.place(LOOKED_MAX - 1);
    let ask = format!(
        "SELECT r.ts, r.seq FROM request r WHERE {} ORDER BY r.ts DESC, r.seq DESC LIMIT 1 OFFSET {skipped}",
        leads.text()
    );
    (ask, leads.values)
}

fn read(cell: Cell) -> Option<Recorded> {
    match cell {
        Cell::Text(facts) => serde_json::from_str(&facts).ok(),
        _ => None,
    }
}

/// The statements of a search, for a look at how they are carried out.
#[cfg(test)]
pub(super) fn statements<'a>(
    tx: &Tx<'_>,
    scope: &'a Scope,
    search: &'a Search,
) -> Result<Vec<(String, Vec<Value<'a>>)>, StoreError> {
    let plan = Plan::of(scope, search);
    let mut all = Vec::new();
    all.extend((!plan.is_narrow).then(|| the_last_to_look_at(plan.leads)));
    all.extend(statement(tx, scope, search, 50)?.map(|found| (found.ask, found.values)));
    Ok(all)
}
