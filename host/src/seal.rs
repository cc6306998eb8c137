//! Seal: checked rows become blocks, and blocks become a signed bundle. A block is encrypted before it goes anywhere.
//!
//! Handles and dictionary positions of the run are replaced by row numbers of the bundle's own token table and dictionary,
//! in the order of first use. So a bundle names the patients and codes that it sends and no other; but for the first of a
//! module in a new epoch of token keys, which tells what became of everybody's tokens.
//!
//! Memory: for each output, rows of less than two blocks.

use std::collections::HashMap;
use std::sync::Arc;

use lockgate_durable::FileError;
use lockgate_signing::block::{Bitmap, Column, EncodeError, Encoder, ROWS_MAX, Values};
use lockgate_signing::bundle::{BlockRef, ColumnInfo, ColumnKind, FormerTokens, OutputInfo};
use lockgate_signing::digest::Digest;
use lockgate_signing::encryption::{BlockList, BlockPlace};
use lockgate_signing::manifest::{self, Manifest, OutputType};

use crate::check::Checked;
use crate::encryption::{BlockCipher, BlockCipherError};
use crate::guest::Inputs;
use crate::identity::Patients;
use crate::outbox::SealingFolder;

/// Rows cannot be sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The disk.
    #[error(transparent)]
    File(#[from] FileError),
    /// The encoder.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The cipher.
    #[error(transparent)]
    Encrypt(#[from] BlockCipherError),
}

/// Where blocks go until the bundle is whole, and how they are encrypted on the way.
#[derive(Debug)]
pub(crate) struct BlockStore {
    pub(crate) cipher: BlockCipher,
    pub(crate) kept: Kept,
}

/// Where blocks are put.
#[derive(Debug)]
pub(crate) enum Kept {
    /// In the outbox, to be sent.
    Folder(SealingFolder),
    /// In memory, to be shown: the first blocks before their encryption, by the digest that they are sent under, up to
    /// [`SHOWN_BYTES_MAX`].
    Memory { blocks: HashMap<Digest, Vec<u8>>, bytes: usize },
}

/// What a block is to the bundle.
#[derive(Debug, Clone, Copy)]
enum Standing {
    /// It counts: a month whose content is the same is not sent again.
    Content,
    /// It does not: what is told of a new epoch.
    Beside,
}

/// What a preview keeps of a bundle, bytes.
const SHOWN_BYTES_MAX: usize = 64 << 20;

impl BlockStore {
    /// A store for a bundle that is to be sent.
    pub(crate) fn in_folder(cipher: BlockCipher, folder: SealingFolder) -> Self {
        Self { cipher, kept: Kept::Folder(folder) }
    }

    /// A store for a preview.
    pub(crate) fn in_memory(cipher: BlockCipher) -> Self {
        Self { cipher, kept: Kept::Memory { blocks: HashMap::new(), bytes: 0 } }
    }

    fn put(
        &mut self,
        list: BlockList,
        position: usize,
        plain: Vec<u8>,
        rows: usize,
        standing: Standing,
    ) -> Result<BlockRef, SealError> {
        let place = BlockPlace { list, position: position as u32 };
        let shown = match &self.kept {
            Kept::Memory { bytes, .. } if bytes + plain.len() <= SHOWN_BYTES_MAX => Some(plain.clone()),
            _ => None,
        };
        let sent = match standing {
            Standing::Content => self.cipher.encrypt(place, plain)?,
            Standing::Beside => self.cipher.encrypt_beside(place, plain)?,
        };
        let block = BlockRef { digest: Digest::of(&sent), bytes: sent.len() as u64, rows: rows as u32 };
        match (&mut self.kept, shown) {
            (Kept::Folder(folder), _) => folder.put(&block, &sent)?,
            (Kept::Memory { blocks, bytes }, Some(shown)) => {
                *bytes += shown.len();
                blocks.insert(block.digest, shown);
            }
            (Kept::Memory { .. }, None) => {}
        }
        Ok(block)
    }
}

/// The blocks of a bundle.
pub(crate) struct SealedBlocks {
    pub(crate) outputs: Vec<OutputInfo>,
    pub(crate) patients: Vec<BlockRef>,
    pub(crate) codes: Vec<BlockRef>,
    pub(crate) former: Option<FormerTokens>,
    /// Whether it tells of patients of whom it has no rows: then it is sent, whatever else it says.
    pub(crate) tells_of_others: bool,
    pub(crate) cells_suppressed: u64,
}

/// Makes blocks of what a run emits.
pub(crate) struct Sealer {
    store: BlockStore,
    encoder: Encoder,
    patients: Arc<Patients>,
    outputs: Vec<Output>,
    patient_rows: Numbering,
    code_rows: Numbering,
    codes: Vec<(String, String)>,
    cells_suppressed: u64,
    /// Whether the bundle tells what became of the tokens of every current patient.
    tells_everybody: bool,
}

struct Output {
    info: OutputInfo,
    waiting: Vec<Column>,
    rows: usize,
}

/// New numbers in the order of first use.
#[derive(Default)]
struct Numbering {
    numbers: Vec<u32>,
    used: Vec<u32>,
}

const UNUSED: u32 = u32::MAX;

impl Numbering {
    fn number(&mut self, old: u32) -> u32 {
        let place = old as usize;
        if place >= self.numbers.len() {
            self.numbers.resize(place + 1, UNUSED);
        }
        if self.numbers[place] == UNUSED {
            self.numbers[place] = self.used.len() as u32;
            self.used.push(old);
        }
        self.numbers[place]
    }

    fn has(&self, old: u32) -> bool {
        self.numbers.get(old as usize).is_some_and(|number| *number != UNUSED)
    }
}

fn column_kind(declared: &OutputType) -> ColumnKind {
    match declared {
        OutputType::Patient => ColumnKind::Patient,
        OutputType::Code { .. } => ColumnKind::Code,
        OutputType::Date { .. } => ColumnKind::Date,
        OutputType::Number { decimals, .. } => ColumnKind::Number { decimals: *decimals },
        OutputType::Category { categories } => ColumnKind::Category { categories: categories.clone() },
    }
}

/// The columns that leave: those that the module writes, or of an aggregate its dimensions and then the count.
fn sent_columns(output: &manifest::Output) -> Vec<ColumnInfo> {
    let written = output.columns.iter();
    let sent = written.filter(|column| output.aggregate.is_none() || column.kind != OutputType::Patient);
    let count = output.aggregate.iter().map(|aggregate| ColumnInfo {
        name: aggregate.count.clone(),
        kind: ColumnKind::Number { decimals: 0 },
    });
    sent.map(|column| ColumnInfo { name: column.name.clone(), kind: column_kind(&column.kind) })
        .chain(count)
        .collect()
}

impl Sealer {
    /// A sealer for one bundle; `tells_everybody`: whether it is the first of its module under this epoch of token keys.
    pub(crate) fn new(
        manifest: &Manifest,
        patients: Arc<Patients>,
        store: BlockStore,
        tells_everybody: bool,
    ) -> Result<Self, SealError> {
        let outputs = manifest.outputs.iter().map(|(name, output)| Output {
            info: OutputInfo {
                name: name.clone(),
                aggregate: output.aggregate.is_some(),
                columns: sent_columns(output),
                blocks: Vec::new(),
            },
            waiting: sent_columns(output).iter().map(|column| empty(&column.kind)).collect(),
            rows: 0,
        });
        Ok(Self {
            store,
            encoder: Encoder::new()?,
            patients,
            outputs: outputs.collect(),
            patient_rows: Numbering::default(),
            code_rows: Numbering::default(),
            codes: Vec::new(),
            cells_suppressed: 0,
            tells_everybody,
        })
    }

    /// Writes what is waiting, then the token table, what its tokens were, and the dictionary.
    pub(crate) fn finish(mut self) -> Result<(SealedBlocks, BlockStore), SealError> {
        for output in 0..self.outputs.len() {
            let rows = self.outputs[output].rows;
            if rows > 0 {
                self.write_block(output, rows)?;
            }
        }
        let mut patients = Vec::new();
        for handles in self.patient_rows.used.chunks(ROWS_MAX as usize) {
            let bytes = self.encoder.patients(&self.patients.table(handles))?;
            let (position, rows) = (patients.len(), handles.len());
            patients.push(self.store.put(BlockList::Patients, position, bytes, rows, Standing::Content)?);
        }
        let others = self.others();
        for handles in others.chunks(ROWS_MAX as usize) {
            let bytes = self.encoder.patients(&self.patients.table_without_links(handles))?;
            let (position, rows) = (patients.len(), handles.len());
            patients.push(self.store.put(BlockList::Patients, position, bytes, rows, Standing::Beside)?);
        }
        let former = self.former(&others)?;
        let mut codes = Vec::new();
        for some in self.codes.chunks(ROWS_MAX as usize) {
            let bytes = self.encoder.codes(some)?;
            codes.push(self.store.put(
                BlockList::Codes,
                codes.len(),
                bytes,
                some.len(),
                Standing::Content,
            )?);
        }
        let outputs = self.outputs.into_iter().map(|output| output.info).collect();
        let cells_suppressed = self.cells_suppressed;
        let tells_of_others = !others.is_empty();
        let blocks = SealedBlocks { outputs, patients, codes, former, tells_of_others, cells_suppressed };
        Ok((blocks, self.store))
    }

    /// Who has no rows here and is told of in an overlap of two epochs: in the order of their handles, which is that of the
    /// tokens. Rows of earlier months, or of another practice, may be known under their tokens of the epoch before.
    fn others(&self) -> Vec<u32> {
        if !self.tells_everybody || self.patients.former_epoch().is_none() {
            return Vec::new();
        }
        (0..self.patients.handles()).filter(|&handle| !self.patient_rows.has(handle)).collect()
    }

    /// In the overlap of two epochs: what the tokens were, row by row of the token table, so that its order says nothing that
    /// the table's does not.
    fn former(&mut self, others: &[u32]) -> Result<Option<FormerTokens>, SealError> {
        let Some(epoch) = self.patients.former_epoch() else { return Ok(None) };
        let tables = self.patient_rows.used.chunks(ROWS_MAX as usize);
        let mut blocks = Vec::new();
        for handles in tables.chain(others.chunks(ROWS_MAX as usize)) {
            let bytes = self.encoder.former(&self.patients.former(handles))?;
            let (position, rows) = (blocks.len(), handles.len());
            blocks.push(self.store.put(BlockList::Former, position, bytes, rows, Standing::Beside)?);
        }
        // Of a bundle without patients there is nothing to tell.
        Ok((!blocks.is_empty()).then_some(FormerTokens { epoch, blocks }))
    }

    fn write_block(&mut self, output: usize, rows: usize) -> Result<(), SealError> {
        let list = BlockList::Output(output as u32);
        let output = &mut self.outputs[output];
        let columns: Vec<Column> =
            output.waiting.iter_mut().map(|column| split_front(column, rows)).collect();
        output.rows -= rows;
        let bytes = self.encoder.rows(&output.info.columns, &columns)?;
        let blocks = &mut output.info.blocks;
        blocks.push(self.store.put(list, blocks.len(), bytes, rows, Standing::Content)?);
        Ok(())
    }
}

impl Sealer {
    /// Takes rows of an output (its position in the manifest); codes are positions in the run's dictionary.
    pub(crate) fn take(&mut self, output: usize, checked: Checked, inputs: &Inputs) -> Result<(), SealError> {
        let Checked { mut columns, rows, suppressed } = checked;
        self.cells_suppressed += suppressed;
        for column in &mut columns {
            let Column { values, missing } = column;
            let has = |row: usize| missing.as_ref().is_none_or(|missing| !missing.contains(row));
            match values {
                Values::Patients(handles) => {
                    handles.iter_mut().for_each(|handle| *handle = self.patient_rows.number(*handle));
                }
                Values::Codes(positions) => {
                    let present = positions.iter_mut().enumerate().filter(|(row, _)| has(*row));
                    for position in present.map(|(_, position)| position) {
                        let number = self.code_rows.number(*position);
                        if number as usize == self.codes.len() {
                            let (system, text) = inputs.code(*position).unwrap_or_default();
                            let system = inputs.systems().get(usize::from(system)).cloned();
                            self.codes.push((system.unwrap_or_default(), text.to_owned()));
                        }
                        *position = number;
                    }
                }
                _ => {}
            }
        }
        let buffer = &mut self.outputs[output];
        if buffer.rows == 0 {
            buffer.waiting = columns;
        } else {
            for (waiting, column) in buffer.waiting.iter_mut().zip(columns) {
                append(waiting, column);
            }
        }
        buffer.rows += rows;
        while self.outputs[output].rows >= ROWS_MAX as usize {
            self.write_block(output, ROWS_MAX as usize)?;
        }
        Ok(())
    }
}

fn empty(kind: &ColumnKind) -> Column {
    let values = match kind {
        ColumnKind::Patient => Values::Patients(Vec::new()),
        ColumnKind::Code => Values::Codes(Vec::new()),
        ColumnKind::Date => Values::Dates(Vec::new()),
        ColumnKind::Number { .. } => Values::Numbers(Vec::new()),
        ColumnKind::Category { .. } => Values::Categories(Vec::new()),
    };
    Column { values, missing: None }
}

fn append(to: &mut Column, from: Column) {
    let (before, added) = (to.values.len(), from.values.len());
    match (&mut to.values, from.values) {
        (Values::Patients(to), Values::Patients(from)) | (Values::Codes(to), Values::Codes(from)) => {
            to.extend(from)
        }
        (Values::Dates(to), Values::Dates(from)) => to.extend(from),
        (Values::Numbers(to), Values::Numbers(from)) => to.extend(from),
        (Values::Categories(to), Values::Categories(from)) => to.extend(from),
        // The checker let only columns of the declared type through.
        _ => {}
    }
    if to.missing.is_none() && from.missing.is_none() {
        return;
    }
    let mut missing = Bitmap::none(before + added);
    copy_bits(&mut missing, 0, to.missing.as_ref(), 0..before);
    copy_bits(&mut missing, before, from.missing.as_ref(), 0..added);
    to.missing = Some(missing);
}

/// Takes the first rows out of a column.
fn split_front(column: &mut Column, rows: usize) -> Column {
    fn front<T>(values: &mut Vec<T>, rows: usize) -> Vec<T> {
        let rest = values.split_off(rows);
        std::mem::replace(values, rest)
    }
    let all = column.values.len();
    let values = match &mut column.values {
        Values::Patients(values) => Values::Patients(front(values, rows)),
        Values::Codes(values) => Values::Codes(front(values, rows)),
        Values::Dates(values) => Values::Dates(front(values, rows)),
        Values::Numbers(values) => Values::Numbers(front(values, rows)),
        Values::Categories(values) => Values::Categories(front(values, rows)),
    };
    let old = column.missing.take();
    let part = |range: std::ops::Range<usize>| {
        let mut missing = Bitmap::none(range.len());
        copy_bits(&mut missing, 0, old.as_ref(), range);
        (missing.count() > 0).then_some(missing)
    };
    let missing = part(0..rows);
    column.missing = part(rows..all);
    Column { values, missing }
}

fn copy_bits(to: &mut Bitmap, at: usize, from: Option<&Bitmap>, rows: std::ops::Range<usize>) {
    let Some(from) = from else { return };
    let start = rows.start;
    rows.filter(|&row| from.contains(row)).for_each(|row| to.set(at + row - start));
}
