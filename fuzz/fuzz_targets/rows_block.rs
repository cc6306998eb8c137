#![no_main]
use lockgate_signing::bundle::{ColumnInfo, ColumnKind};

fn schema() -> Vec<ColumnInfo> {
    let info = |name: &str, kind| ColumnInfo { name: name.parse().expect("a name"), kind };
    vec![
        info("patient", ColumnKind::Patient),
        info("date", ColumnKind::Date),
        info("code", ColumnKind::Code),
        info("value", ColumnKind::Number { decimals: 3 }),
        info("unit", ColumnKind::Code),
    ]
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    // Compressed here, so that the fuzzer works on what is inside of the frame.
    let framed = zstd::bulk::compress(data, 1).expect("it fits in memory");
    let _ = lockgate_signing::block::decode_rows(&framed, &schema());
});
