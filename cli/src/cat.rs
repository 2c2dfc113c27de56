//! `quorate cat`.

use std::io::{self, BufRead, BufReader, BufWriter, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::thread;

use quorate_membership::Group;

use crate::socket::address::Which;
use crate::socket::{Cat, GuaranteeName, Request, Wish, json};
use crate::{Failure, written};

const OUTPUT: &str = "\
What comes out:
  {\"event\":\"regular\",\"ring\":\"1.8\",\"members\":[1,2,3],\"joined\":[3],\"left\":[],\"cause\":\"...\"}
      a ring is installed; the first line is the one that holds at the start
  {\"event\":\"transitional\",\"ring\":\"1.c\",\"previous\":\"1.8\",\"members\":[1,2],\"left\":[3]}
      that ring is over; until the next \"regular\", messages are sure to reach these members only
  {\"event\":\"group\",\"ring\":\"1.8\",\"group\":\"g\",\"members\":[{\"node\":1,\"pid\":99}],\"joined\":[...],\"left\":[],\"reason\":\"join\"}
      the group has these members now, this one itself at first; reasons: join, leave, nodedown, nodeup, procdown
  {\"event\":\"deliver\",\"ring\":\"1.8\",\"seq\":7,\"from\":2,\"pid\":99,\"guarantee\":\"agreed\",\"payload\":\"...\"}
      a message of the group; a payload that is not UTF-8 comes as \"payload_base64\" instead
  {\"event\":\"status\",\"ring\":\"1.8\",\"dc\":1,\"quorate\":true,...}
      with --status: quorum or DC changed

Who reads slowly is not served for ever: 64 MiB behind the ring, it ends with an error; nothing is left out.

Exit codes: 0 all sent and delivered, 1 failed (one line on stderr says why), 2 wrong usage.";

/// Send lines to a group of processes, and print what the group sees, in order.
///
/// It joins GROUP. Each line on stdin, of any bytes, up to 1 MiB, is multicast to it, without its newline. What the group
/// sees comes out as JSON, one object a line, in the one order that all members share. It ends at the end of stdin, once
/// all it sent was delivered here, and leaves. On nodes that run corosync, programs that use libcpg can be in the same
/// group.
#[derive(Debug, clap::Args)]
#[command(after_long_help = OUTPUT)]
pub(crate) struct CatArgs {
    /// The group's name, at most 128 bytes
    group: Group,
    /// Deliver each line only once every member of the ring has it (safe instead of agreed)
    #[arg(long)]
    safe: bool,
    /// Go on listening after the end of stdin
    #[arg(long)]
    stay: bool,
    /// Print changes of quorum and DC, too
    #[arg(long)]
    status: bool,
    #[command(flatten)]
    which: Which,
}

pub(crate) fn run(args: &CatArgs) -> Result<ExitCode, Failure> {
    let mut node = args.which.connect()?;
    let request = Request::new(Wish::Cat(Cat {
        group: args.group.to_string(),
        guarantee: if args.safe { GuaranteeName::Safe } else { GuaranteeName::Agreed },
        status: args.status,
    }));
    let broken = |error| Failure::new(format!("the connection to the node broke: {error}"));
    node.write_all(&request.line()).map_err(broken)?;

    // Two directions, two threads. That of stdin may wait for ever in a read: the process does not wait for it.
    let to_node = node.try_clone().map_err(broken)?;
    let unread = Arc::new(OnceLock::new());
    let (stay, failed) = (args.stay, unread.clone());
    thread::spawn(move || send(io::stdin().lock(), &to_node, stay, &failed));

    show(node, io::stdout().lock())?;
    match unread.get() {
        Some(error) => Err(Failure::new(format!("stdin could not be read to its end: {error}"))),
        None => Ok(ExitCode::SUCCESS),
    }
}

/// Gives the node all there is to send; `failed` is set if that is not all there was. That the node takes no more is
/// for [`show`] to tell, with the node's reason.
fn send(mut lines: impl Read, mut node: &UnixStream, stay: bool, failed: &OnceLock<io::Error>) {
    let mut buffer = vec![0; 256 << 10];
    loop {
        match lines.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => {
                if node.write_all(&buffer[..read]).is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => {
                let _ = failed.set(error);
                break;
            }
        }
    }
    if !stay {
        // Fails if the node has hung up already, which `show` sees as well.
        let _ = node.shutdown(Shutdown::Write);
    }
}

/// Prints what the node says until it says that this is all.
fn show(node: impl Read, out: impl Write) -> Result<(), Failure> {
    let mut node = BufReader::with_capacity(256 << 10, node);
    let mut out = BufWriter::with_capacity(256 << 10, out);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = node.read_until(b'\n', &mut line);
        let error = match read {
            Ok(_) if line.starts_with(json::END) => None,
            Ok(_) if line.starts_with(json::ERROR) => json::error_message(&line),
            Ok(_) if line.ends_with(b"\n") => {
                // Whoever reads along must not wait for lines that are not yet sent.
                let flush = node.buffer().is_empty();
                if !written(out.write_all(&line).and_then(|()| if flush { out.flush() } else { Ok(()) }))? {
                    return Ok(());
                }
                continue;
            }
            Ok(_) => Some("the node hung up: see its log".to_owned()),
            Err(error) => Some(format!("the connection to the node broke: {error}")),
        };
        written(out.flush())?;
        return error.map_or(Ok(()), |message| Err(Failure::new(message)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(answer: &str) -> (String, Result<(), String>) {
        let mut out = Vec::new();
        let result = show(answer.as_bytes(), &mut out).map_err(|failure| failure.to_string());
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
        for cut in ["", "{\"event\":\"regular\"}\n", "{\"event\":\"regular\"}\n{\"event\":\"del"] {
            assert_eq!(shown(cut).1, Err("the node hung up: see its log".to_owned()));
        }
    }

    #[test]
    fn a_reader_that_has_seen_enough_is_no_failure() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Err(ErrorKind::BrokenPipe.into())
            }
        }
        assert!(show(&b"{\"event\":\"regular\"}\n"[..], Closed).is_ok());
    }

    #[test]
    fn stdin_goes_to_the_node_as_it_is_and_its_end_is_told_unless_we_stay() {
        for stay in [false, true] {
            let (ours, mut nodes) = UnixStream::pair().unwrap();
            let failed = OnceLock::new();
            send(&b"a\n\xff\nlast"[..], &ours, stay, &failed);
            assert!(failed.get().is_none());
            let mut got = vec![0; 8];
            nodes.read_exact(&mut got).unwrap();
            assert_eq!(got, b"a\n\xff\nlast");
            nodes.set_nonblocking(true).unwrap();
            let after = nodes.read(&mut got);
            assert_eq!(after.is_ok_and(|read| read == 0), !stay);
        }
    }
}
