//! `perch requests`: what became of calls, from the request ledger. Beside a running gateway or without one; it needs
//! neither the sealing key nor Finch's secrets.

mod print;

use super::exit::{Exit, Failure};
use super::output::Format;
use super::serve;
use crate::config::{self, Environ, Store};
use crate::policy::Class;
use crate::store::connections::Scope;
use crate::store::requests::{Found, LIMIT_MAX, Recorded, Requests, Search};
use crate::telemetry::clock::unix_now;
use crate::types::{
    AppName, CompanyId, ConnectionId, CustomerId, FinchRequestId, Product, RequestId, UnixMillis,
};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use indicatif::ProgressBar;
use std::io::{IsTerminal, Write};
use std::path::Path;

/// The most calls that are printed at once.
const PRINTED_MAX: i64 = 1_000_000;

/// Which calls, and how to print them. Conditions add up.
#[derive(Debug, clap::Args)]
pub struct RequestsArgs {
    /// Finch's id of an attempt, from `Finch-Request-ID`
    #[arg(long, value_name = "ID", value_parser = |text: &str| FinchRequestId::new(text))]
    pub finch_request_id: Option<FinchRequestId>,
    /// perch's id of the call, from `Perch-Request-Id`
    #[arg(long, value_name = "ID", value_parser = |text: &str| RequestId::new(text))]
    pub request_id: Option<RequestId>,
    /// Whom they were for
    #[arg(long, value_name = "ID", value_parser = |text: &str| CustomerId::new(text))]
    pub customer: Option<CustomerId>,
    /// Through which connection
    #[arg(long, value_name = "ID", value_parser = |text: &str| ConnectionId::new(text))]
    pub connection: Option<ConnectionId>,
    /// Finch's company
    #[arg(long, value_name = "ID", value_parser = |text: &str| CompanyId::new(text))]
    pub company: Option<CompanyId>,
    /// Which app called
    #[arg(long, value_name = "NAME", value_parser = |text: &str| AppName::new(text))]
    pub app: Option<AppName>,
    /// What they counted against
    #[arg(long, value_parser = product_words(), hide_possible_values = true)]
    pub product: Option<String>,
    /// What became of them
    #[arg(long, value_parser = class_words())]
    pub class: Option<Class>,
    /// Those that came in since then: 2h ago, or 2026-11-23T10:00:00Z
    #[arg(long, value_name = "WHEN")]
    pub since: Option<String>,
    /// Those that came in before then
    #[arg(long, value_name = "WHEN")]
    pub until: Option<String>,
    /// How many, the newest
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=PRINTED_MAX))]
    pub limit: i64,
    /// Show what happened in each, step by step
    #[arg(long)]
    pub steps: bool,
    /// How to print: for programs, one object a line
    #[arg(short = 'o', long = "output", value_enum, default_value_t = Format::Text)]
    pub output: Format,
}

fn class_words() -> impl TypedValueParser<Value = Class> {
    let words = Class::ALL.map(Class::as_str);
    PossibleValuesParser::new(words).map(|word| Class::parse(&word).unwrap_or(Class::Ok))
}

fn product_words() -> PossibleValuesParser {
    let words = Product::ALL.into_iter().map(Product::as_str);
    PossibleValuesParser::new(words.chain([crate::telemetry::UNKNOWN_PRODUCT]))
}

/// Runs the command.
///
/// # Errors
/// [`Failure`] with its exit code; exit code 1 when nothing is known of an id.
pub fn run(
    named: Option<&Path>,
    env: &Environ,
    args: &RequestsArgs,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let path = config::locate(named, env);
    let (store, application, environment) = config::load_place(path.as_deref(), env)
        .map_err(|problems| Failure { exit: Exit::BadConfiguration, message: problems.to_string() })?;
    let search = search_of(args, unix_now())?;
    serve::runtime()?.block_on(async {
        let Some(ledger) = Requests::look(&store, Scope { application, environment }).await? else {
            return Err(Failure::unavailable(format_args!(
                "there is no request ledger beside {}; the first start of a gateway makes it, unless ledger.keep is \"off\"",
                place(&store)
            )));
        };
        let shown = show(&ledger, search, args, out).await?;
        match (shown, &args.finch_request_id, &args.request_id) {
            (0, Some(id), _) => Err(none_of(&format!("Finch-Request-ID {id}"))),
            (0, None, Some(id)) => Err(none_of(&format!("Perch-Request-Id {id}"))),
            (0, None, None) if args.output == Format::Text => {
                Ok(writeln!(out, "the ledger has no such calls")?)
            }
            _ => Ok(()),
        }
    })
}

fn none_of(id: &str) -> Failure {
    Failure::failed(format_args!(
        "the ledger has no call with {id} that fits; calls are written within a second of their end and kept for ledger.keep"
    ))
}

fn place(store: &Store) -> String {
    match store {
        Store::Sqlite(path) => path.display().to_string(),
        Store::Postgres(server) => server.url.to_string(),
    }
}

fn search_of(args: &RequestsArgs, now: UnixMillis) -> Result<Search, Failure> {
    let moment =
        |name: &str, text: &Option<String>| match text.as_deref().map(|text| Search::moment(text, now)) {
            None => Ok(None),
            Some(Ok(at)) => Ok(Some(at)),
            Some(Err(why)) => Err(Failure { exit: Exit::Usage, message: format!("--{name} {why}") }),
        };
    Ok(Search {
        finch_request_id: args.finch_request_id.clone(),
        request_id: args.request_id.clone(),
        customer: args.customer.clone(),
        connection: args.connection.clone(),
        company: args.company.clone(),
        app: args.app.clone(),
        product: args.product.clone(),
        class: args.class,
        since: moment("since", &args.since)?,
        until: moment("until", &args.until)?,
        before: None,
        limit: LIMIT_MAX,
    })
}

/// Prints what is found, page by page, and answers how many calls that were.
async fn show(
    ledger: &Requests,
    mut search: Search,
    args: &RequestsArgs,
    out: &mut dyn Write,
) -> Result<usize, Failure> {
    let bar = match std::io::stderr().is_terminal() {
        true => ProgressBar::new_spinner().with_message("looking"),
        false => ProgressBar::hidden(),
    };
    let most = usize::try_from(args.limit).unwrap_or_default();
    let (mut calls, mut shown, mut unreadable): (Vec<Recorded>, _, _) = (Vec::new(), 0, 0);
    loop {
        let left = most - shown - calls.len();
        search.limit = u32::try_from(left).unwrap_or(LIMIT_MAX).min(LIMIT_MAX);
        let Found { calls: found, next, unreadable: more, .. } = ledger.search(&search).await?;
        unreadable += more;
        calls.extend(found);
        bar.tick();
        if args.output == Format::Json {
            shown += calls.len();
            print::json(&calls, args.steps, out)?;
            calls.clear();
        }
        match next {
            Some(_) if shown + calls.len() < most => search.before = next,
            _ => break,
        }
    }
    bar.finish_and_clear();
    if args.output == Format::Text {
        shown += calls.len();
        print::text(&calls, args.steps, out)?;
        if unreadable > 0 {
            writeln!(out, "{unreadable} calls cannot be read: they are damaged, or from a newer perch")?;
        }
    }
    Ok(shown)
}
