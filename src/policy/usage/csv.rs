//! CSV as RFC 4180 has it. What is written is safe to open in a spreadsheet: no cell is a formula.

/// A record, with the line break behind it.
pub fn row<'a>(cells: impl IntoIterator<Item = &'a str>) -> String {
    let cells: Vec<String> = cells.into_iter().map(cell).collect();
    cells.join(",") + "\r\n"
}

/// A cell. One that a spreadsheet would calculate is made a text by an apostrophe.
fn cell(text: &str) -> String {
    let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let text = if is_formula { format!("'{text}") } else { text.to_owned() };
    match text.contains(['"', ',', '\r', '\n', '\'']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text,
    }
}

/// The records of a text whose cells `separator` parts. A quote that is not closed ends with the text.
pub fn read(text: &str, separator: char) -> Vec<Vec<String>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (mut rows, mut row, mut cell, mut is_quoted) = (Vec::new(), Vec::new(), String::new(), false);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if is_quoted && chars.peek() == Some(&'"') => cell.extend(chars.next()),
            '"' if is_quoted => is_quoted = false,
            '"' if cell.is_empty() => is_quoted = true,
            c if is_quoted => cell.push(c),
            c if c == separator => row.push(std::mem::take(&mut cell)),
            '\r' if chars.peek() == Some(&'\n') => {}
            '\n' | '\r' => {
                row.push(std::mem::take(&mut cell));
                rows.push(std::mem::take(&mut row));
            }
            c => cell.push(c),
        }
    }
    if !cell.is_empty() || !row.is_empty() {
        row.push(cell);
        rows.push(row);
    }
    rows.retain(|row| row.iter().any(|cell| !cell.trim().is_empty()));
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_where_they_must_be() {
        assert_eq!(row(["a", "", "b c"]), "a,,b c\r\n");
        assert_eq!(row(["a,b", "say \"x\"", "two\nlines"]), "\"a,b\",\"say \"\"x\"\"\",\"two\nlines\"\r\n");
    }

    #[test]
    fn no_cell_is_a_formula() {
        for text in ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "=HYPERLINK(\"http://x\")"] {
            let written = row([text]);
            assert!(written.starts_with("\"'"), "{written}");
            let read = read(&written, ',');
            assert_eq!(read, [[format!("'{text}")]]);
        }
        assert_eq!(row(["a=1"]), "a=1\r\n");
    }

    #[test]
    fn what_is_written_is_read_again() {
        let cells = ["", "a", "a,b", "\"", "\"\"", "x\r\ny", "é;"];
        assert_eq!(read(&row(cells), ','), [cells.map(str::to_owned)]);
        assert_eq!(read("\u{feff}a;b\n\n1;2", ';'), [["a", "b"], ["1", "2"]]);
        assert_eq!(read("a,b\rc,d\r", ','), [["a", "b"], ["c", "d"]]);
        assert_eq!(read("a,\"open", ','), [["a", "open"]]);
        assert_eq!(read(" \n\t\n", ','), Vec::<Vec<String>>::new());
    }
}
