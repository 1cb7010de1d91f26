//! A cache with a file behind it: what is stored is written, what is removed is removed there too.

use super::clock::Millis;
use super::entry::Entry;
use super::judged::{self, Judgement};
use super::ledger::Ledger;
use super::record::{self, Stored};
use super::store::{Caller, NewEntry};
use super::{Cache, Options};
use crate::Result;
use crate::persist::{Durability, Journal, Loaded, Row, Table};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{SyncSender, sync_channel};

/// Records that are handed over together while a file is read.
const BATCH: usize = 64;
/// Batches that may wait: what was read and has not been entered yet takes little memory.
const BATCHES: usize = 8;

/// What opening a file brought to light.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Opened {
    /// Entries taken from the file.
    pub entries: usize,
    /// Entries whose vector is of another embedder: exact-only until they are embedded again.
    pub foreign: usize,
    /// Records that were damaged, and have been dropped.
    pub damaged: usize,
    /// Why the file could not be read to its end.
    pub broken: Option<String>,
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

/// A record that has been read.
enum Read {
    Entry(u64, Option<Stored>),
    Judgement(u64, Option<Judgement>),
}

impl Read {
    fn of(row: Row<'_>) -> Self {
        match row.table {
            Table::Entry => Self::Entry(row.number, record::decode(row.data)),
            Table::Judgement => Self::Judgement(row.number, judged::decode(row.data)),
        }
    }
}

/// Gathers what is read into batches, on the reading thread.
struct Reader {
    batch: Vec<Read>,
    out: SyncSender<Vec<Read>>,
}

impl Reader {
    fn take(&mut self, row: Row<'_>) {
        self.batch.push(Read::of(row));
        if self.batch.len() == BATCH {
            self.send();
        }
    }

    fn send(&mut self) {
        let batch = std::mem::replace(&mut self.batch, Vec::with_capacity(BATCH));
        drop(self.out.send(batch)); // it fails only if the other side panicked, which is told there
    }
}

impl Cache {
    /// A cache that keeps its entries in the file at `path`, with what the file holds already.
    ///
    /// # Errors
    /// [`Error::InUse`](crate::Error::InUse) while another process has it open;
    /// [`Error::Storage`](crate::Error::Storage) if it cannot be opened or written. A damaged file is no error: see
    /// [`Opened`].
    pub fn open(options: Options, path: &Path, durability: Durability) -> Result<(Self, Opened)> {
        Self::load(options, |each| {
            Journal::open(path, durability, each).map(|(journal, loaded)| (Some(journal), loaded))
        })
    }

    /// A cache in memory with what the file at `path` holds now. The file is left alone, and another process may be
    /// writing it; nothing of what it writes later is seen, and nothing of what is stored here is written.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) or [`Error::Storage`](crate::Error::Storage) if it cannot be opened.
    pub fn look(options: Options, path: &Path) -> Result<(Self, Opened)> {
        Self::load(options, |each| Journal::look(path, each).map(|loaded| (None, loaded)))
    }

