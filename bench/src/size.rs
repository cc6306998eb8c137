//! Bundles against Parquet: the same rows in the same order.
//!
//! Ours: the signed header, the code dictionary and the blocks of every output. The peer: a file an output, zstd level 3, with
//! dictionaries, patients as 32-bit integers, dates as `DATE`, codes and categories as strings, numbers as `DOUBLE`, and no
//! column that a row always fills marked as optional. The token table is random bytes in any format (16 for each patient and
//! kind of link), so it is left out of both sides; with it on both sides is said beside it.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use lockgate_durable::key_file;
use lockgate_signing::block::{Column, PatientTable, Rows, Values};
use lockgate_signing::bundle::{BundleHeader, ColumnInfo, ColumnKind, OutputInfo};
use lockgate_signing::envelope::verify;
use lockgate_signing::opened::open_bundle;
use lockgate_tests::opened::warehouse_key;
use parquet::basic::{Compression, ZstdLevel};
use parquet::column::writer::ColumnWriter;
use parquet::data_type::{ByteArray, FixedLenByteArray};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;

use crate::data::{Data, FreshSite, TYPICAL};
use crate::process;

/// zstd's level for the peer; ours is the same.
const ZSTD_LEVEL: i32 = 3;
/// Rows of a row group: what Parquet's writers make by default.
const ROW_GROUP_ROWS: usize = 1 << 20;

pub(crate) fn over_parquet(data: &Data) -> anyhow::Result<(f64, String)> {
    let mut found = Vec::new();
    let fresh = FreshSite::new(&data.practice(TYPICAL)?, &[])?;
    found.push(("typical practice by month", Sizes::of_run(&fresh)?));
    if let Some(practices) = data.synthea()? {
        let mut both = Sizes::default();
        for practice in practices {
            // All of a patient's life at once: by month there would be a handful of rows a bundle.
            let whole = [
                ("initial = \"4 months\"", "initial = \"1 months\""),
                ("\nspan = \"period\"", "\nspan = \"all\""),
            ];
            both.add(&Sizes::of_run(&FreshSite::new(&practice, &whole)?)?);
        }
        found.push(("synthea-300", both));
    }
    let worst = found.iter().map(|(_, sizes)| sizes.ratio()).fold(0.0, f64::max);
    let mut details: Vec<String> = found.iter().map(|(name, sizes)| sizes.detail(name)).collect();
    if found.len() < 2 {
        details.push("synthea-300 is not there (LOCKGATE_DATA)".to_owned());
    }
    Ok((worst, details.join("; ")))
}

#[derive(Debug, Default)]
struct Sizes {
    rows: u64,
    bundles: u64,
    parquet: u64,
    tokens: u64,
    parquet_tokens: u64,
}

impl Sizes {
    fn of_run(fresh: &FreshSite) -> anyhow::Result<Self> {
        process::run(&fresh.run_without_push(), None)?;
        let key = key_file::load(&fresh.site.state().join("site-key.pem"))?.public();
        let warehouse = warehouse_key(&fresh.site)?;
        let mut all = Self::default();
        for folder in fresh.bundles()? {
            let bytes = std::fs::read(folder.join("header.cbor"))?;
            let header = verify::<BundleHeader>(&bytes, &key)?;
            let opened = open_bundle(&header, &warehouse, |block| {
                std::fs::read(folder.join(format!("{}.block", block.digest.to_hex())))
            })?;
            let header = header.into_message();
            let tokens: u64 = header.patients.iter().map(|block| block.bytes).sum();
            let mut one = Self {
                rows: header.rows(),
                bundles: bytes.len() as u64 + header.bytes() - tokens,
                tokens,
                ..Self::default()
            };
            let codes: Vec<String> = opened.codes.into_iter().map(|(_, text)| text).collect();
            let outputs = header.outputs.iter().zip(opened.outputs);
            for (output, blocks) in outputs.filter(|(output, _)| output.rows() > 0) {
                one.parquet += parquet_bytes(blocks, output, &codes)?;
            }
            for table in &opened.patients {
                one.parquet_tokens += parquet_token_bytes(table)?;
            }
            all.add(&one);
        }
        ensure!(all.rows > 0, "the run sent no rows");
        Ok(all)
    }

    fn add(&mut self, other: &Self) {
        self.rows += other.rows;
        self.bundles += other.bundles;
        self.parquet += other.parquet;
        self.tokens += other.tokens;
        self.parquet_tokens += other.parquet_tokens;
    }

    fn ratio(&self) -> f64 {
        self.bundles as f64 / self.parquet as f64
    }

    fn detail(&self, name: &str) -> String {
        let kb = |bytes: u64| bytes as f64 / 1e3;
        format!(
            "{name}: {:.0} ÷ {:.0} kB = {:.3} for {} rows, with tokens {:.0} ÷ {:.0} kB = {:.3}",
            kb(self.bundles),
            kb(self.parquet),
            self.ratio(),
            self.rows,
            kb(self.bundles + self.tokens),
            kb(self.parquet + self.parquet_tokens),
            (self.bundles + self.tokens) as f64 / (self.parquet + self.parquet_tokens) as f64
        )
    }
}

