//! Lines as clients send them.

use std::io;

use bytes::Bytes;
use tokio::io::{AsyncBufRead, AsyncBufReadExt};

/// Reads lines of bounded length, without their newlines. Half a line does not count, because its
/// writer may have been killed in the middle of it.
pub(super) struct LineReader<R> {
    from: R,
}

#[derive(PartialEq, Debug)]
pub(super) enum Line {
    Whole(Bytes),
    TooLong,
    /// The end of the input, within a line.
    Part,
    End,
}

impl<R: AsyncBufRead + Unpin> LineReader<R> {
    pub(super) fn new(from: R) -> Self {
        Self { from }
    }

    pub(super) async fn next(&mut self, max: usize) -> io::Result<Line> {
        let mut line = Vec::new();
        loop {
            let available = self.from.fill_buf().await?;
            if available.is_empty() {
                return Ok(if line.is_empty() { Line::End } else { Line::Part });
            }
            let newline = available.iter().position(|byte| *byte == b'\n');
            let part = &available[..newline.unwrap_or(available.len())];
            if line.len() + part.len() > max {
                return Ok(Line::TooLong);
            }
            line.extend_from_slice(part);
            let used = part.len() + usize::from(newline.is_some());
            self.from.consume(used);
            if newline.is_some() {
                return Ok(Line::Whole(line.into()));
            }
        }
    }
}
