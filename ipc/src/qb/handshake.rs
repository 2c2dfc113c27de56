//! The first message in each direction on a connection's stream socket.

use bytes::Bytes;
use rustix::io::Errno;

/// The size of the client's message.
pub(super) const REQUEST: usize = 24;
/// The size of this side's answer.
const RESPONSE: usize = 12_328;
/// The id of both messages.
const AUTHENTICATE: i32 = -1;
/// The room for each of the three paths.
const PATH: usize = 4096;

/// The way in which messages go after the handshake. The server chooses it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Transport {
    /// Shared memory, libqb's default on Linux. Pacemaker accepts no other.
    Memory,
    /// Datagram sockets.
    Sockets,
}

/// Reads the client's message. Returns the longest message that it wants to exchange, or `None` if
/// these bytes are something else.
pub(super) fn read(request: &[u8; REQUEST]) -> Option<u32> {
    let field = |at: usize| request[at..at + 4].try_into().map(i32::from_ne_bytes).ok();
    let is_one = field(0) == Some(AUTHENTICATE) && field(8) == i32::try_from(REQUEST).ok();
    is_one.then(|| field(16)).flatten().map(i32::cast_unsigned)
}

/// Returns the answer to a client that is let in. `paths` are those of the rings for requests,
/// responses and events, or of the control file and the sockets.
pub(super) fn accept(transport: Transport, max_message: u32, paths: [&str; 3]) -> Bytes {
    let mut answer = header(0);
    let code: i32 = match transport {
        Transport::Sockets => 0,
        Transport::Memory => 1,
    };
    answer[24..28].copy_from_slice(&code.to_ne_bytes());
    answer[28..32].copy_from_slice(&max_message.to_ne_bytes());
    // At 32 is a token that the client never sends back.
    for (n, path) in paths.into_iter().enumerate() {
        let at = 40 + n * PATH;
        answer[at..at + path.len()].copy_from_slice(path.as_bytes());
    }
    answer.into()
}

/// Returns the answer to a client that is turned away, which has the same size.
pub(super) fn refuse(error: Errno) -> Bytes {
    header(-error.raw_os_error()).into()
}

fn header(error: i32) -> Vec<u8> {
    let mut answer = vec![0; RESPONSE];
    answer[0..4].copy_from_slice(&AUTHENTICATE.to_ne_bytes());
    answer[8..12].copy_from_slice(&i32::try_from(RESPONSE).unwrap_or_default().to_ne_bytes());
    answer[16..20].copy_from_slice(&error.to_ne_bytes());
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handshake_states_the_longest_message() {
        let mut request = [0; REQUEST];
        request[0..4].copy_from_slice(&(-1i32).to_ne_bytes());
        request[8..12].copy_from_slice(&24i32.to_ne_bytes());
        request[16..20].copy_from_slice(&1_048_576u32.to_ne_bytes());
        assert_eq!(read(&request), Some(1_048_576));
        request[8] = 25;
        assert_eq!(read(&request), None);
    }

    #[test]
    fn an_answer_has_its_paths_and_a_refusal_its_error() {
        let answer = accept(Transport::Memory, 1 << 20, ["/a", "/b", "/c"]);
        assert_eq!(answer.len(), RESPONSE);
        assert_eq!((answer[24], &answer[40 + 4096..40 + 4099]), (1, &b"/b\0"[..]));
        let refusal = refuse(Errno::ACCESS);
        assert_eq!((refusal.len(), &refusal[16..20]), (RESPONSE, &(-13i32).to_ne_bytes()[..]));
    }
}
