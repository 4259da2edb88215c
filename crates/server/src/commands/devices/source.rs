//! A file of devices, read line by line from any place on.
//!
//! Memory is bounded whatever the file holds: a line has at most [`LONGEST`] bytes, a row of CSV [`LONGEST_ROW`]. A row that runs over several lines and is wrong is taken as a
//! quotation mark that was not closed: its first line is set aside, and reading goes on at the next.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use super::Format;
use super::line::{Column, DeviceLine};

/// Bytes of a line.
const LONGEST: u64 = 1024 * 1024;
/// Bytes of a row of CSV with its quoted line breaks.
const LONGEST_ROW: u64 = 2 * 1024 * 1024;

/// Where to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    /// Bytes before it.
    pub(super) byte: u64,
    /// The number of the line there; the first is 1.
    pub(super) line: u64,
}

/// One device's line.
pub(super) struct Line {
    /// Its number in the file.
    pub(super) number: u64,
    /// As it stands there, without its end.
    pub(super) raw: Raw,
    /// The command that registers it, or what is wrong with it.
    pub(super) command: Result<String, String>,
}

/// A line's content.
pub(super) enum Raw {
    Text(Vec<u8>),
    Row(csv::ByteRecord),
}

/// An open file of devices.
pub(super) enum Source {
    Csv(Box<CsvSource>),
    Ndjson(NdjsonSource),
}

impl Source {
    /// Opens a file and goes to a place in it, or to its first device.
    pub(super) fn open(path: &Path, format: Format, from: Option<Place>) -> anyhow::Result<Self> {
        let opened = || {
            let file = File::open(path)?;
            Ok(match format {
                Format::Csv => Self::Csv(Box::new(CsvSource::open(file, from)?)),
                Format::Ndjson => Self::Ndjson(NdjsonSource::open(file, from)?),
            })
        };
        opened().map_err(|error: anyhow::Error| error.context(format!("cannot read {}", path.display())))
    }

    /// The header of a CSV file.
    pub(super) fn header(&mut self) -> Option<csv::ByteRecord> {
        match self {
            Self::Csv(source) => Some(source.header.clone()),
            Self::Ndjson(_) => None,
        }
    }

    /// The next device; `None` at the end.
    pub(super) fn next(&mut self) -> io::Result<Option<Line>> {
        match self {
            Self::Csv(source) => source.next(),
            Self::Ndjson(source) => source.next(),
        }
    }

    /// After the last device that was read.
    pub(super) fn place(&self) -> Place {
        match self {
            Self::Csv(source) => source.place,
            Self::Ndjson(source) => source.place,
        }
    }
}

/// NDJSON. Empty lines and lines that begin with `#` are passed over.
pub(super) struct NdjsonSource {
    file: BufReader<File>,
    place: Place,
}

impl NdjsonSource {
    fn open(file: File, from: Option<Place>) -> anyhow::Result<Self> {
        let mut file = BufReader::with_capacity(256 * 1024, file);
        let mut place = from.unwrap_or(Place { byte: 0, line: 1 });
        if place.byte == 0 && file.fill_buf()?.starts_with(b"\xef\xbb\xbf") {
            place.byte = 3;
        }
        file.seek(SeekFrom::Start(place.byte))?;
        Ok(Self { file, place })
    }

    fn next(&mut self) -> io::Result<Option<Line>> {
        loop {
            let number = self.place.line;
            let Some((text, taken)) = physical_line(&mut self.file)? else {
                return Ok(None);
            };
            let cut = taken > LONGEST + 2;
            self.place.byte += taken;
            self.place.line += 1;
            let text = text.trim_ascii();
            if text.is_empty() || text.starts_with(b"#") {
                continue;
            }
            let command = if cut {
                Err(format!("longer than {LONGEST} bytes; only its beginning is kept"))
            } else {
                DeviceLine::of_json(text).and_then(|device| device.command())
            };
            let raw = Raw::Text(text.to_vec());
            return Ok(Some(Line { number, raw, command }));
        }
    }
}

/// Reads up to the next line break: the first [`LONGEST`] bytes, and how many there were with the break. `None` at the end of the file.
fn physical_line(file: &mut impl BufRead) -> io::Result<Option<(Vec<u8>, u64)>> {
    let (mut text, mut taken) = (Vec::new(), 0);
    loop {
        let buffer = file.fill_buf()?;
        if buffer.is_empty() {
            return Ok((taken > 0).then_some((text, taken)));
        }
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let piece = &buffer[..end.map_or(buffer.len(), |at| at + 1)];
        let room = usize::try_from(LONGEST)
            .unwrap_or(usize::MAX)
            .saturating_sub(text.len());
        text.extend_from_slice(&piece[..piece.len().min(room)]);
        let length = piece.len();
        taken += length as u64;
        file.consume(length);
        if end.is_some() {
            return Ok(Some((text, taken)));
        }
    }
}

