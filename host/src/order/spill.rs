//! Rows for which there is no memory: sorted runs in a temporary file that nobody else can open or read.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use chacha20poly1305::aead::{AeadInOut as _, KeyInit as _};
use chacha20poly1305::{ChaCha20Poly1305, Key, Nonce};
use zeroize::Zeroizing;

use super::OrderError;
use super::chunk::Chunk;

/// Rows of a spilled page: what one run needs in memory while it is merged.
pub(super) const PAGE_ROWS: usize = if cfg!(test) { 16 } else { 2_048 };

/// Sorted runs in an unlinked file, encrypted page by page.
pub(super) struct Spill {
    pub(super) file: File,
    cipher: ChaCha20Poly1305,
    /// (offset, bytes) of each page of each run.
    pub(super) runs: Vec<Vec<Page>>,
    end: u64,
    pages: u64,
    empty: Chunk,
}

#[derive(Clone, Copy)]
pub(super) struct Page {
    number: u64,
    pub(super) offset: u64,
    bytes: usize,
    rows: usize,
}

fn nonce(page: u64) -> Nonce {
    // A page number is used once for a key, and the key once for a file.
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&page.to_be_bytes());
    nonce.into()
}

impl Spill {
    pub(super) fn new(scratch: &std::path::Path) -> Result<Self, OrderError> {
        let mut key = Zeroizing::new([0; 32]);
        getrandom::fill(key.as_mut_slice()).map_err(io::Error::other)?;
        Ok(Self {
            file: tempfile::tempfile_in(scratch)?,
            cipher: ChaCha20Poly1305::new(&Key::from(*key)),
            runs: Vec::new(),
            end: 0,
            pages: 0,
            empty: Chunk { columns: Vec::new() },
        })
    }

    pub(super) fn write(&mut self, sorted: &Chunk) -> Result<(), OrderError> {
        self.empty = sorted.empty(0);
        let mut run = Vec::new();
        let mut start = 0;
        while start < sorted.rows() {
            let rows = start..(start + PAGE_ROWS).min(sorted.rows());
            let mut bytes = Vec::new();
            sorted.columns.iter().for_each(|cells| cells.write(rows.clone(), &mut bytes));
            let sealed = self.cipher.encrypt_in_place(&nonce(self.pages), b"", &mut bytes);
            sealed.map_err(|_| OrderError::Changed)?;
            self.file.write_all_at(&bytes, self.end)?;
            run.push(Page { number: self.pages, offset: self.end, bytes: bytes.len(), rows: rows.len() });
            self.end += bytes.len() as u64;
            self.pages += 1;
            start = rows.end;
        }
        self.runs.push(run);
        Ok(())
    }

    pub(super) fn read(&self, page: Page) -> Result<Chunk, OrderError> {
        let mut bytes = vec![0; page.bytes];
        self.file.read_exact_at(&mut bytes, page.offset)?;
        let opened = self.cipher.decrypt_in_place(&nonce(page.number), b"", &mut bytes);
        opened.map_err(|_| OrderError::Changed)?;
        let mut rest = bytes.as_slice();
        let columns = self.empty.columns.iter().map(|cells| cells.read(page.rows, &mut rest)).collect();
        Ok(Chunk { columns })
    }
}
