//! How a forecast reads.

use super::{Args, Told};
use crate::cli::table::Column::{Left, Right};
use crate::cli::table::print_columns;
use crate::config::Limits;
use std::io::{self, Write};

pub(super) fn print(told: &Told, args: &Args, limits: &Limits, out: &mut dyn Write) -> io::Result<()> {
    table(told, args, out)?;
    writeln!(out)?;
    binds(told, out)?;
    batching(told, out)?;
    cadence(told, out)?;
    asks(told, out)?;
    if told.products.iter().any(|row| row.requests > told.waiting_max) {
        writeln!(
            out,
            "at once   have no more than {} calls of it waiting: of more, the last wait longer than limits.wait.batch \
             ({}) and are refused",
            told.waiting_max,
            spoken(limits.wait.batch.as_secs_f64()),
        )?;
    }
    if args.check {
        writeln!(
            out,
            "SIMULATED is a run of the limiter over each product's calls, in virtual time; - is too long to run"
        )?;
    }
    Ok(())
}

fn table(told: &Told, args: &Args, out: &mut dyn Write) -> io::Result<()> {
    let per = |limit: u32, window: f64| format!("{limit} in {}", spoken(window));
    let total: u64 = told.products.iter().map(|row| row.one_by_one_requests).sum();
    let rows = told.products.iter().map(|row| {
        [
            row.product.to_owned(),
            row.requests.to_string(),
            per(row.limit, told.window_seconds),
            spoken(row.seconds),
            percent(row.quota_percent),
            row.one_by_one_requests.to_string(),
            spoken(row.one_by_one_seconds),
            row.checked_seconds.map_or_else(|| "-".to_owned(), spoken),
        ]
    });
    let all = [
        "all together".to_owned(),
        told.address.requests.to_string(),
        per(told.address.limit, told.address.window_seconds),
        spoken(told.seconds),
        percent(told.address.quota_percent),
        total.to_string(),
        spoken(told.one_by_one_seconds),
        String::new(),
    ];
    let rows = rows.chain([all]);
    let [product, requests, limit, alone, quota, apart, apart_takes] = [
        Left("PRODUCT"),
        Right("REQUESTS"),
        Right("LIMIT"),
        Right("ALONE"),
        Right("OF QUOTA"),
        Right("ONE BY ONE"),
        Right("TAKES"),
    ];
    match args.check {
        true => print_columns(
            [product, requests, limit, alone, quota, apart, apart_takes, Right("SIMULATED")],
            rows,
            out,
        ),
        false => print_columns(
            [product, requests, limit, alone, quota, apart, apart_takes],
            rows.map(|[a, b, c, d, e, f, g, _]| [a, b, c, d, e, f, g]),
            out,
        ),
    }
}

fn binds(told: &Told, out: &mut dyn Write) -> io::Result<()> {
    let takes = spoken(told.seconds);
    let customers = told.customers;
    match told.binds {
        None => writeln!(out, "takes     {takes} for {customers} customers; no limit binds"),
        Some("egress-ip") => writeln!(
            out,
            "takes     {takes} for {customers} customers, side by side; the address binds: {} requests in {}, all \
             products together",
            told.address.limit,
            spoken(told.address.window_seconds),
        ),
        Some(product) => {
            writeln!(out, "takes     {takes} for {customers} customers, side by side; {product} binds")
        }
    }
}

fn batching(told: &Told, out: &mut dyn Write) -> io::Result<()> {
    let (now, apart, best) =
        (spoken(told.seconds), spoken(told.one_by_one_seconds), spoken(told.at_best_seconds));
    if told.at_best_seconds < told.seconds {
        writeln!(
            out,
            "batching  it would take {best} instead of {now} with as many ids in one request and as large pages as Finch \
             takes"
        )
    } else if told.one_by_one_seconds > told.seconds {
        writeln!(
            out,
            "batching  {now} instead of {apart}: many ids in one request and large pages, not one id at a time and \
             Finch's page of 100"
        )
    } else {
        writeln!(out, "batching  changes nothing here")
    }
}

fn cadence(told: &Told, out: &mut dyn Write) -> io::Result<()> {
    let most = told.products.iter().max_by(|a, b| a.quota_percent.total_cmp(&b.quota_percent));
    let Some(most) = most else { return Ok(()) };
    writeln!(
        out,
        "cadence   every {} it takes {} of the quota for {}, and less of any other",
        spoken(told.every_seconds),
        percent(most.quota_percent),
        most.product,
    )
}

fn asks(told: &Told, out: &mut dyn Write) -> io::Result<()> {
    let goal = told.within_seconds.unwrap_or(told.every_seconds).min(told.every_seconds);
    if told.fits {
        return writeln!(out, "ask       nothing: it is done within {}", spoken(goal));
    }
    let mut asks: Vec<String> = told
        .products
        .iter()
        .filter_map(|row| {
            let (has, window) = (row.limit, spoken(told.window_seconds));
            Some(format!("{} requests in {window} for {} (now {has})", row.ask_for?, row.product))
        })
        .collect();
    asks.extend(told.address.ask_for.map(|limit| {
        let (has, window) = (told.address.limit, spoken(told.address.window_seconds));
        format!("{limit} requests in {window} for the address (limits.ip.requests is {has}), or spread it over more addresses")
    }));
    if asks.is_empty() {
        return writeln!(
            out,
            "ask       no limit brings it within {}: Finch itself takes longer",
            spoken(goal)
        );
    }
    writeln!(out, "ask       Finch, to be done within {}:", spoken(goal))?;
    asks.iter().try_for_each(|ask| writeln!(out, "          {ask}"))
}

fn percent(percent: f64) -> String {
    match percent {
        p if p >= 10.0 => format!("{p:.0} %"),
        p => format!("{p:.1} %"),
    }
}

/// A span as people say it: two units at most.
fn spoken(seconds: f64) -> String {
    if seconds < 9.95 {
        return format!("{seconds:.1} s").replace(".0 s", " s");
    }
    // A float is cut at the bounds of a number.
    let whole = seconds.round() as u64;
    let (large, small, names) = match whole {
        0..60 => return format!("{whole} s"),
        60..3600 => (whole / 60, whole % 60, ["min", "s"]),
        3600..172_800 => (whole / 3600, whole % 3600 / 60, ["h", "min"]),
        _ => (whole / 86_400, whole % 86_400 / 3600, ["d", "h"]),
    };
    match small {
        0 => format!("{large} {}", names[0]),
        _ => format!("{large} {} {small} {}", names[0], names[1]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_told_in_two_units_at_most() {
        for (seconds, told) in [
            (0.0, "0 s"),
            (0.51, "0.5 s"),
            (9.96, "10 s"),
            (59.4, "59 s"),
            (60.0, "1 min"),
            (147.1, "2 min 27 s"),
            (3_600.0, "1 h"),
            (37_500.0, "10 h 25 min"),
            (86_400.0, "24 h"),
            (180_000.0, "2 d 2 h"),
        ] {
            assert_eq!(spoken(seconds), told);
        }
    }
}
