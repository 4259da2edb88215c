//! How far an import is, on disk.
//!
//! | file | holds |
//! |---|---|
//! | `FILE.progress` | [`State`]: everything before its place is registered or set aside; replaced as a whole |
//! | `FILE.rejected` | the lines that were set aside, in the order of the file |
//!
//! The state names the length of `FILE.rejected` that belongs to it, and what is behind that is cut off before an import goes on. So a kill at any moment loses nothing
//! and sets nothing aside twice; it only repeats registrations, which changes nothing.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::Format;
use super::source::{Place, Raw};

/// How often the state is written.
const EVERY: Duration = Duration::from_millis(200);
/// The columns that stand before those of a line that is set aside.
const ADDED: [&str; 2] = ["line", "problem"];
/// How much of the file's beginning tells it from another.
const HEAD: u64 = 64 * 1024;

/// The content of `FILE.progress`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    /// Where the import goes to.
    pub(super) server: String,
    pub(super) format: Format,
    /// Which content it is of: length and beginning.
    bytes: u64,
    head: String,
    /// Where to go on; `None` = at the beginning.
    pub(super) place: Option<Place>,
    /// Devices registered before the place.
    pub(super) registered: u64,
    /// Lines set aside before the place.
    pub(super) rejected: u64,
    rejected_bytes: u64,
}

/// A line to be set aside.
pub(super) struct Rejected {
    pub(super) number: u64,
    pub(super) raw: Raw,
    pub(super) problem: String,
}

/// The state and its files.
pub(super) struct Journal {
    pub(super) state: State,
    pub(super) rejects: PathBuf,
    path: PathBuf,
    header: Option<csv::ByteRecord>,
    file: Option<File>,
    written: Option<Instant>,
}

impl State {
    fn new(source: &Path, format: Format, server: &str) -> anyhow::Result<Self> {
        let fingerprint = || -> io::Result<(u64, String)> {
            let file = File::open(source)?;
            let bytes = file.metadata()?.len();
            let mut head = Vec::new();
            file.take(HEAD).read_to_end(&mut head)?;
            let hash = digest::digest(&digest::SHA256, &head);
            Ok((bytes, URL_SAFE_NO_PAD.encode(hash)))
        };
        let (bytes, head) = fingerprint().with_context(|| format!("cannot read {}", source.display()))?;
        Ok(Self {
            server: server.to_owned(),
            format,
            bytes,
            head,
            place: None,
            registered: 0,
            rejected: 0,
            rejected_bytes: 0,
        })
    }

    /// Is it about the same content, in the same form, to the same server?
    fn continues(&self, other: &Self) -> bool {
        (self.bytes, &self.head, self.format, &self.server) == (other.bytes, &other.head, other.format, &other.server)
    }
}

