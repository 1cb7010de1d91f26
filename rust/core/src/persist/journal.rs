//! Changes on their way to the disk: a queue that callers append to, and one thread that commits it in batches.

use super::database::{Database, Loaded, Row, Table, look};
use super::lock::FileLock;
use crate::{Error, Result};
use std::collections::VecDeque;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Longest time a change waits for company under [`Durability::Async`]: well within the second that may be lost.
const GATHER: Duration = Duration::from_millis(200);
/// Wait after a failed commit before the next attempt.
const RETRY: Duration = Duration::from_millis(500);
/// Changes in one transaction, at most, so that the lock on the queue is never held for long.
const BATCH: usize = 4096;
/// Records that wait for a disk that fails, at most; beyond, the oldest are given up. Removals are always kept.
const BACKLOG: usize = 1 << 16;

/// When a change counts as made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// At once; a crash loses at most the last second.
    #[default]
    Async,
    /// When it is on the disk.
    Sync,
}

impl Durability {
    /// The durability of this name.
    pub fn parse(name: &str) -> Result<Self> {
        match name {
            "async" => Ok(Self::Async),
            "sync" => Ok(Self::Sync),
            _ => Err(Error::InvalidOption {
                name: "durability",
                value: name.into(),
                expected: "\"async\" or \"sync\"".into(),
            }),
        }
    }
}

/// Makes a record's bytes, on the writing thread.
type Encode = Box<dyn FnOnce() -> Vec<u8> + Send>;

enum Change {
    Put(Table, u64, Encode),
    Remove(Table, u64),
    Clear,
}

/// A change in the form that can be tried again.
enum Ready {
    Put(Table, u64, Vec<u8>),
    Remove(Table, u64),
    Clear,
}

#[derive(Default)]
struct Queue {
    changes: VecDeque<Change>,
    /// Changes ever appended, and of these the ones on the disk.
    appended: u64,
    committed: u64,
    waiting: usize,
    /// Why the last attempt failed, and how many there were.
    failure: Option<(String, u64)>,
    closing: bool,
    ended: bool,
}

struct Shared {
    path: PathBuf,
    durability: Durability,
    queue: Mutex<Queue>,
    news: Condvar,
    done: Condvar,
}

/// An open file and the thread that writes it. Dropping it writes what is left.
pub struct Journal {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// The process that opened the file; a forked child has no writing thread and must leave the file alone.
    owner: u32,
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal").field("path", &self.shared.path).finish_non_exhaustive()
    }
}

