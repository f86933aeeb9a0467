//! A bill: which connections are in it. A table with a column of connection ids, or a plain list of them.

use super::csv;
use std::collections::BTreeSet;
use std::fmt;

/// The largest bill read, in bytes.
pub const BYTES_MAX: u64 = 64 * 1024 * 1024;
/// The most columns that a message names.
const SHOWN_MAX: usize = 12;
/// How far down the heading is looked for.
const HEADING_ROWS_MAX: usize = 20;
/// What parts cells: RFC 4180's, that of spreadsheets where the comma is a decimal sign, and that of a paste.
const SEPARATORS: [char; 3] = [',', ';', '\t'];

/// Why a text is no bill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoBill {
    /// There is nothing in it.
    Empty,
    /// It has several columns, and none of connection ids.
    NoColumn(Vec<String>),
}

impl fmt::Display for NoBill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoBill::Empty => f.write_str("there is nothing in it"),
            NoBill::NoColumn(found) => write!(
                f,
                "it has no column connection_id; its first line with several cells has {}. Name the column with the connections' ids \
                 connection_id, or give a list with one id a line",
                found.join(", ")
            ),
        }
    }
}

impl std::error::Error for NoBill {}

/// The connection ids of a bill, each once.
///
/// # Errors
/// [`NoBill`]: it cannot be told which column has them.
pub fn connections(text: &str) -> Result<BTreeSet<String>, NoBill> {
    let mut first: Option<Vec<String>> = None;
    for separator in SEPARATORS {
        let rows = csv::read(text, separator);
        if rows.is_empty() {
            return Err(NoBill::Empty);
        }
        // Above its heading a bill may say whose it is and for when.
        for (at, row) in rows.iter().take(HEADING_ROWS_MAX).enumerate() {
            if let Some(column) = row.iter().position(|cell| is_heading(cell)) {
                return Ok(ids(rows.iter().skip(at + 1).filter_map(|row| row.get(column))));
            }
        }
        if let Some(row) = rows.into_iter().find(|row| row.len() > 1) {
            first.get_or_insert(row);
        }
    }
    match first {
        None => Ok(ids(csv::read(text, '\t').iter().filter_map(|row| row.first()))),
        Some(row) => {
            let shown = row.into_iter().take(SHOWN_MAX).map(|cell| format!("{:?}", cell.trim()));
            Err(NoBill::NoColumn(shown.collect()))
        }
    }
}

/// `connection_id`, `Connection ID`, `connectionId`.
fn is_heading(cell: &str) -> bool {
    let word: String = cell.chars().filter(char::is_ascii_alphanumeric).collect();
    word.eq_ignore_ascii_case("connectionid")
}

fn ids<'a>(cells: impl Iterator<Item = &'a String>) -> BTreeSet<String> {
    cells.map(|cell| cell.trim()).filter(|cell| !cell.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_column_is_found_by_its_name() {
        for bill in [
            "company,connection_id,amount\nAcme,c1,10\n\"B, Inc\",c2,20\n,,\nAcme,c1,5\n",
            "\u{feff}Connection ID;Amount\r\nc1;1,5\r\nc2;2,5\r\n",
            "amount\tconnectionId\n1\tc1\n2\t c2 \n",
            "connection_id\nc1\nc2",
            "c1\n\nc2\n",
            "Invoice 7\nNovember, 2026\n\ncompany,connection_id\nAcme,c1\nB,c2\n",
            "Invoice 7\nconnection_id\nc1\nc2\n",
        ] {
            assert_eq!(connections(bill), Ok(["c1", "c2"].map(str::to_owned).into()), "{bill}");
        }
        // A line that ends early has no id.
        assert_eq!(connections("a,connection_id\nx\ny,c1"), Ok(["c1".to_owned()].into()));
    }

    #[test]
    fn what_is_no_bill_says_what_is_missing() {
        assert_eq!(connections(" \n"), Err(NoBill::Empty));
        // Two columns and no heading: which of them has the ids cannot be told.
        let said = connections("Invoice 7\nAcme,c1\nB,c2\n").expect_err("no column").to_string();
        assert!(said.contains("\"Acme\", \"c1\""), "{said}");
        for bill in ["company,amount\nAcme,10", "company;amount\nAcme;10", "company\tamount\nAcme\t10"] {
            let said = connections(bill).expect_err("no column").to_string();
            assert!(
                said.contains("no column connection_id") && said.contains("\"company\", \"amount\""),
                "{said}"
            );
        }
    }
}
