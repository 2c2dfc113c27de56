//! `quorate decode`: shows the messages of a ring from a capture.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use quorate_membership::wire::packing::Packet;
use quorate_membership::wire::{self, Message};
use quorate_picture::{Fields, Value};

use crate::pcap::{Capture, CaptureError, Datagram, Found, Fragments};

const JSON: &str = "\
With --json, each datagram is an object on a line of its own:
  time       time of the capture, RFC 3339
  elapsed    seconds since the first datagram
  from, to   addresses with ports
  length     length of the datagram in bytes
  kind       token, multicast, merge-detect, join, leave, commit, hold-cancel, refused, or cut (a
             datagram that was captured in part)
  reason     why the datagram was refused
and the message's own fields, named as in the text. A multicast also has:
  again      true if the frame was seen before; its content is not counted again
  fragmented, continuation
             fragment numbers of its last and its first piece, or 0: whether the last piece
             continues in a later frame, and the first piece continues an earlier one
  messages   the messages packed in it: objects with a kind and their own fields. Special kinds:
             continued, a piece whose rest is in a later frame; headless, a piece whose beginning
             is not in the capture (or, if the frame was seen before, not in this frame); refused,
             a malformed message; foreign, a message of another program
  recovered  in place of all these, the multicast of an old ring that it contains
The last line is {\"summary\": ...}: counts of datagrams, frames and messages by kind, of refusals by
reason, of ignored packets (not UDP, or another protocol), of IP fragments, and of datagrams that
were captured in part. Fields may be added; existing ones stay.

Exit codes: 0 all could be read, 1 something was refused or incomplete, 2 the capture could not be
read, or wrong usage.";

/// Show the messages of a ring from a capture.
///
/// Each datagram is printed on one line: seconds since the first datagram, source, destination,
/// kind, fields, and the messages packed in it. At the end come counts by kind, and of rejected
/// datagrams by reason.
#[derive(clap::Args, Debug)]
#[command(after_long_help = JSON)]
pub(crate) struct DecodeArgs {
    /// A pcap file, or `-` for a stream from standard input (`tcpdump -U -w -`)
    file: PathBuf,
    #[command(flatten)]
    show: Show,
}

/// The options for the output.
#[derive(clap::Args, Debug, Default)]
struct Show {
    /// Treat every datagram to or from this port as a Totem message. Other datagrams are recognized
    /// by their header
    #[arg(long)]
    port: Option<u16>,
    /// Print one JSON object per line
    #[arg(long)]
    json: bool,
    /// Print only the counts
    #[arg(long, short)]
    summary: bool,
    /// Draw the ring as a space-time diagram, in this HTML file, when the capture ends. Without
    /// --json, only the counts are printed
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// The title of the diagram [default: the name of the capture]
    #[arg(long, requires = "html", default_value = "", hide_default_value = true)]
    title: String,
}

impl Show {
    /// Returns whether each datagram is printed as text.
    fn prints_lines(&self) -> bool {
        !self.json && !self.summary && self.html.is_none()
    }
}

/// The reason why a capture cannot be decoded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DecodeError {
    #[error("{}: {error}", file.display())]
    Capture { file: PathBuf, error: CaptureError },
    #[error("cannot write to stdout: {0}")]
    Output(io::Error),
    #[error("cannot write {}: {error}", file.display())]
    Picture { file: PathBuf, error: io::Error },
}