/// CSV with a header.
pub(super) struct CsvSource {
    reader: csv::Reader<Guard>,
    header: csv::ByteRecord,
    columns: Vec<Column>,
    row: csv::ByteRecord,
    place: Place,
    /// The length of a file whose last line has no end.
    open_end: Option<u64>,
}

impl CsvSource {
    fn open(file: File, from: Option<Place>) -> anyhow::Result<Self> {
        let open_end = open_end(&file)?;
        let guard = Guard {
            file,
            left: LONGEST_ROW,
        };
        let mut reader = csv::ReaderBuilder::new()
            .flexible(true)
            // So that a row ends exactly behind its line feed, and places and line numbers are what they seem. What CR LF leaves is taken off below.
            .terminator(csv::Terminator::Any(b'\n'))
            .buffer_capacity(256 * 1024)
            .from_reader(guard);
        let header = without_return(reader.byte_headers().context("the header is too long")?);
        if header.is_empty() {
            bail!("it is empty; the first line must name the columns");
        }
        let columns = Column::of_header(&header).map_err(anyhow::Error::msg)?;
        if let Some(place) = from {
            reader.seek(position(place))?;
        }
        let place = placed(reader.position());
        Ok(Self {
            reader,
            header,
            columns,
            row: csv::ByteRecord::new(),
            place,
            open_end,
        })
    }

    fn next(&mut self) -> io::Result<Option<Line>> {
        loop {
            self.reader.get_mut().left = LONGEST_ROW;
            let start = self.place;
            match self.reader.read_byte_record(&mut self.row) {
                Ok(false) => return Ok(None),
                Ok(true) => {}
                Err(_) if self.reader.get_ref().left == 0 => return self.first_line(start).map(Some),
                Err(error) => return Err(io::Error::other(error)),
            }
            self.place = placed(self.reader.position());
            let last = self.row.iter().next_back().unwrap_or_default();
            if last.ends_with(b"\r") {
                self.row = without_return(&self.row);
            }
            if self.row.len() == 1 && self.row[0].is_empty() {
                continue;
            }
            let command = DeviceLine::of_row(&self.columns, &self.row).and_then(|device| device.command());
            let breaks = self.row.as_slice().split(|byte| *byte == b'\n').skip(1).count() as u64;
            if command.is_err() && breaks > 0 {
                return self.first_line(start).map(Some);
            }
            let ended = u64::from(self.open_end != Some(self.place.byte));
            return Ok(Some(Line {
                number: self.place.line - ended - breaks,
                raw: Raw::Row(self.row.clone()),
                command,
            }));
        }
    }

    /// Takes only the first line of what begins there, as wrong, and goes on after it.
    fn first_line(&mut self, start: Place) -> io::Result<Line> {
        self.reader.get_mut().left = LONGEST_ROW;
        let mut file = BufReader::new(&self.reader.get_ref().file);
        file.seek(SeekFrom::Start(start.byte))?;
        let mut place = start;
        let text = loop {
            let Some((text, taken)) = physical_line(&mut file)? else {
                break Vec::new();
            };
            place.byte += taken;
            place.line += 1;
            let text = text.trim_ascii_end();
            if !text.is_empty() {
                break text.to_vec();
            }
        };
        self.reader
            .seek_raw(SeekFrom::Start(place.byte), position(place))
            .map_err(io::Error::other)?;
        self.place = place;
        Ok(Line {
            number: place.line - 1,
            raw: Raw::Text(text),
            command: Err("a quotation mark is not closed in this line, or the row is wrong".to_owned()),
        })
    }
}

/// The row without the carriage return of its end.
fn without_return(row: &csv::ByteRecord) -> csv::ByteRecord {
    let last = row.len().saturating_sub(1);
    let fields = row.iter().enumerate();
    fields
        .map(|(at, field)| {
            if at == last {
                field.strip_suffix(b"\r").unwrap_or(field)
            } else {
                field
            }
        })
        .collect()
}

fn open_end(mut file: &File) -> io::Result<Option<u64>> {
    let length = file.metadata()?.len();
    let mut last = [b'\n'];
    if length > 0 {
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        file.seek(SeekFrom::Start(0))?;
    }
    Ok((last != [b'\n']).then_some(length))
}

fn position(place: Place) -> csv::Position {
    let mut position = csv::Position::new();
    position.set_byte(place.byte).set_line(place.line);
    position
}

fn placed(position: &csv::Position) -> Place {
    Place {
        byte: position.byte(),
        line: position.line(),
    }
}

/// A file that fails when so many bytes were read for one row.
struct Guard {
    file: File,
    left: u64,
}

impl Read for Guard {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Err(io::Error::other("a row is too long"));
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.file.read(&mut buffer[..most])?;
        self.left -= read as u64;
        Ok(read)
    }
}

impl Seek for Guard {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

#[cfg(test)]
mod tests;
