//! Tables for people: columns as wide as their widest cell, two spaces between them, nothing behind the last.

use std::io::Write;

/// A column: its heading, and which side its cells keep to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Column {
    /// Words.
    Left(&'static str),
    /// Numbers.
    Right(&'static str),
}

/// Prints a table of words.
///
/// # Errors
/// The output went away.
pub(super) fn print<const N: usize>(
    headings: [&'static str; N],
    rows: impl IntoIterator<Item = [String; N]>,
    out: &mut dyn Write,
) -> std::io::Result<()> {
    print_columns(headings.map(Column::Left), rows, out)
}

/// Prints a table in which some columns are numbers.
///
/// # Errors
/// The output went away.
pub(super) fn print_columns<const N: usize>(
    columns: [Column; N],
    rows: impl IntoIterator<Item = [String; N]>,
    out: &mut dyn Write,
) -> std::io::Result<()> {
    let heading = |column: Column| match column {
        Column::Left(text) | Column::Right(text) => text.to_owned(),
    };
    let mut all = vec![columns.map(heading)];
    all.extend(rows);
    let widths: [usize; N] =
        std::array::from_fn(|at| all.iter().map(|row| row[at].chars().count()).max().unwrap_or(0));
    for row in &all {
        let cells: Vec<String> = row
            .iter()
            .zip(columns.iter().zip(widths))
            .map(|(cell, (column, width))| match column {
                Column::Left(_) => format!("{cell:<width$}"),
                Column::Right(_) => format!("{cell:>width$}"),
            })
            .collect();
        writeln!(out, "{}", cells.join("  ").trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_stand_below_each_other_by_characters_and_no_line_ends_in_spaces() {
        let mut out = Vec::new();
        let rows =
            [["é".to_owned(), "7".to_owned(), "x".to_owned()], ["abc".into(), "1234".into(), "".into()]];
        print_columns([Column::Left("A"), Column::Right("N"), Column::Left("LAST")], rows, &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "A       N  LAST\né       7  x\nabc  1234\n");
    }
}
