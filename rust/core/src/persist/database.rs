//! The `SQLite` file: tables of numbered, checksummed records.

use super::lock::suffixed;
use crate::{Error, Result};
use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, params};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Marks a `SQLite` file as one of ours ("nhit").
const APPLICATION_ID: i32 = 0x6e68_6974;
/// Step `n` takes a file from version `n` to `n + 1`; the number of steps is the present version.
const MIGRATIONS: [&str; 2] = [
    "CREATE TABLE record (number INTEGER PRIMARY KEY, data BLOB NOT NULL) STRICT",
    "CREATE TABLE judgement (number INTEGER PRIMARY KEY, data BLOB NOT NULL) STRICT",
];
/// Bytes of a record's checksum, in front of it.
const CHECKSUM: usize = 8;

/// What a record is about. Numbers rise over all tables together and are never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    /// A cached answer.
    Entry,
    /// What somebody said of a hit.
    Judgement,
}

impl Table {
    const ALL: [Self; 2] = [Self::Entry, Self::Judgement];

    fn name(self) -> &'static str {
        match self {
            Self::Entry => "record",
            Self::Judgement => "judgement",
        }
    }

    /// The first version of the file that has it.
    fn since(self) -> usize {
        self as usize + 1
    }
}

/// A record as it is read.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    /// What it is about.
    pub table: Table,
    /// Its number.
    pub number: u64,
    /// Its bytes, as they were written.
    pub data: &'a [u8],
}

/// What reading a file brought to light.
#[derive(Debug, Default)]
pub struct Loaded {
    /// A number larger than that of any record.
    pub next: u64,
    /// Records whose checksum did not fit; they have been dropped, unless the file was only looked at.
    pub damaged: usize,
    /// Why the file could not be read to its end.
    pub broken: Option<String>,
    /// Where it was moved for that reason.
    pub set_aside: Option<PathBuf>,
}

/// An open file.
#[derive(Debug)]
pub(super) struct Database {
    connection: Connection,
    path: PathBuf,
    version: usize,
}

