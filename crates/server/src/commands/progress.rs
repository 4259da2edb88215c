//! Progress bars on standard error. They are quiet where that is no terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A bar of bytes.
pub(crate) fn of_bytes(total: u64) -> ProgressBar {
    bar(total, "{bar:30} {percent:>3}% {bytes}/{total_bytes} {msg} ({eta} left)")
}

/// A bar of things that are counted.
pub(crate) fn of_count(total: u64) -> ProgressBar {
    bar(
        total,
        "{bar:30} {percent:>3}% {human_pos}/{human_len} {per_sec:>12} {msg} ({eta} left)",
    )
}

fn bar(total: u64, template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::new(total).with_style(style);
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}

/// Writes a line to standard error, above a bar.
pub(crate) fn tell(bar: &ProgressBar, line: &str) {
    bar.suspend(|| eprintln!("{line}"));
}
