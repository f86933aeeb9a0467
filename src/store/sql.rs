//! One way to speak SQL to two databases. A statement is written once, with `?1` where a value goes, in the part of
//! SQL that `SQLite` and PostgreSQL share; only the tables themselves are declared twice.

use super::StoreError;
use super::postgres::PgTransaction;
use rusqlite::types::{ToSqlOutput, ValueRef};
use std::fmt;
use tokio_postgres::types::Type;

/// A transaction of the store, whichever it is. Used from blocking threads only.
pub enum Tx<'a> {
    /// Of the file.
    Sqlite(&'a rusqlite::Transaction<'a>),
    /// Of the server.
    Postgres(&'a PgTransaction<'a>),
}

/// A value on its way into a statement.
#[derive(Clone, Copy)]
pub enum Value<'a> {
    /// A number, a time, or a truth.
    Int(Option<i64>),
    /// Text.
    Text(Option<&'a str>),
    /// Bytes.
    Blob(Option<&'a [u8]>),
}

/// A value on its way out of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cell {
    /// Nothing.
    Null,
    /// A number, a time, or a truth.
    Int(i64),
    /// Text.
    Text(String),
    /// Bytes.
    Blob(Vec<u8>),
}

/// A row that a statement answered.
pub enum Record<'a> {
    /// Of the file.
    Sqlite(&'a rusqlite::Row<'a>),
    /// Of the server.
    Postgres(&'a tokio_postgres::Row),
}

/// What a cell can be read as.
pub trait Column: Sized {
    /// The value; `None` when the cell holds something else.
    fn of(cell: Cell) -> Option<Self>;
}

/// The values of a statement, in the order of their numbers.
macro_rules! values {
    ($($value:expr),* $(,)?) => { &[$($crate::store::sql::Value::from($value)),*] };
}
pub(crate) use values;

impl Tx<'_> {
    /// Carries a statement out and answers how many rows it concerned.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn execute(&self, sql: &str, values: &[Value<'_>]) -> Result<u64, StoreError> {
        match self {
            Tx::Sqlite(tx) => {
                let mut statement = tx.prepare_cached(sql)?;
                Ok(statement.execute(rusqlite::params_from_iter(values))? as u64)
            }
            Tx::Postgres(tx) => tx.execute(&dollars(sql), values),
        }
    }

    /// Shows each row of the answer to `look`, in order.
    ///
    /// # Errors
    /// [`StoreError`], that of `look` too.
    pub fn each<E: From<StoreError>>(
        &self,
        sql: &str,
        values: &[Value<'_>],
        mut look: impl FnMut(&Record<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        match self {
            Tx::Sqlite(tx) => {
                let mut statement = tx.prepare_cached(sql).map_err(StoreError::from)?;
                let mut rows =
                    statement.query(rusqlite::params_from_iter(values)).map_err(StoreError::from)?;
                while let Some(row) = rows.next().map_err(StoreError::from)? {
                    look(&Record::Sqlite(row))?;
                }
                Ok(())
            }
            Tx::Postgres(tx) => {
                let rows = tx.query(&dollars(sql), values)?;
                rows.iter().try_for_each(|row| look(&Record::Postgres(row)))
            }
        }
    }

    /// Shows each row of the answer to `look`, without holding all of them in memory. One at a time.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(super) fn stream(
        &self,
        sql: &str,
        mut look: impl FnMut(&Record<'_>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let Tx::Postgres(tx) = self else { return self.each(sql, &[], look) };
        tx.execute(&format!("DECLARE part NO SCROLL CURSOR FOR {sql}"), &[])?;
        loop {
            let rows = tx.query("FETCH 500 FROM part", &[])?;
            if rows.is_empty() {
                break tx.execute("CLOSE part", &[]).map(drop);
            }
            rows.iter().try_for_each(|row| look(&Record::Postgres(row)))?;
        }
    }

    /// Every row of the answer, read by `read`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn rows<T>(
        &self,
        sql: &str,
        values: &[Value<'_>],
        mut read: impl FnMut(&Record<'_>) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        let mut found = Vec::new();
        self.each(sql, values, |row| {
            found.push(read(row)?);
            Ok::<_, StoreError>(())
        })?;
        Ok(found)
    }

    /// The first row of the answer, read by `read`; `None` when there is none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn row<T>(
        &self,
        sql: &str,
        values: &[Value<'_>],
        mut read: impl FnMut(&Record<'_>) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        let mut found = None;
        self.each(sql, values, |row| {
            if found.is_none() {
                found = Some(read(row)?);
            }
            Ok::<_, StoreError>(())
        })?;
        Ok(found)
    }

    /// The one value that the statement answers.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when there is no row.
    pub fn value<T: Column>(&self, sql: &str, values: &[Value<'_>]) -> Result<T, StoreError> {
        self.row(sql, values, |row| row.get(0))?
            .ok_or_else(|| StoreError::Damaged("a row that every store has is not there".to_owned()))
    }
}

impl Record<'_> {
    /// The value of a column, by its place in the statement.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when it is not of that kind.
    pub fn get<T: Column>(&self, at: usize) -> Result<T, StoreError> {
        T::of(self.cell(at)?)
            .ok_or_else(|| StoreError::Damaged(format!("{} is of another kind", self.name(at))))
    }

    /// The same, whatever kind it is of.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] for kinds that no perch writes.
    pub fn cell(&self, at: usize) -> Result<Cell, StoreError> {
        match self {
            Record::Sqlite(row) => Ok(match row.get_ref(at)? {
                ValueRef::Null => Cell::Null,
                ValueRef::Integer(number) => Cell::Int(number),
                ValueRef::Text(text) => Cell::Text(
                    String::from_utf8(text.to_vec())
                        .map_err(|_| StoreError::Damaged(format!("{} is not UTF-8", self.name(at))))?,
                ),
                ValueRef::Blob(bytes) => Cell::Blob(bytes.to_vec()),
                ValueRef::Real(_) => return Err(self.strange(at)),
            }),
            Record::Postgres(row) => {
                let kind = row.columns().get(at).map(tokio_postgres::Column::type_);
                Ok(match kind {
                    Some(&Type::INT8) => row.try_get::<_, Option<i64>>(at)?.map_or(Cell::Null, Cell::Int),
                    Some(&Type::INT4) => {
                        row.try_get::<_, Option<i32>>(at)?.map_or(Cell::Null, |n| Cell::Int(n.into()))
                    }
                    Some(&Type::BOOL) => {
                        row.try_get::<_, Option<bool>>(at)?.map_or(Cell::Null, |b| Cell::Int(b.into()))
                    }
                    Some(&Type::TEXT) => row.try_get::<_, Option<String>>(at)?.map_or(Cell::Null, Cell::Text),
                    Some(&Type::BYTEA) => {
                        row.try_get::<_, Option<Vec<u8>>>(at)?.map_or(Cell::Null, Cell::Blob)
                    }
                    _ => return Err(self.strange(at)),
                })
            }
        }
    }

    fn strange(&self, at: usize) -> StoreError {
        StoreError::Damaged(format!("{} is of a kind that perch does not write", self.name(at)))
    }

    fn name(&self, at: usize) -> String {
        let name = match self {
            Record::Sqlite(row) => row.as_ref().column_name(at).ok(),
            Record::Postgres(row) => row.columns().get(at).map(tokio_postgres::Column::name),
        };
        name.unwrap_or("a column").to_owned()
    }
}

impl Cell {
    /// The same on its way into a statement. `kind` is of what column nothing is.
    pub fn value(&self, kind: Kind) -> Value<'_> {
        match (self, kind) {
            (Cell::Int(number), _) => Value::Int(Some(*number)),
            (Cell::Text(text), _) => Value::Text(Some(text)),
            (Cell::Blob(bytes), _) => Value::Blob(Some(bytes)),
            (Cell::Null, Kind::Int) => Value::Int(None),
            (Cell::Null, Kind::Text) => Value::Text(None),
            (Cell::Null, Kind::Blob) => Value::Blob(None),
        }
    }
}

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Numbers.
    Int,
    /// Text.
    Text,
    /// Bytes.
    Blob,
}

/// PostgreSQL's way to say where a value goes. No statement of perch has a question mark for anything else.
fn dollars(sql: &str) -> String {
    sql.replace('?', "$")
}

/// Without the values: they may be ids.
impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Value::Int(_) => "Int",
            Value::Text(_) => "Text",
            Value::Blob(_) => "Blob",
        })
    }
}

