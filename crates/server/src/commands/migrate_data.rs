//! `bugle migrate-data`

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bugle_store::transfer::{self, Counted, Outcome, Source, Step, StepSize};
use bugle_store::{DatabaseUrl, sqlite};
use clap::Args;

use super::{progress, say, until_stopped};
use crate::config::Settings;

/// Move everything from SQLite to PostgreSQL, and end.
///
/// Devices, subscriptions, accounts, and pushes in progress or scheduled for later, which go on where they stood. Stop the server first: this refuses a store that is in use.
///
///     bugle migrate-data --config bugle.toml --to postgres://bugle@db.example/bugle
///
/// Leave the password out of the command line: PGPASSWORD and ~/.pgpass are understood, and so is a store.url that names PostgreSQL already, with which --to is not
/// needed. The target must be empty; its tables are made.
///
/// After Ctrl-C, a crash or a lost connection the same command goes on where it was, and until it has come to its end no server starts on the target. In the end all
/// rows are counted and compared. The SQLite file is only read, and stays as it was. Never start a server on it again once one has run on PostgreSQL: it would
/// send pushes a second time.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct MigrateData {
    /// The configuration, in TOML
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// From where; by default from store.url, or from bugle.db in data.dir if that names PostgreSQL already
    #[arg(long, value_name = "sqlite:PATH")]
    from: Option<String>,
    /// Where to; by default to store.url
    #[arg(long, value_name = "postgres://…", value_parser = |url: &str| Ok::<_, String>(DatabaseUrl::new(url)))]
    to: Option<DatabaseUrl>,
}

impl MigrateData {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let settings = Settings::load(self.config.as_deref())?;
        let to = self.target(&settings)?;
        let path = self.source(&settings)?;
        let since = Instant::now();
        let bar = progress::of_count(0);
        bar.set_message("reading the SQLite store");
        let moved = tokio::select! {
            moved = migrate(path.clone(), &to, &bar) => moved,
            stopped = until_stopped() => {
                stopped?;
                Err(anyhow::anyhow!("stopped; the same command goes on from there"))
            }
        };
        bar.finish_and_clear();
        let path = path.display();
        match moved.with_context(|| format!("not everything is moved; {path} is as it was"))? {
            Outcome::WasDone => say(&format!(
                "everything in {path} had been moved to PostgreSQL before: nothing to do"
            )),
            Outcome::Done(counted) => say(&format!(
                "{}\nEverything is in PostgreSQL, counted and compared, after {}. {path} is as it was.\n{}",
                table(&counted),
                seconds(since.elapsed()),
                next(&settings)
            )),
        }
    }

    /// The database file.
    fn source(&self, settings: &Settings) -> anyhow::Result<PathBuf> {
        let url = match &self.from {
            Some(from) if from.contains("://") => bail!("--from: expected sqlite:PATH; only SQLite is moved from"),
            Some(from) if from == "sqlite" || from.starts_with("sqlite:") => DatabaseUrl::new(from),
            Some(path) => DatabaseUrl::new(format!("sqlite:{path}")),
            None if settings.store.url.is_postgres() => DatabaseUrl::new("sqlite"),
            None => settings.store.url.clone(),
        };
        let store = bugle_store::Config {
            url,
            ..bugle_store::Config::default()
        };
        Ok(sqlite::path(&store, &settings.data.dir)?)
    }

    fn target(&self, settings: &Settings) -> anyhow::Result<DatabaseUrl> {
        match &self.to {
            Some(to) if to.is_postgres() => {
                crate::addresses::check("--to", to).map_err(anyhow::Error::msg)?;
                Ok(to.clone())
            }
            Some(_) => bail!("--to: expected postgres://USER@HOST:PORT/DATABASE"),
            None if settings.store.url.is_postgres() => Ok(settings.store.url.clone()),
            None => bail!("where to? Give --to postgres://USER@HOST:PORT/DATABASE, or set store.url to it"),
        }
    }
}

async fn migrate(path: PathBuf, to: &DatabaseUrl, bar: &indicatif::ProgressBar) -> anyhow::Result<Outcome> {
    let source = tokio::task::spawn_blocking(move || Source::open(&path)).await??;
    bar.set_message("preparing PostgreSQL");
    let mut begun = false;
    let mut watch = |step: Step| {
        bar.set_length(step.total);
        bar.set_position(step.moved);
        if !begun {
            // What an earlier run has moved says nothing about the speed of this one.
            bar.reset_eta();
            begun = true;
        }
        let all = step.moved == step.total;
        bar.set_message(if all { "counting and comparing" } else { step.table });
    };
    Ok(transfer::run(source, to, StepSize::default(), &mut watch).await?)
}

fn table(counted: &[Counted]) -> String {
    let mut text = format!("{:<14} {:>12} {:>12}", "rows", "SQLite", "PostgreSQL");
    for row in counted {
        let _ = write!(text, "\n{:<14} {:>12} {:>12}", row.table, row.source, row.target);
    }
    text
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

fn next(settings: &Settings) -> &'static str {
    if settings.store.url.is_postgres() {
        "Next: start bugle."
    } else {
        "Next: set store.url to this database, and start bugle."
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const THERE: &str = "postgres://bugle:geheim@db/bugle";

    fn asked(from: Option<&str>, to: Option<&str>) -> MigrateData {
        MigrateData {
            config: None,
            from: from.map(str::to_owned),
            to: to.map(DatabaseUrl::new),
        }
    }

    fn settings(url: &str) -> Settings {
        let mut settings = Settings::default();
        settings.data.dir = "/data".into();
        settings.store.url = DatabaseUrl::new(url);
        settings
    }

    #[test]
    fn the_configuration_says_from_where_and_where_to_whichever_it_names() {
        let source = |from, url| asked(from, None).source(&settings(url)).unwrap();
        assert_eq!(source(None, "sqlite"), Path::new("/data/bugle.db"));
        assert_eq!(source(None, "sqlite:/x.db"), Path::new("/x.db"));
        assert_eq!(source(None, THERE), Path::new("/data/bugle.db"));
        assert_eq!(source(Some("sqlite:/y.db"), "sqlite:/x.db"), Path::new("/y.db"));
        assert_eq!(source(Some("/y.db"), THERE), Path::new("/y.db"));

        let target = |to, url| asked(None, to).target(&settings(url));
        assert_eq!(target(None, THERE).unwrap().expose(), THERE);
        assert_eq!(
            target(Some("postgres://a/b"), THERE).unwrap().expose(),
            "postgres://a/b"
        );
        assert_eq!(target(Some(THERE), "sqlite").unwrap().expose(), THERE);
        assert!(target(None, "sqlite").unwrap_err().to_string().contains("--to"));
        assert!(target(Some("sqlite:/x.db"), THERE).is_err());
        let typed = target(Some("postgres://a/b?sslmod=require"), "sqlite")
            .unwrap_err()
            .to_string();
        assert!(typed.starts_with("--to: "), "{typed}");
        assert!(asked(Some(THERE), None).source(&settings("sqlite")).is_err());
    }

    #[test]
    fn no_password_is_in_what_is_printed_of_the_arguments() {
        assert!(!format!("{:?}", asked(None, Some(THERE))).contains("geheim"));
    }
}