/// Decodes a capture to standard output.
pub(crate) fn run(args: DecodeArgs) -> Result<ExitCode, DecodeError> {
    let DecodeArgs { file, mut show } = args;
    let live = file == Path::new("-");
    if show.title.is_empty() {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        show.title = if live { "a ring".to_owned() } else { name.into_owned() };
    }
    let input: io::Result<Box<dyn Read>> = if live {
        Ok(Box::new(io::stdin().lock()))
    } else {
        File::open(&file).map(|file| Box::new(file) as _)
    };
    let stdout = io::stdout().lock();
    let decoded = input.map_err(|error| Stopped::Capture(error.into())).and_then(|input| {
        let input = BufReader::new(input);
        // A reader of a live capture needs each line at once. Standard output is line-buffered by
        // itself.
        if live { decode(input, stdout, &show) } else { decode(input, BufWriter::new(stdout), &show) }
    });
    match decoded {
        Ok(true) => Ok(ExitCode::SUCCESS),
        Ok(false) => Ok(ExitCode::FAILURE),
        // A reader that closes the pipe (`| head`) needs no more output.
        Err(Stopped::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        Err(Stopped::Output(error)) => Err(DecodeError::Output(error)),
        Err(Stopped::Picture(error)) => {
            Err(DecodeError::Picture { file: show.html.unwrap_or_default(), error })
        }
        Err(Stopped::Capture(error)) => Err(DecodeError::Capture { file, error }),
    }
}

/// The reason why decoding ended before the capture did.
#[derive(Debug)]
enum Stopped {
    Capture(CaptureError),
    Output(io::Error),
    Picture(io::Error),
}

/// Writes the messages of a capture, and the counts at its end, even after an error. Returns `true`
/// if everything could be read.
fn decode(input: impl Read, mut output: impl Write, show: &Show) -> Result<bool, Stopped> {
    let mut capture = Capture::new(input).map_err(Stopped::Capture)?;
    let mut decoder = Decoder { port: show.port, ..Decoder::default() };
    let mut drawn = quorate_picture::Capture::default();
    let ended = print_all(&mut capture, &mut decoder, &mut drawn, &mut output, show);
    let picture =
        show.html.as_ref().map_or(Ok(()), |file| fs::write(file, drawn.picture(&show.title).html()));
    if matches!(ended, Ok(()) | Err(Stopped::Capture(_))) {
        let counts = Counts::of(&decoder);
        match show.json {
            true => write_json(&mut output, &Fields::default().with("summary", counts.fields())),
            false => write!(output, "{}{counts}", if show.prints_lines() { "\n" } else { "" }),
        }
        .and_then(|()| output.flush())
        .map_err(Stopped::Output)?;
    }
    picture.map_err(Stopped::Picture)?;
    ended.map(|()| decoder.ring.counts().refused.is_empty() && decoder.skipped.cut == 0)
}

/// Prints the datagrams, and collects them for a picture.
fn print_all(
    capture: &mut Capture<impl Read>,
    decoder: &mut Decoder,
    drawn: &mut quorate_picture::Capture,
    output: &mut impl Write,
    show: &Show,
) -> Result<(), Stopped> {
    while let Some(packet) = capture.next().map_err(Stopped::Capture)? {
        for line in decoder.packet(packet.time, capture.ip(&packet)) {
            if show.html.is_some() && !line.datagram.cut {
                let Datagram { from, to, payload, .. } = &line.datagram;
                let elapsed = Duration::from_nanos(u64::try_from(line.elapsed).unwrap_or_default());
                drawn.datagram(elapsed, *from, *to, payload.clone());
            }
            match () {
                () if show.summary => Ok(()),
                () if show.json => write_json(output, &line.json()),
                () if show.prints_lines() => writeln!(output, "{line}"),
                () => Ok(()),
            }
            .map_err(Stopped::Output)?;
        }
    }
    Ok(())
}

fn write_json(output: &mut impl Write, fields: &Fields) -> io::Result<()> {
    serde_json::to_writer(&mut *output, fields)?;
    writeln!(output)
}

/// A decoded datagram.
struct Line {
    /// Nanoseconds since 1970.
    time: i128,
    /// Nanoseconds since the first datagram.
    elapsed: i128,
    datagram: Datagram,
    fields: Fields,
}

impl Line {
    fn json(&self) -> Fields {
        // A pcap has 32 bits of seconds, so every time in it is in range.
        let time = Timestamp::from_nanosecond(self.time).unwrap_or(Timestamp::UNIX_EPOCH);
        Fields::default()
            .with("time", time.to_string())
            .with("elapsed", Value::Seconds(self.elapsed as f64 / 1e9))
            .with("from", self.datagram.from.to_string())
            .with("to", self.datagram.to.to_string())
            .with("length", self.datagram.payload.len())
            .and(self.fields.clone())
    }
}

impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Datagram { from, to, .. } = &self.datagram;
        write!(f, "{:>12.6} {from} > {to} {}", self.elapsed as f64 / 1e9, self.fields)
    }
}

