//! `bugle devices export`

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, BufWriter, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use serde_json::{Value, json};

use super::Format;
use super::line::{COLUMNS, DeviceLine};
use crate::client::Client;
use crate::commands::connect::Connect;
use crate::commands::{progress, say};

/// Devices in one request.
const PAGE: u32 = 1_000;

/// Write all devices to a file, CSV or NDJSON, with their channels and meta.
///
/// The file is one that `bugle devices import` reads. It holds the tokens, so only its owner may read it.
///
/// It is written as FILE.part and has its name when it is whole. After Ctrl-C, a crash or a lost server the same command goes on behind the last device in FILE.part.
/// Devices that are registered, changed or removed meanwhile may be in it as they were before or after.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Export {
    /// The file
    file: PathBuf,
    /// How to write it; by default the name's ending says it
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Replace the file if it is there
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    server: Connect,
}

impl Export {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let format = Format::of(self.format, &self.file)?;
        if self.file.exists() && !self.force {
            bail!(
                "{} is there already: name another file, or give --force to replace it",
                self.file.display()
            );
        }
        let client = self.server.client()?;
        let path = self.file.with_added_extension("part");
        // A wrong address or key is told before anything is written.
        let first = client
            .call("device_list", &json!({"limit": 1, "include_total_count": true}))
            .await?;
        let words = || format!("cannot write {}", path.display());
        let mut part = Part::open(&path, format).with_context(words)?;
        let bar = progress::of_count(first["total_count"].as_u64().unwrap_or_default());
        if let Some(id) = &part.last {
            progress::tell(
                &bar,
                &format!(
                    "going on in {} behind {} devices, the last one {id}",
                    path.display(),
                    part.devices
                ),
            );
        }
        bar.set_position(part.devices);
        bar.reset_eta();
        let copied = copy(&client, &mut part, &bar).await;
        bar.finish_and_clear();
        let devices = part.devices;
        let kept = part.close();
        copied.with_context(|| {
            format!("the export stopped behind {devices} devices; the same command goes on from there")
        })?;
        kept.and_then(|()| place(&path, &self.file)).with_context(words)?;
        say(&format!("{devices} devices are in {}", self.file.display()))
    }
}

/// Gives the whole file its name, durably.
fn place(part: &Path, file: &Path) -> anyhow::Result<()> {
    std::fs::rename(part, file)?;
    let dir = file
        .parent()
        .filter(|dir| !dir.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    Ok(File::open(dir)?.sync_all()?)
}

async fn copy(client: &Client, part: &mut Part, bar: &indicatif::ProgressBar) -> anyhow::Result<()> {
    loop {
        let asked = json!({"limit": PAGE, "cursor": part.last, "include_meta": true, "include_topics": true});
        let page = client.call("device_list", &asked).await?;
        for device in page["items"].as_array().into_iter().flatten() {
            part.write(&line(device)?)?;
            bar.inc(1);
        }
        if page.get("next_cursor").is_none() {
            return Ok(());
        }
    }
}

/// A device of a list, as a line.
fn line(device: &Value) -> anyhow::Result<DeviceLine> {
    let text = |key: &str| device[key].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    Ok(DeviceLine {
        id: text("id"),
        token: text("token"),
        platform: text("platform"),
        provider: text("provider"),
        user: text("user"),
        channels: serde_json::from_value(device["topics"].clone()).context("topics")?,
        meta: serde_json::from_value(device["meta"].clone()).context("meta")?,
        timezone: text("timezone"),
        locale: text("locale"),
        ..DeviceLine::default()
    })
}

/// The file while it is written.
struct Part {
    file: BufWriter<File>,
    format: Format,
    /// Devices in it, …
    devices: u64,
    /// … and the last one's id.
    last: Option<String>,
}

impl Part {
    /// Opens the file, and goes on behind its last whole device.
    fn open(path: &Path, format: Format) -> anyhow::Result<Self> {
        let mut file = match OpenOptions::new().read(true).write(true).open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => OpenOptions::new()
                .read(true)
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(path)?,
            opened => opened?,
        };
        if file.try_lock().is_err() {
            bail!("another export writes it");
        }
        let whole = match format {
            Format::Csv => whole_rows(&file)?,
            Format::Ndjson => whole_lines(&file)?,
        };
        file.set_len(whole.bytes)?;
        file.seek(SeekFrom::End(0))?;
        let mut part = Self {
            file: BufWriter::with_capacity(256 * 1024, file),
            format,
            devices: whole.devices,
            last: whole.last,
        };
        if format == Format::Csv && whole.bytes == 0 {
            csv::Writer::from_writer(&mut part.file).write_record(COLUMNS)?;
        }
        Ok(part)
    }

    fn write(&mut self, line: &DeviceLine) -> anyhow::Result<()> {
        match self.format {
            Format::Csv => csv::Writer::from_writer(&mut self.file).write_record(line.row()?)?,
            Format::Ndjson => {
                serde_json::to_writer(&mut self.file, line)?;
                self.file.write_all(b"\n")?;
            }
        }
        self.devices += 1;
        self.last.clone_from(&line.id);
        Ok(())
    }

    fn close(self) -> anyhow::Result<()> {
        let file = self.file.into_inner().map_err(std::io::IntoInnerError::into_error)?;
        Ok(file.sync_all()?)
    }
}

