//! Progress on a terminal; silence in a pipe.

use std::io::IsTerminal as _;

use indicatif::ProgressStyle;
use lockgate_signing::ids::Name;

/// Whether and where progress is shown.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    shown: bool,
}

impl Progress {
    /// Shown if standard error is a terminal.
    pub fn on_terminal() -> Self {
        Self { shown: std::io::stderr().is_terminal() }
    }

    /// Never shown.
    pub fn silent() -> Self {
        Self { shown: false }
    }

    pub(crate) fn start(&self, module: &Name, periods: usize) -> ProgressBar {
        let bar = if self.shown {
            let template = "{prefix} {bar:24} {pos}/{len} months, {msg} rows read ({elapsed})";
            let style =
                ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
            indicatif::ProgressBar::new(periods as u64).with_style(style).with_prefix(module.to_string())
        } else {
            indicatif::ProgressBar::hidden()
        };
        ProgressBar { bar, rows: std::sync::atomic::AtomicU64::new(0) }
    }
}

/// The progress of one module's run.
#[derive(Debug)]
pub(crate) struct ProgressBar {
    bar: indicatif::ProgressBar,
    rows: std::sync::atomic::AtomicU64,
}

impl ProgressBar {
    pub(crate) fn rows_read(&self, rows: u64) {
        let all = self.rows.fetch_add(rows, std::sync::atomic::Ordering::Relaxed) + rows;
        self.bar.set_message(indicatif::HumanCount(all).to_string());
    }

    pub(crate) fn period_done(&self) {
        self.bar.inc(1);
    }
}

impl Drop for ProgressBar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