/// Splits a packet into the datagrams that the network card would send.
///
/// With UDP segmentation offload, the sender's kernel leaves the split to the card. A capture on
/// that host then has several datagrams in one packet, all of one length except the last.
fn taken_apart(payload: &Bytes) -> Vec<Bytes> {
    const HEADER: usize = 20;
    const MAGIC: usize = 4;
    let parts = |length: usize| {
        (0..payload.len()).step_by(length).map(move |at| payload.slice(at..payload.len().min(at + length)))
    };
    let begins = |at: &usize| payload[*at..].starts_with(&payload[..MAGIC]);
    let fits = |length: &usize| parts(*length).all(|part| is_whole(&part));
    let length = match is_whole(payload) {
        true => None,
        false => (HEADER..payload.len().saturating_sub(MAGIC)).filter(begins).find(fits),
    };
    length.map_or_else(|| vec![payload.clone()], |length| parts(length).collect())
}

/// Returns `true` if this is one message, with nothing behind it.
fn is_whole(datagram: &Bytes) -> bool {
    match wire::decode(datagram) {
        Ok(Message::Multicast(frame)) if frame.encapsulated => {
            frame.inner().is_ok_and(|inner| Packet::decode_in(&inner.payload, inner.order()).is_ok())
        }
        Ok(Message::Multicast(frame)) => Packet::decode_in(&frame.payload, frame.order()).is_ok(),
        Ok(_) => true,
        Err(_) => false,
    }
}

/// The state of the decoder between packets.
#[derive(Default)]
struct Decoder {
    port: Option<u16>,
    first: Option<i128>,
    fragments: Fragments,
    ring: quorate_picture::Decoder,
    skipped: Skipped,
}

/// Packets that were not decoded.
#[derive(Default)]
struct Skipped {
    ignored: u64,
    fragments: u64,
    cut: u64,
}

impl Decoder {
    /// Decodes a packet of the capture. Returns its Totem datagrams; none if it has no such
    /// datagram, or is an incomplete fragment.
    fn packet(&mut self, time: i128, ip: Option<&[u8]>) -> Vec<Line> {
        let datagram = match ip.map_or(Found::Other, |ip| self.fragments.find(ip)) {
            Found::Datagram(datagram) if self.is_totem(&datagram) => datagram,
            Found::Fragment => {
                self.skipped.fragments += 1;
                return Vec::new();
            }
            Found::Datagram(_) | Found::Other => {
                self.skipped.ignored += 1;
                return Vec::new();
            }
        };
        let elapsed = time - *self.first.get_or_insert(time);
        if datagram.cut {
            self.skipped.cut += 1;
            return vec![Line { time, elapsed, datagram, fields: Fields::kind("cut") }];
        }
        let line = |payload: Bytes| {
            let fields = self.ring.datagram(&payload);
            Line { time, elapsed, datagram: Datagram { payload, ..datagram }, fields }
        };
        taken_apart(&datagram.payload).into_iter().map(line).collect()
    }

    fn is_totem(&self, datagram: &Datagram) -> bool {
        let port = |port| datagram.from.port() == port || datagram.to.port() == port;
        wire::order_of(&datagram.payload).is_some() || self.port.is_some_and(port)
    }
}

