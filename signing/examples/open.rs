//! A recipient of your own: open a bundle that `lockgate-linker export ID FILE` gave out.
//!
//! `cargo run -p lockgate-signing --example open -- OPENING-KEY.pem SITE-KEY.pem FILE`
//!
//! OPENING-KEY is the recipient's X25519 key (PKCS#8), SITE-KEY the site's public key (SPKI). Prints a line for each output.

use std::collections::HashMap;
use std::error::Error;
use std::fs::{self, File};
use std::io::{self, BufReader};

use lockgate_signing::bundle::BundleHeader;
use lockgate_signing::carriage::Carriage;
use lockgate_signing::envelope::verify;
use lockgate_signing::keys::PublicKey;
use lockgate_signing::opened::open_bundle;
use lockgate_signing::sealed::OpeningKey;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [opening_key, site_key, file] = arguments.as_slice() else {
        return Err("usage: open OPENING-KEY.pem SITE-KEY.pem FILE".into());
    };
    let opening_key = OpeningKey::from_pem(&fs::read_to_string(opening_key)?)?;
    let site_key = PublicKey::from_pem(&fs::read_to_string(site_key)?)?;

    // 1. The header first: nothing else is believed before its signature is.
    let carriage = Carriage::open(BufReader::new(File::open(file)?))?;
    let header = verify::<BundleHeader>(carriage.signed_header(), &site_key)?;
    // 2. The blocks, each checked against the header while it is read.
    let mut blocks = HashMap::new();
    carriage.blocks(
        &header,
        |_| Ok(Vec::new()),
        |named, bytes| {
            blocks.insert(named.digest, bytes);
            Ok(())
        },
    )?;
    // 3. Decrypt and decode.
    let opened = open_bundle(&header, &opening_key, |named| {
        blocks.remove(&named.digest).ok_or_else(|| io::Error::other("a block is not there"))
    })?;

    let patients: usize = opened.patients.iter().map(|table| table.tokens.len()).sum();
    println!(
        "bundle {} of {}: {patients} patients, {} codes",
        header.id(),
        header.message().site,
        opened.codes.len()
    );
    for (output, blocks) in header.message().outputs.iter().zip(&opened.outputs) {
        let rows: usize = blocks.iter().map(|block| block.rows).sum();
        println!("{}: {rows} rows of {} columns", output.name, output.columns.len());
    }
    Ok(())
}
