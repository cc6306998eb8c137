//! Bundles, read back: verified with the site's key, opened with the warehouse's, and decoded into rows that a test can ask.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use lockgate_signing::block::{Column, FormerTable, PatientTable, Rows, Token, Values};
use lockgate_signing::bundle::{BlockRef, BundleHeader, ColumnKind, OutputInfo};
use lockgate_signing::encryption::BlockPlace;
use lockgate_signing::envelope::Envelope;
use lockgate_signing::ids::BundleId;
use lockgate_signing::keys::{PublicKey, SigningKey};
use lockgate_signing::opened::{BundleOpener, open_bundle};
use lockgate_signing::sealed::OpeningKey;

use crate::{Linker, Site, WarehouseKeys};

/// A bundle whose signature and blocks were checked.
#[derive(Debug)]
pub struct OpenedBundle {
    /// Its id.
    pub id: BundleId,
    /// Its header.
    pub header: BundleHeader,
    /// The token table.
    pub patients: Vec<TokenRow>,
    /// The code dictionary: (system, text).
    pub codes: Vec<(String, String)>,
    /// The rows of each output.
    pub outputs: BTreeMap<String, Vec<Row>>,
}

/// A row of the token table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRow {
    /// The patient's token.
    pub token: Token,
    /// Whether a Type 2 objection holds.
    pub type_2: bool,
    /// The link tokens, where there are any.
    pub links: Vec<Option<Token>>,
    /// What the token was in the epoch before, where that is told.
    pub former: Option<Token>,
}

/// A row of an output, by column.
pub type Row = BTreeMap<String, Cell>;

/// A value of a row.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// None.
    Missing,
    /// A row of the token table.
    Patient(usize),
    /// A code: system and text.
    Code(String, String),
    /// Days since 1970-01-01.
    Date(i32),
    /// A number.
    Number(f64),
    /// A category's name.
    Category(String),
}

impl OpenedBundle {
    /// The bundles of a site that a linker has stored, in the order of their chain.
    pub fn stored(linker: &Linker, site: &Site) -> anyhow::Result<Vec<Self>> {
        let (key, warehouse) = (site_key(site)?, warehouse_key(site)?);
        let objects = linker.folder().join("objects");
        let mut opened = Vec::new();
        for path in files(&objects.join("headers"))? {
            let header = std::fs::read(&path)?;
            // The headers of other sites lie beside.
            if Envelope::<BundleHeader>::read(&header)?.key() == key.id() {
                opened.push(Self::read(&header, &key, &warehouse, |block| {
                    let name = block.digest.to_hex();
                    objects.join("blocks").join(&name[..2]).join(name)
                })?);
            }
        }
        opened.sort_unstable_by_key(|bundle| bundle.header.sequence);
        Ok(opened)
    }

    /// The decrypted blocks of a site's bundles that a linker has stored, each before it is decoded: a zstd frame.
    pub fn stored_frames(linker: &Linker, site: &Site) -> anyhow::Result<Vec<Frame>> {
        let (key, warehouse) = (site_key(site)?, warehouse_key(site)?);
        let objects = linker.folder().join("objects");
        let mut found = Vec::new();
        for path in files(&objects.join("headers"))? {
            let header = std::fs::read(&path)?;
            if Envelope::<BundleHeader>::read(&header)?.key() == key.id() {
                found.extend(frames(&header, &key, &warehouse, |block| {
                    let name = block.digest.to_hex();
                    objects.join("blocks").join(&name[..2]).join(name)
                })?);
            }
        }
        Ok(found)
    }

    /// The bundles in a site's outbox, in the order of their chain.
    pub fn queued(site: &Site) -> anyhow::Result<Vec<Self>> {
        let (key, warehouse) = (site_key(site)?, warehouse_key(site)?);
        let mut folders: Vec<PathBuf> = std::fs::read_dir(site.state().join("outbox/queued"))?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<_, _>>()?;
        folders.sort_unstable();
        let open = |folder: PathBuf| {
            let header = std::fs::read(folder.join("header.cbor"))?;
            Self::read(&header, &key, &warehouse, |block| {
                folder.join(format!("{}.block", block.digest.to_hex()))
            })
        };
        folders.into_iter().map(open).collect()
    }

