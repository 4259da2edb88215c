//! `bugle devices`: many devices at once, through the API of a running server.
//!
//! | file | what |
//! |---|---|
//! | `line` | one device as a line of CSV or NDJSON, and as a command |
//! | `source` | a file of such lines, from any place on, in bounded memory |
//! | `batch` | some lines on their way to the server |
//! | `import` | batches in flight; confirmed in the order of the file |
//! | `journal` | how far an import is, and the lines that were set aside |
//! | `export` | pages by cursor into a file |

mod batch;
mod export;
mod import;
mod journal;
mod line;
mod restore;
mod source;

use std::path::Path;

use anyhow::bail;
use clap::{Args, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};

/// Import, export and restore devices.
#[derive(Debug, Args)]
pub(crate) struct Devices {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Import(import::Import),
    Export(export::Export),
    Restore(restore::Restore),
}

impl Devices {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Import(import) => import.run().await,
            Command::Export(export) => export.run().await,
            Command::Restore(restore) => restore.run().await,
        }
    }
}

/// How devices are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    /// Comma-separated, with a header
    Csv,
    /// One JSON object a line
    Ndjson,
}

impl Format {
    /// The one that is asked for, or the one of the file's name.
    fn of(asked: Option<Self>, file: &Path) -> anyhow::Result<Self> {
        let extension = file
            .extension()
            .and_then(|extension| extension.to_str())
            .unwrap_or_default();
        match (asked, extension.to_ascii_lowercase().as_str()) {
            (Some(format), _) => Ok(format),
            (None, "csv") => Ok(Self::Csv),
            (None, "ndjson" | "jsonl") => Ok(Self::Ndjson),
            _ => bail!(
                "{}: the name ends neither in .csv nor in .ndjson or .jsonl: say which it is with --format",
                file.display()
            ),
        }
    }
}
