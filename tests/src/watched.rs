//! Running a program to its end while its memory is watched.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::command::Finished;

/// What a program used.
#[derive(Debug, Clone, Copy)]
pub struct Used {
    /// The most memory that was resident at once, bytes.
    pub memory_bytes: u64,
    /// From start to end.
    pub time: Duration,
}

/// How often the memory is looked at. The kernel keeps the highest value, so a look misses only what comes after the last.
const LOOK: Duration = Duration::from_millis(2);

/// Runs a program to its end, and says what it used.
pub fn finish_watched(command: &mut Command) -> anyhow::Result<(Finished, Used)> {
    let what = format!("{command:?}");
    let started = Instant::now();
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = child.spawn().with_context(|| format!("cannot run {what}"))?;
    let status = format!("/proc/{}/status", child.id());
    let waiting = std::thread::spawn(move || child.wait_with_output());
    let mut memory_bytes = 0;
    while !waiting.is_finished() {
        let now = std::fs::read_to_string(&status).ok().and_then(|text| high_water_bytes(&text));
        memory_bytes = memory_bytes.max(now.unwrap_or(0));
        std::thread::sleep(LOOK);
    }
    let time = started.elapsed();
    let output = waiting.join().map_err(|_| anyhow::anyhow!("{what} was not waited for"))??;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let (stdout, stderr) = (text(output.stdout), text(output.stderr));
    Ok((Finished { what, code: output.status.code(), stdout, stderr }, Used { memory_bytes, time }))
}

/// `VmHWM` of proc(5).
fn high_water_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kibibytes| kibibytes << 10)
}