/// Reads the file at `path`, each record to `each`, and changes nothing; another process may be writing it.
pub(super) fn look(path: &Path, each: &mut dyn FnMut(Row<'_>)) -> Result<Loaded> {
    std::fs::metadata(path).map_err(|source| Error::Io { path: path.to_owned(), source })?;
    let database = Database::connect_to_look(path)?;
    let mut loaded = Loaded::default();
    let mut damaged = Vec::new();
    loaded.broken = match database.read(each, &mut damaged, &mut loaded.next) {
        Ok(()) => None,
        Err(Error::Corrupt { reason, .. }) => Some(reason),
        Err(other) => return Err(other),
    };
    loaded.damaged = damaged.len();
    Ok(loaded)
}

impl Database {
    /// Opens or makes the file and reads all of it, each record to `each`. A damaged one is set aside and begun anew with
    /// what could be read.
    pub(super) fn open(path: &Path, each: &mut dyn FnMut(Row<'_>)) -> Result<(Self, Loaded)> {
        let mut loaded = Loaded::default();
        let mut damaged = Vec::new();
        let mut database = match Self::connect(path) {
            Err(Error::Corrupt { reason, .. }) => return Self::begin_anew(path, None, reason, loaded),
            connected => connected?,
        };
        let mut read = database.read(each, &mut damaged, &mut loaded.next);
        loaded.damaged = damaged.len();
        if read.is_ok() && !damaged.is_empty() {
            read = database.apply(|batch| damaged.iter().try_for_each(|(table, at)| batch.delete(*table, *at)));
        }
        match read {
            Err(Error::Corrupt { reason, .. }) => Self::begin_anew(path, Some(database), reason, loaded),
            read => read.map(|()| (database, loaded)),
        }
    }

    /// Sets a damaged file aside, and begins a new one with what can be read of it.
    fn begin_anew(path: &Path, old: Option<Self>, reason: String, mut loaded: Loaded) -> Result<(Self, Loaded)> {
        let mut kept: Vec<(Table, u64, Vec<u8>)> = Vec::new();
        if let Some(old) = old {
            let mut keep = |row: Row<'_>| kept.push((row.table, row.number, row.data.to_vec()));
            drop(old.read(&mut keep, &mut Vec::new(), &mut 0)); // as far as it goes
        }
        loaded.broken = Some(reason);
        loaded.set_aside = Some(set_aside(path)?);
        let mut database = Self::connect(path)?;
        database.apply(|batch| kept.iter().try_for_each(|(table, number, data)| batch.put(*table, *number, data)))?;
        Ok((database, loaded))
    }

    /// A connection that writes nothing. A file that was left in write-ahead mode on a medium that cannot be written has
    /// nobody who could change it, and is read as it is.
    fn connect_to_look(path: &Path) -> Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
        let explain = |error| explain(path, &error);
        let connect = |suffix: &str| {
            let connection = Connection::open_with_flags(uri(path, suffix), flags)?;
            connection.busy_timeout(Duration::from_secs(2))?;
            connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
            Ok(connection)
        };
        let connection = connect("").or_else(|error: rusqlite::Error| {
            let alone = !suffixed(path, "-wal").exists();
            if alone && error.sqlite_error_code() == Some(ErrorCode::CannotOpen) {
                connect("?immutable=1")
            } else {
                Err(error)
            }
        });
        let connection = connection.map_err(explain)?;
        let version = version(&connection, path)?;
        if version == 0 {
            return Err(refused(path, "it is empty: open it for writing once"));
        }
        Ok(Self { connection, path: path.to_owned(), version })
    }

    fn connect(path: &Path) -> Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let explain = |error| explain(path, &error);
        let mut connection = Connection::open_with_flags(path, flags).map_err(explain)?;
        connection.busy_timeout(Duration::from_secs(2)).map_err(explain)?;
        // WAL: a commit appends; FULL: it is on the disk when it returns. Readers of other processes are not blocked.
        connection.pragma_update(None, "journal_mode", "WAL").map_err(explain)?;
        connection.pragma_update(None, "synchronous", "FULL").map_err(explain)?;
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL").map_err(explain)?;
        let done = version(&connection, path)?;
        let change = connection.transaction().map_err(explain)?;
        for step in &MIGRATIONS[done..] {
            change.execute_batch(step).map_err(explain)?;
        }
        change.pragma_update(None, "application_id", APPLICATION_ID).map_err(explain)?;
        change.pragma_update(None, "user_version", MIGRATIONS.len() as i64).map_err(explain)?;
        change.commit().map_err(explain)?;
        Ok(Self { connection, path: path.to_owned(), version: MIGRATIONS.len() })
    }

    /// Reads every record, as of one moment, table by table in the order of their numbers. `damaged` takes those whose
    /// checksum does not fit; `next` becomes larger than any number. One unreadable table does not keep the others.
    fn read(&self, each: &mut dyn FnMut(Row<'_>), damaged: &mut Vec<(Table, i64)>, next: &mut u64) -> Result<()> {
        let moment = self.connection.unchecked_transaction().map_err(|error| explain(&self.path, &error))?;
        let mut outcome = Ok(());
        for table in Table::ALL.into_iter().filter(|table| table.since() <= self.version) {
            let read = self.read_table(table, each, damaged, next);
            outcome = outcome.and(read);
        }
        drop(moment);
        outcome
    }

    fn read_table(
        &self,
        table: Table,
        each: &mut dyn FnMut(Row<'_>),
        damaged: &mut Vec<(Table, i64)>,
        next: &mut u64,
    ) -> Result<()> {
        let explain = |error| explain(&self.path, &error);
        let name = table.name();
        let mut select =
            self.connection.prepare(&format!("SELECT number, data FROM {name} ORDER BY number")).map_err(explain)?;
        let mut rows = select.query([]).map_err(explain)?;
        while let Some(row) = rows.next().map_err(explain)? {
            let at: i64 = row.get(0).map_err(explain)?;
            let stored = row.get_ref(1).map_err(explain)?;
            match (u64::try_from(at), stored.as_blob().ok().and_then(|stored| unseal(at, stored))) {
                (Ok(number), Some(data)) => {
                    *next = (*next).max(number + 1);
                    each(Row { table, number, data });
                }
                _ => damaged.push((table, at)),
            }
        }
        Ok(())
    }

    /// Makes changes, all or none; they are on the disk when this returns.
    pub(super) fn apply(&mut self, change: impl FnOnce(&Batch<'_>) -> rusqlite::Result<()>) -> Result<()> {
        let path = &self.path;
        let explain = |error| explain(path, &error);
        let batch = Batch(self.connection.transaction().map_err(explain)?);
        change(&batch).map_err(explain)?;
        batch.0.commit().map_err(explain)
    }

    /// Gives unused pages back to the file system, a few at a time.
    pub(super) fn tidy(&self) -> Result<()> {
        self.connection.execute_batch("PRAGMA incremental_vacuum(64)").map_err(|error| explain(&self.path, &error))
    }
}

/// Changes that are made together.
pub(super) struct Batch<'a>(Transaction<'a>);

impl Batch<'_> {
    pub(super) fn put(&self, table: Table, number: u64, data: &[u8]) -> rusqlite::Result<()> {
        let sealed = seal(number.cast_signed(), data);
        let insert = match table {
            Table::Entry => "INSERT OR REPLACE INTO record VALUES (?1, ?2)",
            Table::Judgement => "INSERT OR REPLACE INTO judgement VALUES (?1, ?2)",
        };
        self.0.prepare_cached(insert)?.execute(params![number.cast_signed(), sealed]).map(drop)
    }

    pub(super) fn remove(&self, table: Table, number: u64) -> rusqlite::Result<()> {
        self.delete(table, number.cast_signed())
    }

    fn delete(&self, table: Table, number: i64) -> rusqlite::Result<()> {
        let delete = match table {
            Table::Entry => "DELETE FROM record WHERE number = ?1",
            Table::Judgement => "DELETE FROM judgement WHERE number = ?1",
        };
        self.0.prepare_cached(delete)?.execute([number]).map(drop)
    }

    pub(super) fn clear(&self) -> rusqlite::Result<()> {
        self.0.execute_batch("DELETE FROM record; DELETE FROM judgement")
    }
}

/// The version of a file of ours; 0 for one that is empty.
fn version(connection: &Connection, path: &Path) -> Result<usize> {
    let explain = |error| explain(path, &error);
    let application: i32 = connection.pragma_query_value(None, "application_id", |row| row.get(0)).map_err(explain)?;
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(explain)?;
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(explain)?;
    let ours = application == APPLICATION_ID || (application == 0 && version == 0 && tables == 0);
    if !ours {
        return Err(refused(path, "it is a SQLite file of another program: choose another path"));
    }
    let version = usize::try_from(version).unwrap_or(usize::MAX);
    if version > MIGRATIONS.len() {
        return Err(refused(path, "it was written by a newer version of nearhit: upgrade, or choose another path"));
    }
    Ok(version)
}

/// `path` in the form that takes parameters.
fn uri(path: &Path, parameters: &str) -> PathBuf {
    let mut uri = OsString::from("file:");
    for part in path.as_os_str().as_encoded_bytes() {
        match part {
            b'%' => uri.push("%25"),
            b'?' => uri.push("%3f"),
            b'#' => uri.push("%23"),
            byte if byte.is_ascii() => uri.push(char::from(*byte).encode_utf8(&mut [0; 4])),
            byte => uri.push(format!("%{byte:02x}")),
        }
    }
    uri.push(parameters);
    uri.into()
}

fn checksum(number: i64, data: &[u8]) -> [u8; CHECKSUM] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&number.to_le_bytes());
    hasher.update(data);
    let mut sum = [0; CHECKSUM];
    sum.copy_from_slice(&hasher.finalize().as_bytes()[..CHECKSUM]);
    sum
}