impl Journal {
    /// Reads how far an earlier import of this file came, unless it is to start over.
    pub(super) fn open(source: &Path, format: Format, server: &str, over: bool) -> anyhow::Result<Self> {
        let path = source.with_added_extension("progress");
        let rejects = source.with_added_extension("rejected");
        let mut state = State::new(source, format, server)?;
        match fs::read(&path) {
            Ok(_) if over => {}
            Ok(text) => {
                let earlier: State = serde_json::from_slice(&text)
                    .with_context(|| format!("{} is not of an import; remove it to start over", path.display()))?;
                if !earlier.continues(&state) {
                    bail!(
                        "{} is of an import of another content, in another form, or to another server ({}): give --restart to start over",
                        path.display(),
                        earlier.server
                    );
                }
                state = earlier;
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
        Ok(Self {
            state,
            rejects,
            path,
            header: None,
            file: None,
            written: None,
        })
    }

    /// Cuts off what does not belong to the state, and keeps the header for lines that will be set aside.
    pub(super) fn begin(&mut self, header: Option<csv::ByteRecord>) -> anyhow::Result<()> {
        self.header = header;
        if self.state.rejected_bytes == 0 {
            match fs::remove_file(&self.rejects) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("cannot remove {}", self.rejects.display()));
                }
                _ => {}
            }
        } else {
            let file = private().append(true).open(&self.rejects);
            let file = file.and_then(|file| {
                file.set_len(self.state.rejected_bytes)?;
                Ok(file)
            });
            let words = || {
                format!(
                    "cannot go on with {}; give --restart to start over",
                    self.rejects.display()
                )
            };
            self.file = Some(file.with_context(words)?);
        }
        self.write()
    }

    /// Everything up to the place is done: so many registered, these set aside.
    pub(super) fn advance(&mut self, to: Place, registered: u64, rejected: &[Rejected]) -> anyhow::Result<()> {
        self.set_aside(rejected)
            .with_context(|| format!("cannot write {}", self.rejects.display()))?;
        self.state.place = Some(to);
        self.state.registered += registered;
        self.state.rejected += rejected.len() as u64;
        if self.written.is_none_or(|at| at.elapsed() >= EVERY) {
            self.write()?;
        }
        Ok(())
    }

    fn set_aside(&mut self, lines: &[Rejected]) -> anyhow::Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        let mut text = Vec::new();
        // Lines that were set aside before have these columns already.
        let again = match &self.header {
            Some(header) if header.iter().take(2).eq(ADDED.map(str::as_bytes)) => 2,
            _ => 0,
        };
        if self.file.is_none() {
            self.file = Some(private().create(true).append(true).open(&self.rejects)?);
            if let Some(header) = &self.header {
                row(&mut text, &ADDED, header.iter().skip(again))?;
            }
        }
        for line in lines {
            let number = line.number.to_string();
            match (&self.header, &line.raw) {
                (None, Raw::Text(raw)) => {
                    writeln!(text, "# line {number}: {}", line.problem.replace(['\n', '\r'], " "))?;
                    text.extend_from_slice(raw);
                    text.push(b'\n');
                }
                (_, Raw::Row(raw)) => row(&mut text, &[&number, &line.problem], raw.iter().skip(again))?,
                // What cannot be told apart into fields is kept in one.
                (Some(_), Raw::Text(raw)) => row(&mut text, &[&number, &line.problem], [&raw[..]].into_iter())?,
            }
        }
        if let Some(file) = &mut self.file {
            file.write_all(&text)?;
        }
        self.state.rejected_bytes += text.len() as u64;
        Ok(())
    }

    /// Makes the state durable, after the lines that belong to it.
    pub(super) fn write(&mut self) -> anyhow::Result<()> {
        let replaced = || -> anyhow::Result<()> {
            if let Some(file) = &self.file {
                file.sync_data()?;
            }
            let next = self.path.with_added_extension("new");
            let mut file = private().create(true).truncate(true).write(true).open(&next)?;
            file.write_all(&serde_json::to_vec(&self.state)?)?;
            file.sync_data()?;
            Ok(fs::rename(&next, &self.path)?)
        };
        replaced().with_context(|| format!("cannot write {}", self.path.display()))?;
        self.written = Some(Instant::now());
        Ok(())
    }

    /// The whole file is done: nothing is left to go on with.
    pub(super) fn finish(self) -> anyhow::Result<State> {
        if let Some(file) = &self.file {
            file.sync_all()?;
        }
        fs::remove_file(&self.path).with_context(|| format!("cannot remove {}", self.path.display()))?;
        Ok(self.state)
    }
}

/// The files hold tokens: they are for their owner only.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}

fn row<'a>(to: &mut Vec<u8>, first: &[&'a str], rest: impl Iterator<Item = &'a [u8]>) -> csv::Result<()> {
    let mut writer = csv::WriterBuilder::new().flexible(true).from_writer(to);
    writer.write_record(first.iter().map(|field| field.as_bytes()).chain(rest))?;
    Ok(writer.flush()?)
}