    /// Reads one: `key` is the site's, `warehouse` a recipient's, `place` says where a block lies.
    pub fn read(
        signed_header: &[u8],
        key: &PublicKey,
        warehouse: &OpeningKey,
        place: impl Fn(&BlockRef) -> PathBuf,
    ) -> anyhow::Result<Self> {
        let verified = Envelope::<BundleHeader>::read(signed_header)?.verify(key)?;
        let opened = open_bundle(&verified, warehouse, |block| std::fs::read(place(block)))?;
        let (id, header) = (verified.id(), verified.into_message());
        let former = |at: usize| opened.former.get(at);
        let patients = opened.patients.iter().enumerate();
        let patients = patients.flat_map(|(at, table)| token_rows(table, former(at))).collect();
        let codes = opened.codes;
        let mut outputs = BTreeMap::new();
        for (output, blocks) in header.outputs.iter().zip(&opened.outputs) {
            let mut rows = Vec::new();
            for block in blocks {
                rows.extend(output_rows(block, output, &codes)?);
            }
            outputs.insert(output.name.to_string(), rows);
        }
        Ok(Self { id, header, patients, codes, outputs })
    }

    /// The rows of an output; none for one that is not there.
    pub fn rows(&self, output: &str) -> &[Row] {
        self.outputs.get(output).map_or(&[], Vec::as_slice)
    }
}

/// A decrypted block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The bundle's place in the site's chain.
    pub sequence: u64,
    /// The block's place in the bundle.
    pub place: BlockPlace,
    /// A zstd frame.
    pub bytes: Vec<u8>,
}

/// The decrypted blocks of a bundle: `key` is the site's, `warehouse` a recipient's, `file` says where a block lies.
pub fn frames(
    signed_header: &[u8],
    key: &PublicKey,
    warehouse: &OpeningKey,
    file: impl Fn(&BlockRef) -> PathBuf,
) -> anyhow::Result<Vec<Frame>> {
    let verified = Envelope::<BundleHeader>::read(signed_header)?.verify(key)?;
    let opener = BundleOpener::new(&verified, warehouse)?;
    let header = verified.message();
    let frame = |(place, block)| {
        let bytes = opener.frame(place, std::fs::read(file(block))?)?;
        Ok(Frame { sequence: header.sequence, place, bytes })
    };
    header.placed_blocks().map(frame).collect()
}

/// The public key of an enrolled site.
pub fn site_key(site: &Site) -> anyhow::Result<PublicKey> {
    let pem = std::fs::read_to_string(site.state().join("site-key.pem")).context("the site has no key")?;
    Ok(SigningKey::from_pem(&pem)?.public())
}

/// The warehouse's key, which lies beside the sites.
pub fn warehouse_key(site: &Site) -> anyhow::Result<OpeningKey> {
    WarehouseKeys::in_folder(site.folder.parent().context("the site's folder is in none")?)?.opening()
}

/// Every file below a folder, in the order of their paths.
pub fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| format!("no folder {}", folder.display()))? {
            let entry = entry?;
            if entry.file_type()?.is_dir() { folders.push(entry.path()) } else { found.push(entry.path()) }
        }
    }
    found.sort_unstable();
    Ok(found)
}

fn token_rows(table: &PatientTable, former: Option<&FormerTable>) -> Vec<TokenRow> {
    let row = |row: usize| TokenRow {
        token: table.tokens[row],
        type_2: table.type_2.contains(row),
        links: table
            .links
            .iter()
            .map(|link| (!link.missing.contains(row)).then(|| link.tokens[row]))
            .collect(),
        former: former.filter(|it| !it.missing.contains(row)).map(|it| it.tokens[row]),
    };
    (0..table.tokens.len()).map(row).collect()
}

fn output_rows(decoded: &Rows, output: &OutputInfo, codes: &[(String, String)]) -> anyhow::Result<Vec<Row>> {
    let row = |row: usize| {
        let columns = output.columns.iter().zip(&decoded.columns);
        let cells =
            columns.map(|(info, column)| Ok((info.name.to_string(), cell(column, row, &info.kind, codes)?)));
        cells.collect::<anyhow::Result<Row>>()
    };
    (0..decoded.rows).map(row).collect()
}

fn cell(column: &Column, row: usize, kind: &ColumnKind, codes: &[(String, String)]) -> anyhow::Result<Cell> {
    if !column.has(row) {
        return Ok(Cell::Missing);
    }
    Ok(match (&column.values, kind) {
        (Values::Patients(values), _) => Cell::Patient(values[row] as usize),
        (Values::Codes(values), _) => {
            let (system, text) =
                codes.get(values[row] as usize).context("a code outside of the dictionary")?;
            Cell::Code(system.clone(), text.clone())
        }
        (Values::Dates(values), _) => Cell::Date(values[row]),
        (Values::Numbers(values), _) => Cell::Number(values[row]),
        (Values::Categories(values), ColumnKind::Category { categories }) => {
            let name = categories.get(usize::from(values[row])).context("a category without a name")?;
            Cell::Category(name.to_string())
        }
        (Values::Categories(_), _) => anyhow::bail!("categories in a column of another kind"),
    })
}
