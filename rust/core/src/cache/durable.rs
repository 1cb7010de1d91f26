//! A cache with a file behind it: what is stored is written, what is removed is removed there too.

use super::clock::Millis;
use super::entry::Entry;
use super::record;
use super::store::{Caller, NewEntry};
use super::{Cache, Options};
use crate::Result;
use crate::persist::{Durability, Journal};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What opening a file brought to light.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Opened {
    /// Entries taken from the file.
    pub entries: usize,
    /// Entries whose vector is of another embedder: exact-only until they are embedded again.
    pub foreign: usize,
    /// Records that were damaged, and have been dropped.
    pub damaged: usize,
    /// Where the file was moved because it could not be read to its end.
    pub set_aside: Option<PathBuf>,
}

/// Where an entry comes from, as far as the file is concerned.
#[derive(Debug, Clone, Copy)]
pub(super) enum Origin {
    /// It is new, and is to be written.
    Fresh,
    /// It was read from the file, where it has this number.
    Loaded(u64),
}

impl Cache {
    /// A cache that keeps its entries in the file at `path`, with what the file holds already.
    ///
    /// # Errors
    /// [`Error::InUse`](crate::Error::InUse) while another process has it open;
    /// [`Error::Storage`](crate::Error::Storage) if it cannot be opened or written. A damaged file is no error: see
    /// [`Opened`].
    pub fn open(options: Options, path: &Path, durability: Durability) -> Result<(Self, Opened)> {
        let (journal, loaded) = Journal::open(path, durability)?;
        let mut cache = Self::new(options)?;
        cache.journal = Some(journal);
        let mut opened = Opened { damaged: loaded.damaged, set_aside: loaded.set_aside, ..Opened::default() };
        let now = cache.options.clock.now();
        let next = loaded.records.last().map_or(0, |record| record.number + 1);
        cache.sequence.store(next, Ordering::Relaxed);
        for record in loaded.records {
            match cache.restore(record.number, &record.data, now, &mut opened.foreign) {
                Some(true) => opened.entries += 1,
                Some(false) => cache.unwrite(record.number),
                None => {
                    opened.damaged += 1;
                    cache.unwrite(record.number);
                }
            }
        }
        Ok((cache, opened))
    }

    /// Waits until everything stored so far is in the file, whatever the durability; at once without a file.
    pub fn flush(&self) -> Result<()> {
        self.journal.as_ref().map_or(Ok(()), Journal::flush)
    }

    /// Why the last attempt to write the file failed, if it did; it is tried again.
    pub fn storage_failure(&self) -> Option<String> {
        self.journal.as_ref().and_then(Journal::failure)
    }

    /// The file, if there is one.
    pub fn path(&self) -> Option<&Path> {
        self.journal.as_ref().map(Journal::path)
    }

    /// Writes what is left, and lets another process have the file. Entries stored later are not written.
    pub fn close(&self) {
        if let Some(journal) = &self.journal {
            journal.close();
        }
    }

    /// Under synchronous durability, waits for the disk. Not under the writer lock.
    pub(super) fn settle(&self) -> Result<()> {
        self.journal.as_ref().map_or(Ok(()), Journal::settle)
    }

    /// Hands a new entry to the file.
    pub(super) fn write(&self, entry: &Arc<Entry>, vector: Option<&[f32]>) {
        if let Some(journal) = &self.journal {
            let space = self.space.get().copied();
            let vector: Option<Box<[f32]>> = vector.map(Into::into);
            let entry = Arc::clone(entry);
            journal.put(entry.sequence, move || record::encode(&entry, space.zip(vector.as_deref())));
        }
    }

    /// Takes an entry out of the file.
    pub(super) fn unwrite(&self, number: u64) {
        if let Some(journal) = &self.journal {
            journal.remove(number);
        }
    }

    /// Takes all entries out of the file.
    pub(super) fn unwrite_all(&self) {
        if let Some(journal) = &self.journal {
            journal.clear();
        }
    }

    /// Enters a record: `Some(false)` if its time is over or it does not fit any more, `None` if it is not readable.
    fn restore(&self, number: u64, data: &[u8], now: Millis, foreign: &mut usize) -> Option<bool> {
        let stored = record::decode(data)?;
        if stored.expires <= now {
            return Some(false);
        }
        // Without an embedder of its own the cache takes the space of the first vector it meets.
        let own = |space| *self.space.get_or_init(|| space) == space;
        let usable = stored.vector.as_ref().filter(|(space, _)| own(*space));
        let awaits_vector = stored.vector.is_some() && usable.is_none();
        *foreign += usize::from(awaits_vector);
        let new = NewEntry {
            fingerprint: stored.fingerprint,
            scope: stored.scope,
            text: stored.text.as_deref(),
            caller: Caller { id: stored.caller, label: stored.label.as_deref() },
            vector: usable.map(|(_, vector)| vector.as_slice()),
            awaits_vector,
            payload: stored.payload.clone(),
            meta: stored.meta.clone(),
            ttl: None,
            expires: Some(stored.expires),
            created: Some(stored.created),
        };
        Some(self.store_in(&mut self.ledger(), &new, Origin::Loaded(number)).is_ok())
    }
}