    /// Enters what `read` hands over. Reading, checking and decoding have a thread of their own for as long as it takes.
    fn load(
        options: Options,
        read: impl FnOnce(&mut dyn FnMut(Row<'_>)) -> Result<(Option<Journal>, Loaded)> + Send,
    ) -> Result<(Self, Opened)> {
        let mut cache = Self::new(options)?;
        cache.loading = true;
        let mut opened = Opened::default();
        let mut numbers = Vec::new();
        let now = cache.options.clock.now();
        let outcome = std::thread::scope(|scope| {
            let (out, batches) = sync_channel(BATCHES);
            let reader = scope.spawn(move || {
                let mut reader = Reader { batch: Vec::with_capacity(BATCH), out };
                let outcome = read(&mut |row| reader.take(row));
                reader.send();
                outcome
            });
            for batch in batches {
                let mut ledger = cache.ledger();
                for read in batch {
                    cache.enter(&mut ledger, read, now, &mut numbers, &mut opened);
                }
            }
            reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        let (journal, loaded) = outcome?;
        cache.journal = journal;
        cache.sequence.fetch_max(loaded.next, Ordering::Relaxed);
        opened.damaged += loaded.damaged;
        (opened.broken, opened.set_aside) = (loaded.broken, loaded.set_aside);
        cache.loading = false;
        cache.code_loaded();
        cache.unwrite_missing(numbers);
        cache.relearn();
        Ok((cache, opened))
    }

    fn enter(
        &self,
        ledger: &mut Ledger,
        read: Read,
        now: Millis,
        numbers: &mut Vec<(Table, u64)>,
        opened: &mut Opened,
    ) {
        match read {
            Read::Entry(number, stored) => {
                numbers.push((Table::Entry, number));
                match stored {
                    Some(stored) => {
                        let entered = self.restore(ledger, number, stored, now, &mut opened.foreign);
                        opened.entries += usize::from(entered);
                    }
                    None => opened.damaged += 1,
                }
            }
            Read::Judgement(number, judgement) => {
                numbers.push((Table::Judgement, number));
                match judgement {
                    Some(judgement) => drop(ledger.judged.add(number, judgement, self.judged_bytes())),
                    None => opened.damaged += 1,
                }
            }
        }
    }

    /// Takes out of the file what was read from it and is not held: it has ended, did not fit, was replaced or evicted.
    fn unwrite_missing(&self, numbers: Vec<(Table, u64)>) {
        if self.journal.is_none() {
            return;
        }
        let ledger = self.ledger();
        let entries: HashSet<u64> = ledger.entries().map(|entry| entry.sequence).collect();
        let judged: HashSet<u64> = ledger.judged.iter().map(|(number, _)| *number).collect();
        for (table, number) in numbers {
            match table {
                Table::Entry if !entries.contains(&number) => self.unwrite(number),
                Table::Judgement if !judged.contains(&number) => self.unwrite_judgement(number),
                _ => {}
            }
        }
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
            journal.put(Table::Entry, entry.sequence, move || record::encode(&entry, space.zip(vector.as_deref())));
        }
    }

    /// Takes an entry out of the file.
    pub(super) fn unwrite(&self, number: u64) {
        if let Some(journal) = &self.journal {
            journal.remove(Table::Entry, number);
        }
    }

    /// Hands a judgement to the file.
    pub(super) fn write_judgement(&self, number: u64, judgement: &Judgement) {
        if let Some(journal) = &self.journal {
            let data = judged::encode(judgement);
            journal.put(Table::Judgement, number, move || data);
        }
    }

    /// Takes a judgement out of the file.
    pub(super) fn unwrite_judgement(&self, number: u64) {
        if let Some(journal) = &self.journal {
            journal.remove(Table::Judgement, number);
        }
    }

    /// Takes everything out of the file.
    pub(super) fn unwrite_all(&self) {
        if let Some(journal) = &self.journal {
            journal.clear();
        }
    }

    /// Enters what a record says; `false` if its time is over or it does not fit any more.
    fn restore(&self, ledger: &mut Ledger, number: u64, stored: Stored, now: Millis, foreign: &mut usize) -> bool {
        if stored.expires <= now {
            return false;
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
            payload: stored.payload,
            meta: stored.meta,
            ttl: None,
            expires: Some(stored.expires),
            created: Some(stored.created),
        };
        self.store_in(ledger, &new, Origin::Loaded(number)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{NearQuery, Payload, Policy};
    use super::*;
    use crate::text::canonical::{Request, ScopeId};

    const DIM: usize = 64;

    fn vector(number: usize) -> Vec<f32> {
        (0..DIM).map(|d| ((number * 7919 + d * 104_729 + number * d) % 1013) as f32 - 506.0).collect()
    }

    #[test]
    fn vectors_that_were_read_are_coded_and_counted() -> Result<()> {
        let options = |max_bytes| Options { max_bytes, policy: Policy::Static, ..Options::default() };
        let path = std::env::temp_dir().join(format!("nearhit-read-{}.db", std::process::id()));
        let prompts: Vec<String> = (0..3000).map(|number| format!("prompt {number}")).collect();
        let (cache, _) = Cache::open(options(None), &path, Durability::Async)?;
        for (number, prompt) in prompts.iter().enumerate() {
            let request = Request::from_prompt(prompt, ScopeId::default())?;
            let vector = vector(number);
            let answer = Payload::text("an answer");
            cache.store(&NewEntry { vector: Some(&vector), ..NewEntry::new(&request, answer) })?;
        }
        let bytes = cache.stats().bytes.total();
        cache.close();
        drop(cache);
        for bound in [None, Some(bytes / 2)] {
            let (cache, opened) = Cache::open(options(bound), &path, Durability::Async)?;
            cache.validate().expect("sound");
            let stats = cache.stats();
            assert!(opened.damaged == 0 && stats.entries > 1000);
            assert_eq!(stats.entries == prompts.len(), bound.is_none());
            assert!(bound.is_none_or(|most| stats.bytes.total() <= most));
            let index = |partition: &super::super::partition::Partition| partition.index.nbytes();
            let held: usize = cache.partitions.values().iter().map(|partition| index(partition)).sum();
            assert!(stats.bytes.total() >= held + stats.entries * 100, "codes are counted");
            let prompt = &prompts[prompts.len() - 1];
            let request = Request::from_prompt(prompt, ScopeId::default())?;
            let vector = vector(prompts.len() - 1);
            let near = NearQuery {
                request: request.fingerprint,
                caller: ScopeId::default(),
                scope: request.scope,
                text: prompt,
                vector: &vector,
                threshold: None,
            };
            assert_eq!(cache.lookup_near(&near)?.hit.is_some(), cache.lookup_exact(request.fingerprint).is_some());
            cache.close();
        }
        for suffix in ["", "-wal", "-shm", "-lock"] {
            let mut name = path.clone().into_os_string();
            name.push(suffix);
            drop(std::fs::remove_file(name)); // what was not made need not be removed
        }
        Ok(())
    }
}