/// The size of an output as a Parquet file.
fn parquet_bytes(blocks: Vec<Rows>, output: &OutputInfo, codes: &[String]) -> anyhow::Result<u64> {
    let blocks: Vec<Vec<Column>> = blocks.into_iter().map(|block| block.columns).collect();
    let optional: Vec<bool> = (0..output.columns.len())
        .map(|column| blocks.iter().any(|block| block[column].missing.is_some()))
        .collect();
    let fields = output.columns.iter().zip(&optional).enumerate().map(|(at, (column, &optional))| {
        let repetition = if optional { "OPTIONAL" } else { "REQUIRED" };
        format!("{repetition} {};", field(&column.kind, at))
    });
    let mut writer = file(&fields.collect::<String>())?;
    let rows_a_block = lockgate_signing::block::ROWS_MAX as usize;
    for group in blocks.chunks(ROW_GROUP_ROWS / rows_a_block) {
        let mut row_group = writer.next_row_group()?;
        for (at, info) in output.columns.iter().enumerate() {
            let columns: Vec<&Column> = group.iter().map(|block| &block[at]).collect();
            write(&mut row_group, info, &columns, optional[at], codes)?;
        }
        row_group.close()?;
    }
    Ok(writer.into_inner()?.len() as u64)
}

fn field(kind: &ColumnKind, at: usize) -> String {
    match kind {
        ColumnKind::Patient => format!("INT32 c{at}"),
        ColumnKind::Code | ColumnKind::Category { .. } => format!("BYTE_ARRAY c{at} (UTF8)"),
        ColumnKind::Date => format!("INT32 c{at} (DATE)"),
        ColumnKind::Number { .. } => format!("DOUBLE c{at}"),
    }
}

fn file(fields: &str) -> anyhow::Result<SerializedFileWriter<Vec<u8>>> {
    let schema = Arc::new(parse_message_type(&format!("message rows {{ {fields} }}"))?);
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL)?))
        .set_dictionary_enabled(true)
        .build();
    Ok(SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties))?)
}

/// Writes one column of a row group.
fn write(
    row_group: &mut SerializedRowGroupWriter<'_, Vec<u8>>,
    info: &ColumnInfo,
    blocks: &[&Column],
    optional: bool,
    codes: &[String],
) -> anyhow::Result<()> {
    let present = |block: &Column| (0..block.values.len()).map(|row| i16::from(block.has(row))).collect();
    let levels: Vec<i16> = blocks.iter().flat_map(|block| -> Vec<i16> { present(block) }).collect();
    let levels = optional.then_some(levels.as_slice());
    let mut writer = row_group.next_column()?.context("a column more than the schema has")?;
    match writer.untyped() {
        ColumnWriter::Int32ColumnWriter(writer) => {
            let values = values(blocks, |values, row| match values {
                Values::Patients(values) => values[row].cast_signed(),
                Values::Dates(values) => values[row],
                _ => 0,
            });
            writer.write_batch(&values, levels, None)?;
        }
        ColumnWriter::DoubleColumnWriter(writer) => {
            let values = values(blocks, |values, row| match values {
                Values::Numbers(values) => values[row],
                _ => 0.0,
            });
            writer.write_batch(&values, levels, None)?;
        }
        ColumnWriter::ByteArrayColumnWriter(writer) => {
            let categories: Vec<String> = match &info.kind {
                ColumnKind::Category { categories } => categories.iter().map(ToString::to_string).collect(),
                _ => codes.to_vec(),
            };
            let texts: Vec<ByteArray> = categories.iter().map(|text| text.as_str().into()).collect();
            let values = values(blocks, |values, row| match values {
                Values::Codes(values) => texts[values[row] as usize].clone(),
                Values::Categories(values) => texts[usize::from(values[row])].clone(),
                _ => ByteArray::new(),
            });
            writer.write_batch(&values, levels, None)?;
        }
        _ => anyhow::bail!("a column of another type than the schema says"),
    }
    Ok(writer.close()?)
}

/// The values that are there.
fn values<T>(blocks: &[&Column], value: impl Fn(&Values, usize) -> T) -> Vec<T> {
    let rows = |block: &&Column| -> Vec<T> {
        (0..block.values.len()).filter(|&row| block.has(row)).map(|row| value(&block.values, row)).collect()
    };
    blocks.iter().flat_map(rows).collect()
}

/// The size of a stretch of the token table as a Parquet file.
fn parquet_token_bytes(table: &PatientTable) -> anyhow::Result<u64> {
    let mut fields = "REQUIRED FIXED_LEN_BYTE_ARRAY (16) token; REQUIRED BOOLEAN type_2;".to_owned();
    for link in 0..table.links.len() {
        fields.push_str(&format!(" OPTIONAL FIXED_LEN_BYTE_ARRAY (16) link{link};"));
    }
    let mut writer = file(&fields)?;
    let mut row_group = writer.next_row_group()?;
    let fixed = |token: &[u8; 16]| FixedLenByteArray::from(token.to_vec());
    let mut tokens = |tokens: &[FixedLenByteArray], levels: Option<&[i16]>| -> anyhow::Result<()> {
        let mut writer = row_group.next_column()?.context("a column more than the schema has")?;
        match writer.untyped() {
            ColumnWriter::FixedLenByteArrayColumnWriter(writer) => {
                writer.write_batch(tokens, levels, None)?;
            }
            ColumnWriter::BoolColumnWriter(writer) => {
                let flags: Vec<bool> =
                    (0..table.tokens.len()).map(|row| table.type_2.contains(row)).collect();
                writer.write_batch(&flags, None, None)?;
            }
            _ => anyhow::bail!("a column of another type than the schema says"),
        }
        Ok(writer.close()?)
    };
    tokens(&table.tokens.iter().map(fixed).collect::<Vec<_>>(), None)?;
    tokens(&[], None)?;
    for link in &table.links {
        let has: Vec<bool> = (0..link.tokens.len()).map(|row| !link.missing.contains(row)).collect();
        let there = link.tokens.iter().zip(&has).filter(|(_, has)| **has).map(|(token, _)| fixed(token));
        let levels: Vec<i16> = has.iter().map(|has| i16::from(*has)).collect();
        tokens(&there.collect::<Vec<_>>(), Some(&levels))?;
    }
    row_group.close()?;
    Ok(writer.into_inner()?.len() as u64)
}
