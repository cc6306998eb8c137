//! A linker service of your own: verify a bundle that came some other way than over `lockgate-linker`'s HTTP.
//!
//! `cargo run -p lockgate-linker --example verify -- SITE SITE-KEY.pem HEADER BLOCK-FOLDER`
//!
//! HEADER is a file with the signed header; BLOCK-FOLDER holds the blocks, each named by its SHA-256.

use std::error::Error;
use std::fs::{self, File};
use std::path::Path;

use lockgate_linker::verify::{SiteKey, verify_bundle};
use lockgate_signing::keys::PublicKey;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [site, key_file, header_file, folder] = arguments.as_slice() else {
        return Err("usage: verify SITE SITE-KEY.pem HEADER BLOCK-FOLDER".into());
    };
    let known = SiteKey {
        key: PublicKey::from_pem(&fs::read_to_string(key_file)?)?,
        site: site.parse()?,
        revoked: false,
    };

    // These are the five lines: the header's bytes, how to find a key, how to open a block.
    let bundle = verify_bundle(
        &fs::read(header_file)?,
        |id| Some(known).filter(|known| known.key.id() == id),
        |block| File::open(Path::new(folder).join(block.digest.to_hex())),
    )?;

    let header = bundle.message();
    println!("bundle {} of {}: {} rows of {}", bundle.id(), header.site, header.rows(), header.period);
    Ok(())
}
