//! The `SQLite` file: a table of numbered, checksummed records.

use super::lock::suffixed;
use crate::{Error, Result};
use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, params};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Marks a `SQLite` file as one of ours ("nhit").
const APPLICATION_ID: i32 = 0x6e68_6974;
/// Step `n` takes a file from version `n` to `n + 1`; the number of steps is the present version.
const MIGRATIONS: [&str; 1] = ["CREATE TABLE record (number INTEGER PRIMARY KEY, data BLOB NOT NULL) STRICT"];
/// Bytes of a record's checksum, in front of it.
const CHECKSUM: usize = 8;

/// A record and its number; numbers rise and are never used twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its number.
    pub number: u64,
    /// Its bytes, as they were written.
    pub data: Vec<u8>,
}

/// What was in a file.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The records that are whole, by number.
    pub records: Vec<Record>,
    /// Records whose checksum did not fit; they have been dropped.
    pub damaged: usize,
    /// Where the file was moved because it could not be read to its end.
    pub set_aside: Option<PathBuf>,
}

/// An open file.
#[derive(Debug)]
pub(super) struct Database {
    connection: Connection,
    path: PathBuf,
}

impl Database {
    /// Opens or makes the file and reads all of it. A damaged one is set aside and begun anew with what could be read.
    pub(super) fn open(path: &Path) -> Result<(Self, Loaded)> {
        let mut loaded = Loaded::default();
        let opened = Self::connect(path).and_then(|database| {
            database.read(&mut loaded)?;
            Ok(database)
        });
        let mut database = match opened {
            Ok(database) => database,
            Err(Error::Corrupt { .. }) => {
                loaded.set_aside = Some(set_aside(path)?);
                let mut database = Self::connect(path)?;
                database.apply(|batch| {
                    loaded.records.iter().try_for_each(|record| batch.put(record.number, &record.data))
                })?;
                database
            }
            Err(other) => return Err(other),
        };
        if loaded.damaged > 0 && loaded.set_aside.is_none() {
            database.drop_damaged(&loaded)?;
        }
        Ok((database, loaded))
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
        let application: i32 =
            connection.pragma_query_value(None, "application_id", |row| row.get(0)).map_err(explain)?;
        let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(explain)?;
        let tables: i64 =
            connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(explain)?;
        let ours = application == APPLICATION_ID || (application == 0 && version == 0 && tables == 0);
        if !ours {
            return Err(refused(path, "it is a SQLite file of another program: choose another path"));
        }
        let done = usize::try_from(version).unwrap_or(usize::MAX);
        if done > MIGRATIONS.len() {
            return Err(refused(path, "it was written by a newer version of nearhit: upgrade, or choose another path"));
        }
        let change = connection.transaction().map_err(explain)?;
        for step in &MIGRATIONS[done..] {
            change.execute_batch(step).map_err(explain)?;
        }
        change.pragma_update(None, "application_id", APPLICATION_ID).map_err(explain)?;
        change.pragma_update(None, "user_version", MIGRATIONS.len() as i64).map_err(explain)?;
        change.commit().map_err(explain)?;
        Ok(Self { connection, path: path.to_owned() })
    }

    /// Reads every record, in order, into `loaded`.
    fn read(&self, loaded: &mut Loaded) -> Result<()> {
        let explain = |error| explain(&self.path, &error);
        let mut select = self.connection.prepare("SELECT number, data FROM record ORDER BY number").map_err(explain)?;
        let mut rows = select.query([]).map_err(explain)?;
        while let Some(row) = rows.next().map_err(explain)? {
            let number: i64 = row.get(0).map_err(explain)?;
            let stored = row.get_ref(1).map_err(explain)?;
            match (u64::try_from(number), stored.as_blob().ok().and_then(|stored| unseal(number, stored))) {
                (Ok(number), Some(data)) => loaded.records.push(Record { number, data: data.to_vec() }),
                _ => loaded.damaged += 1,
            }
        }
        Ok(())
    }

    /// Rewrites the file's table without the records that `loaded` does not have.
    fn drop_damaged(&mut self, loaded: &Loaded) -> Result<()> {
        self.apply(|batch| {
            batch.clear()?;
            loaded.records.iter().try_for_each(|record| batch.put(record.number, &record.data))
        })
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
    pub(super) fn put(&self, number: u64, data: &[u8]) -> rusqlite::Result<()> {
        let sealed = seal(number.cast_signed(), data);
        self.0
            .prepare_cached("INSERT OR REPLACE INTO record VALUES (?1, ?2)")?
            .execute(params![number.cast_signed(), sealed])
            .map(drop)
    }

    pub(super) fn remove(&self, number: u64) -> rusqlite::Result<()> {
        self.0.prepare_cached("DELETE FROM record WHERE number = ?1")?.execute([number.cast_signed()]).map(drop)
    }

    pub(super) fn clear(&self) -> rusqlite::Result<()> {
        self.0.execute("DELETE FROM record", []).map(drop)
    }
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
