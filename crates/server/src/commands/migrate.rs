//! `bugle migrate`

use std::path::PathBuf;

use clap::Args;

use crate::backends;
use crate::config::Settings;

/// Bring the database to this version's form, and end.
///
/// For installations that set store.migrate = false, so that a new version never changes the database by merely being started: stop the server, make a backup, run
/// this, start the new version. Makes the database where there is none. A migration that fails leaves everything as it was.
///
/// With PostgreSQL it may run while servers do: migrations only add, so that old and new processes work side by side.
///
/// With store.migrate = true, the default, `bugle serve` does the same at start.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Migrate {
    /// The configuration, in TOML
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Migrate {
    pub(crate) async fn run(&self) -> anyhow::Result<()> {
        let settings = Settings::load(self.config.as_deref())?;
        let (from, to) = if settings.store.url.is_postgres() {
            bugle_store::postgres::migrate(&settings.store).await?
        } else {
            bugle_store::sqlite::migrate(&settings.store, &settings.data.dir)?
        };
        let place = backends::store_words(&settings);
        super::say(&match from {
            0 => format!("made the database ({place}), form {to}"),
            from if from == to => format!("the database ({place}) has form {to} already: nothing to do"),
            from => format!("migrated the database ({place}) from form {from} to {to}"),
        })
    }
}
