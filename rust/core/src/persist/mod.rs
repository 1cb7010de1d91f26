//! Durability: records under their numbers in one `SQLite` file, written behind by one thread.
//!
//! `SQLite` was chosen over redb and fjall for what it does with a damaged file: it returns an error, where redb
//! reads pages without looking at their checksums and panics or aborts on some flipped bytes. See
//! `benches/records` for the speeds, which do not decide: batches go to disk off the caller's path.
//!
//! Every record carries its own checksum, because `SQLite` has none for its pages. A file that cannot be read on is set
//! aside under another name, what was read until then is kept, and a new file is begun.

mod database;
mod journal;
mod lock;

pub use database::{Loaded, Row, Table};
pub use journal::{Durability, Journal};
