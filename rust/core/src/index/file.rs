//! One index in one file.
//!
//! Little-endian: the magic bytes with the version, a header, the basis if there is one, then a record for
//! each vector (its id, its scale if it has one, its values), and the BLAKE3 hash of all that. Codes are not
//! kept: they are computed in less time than they would take to read. A file is written beside its place and
//! moved into it when complete.

use super::page::{PAGE, Page};
use super::rows::{Rows, Storage};
use super::writer::Writer;
use super::{Snapshot, VectorIndex};
use crate::codec::{Basis, MAX_SLABS, SharedBasis};
use crate::simd::kernels;
use crate::{Error, Result};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Name and version of the format.
const MAGIC: &[u8; 8] = b"nearhit\x02";
const HASH: usize = 32;
/// Largest dimension that is believed when it is read.
const MAX_DIM: u64 = 1 << 20;

impl VectorIndex {
    /// Writes the index as it is at this moment; others may use it meanwhile. The file is complete or not there.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        static SAVES: AtomicU64 = AtomicU64::new(0);
        let mut partial = path.as_os_str().to_os_string();
        partial.push(format!(".{}-{}.partial", std::process::id(), SAVES.fetch_add(1, Ordering::Relaxed)));
        let written = self.write(Path::new(&partial)).and_then(|()| std::fs::rename(&partial, path));
        if let Err(source) = written {
            // The first failure is the one to report.
            std::fs::remove_file(&partial).ok();
            return Err(Error::Io { path: path.to_path_buf(), source });
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // The new name is durable once its folder is; some systems do not open folders, and need not.
        File::open(folder).and_then(|folder| folder.sync_all()).ok();
        Ok(())
    }

    fn write(&self, path: &Path) -> io::Result<()> {
        let (snapshot, basis, next_id) = {
            let writer = self.lock();
            (writer.now().clone(), writer.basis(), writer.next_id())
        };
        let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
        let mut hash = blake3::Hasher::new();
        let mut put = |bytes: &[u8]| {
            hash.update(bytes);
            out.write_all(bytes)
        };
        put(MAGIC)?;
        let slabs = basis.as_ref().map_or(&[][..], |basis| basis.slabs());
        let tag = Storage::ALL.iter().position(|mode| *mode == self.storage).unwrap_or(0);
        for value in [tag as u64, self.dim as u64, next_id, slabs.len() as u64] {
            put(&value.to_le_bytes())?;
        }
        for slab in slabs {
            put(&slab.steps.map(f64::to_le_bytes).concat())?;
            put(&slab.matrix.iter().flat_map(|row| row.0.map(f32::to_le_bytes).concat()).collect::<Vec<_>>())?;
        }
        self.records(&snapshot, next_id, &mut put)?;
        out.write_all(hash.finalize().as_bytes())?;
        out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
    }

    fn records(
        &self,
        snapshot: &Snapshot,
        next_id: u64,
        mut put: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut done = Ok(());
        let mut record = Vec::new();
        snapshot.each(0, |id, rows, slot| {
            // The tail may have grown since `next_id` was read.
            if id < next_id {
                record.clear();
                record.extend_from_slice(&id.to_le_bytes());
                rows.write(self.dim, slot, &mut record);
                done = put(&record);
            }
            done.is_ok()
        });
        done
    }

    /// Reads what [`Self::save`] wrote.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the file is damaged or not one of these, [`Error::Io`] if it cannot be read.
    pub fn load(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|source| Error::Io { path: path.to_path_buf(), source })?;
        parse(&bytes).map_err(|reason| Error::Corrupt { path: path.to_path_buf(), reason })
    }
}

/// An index from the bytes of a file, or what is wrong with them.
fn parse(bytes: &[u8]) -> std::result::Result<VectorIndex, String> {
    if bytes.get(..7) != Some(&MAGIC[..7]) {
        return Err("it does not begin as an index does".into());
    }
    if bytes.get(7) != Some(&MAGIC[7]) {
        return Err(format!("its format is not version {}", MAGIC[7]));
    }
    let (content, hash) = bytes.split_last_chunk::<HASH>().ok_or("it ends too early")?;
    if blake3::hash(content) != *hash {
        return Err("its checksum does not match".into());
    }
    let mut rest = content.get(MAGIC.len()..).ok_or("it ends too early")?;
    let [tag, dim, next_id, slabs] =
        [(); 4].map(|()| take::<8>(&mut rest).map(u64::from_le_bytes)).map(|value| value.unwrap_or(u64::MAX));
    let storage = usize::try_from(tag).ok().and_then(|tag| Storage::ALL.get(tag)).copied().ok_or("unknown storage")?;
    if !(1..=MAX_DIM).contains(&dim) || slabs > MAX_SLABS as u64 {
        return Err(format!("it claims {dim} dimensions and {slabs} slabs"));
    }
    let dim = dim as usize;
    let basis = (slabs > 0).then(|| Basis::read(dim, slabs as usize, &mut rest)).transpose()?;
    let size = 8 + storage.row_bytes(dim);
    if !rest.len().is_multiple_of(size) {
        return Err("it does not hold whole vectors".into());
    }
    let count = rest.len() / size;
    let shared = SharedBasis::default();
    if let Some(basis) = basis {
        shared.put(Arc::new(basis), count.max(1));
    }
    let mut pages = Vec::with_capacity(count.div_ceil(PAGE));
    let mut least = 0;
    for part in rest.chunks(PAGE * size) {
        let mut rows = Rows::with_capacity(storage, dim, part.len() / size);
        let mut ids = Vec::with_capacity(PAGE);
        for mut record in part.chunks_exact(size) {
            let id = take::<8>(&mut record).map_or(0, u64::from_le_bytes);
            if id < least || id >= next_id {
                return Err(format!("id {id} is out of order"));
            }
            least = id + 1;
            ids.push(id);
            rows.read(dim, record).ok_or_else(|| format!("vector {id} is not of norm 1"))?;
        }
        pages.push(Page::new(rows, &ids, u64::MAX >> (PAGE - ids.len())));
    }
    let mut writer = Writer::new(dim, storage, Arc::new(shared), next_id);
    writer.restore(pages, kernels());
    Ok(VectorIndex::around(dim, storage, writer, count))
}

/// The next bytes.
fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}