/// The record as it is written: its checksum, then its bytes. The number counts too, so that no record passes for another.
fn seal(number: i64, data: &[u8]) -> Vec<u8> {
    [checksum(number, data).as_slice(), data].concat()
}

fn unseal(number: i64, stored: &[u8]) -> Option<&[u8]> {
    let (sum, data) = stored.split_at_checked(CHECKSUM)?;
    (checksum(number, data) == sum).then_some(data)
}

/// Moves the file and its companions out of the way; returns its new name.
fn set_aside(path: &Path) -> Result<PathBuf> {
    let stamp = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    let aside = suffixed(path, &format!(".damaged-{stamp}"));
    std::fs::rename(path, &aside).map_err(|source| Error::Io { path: path.to_owned(), source })?;
    for companion in ["-wal", "-shm"] {
        let beside = suffixed(path, companion);
        if beside.exists() {
            std::fs::rename(&beside, suffixed(&aside, companion))
                .map_err(|source| Error::Io { path: beside.clone(), source })?;
        }
    }
    Ok(aside)
}

fn refused(path: &Path, reason: &str) -> Error {
    Error::Storage { path: path.to_owned(), reason: reason.into() }
}

fn explain(path: &Path, error: &rusqlite::Error) -> Error {
    let damaged = match error {
        rusqlite::Error::SqliteFailure(failure, _) => {
            matches!(failure.code, ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
        }
        // A damaged schema: the table is gone, or is not what it was.
        rusqlite::Error::SqlInputError { .. }
        | rusqlite::Error::InvalidColumnType(..)
        | rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::QueryReturnedNoRows => true,
        _ => false,
    };
    if damaged {
        Error::Corrupt { path: path.to_owned(), reason: error.to_string() }
    } else {
        Error::Storage { path: path.to_owned(), reason: error.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::{CHECKSUM, seal, unseal};

    #[test]
    fn a_sealed_record_opens_unless_anything_changed() {
        let sealed = seal(7, b"data");
        assert_eq!(sealed.len(), 4 + CHECKSUM);
        assert_eq!(unseal(7, &sealed), Some(b"data".as_slice()));
        assert_eq!(unseal(8, &sealed), None);
        for byte in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[byte] ^= 1;
            assert_eq!(unseal(7, &damaged), None);
        }
        assert_eq!(unseal(7, &sealed[..5]), None);
    }
}
