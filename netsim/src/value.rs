//! Values in the text of a scenario: numbers, times, kinds and lists.

use std::collections::BTreeMap;
use std::time::Duration;

use quorate_membership::Guarantee;

use crate::fault::{Forged, Kind, Point, Share, Trouble};

/// Returns the pieces of `text` in place of each `{}` in `template`, or `None` if `text` does not
/// match.
pub(crate) fn fill<'a, const N: usize>(template: &str, text: &'a str) -> Option<[&'a str; N]> {
    let mut words = template.split("{}");
    let mut rest = text.strip_prefix(words.next()?)?;
    let mut pieces = [""; N];
    for (piece, word) in pieces.iter_mut().zip(words) {
        let end = if word.is_empty() { rest.len() } else { rest.find(word)? };
        *piece = &rest[..end];
        rest = &rest[end + word.len()..];
    }
    rest.is_empty().then_some(pieces)
}

/// A value that can be parsed from text.
pub(crate) trait Value: Sized {
    const NAME: &'static str;
    fn read(text: &str) -> Option<Self>;
}

pub(crate) fn value<T: Value>(text: &str) -> Result<T, String> {
    T::read(text).ok_or_else(|| format!("`{text}` is not {}", T::NAME))
}

macro_rules! numbers {
    ($($number:ty)*) => {$(
        impl Value for $number {
            const NAME: &'static str = "a whole number, or is too large";
            fn read(text: &str) -> Option<Self> {
                text.parse().ok()
            }
        }
    )*};
}

numbers!(u32 i32 u64 usize);

impl Value for bool {
    const NAME: &'static str = "yes or no";
    fn read(text: &str) -> Option<Self> {
        match text {
            "yes" => Some(true),
            "no" => Some(false),
            _ => None,
        }
    }
}

/// Parses the format that Rust prints: `1.5s`, `200ms`, `50µs`. `us` is accepted too.
impl Value for Duration {
    const NAME: &'static str = "a length of time, such as 1.5s, 200ms, 50us";
    fn read(text: &str) -> Option<Self> {
        let number = text.trim_end_matches(char::is_alphabetic);
        let unit: u64 = match &text[number.len()..] {
            "s" => 1_000_000_000,
            "ms" => 1_000_000,
            "us" | "µs" => 1000,
            "ns" => 1,
            _ => return None,
        };
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        let mut nanos = whole.parse::<u64>().ok()?.checked_mul(unit)?;
        let mut digit_is = unit;
        for digit in part.chars() {
            digit_is /= 10;
            nanos = nanos.checked_add(u64::from(digit.to_digit(10)?) * digit_is)?;
        }
        Some(Self::from_nanos(nanos))
    }
}

impl Value for Share {
    const NAME: &'static str = "a share in percent, from 0 to 100";
    fn read(text: &str) -> Option<Self> {
        let percent: f64 = text.parse().ok()?;
        (0.0..=100.0).contains(&percent).then(|| Self((percent * 10_000.0).round() as u32))
    }
}

impl Value for Guarantee {
    const NAME: &'static str = "a guarantee (agreed or safe)";
    fn read(text: &str) -> Option<Self> {
        [Self::Agreed, Self::Safe].into_iter().find(|guarantee| guarantee.to_string() == text)
    }
}

impl Value for Kind {
    const NAME: &'static str = "a kind of datagram";
    fn read(text: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, many, one)| text == *many || text == *one).map(|(kind, ..)| *kind)
    }
}

impl Value for Forged {
    const NAME: &'static str = "what is forged";
    fn read(text: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, name)| text == *name).map(|(forged, _)| *forged)
    }
}

impl Value for Trouble {
    const NAME: &'static str = "a trouble: lose, duplicate, delay, flip, or cut or pad datagrams";
    fn read(text: &str) -> Option<Self> {
        let share = |text| Share::read(text);
        let time = |text| Duration::read(text);
        Some(if let Some([bad, good]) = fill("lose bursts of {} every {}", text) {
            Self::LoseInBursts { bad: time(bad)?, good: time(good)? }
        } else if let Some([bytes]) = fill("lose all above {} bytes", text) {
            Self::LoseAbove(bytes.parse().ok()?)
        } else if let Some([of]) = fill("lose {} %", text) {
            Self::Lose(share(of)?)
        } else if let Some([of, within]) = fill("duplicate {} % within {}", text) {
            Self::Duplicate { share: share(of)?, within: time(within)? }
        } else if let Some([of, by]) = fill("delay {} % by up to {}", text) {
            Self::Delay { share: share(of)?, by: time(by)? }
        } else if let Some([bits, of]) = fill("flip up to {} bits in {} %", text) {
            Self::Flip { bits: bits.parse().ok()?, share: share(of)? }
        } else if let Some([of]) = fill("cut or pad {} %", text) {
            Self::Resize(share(of)?)
        } else {
            return None;
        })
    }
}

impl Value for Point {
    const NAME: &'static str = "a point in the life of a node";
    fn read(text: &str) -> Option<Self> {
        let points = Self::PHASES
            .map(Self::Enters)
            .into_iter()
            .chain([Self::Stores, Self::HasStored])
            .chain(Kind::ALL.iter().flat_map(|(kind, ..)| [Self::Sends(*kind), Self::HasSent(*kind)]));
        points.into_iter().find(|point| point.to_string() == text)
    }
}

impl Value for Vec<Vec<u32>> {
    const NAME: &'static str = "a list of parts, such as [1, 2] | [3]";
    fn read(text: &str) -> Option<Self> {
        let part = |part: &str| -> Option<Vec<u32>> {
            let nodes = part.trim().strip_prefix('[')?.strip_suffix(']')?;
            nodes
                .split(',')
                .filter(|node| !node.trim().is_empty())
                .map(|node| node.trim().parse().ok())
                .collect()
        };
        text.split('|').map(part).collect()
    }
}

impl Value for BTreeMap<u32, u32> {
    const NAME: &'static str = "a list of nodes, each with its votes unless it has one, such as 1 2:3";
    fn read(text: &str) -> Option<Self> {
        let voter = |item: &str| {
            let (node, votes) = item.split_once(':').unwrap_or((item, "1"));
            Some((node.parse().ok()?, votes.parse().ok()?))
        };
        text.split(' ').map(voter).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn times_are_read_as_they_are_written() {
        for time in
            [ms(0), ms(1), ms(1500), ms(2000), Duration::from_micros(1_000_001), Duration::from_nanos(1500)]
        {
            assert_eq!(Duration::read(&format!("{time:?}")), Some(time));
        }
        for wrong in ["", "1", "ms", "-1s", "1.x2s", "99999999999999999999s", "99999999999999s"] {
            assert_eq!(Duration::read(wrong), None, "{wrong}");
        }
    }
}
