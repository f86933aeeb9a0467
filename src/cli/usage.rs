//! `perch usage`: what Finch may bill for a month, and a bill held against it.

use super::exit::Failure;
use super::serve;
use super::table::{self, Column};
use crate::app;
use crate::config::{Config, Environ};
use crate::engine;
use crate::policy::usage::{Company, Flag, Line, Month, Usage, bill};
use crate::store::requests::Requests;
use crate::telemetry::clock::unix_now;
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// A month's use.
#[derive(Debug, clap::Args)]
pub struct UsageArgs {
    /// The month in UTC, such as 2026-11; else the one that runs
    #[arg(long, value_parser = Month::parse)]
    pub month: Option<Month>,
    /// Finch's bill: a CSV file with a column `connection_id`, or a list of ids, one a line
    #[arg(long, value_name = "FILE")]
    pub bill: Option<PathBuf>,
    /// How to print
    #[arg(short = 'o', long = "output", value_enum, default_value_t = UsageFormat::Table)]
    pub output: UsageFormat,
}

/// For people, spreadsheets or programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum UsageFormat {
    /// For people
    #[value(alias = "text")]
    Table,
    /// For spreadsheets: a line for each connection
    Csv,
    /// For programs
    Json,
}

/// Runs the command.
///
/// # Errors
/// [`Failure`] with its exit code. A bill that disagrees is no failure.
pub fn run(
    named: Option<&Path>,
    env: &Environ,
    args: &UsageArgs,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let config = serve::load(named, env)?;
    let bill = args.bill.as_deref().map(read_bill).transpose()?;
    let now = unix_now();
    let month = args.month.unwrap_or_else(|| Month::of(now));
    let usage = serve::runtime()?.block_on(async {
        let vault = app::open_vault(&config, false).await?;
        let requests = ledger(&config).await?;
        let requests = (requests.as_ref(), config.apps.pass_through);
        Ok::<_, Failure>(engine::usage(&vault, requests, month, bill.as_ref(), now).await?)
    })?;
    match args.output {
        UsageFormat::Table => print(&usage, out)?,
        UsageFormat::Csv => out.write_all(usage.to_csv().as_bytes())?,
        UsageFormat::Json => {
            serde_json::to_writer(&mut *out, &usage).map_err(Failure::failed)?;
            writeln!(out)?;
        }
    }
    Ok(())
}

/// What is kept of calls; none where nothing is kept any more, whatever is there from earlier.
pub(super) async fn ledger(config: &Config) -> Result<Option<Requests>, Failure> {
    if config.ledger.keep.is_none() {
        return Ok(None);
    }
    Requests::look(&config.vault.store, app::scope(config)).await.map_err(Failure::unavailable)
}

fn read_bill(path: &Path) -> Result<BTreeSet<String>, Failure> {
    let failed =
        |why: &dyn std::fmt::Display| Failure::failed(format_args!("the bill {}: {why}", path.display()));
    let file = std::fs::File::open(path).map_err(|why| failed(&why))?;
    let mut bytes = Vec::new();
    file.take(bill::BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|why| failed(&why))?;
    if bytes.len() as u64 > bill::BYTES_MAX {
        return Err(failed(&"it is larger than 64 MiB: not a bill"));
    }
    let text = String::from_utf8(bytes).map_err(|_| failed(&"it is no text in UTF-8; export it as CSV"))?;
    bill::connections(&text).map_err(|why| failed(&why))
}

