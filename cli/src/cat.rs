//! `quorate cat`.

use std::io::{self, BufRead, BufReader, BufWriter, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::thread;

use quorate::Group;
use quorate_client::{Cat, Error, Event, Guarantee, Request};

use crate::which::Which;
use crate::{Failure, written};

const OUTPUT: &str = "\
Output:
  {\"event\":\"regular\",\"ring\":\"1.8\",\"members\":[1,2,3],\"joined\":[3],\"left\":[],\"cause\":\"...\"}
      a ring was installed; the first line is the current ring
  {\"event\":\"transitional\",\"ring\":\"1.c\",\"previous\":\"1.8\",\"members\":[1,2],\"left\":[3]}
      the ring \"previous\" is over; until the next \"regular\", messages are sure to reach only these
      members
  {\"event\":\"group\",\"ring\":\"1.8\",\"group\":\"g\",\"members\":[{\"node\":1,\"pid\":99}],\"joined\":[...],\"left\":[],\"reason\":\"join\"}
      the group has these members now; the first such line includes this process; reasons: join,
      leave, nodedown, nodeup, procdown
  {\"event\":\"deliver\",\"ring\":\"1.8\",\"seq\":7,\"from\":2,\"pid\":99,\"guarantee\":\"agreed\",\"payload\":\"...\"}
      a message of the group; a payload that is not UTF-8 comes as \"payload_base64\" instead
  {\"event\":\"status\",\"ring\":\"1.8\",\"dc\":1,\"quorate\":true,...}
      with --status: quorum or DC changed

A reader that falls 64 MiB behind is disconnected with an error. Once all readers of a node are
256 MiB behind in total, the slowest one is disconnected in the same way. Events are never skipped.

Exit codes: 0 all sent and delivered, 1 failed (one line on stderr says why), 2 wrong usage. If
stdout is closed before the end of the input, cat has failed.";

/// Send lines to a process group, and print the group's events in order.
///
/// The process joins GROUP and multicasts each line of stdin to it, without the newline. A line may
/// contain any bytes, up to 1 MiB. The last line needs no newline. If this process is killed in the
/// middle of a line, that line is not sent.
///
/// The group's events are printed as JSON, one object per line, in the one order that all members
/// share. At the end of stdin, once all sent lines were delivered here, the process leaves the
/// group and ends.
///
/// On nodes that run corosync, programs that use libcpg can be in the same group.
#[derive(Debug, clap::Args)]
#[command(after_long_help = OUTPUT)]
pub(crate) struct CatArgs {
    /// Name of the group, at most 128 bytes
    group: Group,
    /// Deliver each line only once every member of the ring has it (safe delivery instead of
    /// agreed)
    #[arg(long)]
    safe: bool,
    /// Stay in the group and print its events after the end of stdin
    #[arg(long)]
    stay: bool,
    /// Also print changes of quorum and DC
    #[arg(long)]
    status: bool,
    #[command(flatten)]
    which: Which,
}

pub(crate) fn run(args: &CatArgs) -> Result<ExitCode, Failure> {
    let mut cat = Cat::new(args.group.to_string());
    cat.guarantee = if args.safe { Guarantee::Safe } else { Guarantee::Agreed };
    cat.status = args.status;
    let node = args.which.client()?.open(&Request::Cat(cat))?;

    // One thread per direction. The thread of stdin may block forever in a read, so the process
    // does not wait for it.
    let to_node = node.try_clone().map_err(Error::Broken)?;
    let input = Arc::new(OnceLock::new());
    let (stay, ended) = (args.stay, input.clone());
    let sender = thread::Builder::new().spawn(move || send(io::stdin().lock(), &to_node, stay, &ended));
    sender.map_err(|error| Failure::new(format!("cannot start a thread to read stdin: {error}")))?;

    let shown = show(node, io::stdout().lock(), || input.get().is_some(), stay);
    match input.get() {
        Some(Err(error)) => Err(Failure::new(format!("stdin could not be read to its end: {error}"))),
        _ => shown.map(|()| ExitCode::SUCCESS),
    }
}

/// Sends the whole input to the node, and sets `ended` at its end. If the node stops accepting
/// data, [`show`] reports the node's reason.
///
/// Only this process knows whether its input has ended in order. A last line without a newline gets
/// one in that case. Otherwise the node discards the incomplete line.
fn send(mut lines: impl Read, mut node: &UnixStream, stay: bool, ended: &OnceLock<io::Result<()>>) {
    let mut buffer = vec![0; 256 << 10];
    let mut whole = true;
    let end = loop {
        match lines.read(&mut buffer) {
            Ok(0) => break Ok(()),
            Ok(read) => {
                whole = buffer[read - 1] == b'\n';
                if node.write_all(&buffer[..read]).is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => break Err(error),
        }
    };
    if !whole && end.is_ok() && node.write_all(b"\n").is_err() {
        return;
    }
    let _ = ended.set(end);
    if !stay {
        // This fails if the node has already hung up. `show` notices that as well.
        let _ = node.shutdown(Shutdown::Write);
    }
}

/// Prints the node's lines up to its end line.
///
/// A closed stdout is an error while there is input left. After the end of the input, it makes the
/// function return: at once with `stay`, otherwise once all sent lines were delivered.
fn show(
    node: impl Read,
    out: impl Write,
    input_has_ended: impl Fn() -> bool,
    stay: bool,
) -> Result<(), Failure> {
    let mut node = BufReader::with_capacity(256 << 10, node);
    let mut out = Some(BufWriter::with_capacity(256 << 10, out));
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = node.read_until(b'\n', &mut line);
        let error = match read {
            Ok(_) if !line.ends_with(b"\n") => Some(Error::Closed.to_string()),
            Ok(_) if line.starts_with(Event::END) => None,
            Ok(_) if line.starts_with(Event::ERROR) => Event::error_message(&line),
            Ok(_) => {
                let Some(reader) = &mut out else { continue };
                // A reader must not wait for lines that are not sent yet.
                let flush = node.buffer().is_empty();
                if written(
                    reader.write_all(&line).and_then(|()| if flush { reader.flush() } else { Ok(()) }),
                )? {
                    continue;
                }
                if !input_has_ended() {
                    return Err(Failure::new(
                        "stdout was closed before the end of the input, so some lines may not have been \
                         sent; read all output, or redirect it to /dev/null",
                    ));
                }
                if stay {
                    return Ok(());
                }
                out = None;
                continue;
            }
            Err(error) => Some(Error::Broken(error).to_string()),
        };
        if let Some(mut reader) = out {
            written(reader.flush())?;
        }
        return error.map_or(Ok(()), |message| Err(Failure::new(message)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(answer: &str) -> (String, Result<(), String>) {
        let mut out = Vec::new();
        let result = show(answer.as_bytes(), &mut out, || true, false).map_err(|failure| failure.to_string());
        (String::from_utf8(out).unwrap(), result)
    }

    #[test]
    fn everything_up_to_the_end_is_printed_and_the_end_is_not() {
        let lines = "{\"event\":\"regular\"}\n{\"event\":\"deliver\"}\n";
        let (out, result) = shown(&format!("{lines}{{\"event\":\"end\",\"sent\":1}}\n"));
        assert_eq!((out.as_str(), result), (lines, Ok(())));
    }

    #[test]
    fn an_error_ends_it_after_what_came_before() {
        let (out, result) =
            shown("{\"event\":\"regular\"}\n{\"event\":\"error\",\"message\":\"too slow\"}\n");
        assert_eq!((out.as_str(), result), ("{\"event\":\"regular\"}\n", Err("too slow".to_owned())));
    }

    #[test]
    fn a_cut_connection_is_not_taken_for_the_end() {
        let regular = "{\"event\":\"regular\"}\n";
        for part in ["", "{\"event\":\"del", "{\"event\":\"end\",\"se", "{\"event\":\"error\",\"mess"] {
            let cut = &format!("{regular}{part}");
            assert_eq!(shown(cut).1, Err("the node closed the connection; see its log".to_owned()));
        }
    }

    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Err(ErrorKind::BrokenPipe.into())
        }
    }

    #[test]
    fn stdout_closed_with_input_left_is_a_failure() {
        let shown = |answer: &str, input_has_ended, stay| {
            show(answer.as_bytes(), Closed, || input_has_ended, stay).map_err(|failure| failure.to_string())
        };
        let (line, end) = ("{\"event\":\"regular\"}\n", "{\"event\":\"end\",\"sent\":1}\n");
        for stay in [false, true] {
            let error = shown(line, false, stay).unwrap_err();
            assert!(error.starts_with("stdout was closed before the end of the input"), "{error}");
        }
        assert_eq!(shown(line, true, true), Ok(()));
        assert_eq!(shown(&[line, line, end].concat(), true, false), Ok(()), "all was delivered");
        assert_eq!(shown(line, true, false), Err("the node closed the connection; see its log".to_owned()));
    }

    #[test]
    fn the_node_gets_stdin_with_every_line_ended() {
        for (input, expected) in [("a\nlast", "a\nlast\n"), ("a\n", "a\n"), ("", "")] {
            for stay in [false, true] {
                let (ours, mut nodes) = UnixStream::pair().unwrap();
                let ended = OnceLock::new();
                send(input.as_bytes(), &ours, stay, &ended);
                assert!(matches!(ended.get(), Some(Ok(()))));
                let mut got = vec![0; expected.len()];
                nodes.read_exact(&mut got).unwrap();
                assert_eq!(got, expected.as_bytes());
                nodes.set_nonblocking(true).unwrap();
                let after = nodes.read(&mut [0]);
                assert_eq!(after.is_ok_and(|read| read == 0), !stay);
            }
        }
    }

    #[test]
    fn a_line_cut_by_a_read_error_gets_no_end() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(ErrorKind::IsADirectory.into())
            }
        }
        let (ours, mut nodes) = UnixStream::pair().unwrap();
        let ended = OnceLock::new();
        send(b"\xff\nhal".chain(Broken), &ours, false, &ended);
        assert!(matches!(ended.get(), Some(Err(_))));
        let mut got = Vec::new();
        nodes.read_to_end(&mut got).unwrap();
        assert_eq!(got, b"\xff\nhal");
    }
}
