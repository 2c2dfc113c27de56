//! Tests `quorate decode` as a user runs it.

#![allow(clippy::unwrap_used)] // also in shared helpers, which clippy does not count as tests

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn captures() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../membership/tests/captures");
    let mut captures: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "pcap"))
        .collect();
    captures.sort();
    captures
}

fn capture(name: &str) -> PathBuf {
    captures().into_iter().find(|path| path.to_string_lossy().contains(name)).unwrap()
}

/// Runs `quorate decode` on a capture from standard input.
fn decode(bytes: &[u8], options: &[&str]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_quorate"))
        .args(["decode", "-"])
        .args(options)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let bytes = bytes.to_vec();
    let writer = std::thread::spawn(move || {
        // A decoder that has stopped does not read on.
        let _ = stdin.write_all(&bytes);
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn lines(output: &Output) -> Vec<Value> {
    text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Returns a big-endian pcap file with nanoseconds and raw IP packets. Each packet holds one UDP
/// datagram to port 5405.
fn raw_capture(datagrams: &[&[u8]]) -> Vec<u8> {
    let mut file = vec![0xa1, 0xb2, 0x3c, 0x4d, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 101];
    for (i, datagram) in datagrams.iter().enumerate() {
        let length = 28 + datagram.len() as u16;
        for field in [1000, 250 * i as u32, length.into(), length.into()] {
            file.extend(u32::to_be_bytes(field));
        }
        file.extend([0x45, 0]);
        file.extend(length.to_be_bytes());
        file.extend([0, 0, 0, 0, 1, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0x15, 0x1c, 0x15, 0x1d]);
        file.extend((length - 20).to_be_bytes());
        file.extend([0, 0]);
        file.extend(*datagram);
    }
    file
}

const MERGE_DETECT: [u8; 29] = [
    0x70, 0xc0, 3, 2, 0, 1, 0, 0, 0, 9, 9, 9, 9, 1, 0, 0, 0, 1, 0, 0, 0, 13, 0, 0, 0, 0, 0, 0, 0, //
];

#[test]
fn every_capture_of_a_real_ring_is_read_to_its_end() {
    for path in captures() {
        let output = Command::new(env!("CARGO_BIN_EXE_quorate")).arg("decode").arg(&path).output().unwrap();
        assert!(output.status.success(), "{}: {}", path.display(), text(&output.stderr));
        let text = text(&output.stdout);
        assert!(text.contains("\nrefused                        0\n"), "{text}");
        assert!(!text.contains("\n  headless"), "{text}");
    }
}

#[test]
fn a_datagram_is_a_line_with_what_is_packed_in_it() {
    let output = decode(&fs::read(capture("12-cfg")).unwrap(), &[]);
    let text = text(&output.stdout);
    let line = text.lines().find(|line| line.contains("shutdown")).unwrap();
    assert!(line.contains("10.77.11.3:5404 > 239.192.77.1:5405 multicast node=3 "), "{line}");
    assert!(line.ends_with("guarantee=agreed fragmented=0 continuation=0 messages=[{shutdown}]"), "{line}");
    let line = text.lines().find(|line| line.contains(" leave ")).unwrap();
    assert!(line.ends_with(" leave node=3 ring_seq=48 proc=[1 2] failed=[3]"), "{line}");
}

#[test]
fn a_capture_can_be_drawn_instead_of_printed() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("kill.html");
    let html = ["--html", file.to_str().unwrap()];
    let output =
        decode(&fs::read(capture("06-kill9")).unwrap(), &[&html[..], &["--title", "a < b"]].concat());
    assert!(
        output.status.success() && text(&output.stdout).starts_with("datagrams  "),
        "{}",
        text(&output.stdout)
    );
    assert!(fs::read_to_string(&file).unwrap().contains("<title>a &lt; b</title>"));
    let output = decode(&fs::read(capture("06-kill9")).unwrap(), &["--html", "/nowhere/kill.html"]);
    assert_eq!(output.status.code(), Some(2));
    let error = text(&output.stderr);
    assert!(error.contains("cannot write /nowhere/kill.html: No such file"), "{error}");
}

#[test]
fn json_has_a_line_for_each_datagram_and_one_for_the_counts() {
    let lines = lines(&decode(&fs::read(capture("11-recovery")).unwrap(), &["--json"]));
    let (summary, datagrams) = lines.split_last().unwrap();
    assert_eq!(datagrams.len(), 468);
    let summary = &summary["summary"];
    assert_eq!(
        (&summary["datagrams"]["token"], &summary["datagrams"]["multicast"]),
        (&247.into(), &125.into())
    );
    assert_eq!(
        (&summary["frames"]["recovered"], &summary["messages"]["cpg-mcast"]),
        (&11.into(), &44.into())
    );
    for datagram in datagrams {
        for field in ["time", "elapsed", "from", "to", "length", "kind"] {
            assert!(!datagram[field].is_null(), "{datagram}");
        }
    }
    let frame = datagrams.iter().find(|datagram| !datagram["recovered"].is_null()).unwrap();
    assert_eq!((&frame["ring"], &frame["recovered"]["ring"]), (&"1.46".into(), &"1.42".into()));
    assert_eq!(frame["recovered"]["messages"][0]["kind"], "cpg-mcast");
    assert_eq!(frame["recovered"]["again"], true);
}

#[test]
fn a_message_of_many_frames_is_shown_where_it_ends() {
    let lines = lines(&decode(&fs::read(capture("04-cpg-big")).unwrap(), &["--json"]));
    let long: Vec<&Value> = lines
        .iter()
        .filter_map(|line| line["messages"].as_array())
        .flatten()
        .filter(|message| message["length"] == 20_000)
        .collect();
    assert_eq!(long.len(), 3);
}

#[test]
fn rejected_datagrams_are_shown_and_set_the_exit_status() {
    let mut version = MERGE_DETECT;
    version[2] = 4;
    let output = decode(&raw_capture(&[&MERGE_DETECT, &MERGE_DETECT[..20], &version]), &["--json"]);
    assert_eq!(output.status.code(), Some(1));
    let lines = lines(&output);
    let kinds: Vec<_> = lines.iter().map(|line| &line["kind"]).collect();
    assert_eq!(kinds[..3], ["merge-detect", "refused", "refused"]);
    assert_eq!(lines[1]["reason"], "truncated");
    assert_eq!(lines[0]["time"], "1970-01-01T00:16:40Z");
    assert_eq!(lines[1]["elapsed"], 2.5e-7);
    let refused = serde_json::json!({ "truncated": 1, "another protocol version": 1 });
    assert_eq!(lines[3]["summary"]["refused"], refused);
}

#[test]
fn other_traffic_is_ignored_unless_its_port_is_named() {
    let file = raw_capture(&[b"GET / HTTP/1.1", &MERGE_DETECT]);
    let output = decode(&file, &["--summary"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stdout).contains("ignored                        1\n"));
    let output = decode(&file, &["--summary", "--port", "5405"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("  not a Totem message          1\n"));
}

#[test]
fn a_truncated_capture_is_shown_up_to_its_end() {
    let whole = raw_capture(&[&MERGE_DETECT, &MERGE_DETECT]);
    let output = decode(&whole[..whole.len() - 1], &[]);
    assert!(text(&output.stdout).contains("\ndatagrams                      1\n"));
    assert!(!output.status.success());
    assert!(text(&output.stderr).contains("the capture ends within a packet"));
}

#[test]
fn a_partly_captured_datagram_is_not_malformed() {
    let mut file = raw_capture(&[&MERGE_DETECT]);
    file.truncate(file.len() - 9);
    file[24 + 11] -= 9;
    let output = decode(&file, &[]);
    assert_eq!(output.status.code(), Some(1));
    let text = text(&output.stdout);
    assert!(
        text.lines().next().unwrap().ends_with(" cut")
            && text.contains("\nrefused                        0\n")
    );
}

#[test]
fn a_pcapng_file_is_rejected_with_the_way_to_convert_it() {
    let output = decode(&[0x0a, 0x0d, 0x0d, 0x0a, 0x1c, 0, 0, 0], &[]);
    assert!(!output.status.success());
    assert!(text(&output.stderr).contains("tshark -F pcap"), "{}", text(&output.stderr));
}

#[test]
fn anything_else_is_not_a_capture() {
    for bytes in [&b""[..], b"\xd4\xc3", b"hello, world"] {
        let output = decode(bytes, &[]);
        assert!(!output.status.success());
        assert!(text(&output.stderr).contains("not a pcap file"), "{}", text(&output.stderr));
    }
}
