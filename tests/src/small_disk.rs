//! A small file system of its own over a folder, to be filled.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, ensure};

/// A tmpfs over a folder, seen by the programs that are started in it. It goes when this is dropped.
#[derive(Debug)]
pub struct SmallDisk {
    holder: Child,
    folder: PathBuf,
}

impl SmallDisk {
    /// Mounts one over an existing folder, whose files are copied into it; `None` where this machine does not let a user
    /// mount (no user namespaces).
    pub fn over(folder: &Path, kib: u32) -> anyhow::Result<Option<Self>> {
        let may = Command::new("unshare").args(["-rm", "true"]).stderr(Stdio::null()).status();
        if !may.is_ok_and(|status| status.success()) {
            return Ok(None);
        }
        let copy = folder.with_extension("before");
        crate::copy_folder(folder, &copy)?;
        // A mount namespace lives as long as a process in it, which waits for the end of its input.
        let script = format!(
            "mount -t tmpfs -o size={kib}k,mode=0700 none \"$0\" && cp -a \"$1\"/. \"$0\" && echo ready && read end"
        );
        let mut command = Command::new("unshare");
        command.args(["-rm", "sh", "-c", &script]).arg(folder).arg(&copy);
        let mut holder = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        let output = holder.stdout.take().context("no output")?;
        BufReader::new(output).read_line(&mut line)?;
        let disk = Self { holder, folder: folder.to_owned() };
        ensure!(line == "ready\n", "cannot mount a file system of {kib} KiB");
        Ok(Some(disk))
    }

    /// A program that does what another does, on this disk.
    pub fn on_it(&self, program: &Path, script: &Path) -> anyhow::Result<PathBuf> {
        let process = self.holder.id();
        let enter = format!("nsenter --target {process} --mount --user --preserve-credentials");
        std::fs::write(script, format!("#!/bin/sh\nexec {enter} {program:?} \"$@\"\n"))?;
        std::fs::set_permissions(script, std::fs::Permissions::from_mode(0o700))?;
        Ok(script.to_owned())
    }

    /// The folder as the programs on it see it.
    pub fn seen(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{}", self.holder.id(), self.folder.display()))
    }

    /// Fills it, but for this many bytes.
    pub fn fill(&self, but_bytes: u64) -> anyhow::Result<()> {
        let mut ballast = File::create(self.ballast())?;
        while ballast.write_all(&[0; 4096]).is_ok() {}
        let length = ballast.metadata()?.len();
        ensure!(length >= but_bytes, "less than {but_bytes} bytes were free");
        Ok(ballast.set_len(length - but_bytes)?)
    }

    /// Frees what [`SmallDisk::fill`] took.
    pub fn free(&self) -> anyhow::Result<()> {
        Ok(std::fs::remove_file(self.ballast())?)
    }

    fn ballast(&self) -> PathBuf {
        self.seen().join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // It ends by itself once its input ends; the file system goes with it.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
