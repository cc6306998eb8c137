//! The stages of building, testing and measuring Lockgate: `cargo xtask STAGE`.

mod guests;

use std::path::Path;

use anyhow::{Context, Result, bail};

fn main() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the workspace has no root")?;
    match std::env::args().nth(1).as_deref() {
        Some("guests") => {
            let guests = guests::build(root)?;
            for guest in guests.all() {
                println!("{} ({})", guest.wasm.display(), guest.manifest.display());
            }
            Ok(())
        }
        _ => bail!("stages: guests"),
    }
}
