//! `bugle devices import`

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, bail};
use clap::Args;
use futures_util::{Stream, StreamExt, stream};
use indicatif::ProgressBar;
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Format;
use super::batch::{Batch, confirm};
use super::journal::{Journal, Rejected};
use super::source::Source;
use crate::client::Client;
use crate::commands::connect::Connect;
use crate::commands::{progress, say, until_stopped};

/// A request is full with so many bytes of commands.
const REQUEST: usize = 1024 * 1024;
/// So many bad lines are told on standard error; all are in the file.
const TOLD: u64 = 20;
/// Register the devices of a file, CSV or NDJSON.
///
/// Columns of CSV, fields of NDJSON: token, platform (android, ios, web); and, where known, provider (fcm), user, id, channels, topics, timezone, locale, meta. CSV needs a header with
/// these names in any order; channels and topics have ; between them, meta is JSON. An empty cell is absent.
///
///   token,platform,user,channels,meta
///   dQw4w9WgXcQ:APA91b,android,42,news;sport,"{""plan"": ""free""}"
///
///   {"token": "dQw4w9WgXcQ:APA91b", "platform": "android", "user": "42", "channels": ["news", "sport"], "meta": {"plan": "free"}}
///
/// Each line is a device_register: a device that is there already is updated, so that importing a file twice changes nothing. Lines are not carried out in their order:
/// no device should be in the file twice.
///
/// Lines that are wrong are told by their number and set aside in FILE.rejected, with what is wrong with them; everything else is registered. Correct them there and import
/// that file (it needs --format). The exit code is 1 if there are any.
///
/// How far the import is stands in FILE.progress. After Ctrl-C, a crash or a power cut the same command goes on from there.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
#[expect(clippy::doc_link_with_quotes, reason = "it is what --help prints")]
pub(crate) struct Import {
    /// The file; it is read as a stream, whatever its size
    file: PathBuf,
    /// How it is written; by default the name's ending says it
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Devices in one request
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    batch: u32,
    /// Requests on their way at once
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=256))]
    parallel: u32,
    /// Start over instead of going on where an earlier import of this file stopped
    #[arg(long)]
    restart: bool,
    #[command(flatten)]
    server: Connect,
}

impl Import {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let format = Format::of(self.format, &self.file)?;
        let kind = std::fs::metadata(&self.file).with_context(|| format!("cannot read {}", self.file.display()))?;
        if !kind.is_file() {
            bail!(
                "{} is not a file that can be read again from the middle",
                self.file.display()
            );
        }
        let lock = std::fs::File::open(&self.file).with_context(|| format!("cannot read {}", self.file.display()))?;
        if lock.try_lock().is_err() {
            bail!("another import of {} is running", self.file.display());
        }
        let client = Arc::new(self.server.client()?);
        let mut journal = Journal::open(&self.file, format, client.base(), self.restart)?;
        let mut source = Source::open(&self.file, format, journal.state.place)?;
        // A wrong address or key is told before anything is written.
        client.call("device_list", &json!({"limit": 1})).await?;
        journal.begin(source.header())?;
        let bar = progress::of_bytes(kind.len());
        if let Some(place) = journal.state.place {
            progress::tell(
                &bar,
                &format!("going on at line {} of {}", place.line, self.file.display()),
            );
        }
        let began = Instant::now();
        let before = journal.state.registered;
        let whole = self.feed(source, &client, &mut journal, &bar).await;
        bar.finish_and_clear();
        self.ended(whole, journal, before, began)
    }

    /// Sends batch after batch and notes what is done, in the order of the file. `false` = told to stop before the end.
    async fn feed(
        &self,
        source: Source,
        client: &Arc<Client>,
        journal: &mut Journal,
        bar: &ProgressBar,
    ) -> anyhow::Result<bool> {
        let stop = CancellationToken::new();
        let told = stop.clone();
        let signal = tokio::spawn(async move {
            if until_stopped().await.is_ok() {
                told.cancel();
                // Whoever does not want to wait for the requests that are on their way says so again.
                let _ = until_stopped().await;
                std::process::exit(1);
            }
        });
        let done = batches(source, self.batch as usize, stop.clone())
            .map(|batch| {
                let client = Arc::clone(client);
                async move { tokio::spawn(async move { confirm(&client, batch?).await }).await? }
            })
            .buffered(self.parallel as usize);
        let mut done = std::pin::pin!(done);
        while let Some(batch) = done.next().await {
            let batch = batch?;
            tell(&batch.rejected, journal.state.rejected, bar);
            journal.advance(batch.end, batch.registered, &batch.rejected)?;
            bar.set_position(batch.end.byte);
            bar.set_message(format!("{} devices", journal.state.registered));
        }
        signal.abort();
        Ok(!stop.is_cancelled())
    }

    fn ended(
        &self,
        whole: anyhow::Result<bool>,
        mut journal: Journal,
        before: u64,
        began: Instant,
    ) -> anyhow::Result<()> {
        let file = self.file.display();
        if !matches!(whole, Ok(true)) {
            journal.write()?;
            let (line, registered) = (
                journal.state.place.map_or(1, |place| place.line),
                journal.state.registered,
            );
            let words = format!(
                "the import stopped at line {line} of {file}, {registered} devices are registered; the same command goes on from there"
            );
            return match whole {
                Err(error) => Err(error.context(words)),
                Ok(_) => bail!(words),
            };
        }
        let rejects = journal.rejects.clone();
        let state = journal.finish()?;
        let took = began.elapsed().as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = (state.registered - before) as f64 / took.max(0.001);
        say(&format!(
            "registered {} devices of {file} in {took:.1} s ({rate:.0} a second)",
            state.registered
        ))?;
        if state.rejected > 0 {
            bail!(
                "{} lines are wrong and set aside in {}: correct them there and import that file",
                state.rejected,
                rejects.display()
            );
        }
        Ok(())
    }
}

/// Tells the first bad lines.
fn tell(rejected: &[Rejected], before: u64, bar: &ProgressBar) {
    let room = usize::try_from(TOLD.saturating_sub(before)).unwrap_or(usize::MAX);
    for line in rejected.iter().take(room) {
        progress::tell(bar, &format!("line {}: {}", line.number, line.problem));
    }
    if room > 0 && rejected.len() > room {
        progress::tell(bar, "more lines are wrong: see the file of those set aside");
    }
}

/// Reads on a thread of its own, a few batches ahead.
fn batches(mut source: Source, size: usize, stop: CancellationToken) -> impl Stream<Item = anyhow::Result<Batch>> {
    let (sender, receiver) = mpsc::channel(4);
    tokio::task::spawn_blocking(move || {
        while let Some(batch) = read(&mut source, size).transpose() {
            let failed = batch.is_err();
            if sender.blocking_send(batch).is_err() || failed {
                return;
            }
        }
    });
    stream::unfold((receiver, stop), |(mut receiver, stop)| async move {
        tokio::select! {
            biased;
            () = stop.cancelled() => None,
            batch = receiver.recv() => batch.map(|batch| (batch, (receiver, stop))),
        }
    })
}

fn read(source: &mut Source, size: usize) -> anyhow::Result<Option<Batch>> {
    let (mut lines, mut bytes) = (Vec::with_capacity(size), 0);
    while lines.len() < size && bytes < REQUEST {
        let Some(line) = source.next().context("cannot read on")? else {
            break;
        };
        bytes += line.command.as_ref().map_or(REQUEST / 8, String::len);
        lines.push(line);
    }
    let end = source.place();
    Ok((!lines.is_empty()).then_some(Batch { lines, end }))
}
