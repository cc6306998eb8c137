//! Copying a folder.

use std::path::Path;

use anyhow::Context as _;

/// Copies a folder with what is in it and who may read it, into a folder that is not there yet.
pub fn copy_folder(from: &Path, to: &Path) -> anyhow::Result<()> {
    let what = || format!("{} to {}", from.display(), to.display());
    std::fs::create_dir(to).with_context(what)?;
    for entry in std::fs::read_dir(from).with_context(what)? {
        let entry = entry?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            copy_folder(&from, &to)?;
        } else {
            std::fs::copy(&from, &to).with_context(what)?;
        }
    }
    // Last: a folder that nobody may write to can still be filled.
    Ok(std::fs::set_permissions(to, std::fs::metadata(from)?.permissions())?)
}