impl rusqlite::ToSql for Value<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Value::Int(number) => number.map_or(ValueRef::Null, ValueRef::Integer),
            Value::Text(text) => text.map_or(ValueRef::Null, |text| ValueRef::Text(text.as_bytes())),
            Value::Blob(bytes) => bytes.map_or(ValueRef::Null, ValueRef::Blob),
        }))
    }
}

macro_rules! into_value {
    ($kind:ident: $($from:ty => |$it:ident| $into:expr),* $(,)?) => {
        $(impl<'a> From<$from> for Value<'a> {
            fn from($it: $from) -> Self {
                Value::$kind($into)
            }
        })*
    };
}

into_value!(Int:
    i64 => |n| Some(n),
    u32 => |n| Some(n.into()),
    Option<i64> => |n| n,
);
into_value!(Text:
    &'a str => |text| Some(text),
    &'a String => |text| Some(text.as_str()),
    Option<&'a str> => |text| text,
    &'a Option<String> => |text| text.as_deref(),
);
into_value!(Blob:
    &'a [u8] => |bytes| Some(bytes),
    &'a Vec<u8> => |bytes| Some(bytes.as_slice()),
    Option<&'a [u8]> => |bytes| bytes,
);

impl<'a, const N: usize> From<&'a [u8; N]> for Value<'a> {
    fn from(bytes: &'a [u8; N]) -> Self {
        Value::Blob(Some(bytes))
    }
}

impl Column for i64 {
    fn of(cell: Cell) -> Option<Self> {
        match cell {
            Cell::Int(number) => Some(number),
            _ => None,
        }
    }
}

impl Column for u32 {
    fn of(cell: Cell) -> Option<Self> {
        i64::of(cell).and_then(|number| u32::try_from(number).ok())
    }
}

impl Column for bool {
    fn of(cell: Cell) -> Option<Self> {
        i64::of(cell).map(|number| number != 0)
    }
}

impl Column for String {
    fn of(cell: Cell) -> Option<Self> {
        match cell {
            Cell::Text(text) => Some(text),
            _ => None,
        }
    }
}

impl Column for Vec<u8> {
    fn of(cell: Cell) -> Option<Self> {
        match cell {
            Cell::Blob(bytes) => Some(bytes),
            _ => None,
        }
    }
}

impl<const N: usize> Column for [u8; N] {
    fn of(cell: Cell) -> Option<Self> {
        Vec::of(cell).and_then(|bytes| bytes.try_into().ok())
    }
}

impl<T: Column> Column for Option<T> {
    fn of(cell: Cell) -> Option<Self> {
        match cell {
            Cell::Null => Some(None),
            other => T::of(other).map(Some),
        }
    }
}