fn print(usage: &Usage, out: &mut dyn Write) -> std::io::Result<()> {
    let columns = [
        Column::Left("COMPANY"),
        Column::Left("CUSTOMER"),
        Column::Left("CONNECTION"),
        Column::Left("PROVIDER"),
        Column::Left("ACTIVE"),
        Column::Left("BILLED"),
        Column::Right("CALLS"),
        Column::Right("ATTEMPTS"),
        Column::Left("LOOK AT"),
    ];
    table::print_columns(columns, usage.connections.iter().map(|line| row_of(line, usage.has_calls)), out)?;
    writeln!(out)?;
    let columns = ["COMPANY", "ACTIVE", "BILLED", "CALLS"];
    table::print_columns(
        [
            Column::Left(columns[0]),
            Column::Right(columns[1]),
            Column::Right(columns[2]),
            Column::Right(columns[3]),
        ],
        usage.companies.iter().map(|company| row_of_company(company, usage.has_calls)),
        out,
    )?;
    writeln!(out)?;
    let total = &usage.total;
    let billed = total.billed.map(|billed| format!(", {billed} billed")).unwrap_or_default();
    writeln!(out, "{}: {} active connections{billed}, {} calls", usage.month, total.active, total.calls)?;
    if !usage.has_calls {
        writeln!(out, "no calls are known: there is no request ledger (ledger.keep)")?;
    }
    known(usage, out)?;
    if !usage.is_over {
        writeln!(out, "the month is not over")?;
    }
    for (flag, count) in Flag::ALL.iter().filter_map(|flag| Some((flag, total.flags.get(flag.as_str())?))) {
        writeln!(out, "{count} {}: {}", flag.as_str(), meaning(*flag))?;
    }
    Ok(())
}

/// Of which calls nothing is known.
fn known(usage: &Usage, out: &mut dyn Write) -> std::io::Result<()> {
    if !usage.has_calls {
        return Ok(());
    }
    match usage.calls_since {
        None => writeln!(out, "no call is known yet: nothing is called unused")?,
        Some(since) if since > usage.month.begin() => {
            writeln!(out, "calls are known since {since}: what is older is not called unused")?;
        }
        Some(_) => {}
    }
    if usage.has_unnamed_calls {
        writeln!(
            out,
            "apps may bring tokens (apps.pass_through), and such calls name no connection: nothing is called unused"
        )?;
    }
    Ok(())
}

const fn meaning(flag: Flag) -> &'static str {
    match flag {
        Flag::Unused => {
            "billable, and no app called for it; \"perch connections disconnect\" ends the billing"
        }
        Flag::Unknown => "billed or called for, and not in the vault; ask Finch, or import it",
        Flag::NotBilled => "active here, and not in the bill",
        Flag::DisconnectedButBilled => {
            "disconnected before the month, and billed; show Finch disconnected_at"
        }
        Flag::ConnectedLaterButBilled => {
            "billed before perch knew it; an import may have come later than Finch Connect"
        }
    }
}

fn row_of(line: &Line, has_calls: bool) -> [String; 9] {
    let or_dash = |text: Option<&str>| text.unwrap_or("-").to_owned();
    let yes_no = |flag: bool| if flag { "yes" } else { "no" }.to_owned();
    let count = |n: u64| if has_calls { n.to_string() } else { "-".to_owned() };
    let flags: Vec<&str> = line.flags.iter().map(|flag| flag.as_str()).collect();
    // A bill is somebody else's text.
    let id: String = line.connection_id.chars().filter(|c| !c.is_control()).collect();
    [
        or_dash(line.company_id.as_ref().map(|id| id.as_str())),
        or_dash(line.customer.as_ref().map(|id| id.as_str())),
        id,
        or_dash(line.provider.as_ref().map(|id| id.as_str())),
        yes_no(line.is_active),
        line.is_billed.map_or_else(|| "-".to_owned(), yes_no),
        count(line.calls),
        count(line.attempts),
        flags.join(" "),
    ]
}

fn row_of_company(company: &Company, has_calls: bool) -> [String; 4] {
    [
        company.company_id.as_ref().map_or("-", |id| id.as_str()).to_owned(),
        company.active.to_string(),
        company.billed.map_or_else(|| "-".to_owned(), |billed| billed.to_string()),
        if has_calls { company.calls.to_string() } else { "-".to_owned() },
    ]
}