/// The counts of a capture, by section.
struct Counts {
    sections: [(&'static str, Vec<(String, u64)>); 4],
    totals: [(&'static str, u64); 3],
}

impl Counts {
    fn of(decoder: &Decoder) -> Self {
        let named = |counts: &BTreeMap<&'static str, u64>| {
            counts.iter().map(|(what, n)| ((*what).to_owned(), *n)).collect()
        };
        let Skipped { ignored, fragments, cut } = decoder.skipped;
        let counts = decoder.ring.counts();
        Self {
            sections: [
                ("datagrams", named(&counts.datagrams)),
                ("frames", named(&counts.frames)),
                ("messages", named(&counts.messages)),
                ("refused", counts.refused.iter().map(|(why, n)| (why.to_string(), *n)).collect()),
            ],
            totals: [("ignored", ignored), ("fragments", fragments), ("cut", cut)],
        }
    }

    fn fields(&self) -> Fields {
        let mut fields = Fields::default();
        for (section, counts) in &self.sections {
            let counts = counts.iter().fold(Fields::default(), |all, (what, n)| all.with(what.clone(), *n));
            fields = fields.with(*section, counts);
        }
        for (what, n) in self.totals {
            fields = fields.with(what, n);
        }
        fields
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (section, counts) in &self.sections {
            let sum: u64 = counts.iter().map(|(_, n)| n).sum();
            writeln!(f, "{section:<24}{sum:>8}")?;
            for (what, n) in counts {
                writeln!(f, "  {what:<22}{n:>8}")?;
            }
        }
        for (what, n) in self.totals {
            writeln!(f, "{what:<24}{n:>8}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPTURE: &[u8] = include_bytes!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../membership/tests/captures/11-recovery-encapsulated.pcap"
    ));

    /// xorshift, random enough to damage files.
    fn random(state: &mut u64) -> usize {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        usize::try_from(*state >> 32).unwrap()
    }

    #[test]
    fn no_damage_to_a_capture_stops_the_decoder() {
        let mut state = 42;
        let show = Show { port: Some(5405), ..Show::default() };
        let (mut read, mut refused, mut damaged) = (0, 0, 0);
        for _ in 0..200 {
            let mut file = CAPTURE.to_vec();
            for _ in 0..random(&mut state) % 20 {
                let at = random(&mut state) % file.len();
                file[at] = random(&mut state) as u8;
            }
            if random(&mut state).is_multiple_of(4) {
                file.truncate(random(&mut state) % file.len());
            }
            match decode(&file[..], io::sink(), &show) {
                Ok(true) => read += 1,
                Ok(false) => refused += 1,
                Err(_) => damaged += 1,
            }
        }
        assert!(read > 0 && refused > 0 && damaged > 0, "{read} {refused} {damaged}");
    }

    /// Frames of a real ring, joined as a kernel joins them.
    #[test]
    fn segmentation_offload_is_undone() {
        let mut capture = Capture::new(CAPTURE).unwrap();
        let mut fragments = Fragments::default();
        let mut frames: Vec<Bytes> = Vec::new();
        while let Some(packet) = capture.next().unwrap() {
            if let Some(Found::Datagram(datagram)) = capture.ip(&packet).map(|ip| fragments.find(ip))
                && matches!(wire::decode(&datagram.payload), Ok(Message::Multicast(_)))
            {
                assert_eq!(taken_apart(&datagram.payload), std::slice::from_ref(&datagram.payload));
                frames.push(datagram.payload);
            }
        }
        let mut trains = 0;
        for pair in frames.windows(2) {
            let equal = frames.iter().filter(|frame| frame.len() == pair[0].len()).take(5);
            let mut train: Vec<Bytes> = equal.cloned().collect();
            if pair[1].len() < pair[0].len() {
                train.push(pair[1].clone());
            }
            assert_eq!(taken_apart(&Bytes::from(train.concat())), train);
            trains += usize::from(train.len() > 1);
        }
        assert!(trains > 10, "{trains} of {}", frames.len());
        let damaged = Bytes::from([&frames[0][..], b"and more"].concat());
        assert_eq!(taken_apart(&damaged), std::slice::from_ref(&damaged));
    }

    #[test]
    fn a_link_of_any_kind_is_taken_off() {
        let ethernet = &CAPTURE[24 + 16..];
        let length = u32::from_le_bytes(CAPTURE[32..36].try_into().unwrap()) as usize;
        let ip = &ethernet[14..length];
        let cooked2 = [&[8, 0][..], &[0; 18]].concat();
        let links: [(u8, u8, &[u8]); 7] = [
            (1, 0, &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0]),
            (1, 0, &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x81, 0, 0, 7, 8, 0]),
            (113, 0, &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0]),
            (20, 1, &cooked2),
            (0, 0, &[2, 0, 0, 0]),
            (108, 0, &[0, 0, 0, 2]),
            (101, 0, &[]),
        ];
        for (low, high, link) in links {
            let mut file = CAPTURE[..24].to_vec();
            (file[20], file[21]) = (low, high);
            let captured = (link.len() + ip.len()) as u32;
            file.extend([0; 8]);
            file.extend([captured.to_le_bytes(), captured.to_le_bytes()].concat());
            file.extend([link, ip].concat());
            let mut output = Vec::new();
            assert!(decode(&file[..], &mut output, &Show::default()).unwrap());
            let output = String::from_utf8(output).unwrap();
            assert!(output.contains(" 10.77.11.1:5404 > "), "link type {low} {high}: {output}");
        }
    }
}