/// What is whole in a file that was broken off.
#[derive(Default)]
struct Whole {
    bytes: u64,
    devices: u64,
    last: Option<String>,
}

fn whole_lines(file: &File) -> anyhow::Result<Whole> {
    #[derive(serde::Deserialize)]
    struct Id {
        id: String,
    }
    let (mut reader, mut whole, mut line, mut last) = (BufReader::new(file), Whole::default(), Vec::new(), Vec::new());
    while reader.read_until(b'\n', &mut line)? > 0 && line.ends_with(b"\n") {
        whole.bytes += line.len() as u64;
        whole.devices += 1;
        std::mem::swap(&mut last, &mut line);
        line.clear();
    }
    if whole.devices > 0 {
        let id: Result<Id, _> = serde_json::from_slice(&last);
        whole.last = Some(
            id.ok()
                .context("it is not of an export as NDJSON; remove it to start over")?
                .id,
        );
    }
    Ok(whole)
}

fn whole_rows(mut file: &File) -> anyhow::Result<Whole> {
    const FOREIGN: &str = "it is not of an export as CSV; remove it to start over";
    let length = file.metadata()?.len();
    let mut reader = csv::ReaderBuilder::new()
        .flexible(true)
        .has_headers(false)
        .terminator(csv::Terminator::Any(b'\n'))
        .from_reader(BufReader::new(file));
    let (mut whole, mut row) = (Whole::default(), csv::StringRecord::new());
    let mut header = true;
    while reader.read_record(&mut row).ok().context(FOREIGN)? {
        let end = reader.position().byte();
        if end == length && !ends_with_line_feed(&mut file)? || row.len() != COLUMNS.len() {
            if whole.bytes == 0 && end < length {
                bail!(FOREIGN);
            }
            break;
        }
        if header && row != COLUMNS[..] {
            bail!(FOREIGN);
        }
        whole.bytes = end;
        if !header {
            whole.devices += 1;
            whole.last = Some(row[0].to_owned());
        }
        header = false;
    }
    Ok(whole)
}

fn ends_with_line_feed(file: &mut &File) -> std::io::Result<bool> {
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last == [b'\n'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(number: u32) -> DeviceLine {
        let json = format!(
            r#"{{"id":"id-{number}","token":"t{number}","platform":"ios","user":"a \"quoted\", one","channels":["x;y"],"meta":{{"k":"1\n2"}}}}"#
        );
        DeviceLine::of_json(json.as_bytes()).unwrap()
    }

    /// Writes three devices, breaks the file off at every byte, and goes on.
    fn broken_off_anywhere(format: Format) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("devices.part");
        let mut part = Part::open(&path, format).unwrap();
        (1..=3).for_each(|number| part.write(&device(number)).unwrap());
        part.close().unwrap();
        let whole = std::fs::read(&path).unwrap();
        for length in 0..=whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            let mut part = Part::open(&path, format).unwrap();
            let done = u32::try_from(part.devices).unwrap();
            assert_eq!(part.last, (done > 0).then(|| format!("id-{done}")), "{length} bytes");
            (done + 1..=3).for_each(|number| part.write(&device(number)).unwrap());
            part.close().unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), whole, "{format:?}, {length} bytes");
        }
    }

    #[test]
    fn a_file_that_broke_off_anywhere_is_finished_as_if_it_had_not() {
        broken_off_anywhere(Format::Csv);
        broken_off_anywhere(Format::Ndjson);
    }

    #[test]
    fn a_foreign_file_is_not_touched() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("devices.part");
        for format in [Format::Csv, Format::Ndjson] {
            std::fs::write(&path, "my diary\nis long\n").unwrap();
            assert!(Part::open(&path, format).is_err());
            assert_eq!(std::fs::read(&path).unwrap(), b"my diary\nis long\n");
        }
    }
}