impl Journal {
    /// Reads what the file at `path` holds, record by record, and leaves it alone. Another process may be writing it.
    ///
    /// # Errors
    /// [`Error::Storage`] or [`Error::Io`] if it cannot be opened. Damage is no error: see [`Loaded`].
    pub fn look(path: &Path, each: &mut dyn FnMut(Row<'_>)) -> Result<Loaded> {
        look(path, each)
    }

    /// Opens or makes the file at `path` and reads what it holds, record by record.
    ///
    /// # Errors
    /// [`Error::InUse`] while another process writes it, [`Error::Storage`] or [`Error::Io`] if it cannot be opened.
    pub fn open(path: &Path, durability: Durability, each: &mut dyn FnMut(Row<'_>)) -> Result<(Self, Loaded)> {
        let lock = FileLock::take(path)?;
        let (database, loaded) = Database::open(path, each)?;
        let shared = Arc::new(Shared {
            path: path.to_owned(),
            durability,
            queue: Mutex::default(),
            news: Condvar::new(),
            done: Condvar::new(),
        });
        let writer = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("nearhit-persist".into())
            .spawn(move || {
                let _end = End(&writer);
                writer.run(database);
                drop(lock); // only now may another process open the file
            })
            .map_err(|source| Error::Io { path: path.to_owned(), source })?;
        Ok((Self { shared, thread: Mutex::new(Some(thread)), owner: std::process::id() }, loaded))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// Whether this process may write the file: false in a forked child.
    pub fn is_owner(&self) -> bool {
        self.owner == std::process::id()
    }

    /// Appends a record; `encode` makes its bytes later, on the writing thread.
    pub fn put(&self, table: Table, number: u64, encode: impl FnOnce() -> Vec<u8> + Send + 'static) {
        self.append(Change::Put(table, number, Box::new(encode)));
    }

    /// Removes a record.
    pub fn remove(&self, table: Table, number: u64) {
        self.append(Change::Remove(table, number));
    }

    /// Removes every record.
    pub fn clear(&self) {
        self.append(Change::Clear);
    }

    /// Under [`Durability::Sync`], waits until everything appended so far is on the disk.
    ///
    /// # Errors
    /// [`Error::Storage`] if the disk refuses it; the change is kept and tried again.
    pub fn settle(&self) -> Result<()> {
        if self.shared.durability == Durability::Sync { self.flush() } else { Ok(()) }
    }

    /// Waits until everything appended so far is on the disk.
    ///
    /// # Errors
    /// [`Error::Storage`] if the disk refuses it; the change is kept and tried again.
    pub fn flush(&self) -> Result<()> {
        if !self.is_owner() {
            return Ok(());
        }
        let mut queue = self.shared.lock();
        let target = queue.appended;
        let failures = queue.failure.as_ref().map_or(0, |(_, count)| *count);
        queue.waiting += 1;
        self.shared.news.notify_one();
        while queue.committed < target {
            if let Some((reason, count)) = &queue.failure
                && *count > failures
            {
                let error = Error::Storage { path: self.shared.path.clone(), reason: reason.clone() };
                queue.waiting -= 1;
                return Err(error);
            }
            if queue.ended {
                queue.waiting -= 1;
                let reason = "the writing thread has ended".into();
                return Err(Error::Storage { path: self.shared.path.clone(), reason });
            }
            queue = self.shared.done.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        queue.waiting -= 1;
        Ok(())
    }

    /// Why the last attempt to write failed, if it did.
    pub fn failure(&self) -> Option<String> {
        self.shared.lock().failure.as_ref().map(|(reason, _)| reason.clone())
    }

    /// Changes that are not on the disk yet.
    pub fn pending(&self) -> u64 {
        let queue = self.shared.lock();
        queue.appended - queue.committed
    }

    /// Writes what is left and closes the file; another process may open it then.
    pub fn close(&self) {
        if !self.is_owner() {
            return; // the thread exists in the parent only
        }
        self.shared.lock().closing = true;
        self.shared.news.notify_one();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            drop(thread.join()); // a panic there has been reported by its own hook, and nothing is left to do
        }
    }

    fn append(&self, change: Change) {
        if !self.is_owner() {
            return;
        }
        let mut queue = self.shared.lock();
        if queue.closing {
            return;
        }
        let idle = queue.changes.is_empty();
        queue.changes.push_back(change);
        queue.appended += 1;
        drop(queue);
        if idle {
            self.shared.news.notify_one();
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The writing thread: gather, commit, tell, until closed and empty.
    fn run(&self, mut database: Database) {
        let mut backlog: VecDeque<Ready> = VecDeque::new();
        loop {
            let (changes, upto, closing) = self.gather(!backlog.is_empty());
            backlog.extend(changes.into_iter().map(Change::ready));
            if backlog.is_empty() {
                if closing {
                    return;
                }
                continue;
            }
            let outcome = database.apply(|batch| backlog.iter().try_for_each(|ready| ready.make(batch)));
            let mut queue = self.lock();
            match outcome {
                Ok(()) => {
                    backlog.clear();
                    queue.committed = upto;
                    queue.failure = None;
                    self.done.notify_all();
                    drop(queue);
                    drop(database.tidy()); // room is given back next time if not now
                }
                Err(error) => {
                    let count = queue.failure.as_ref().map_or(0, |(_, count)| *count) + 1;
                    queue.failure = Some((error.to_string(), count));
                    self.done.notify_all();
                    drop(queue);
                    if closing {
                        return;
                    }
                    shed(&mut backlog);
                    std::thread::sleep(RETRY);
                }
            }
        }
    }

    /// Waits for changes, and for company unless somebody waits for them; `retry`: there are older ones already.
    fn gather(&self, retry: bool) -> (VecDeque<Change>, u64, bool) {
        let mut queue = self.lock();
        while queue.changes.is_empty() && !queue.closing && !retry {
            queue = self.news.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        let until = Instant::now() + GATHER;
        while self.durability == Durability::Async
            && !queue.closing
            && queue.waiting == 0
            && queue.changes.len() < BATCH
        {
            let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) else { break };
            queue = self.news.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        let count = queue.changes.len().min(BATCH);
        let changes: VecDeque<Change> = queue.changes.drain(..count).collect();
        let upto = queue.appended - queue.changes.len() as u64;
        let closing = queue.closing && queue.changes.is_empty();
        (changes, upto, closing)
    }
}

/// Tells those who wait that the thread has ended, even by a panic.
struct End<'a>(&'a Shared);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.lock().ended = true;
        self.0.done.notify_all();
    }
}

impl Change {
    fn ready(self) -> Ready {
        match self {
            Self::Put(table, number, encode) => Ready::Put(table, number, encode()),
            Self::Remove(table, number) => Ready::Remove(table, number),
            Self::Clear => Ready::Clear,
        }
    }
}

impl Ready {
    fn make(&self, batch: &super::database::Batch<'_>) -> rusqlite::Result<()> {
        match self {
            Self::Put(table, number, data) => batch.put(*table, *number, data),
            Self::Remove(table, number) => batch.remove(*table, *number),
            Self::Clear => batch.clear(),
        }
    }
}

/// Gives up the oldest records of a long backlog. A record that is not written is only an answer to be asked for again;
/// a removal that is not written would bring a withdrawn answer back.
fn shed(backlog: &mut VecDeque<Ready>) {
    let puts = backlog.iter().filter(|ready| matches!(ready, Ready::Put(..))).count();
    let mut surplus = puts.saturating_sub(BACKLOG);
    backlog.retain(|ready| {
        let given_up = surplus > 0 && matches!(ready, Ready::Put(..));
        surplus -= usize::from(given_up);
        !given_up
    });
}
