//! The lines that senders are fed: each says who sends it, where to, and which one it is, and proves that it was not changed.

use std::fmt;

/// Every so many lines one is large.
pub const LARGE_EVERY: u64 = 499;
/// What a server with the smaller limit takes. Small lines fit with their frame, large ones never do.
pub const SMALL_MAX_PAYLOAD: usize = 8 * 1024;

const LARGE_BYTES: std::ops::Range<u64> = 9_000..25_000;
const SMALL_BYTES: std::ops::Range<u64> = 0..160;
/// Nothing in here is compressed by a compressor without an entropy coder, so that large lines stay large.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";

/// What a sender's process puts all its lines into.
#[derive(
    Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub struct Topic {
    /// The channel.
    pub channel: String,
    /// The priority: `high`, `normal` or `low`.
    pub lane: String,
    /// The only receiver; none: every reader of the channel.
    #[serde(default)]
    pub to: Option<String>,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The sending node.
    pub sender: String,
    /// Which start of the sender this is, from 1.
    pub run: u32,
    /// Which line of this run, from 1.
    pub number: u64,
    /// Where it goes.
    pub topic: Topic,
}

/// Whether this line of a run is a large one.
pub fn is_large(number: u64) -> bool {
    number.is_multiple_of(LARGE_EVERY)
}

/// How many of a run's first lines are small.
pub fn small_among(lines: u64) -> u64 {
    lines - lines / LARGE_EVERY
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sender, run, number, topic } = self;
        let to = topic.to.as_deref().unwrap_or("*");
        write!(
            f,
            "m|{sender}|{run}|{number}|{}|{}|{to}|{}",
            topic.channel,
            topic.lane,
            self.filler()
        )
    }
}

impl Line {
    /// Reads a line, and checks every byte of it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| {
            let start: String = text.chars().take(60).collect();
            format!("{what} in {start:?}")
        };
        let fields: Vec<&str> = text.split('|').collect();
        let ["m", sender, run, number, channel, lane, to, filler] = fields[..] else {
            return Err(wrong("not eight fields"));
        };
        let line = Self {
            sender: sender.to_owned(),
            run: run.parse().map_err(|_| wrong("no run"))?,
            number: number.parse().map_err(|_| wrong("no number"))?,
            topic: Topic {
                channel: channel.to_owned(),
                lane: lane.to_owned(),
                to: (to != "*").then(|| to.to_owned()),
            },
        };
        if line.filler() != filler { Err(wrong("changed bytes")) } else { Ok(line) }
    }

    /// Text that depends on nothing but who and which.
    fn filler(&self) -> String {
        let seed = self.sender.bytes().fold(u64::from(self.run), |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        let mut state = seed.wrapping_add(self.number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let sizes = if is_large(self.number) { LARGE_BYTES } else { SMALL_BYTES };
        let size = sizes.start + scrambled(&mut state) % (sizes.end - sizes.start);
        let mut text = String::new();
        while (text.len() as u64) < size {
            let bits = scrambled(&mut state);
            text.extend((0..10).map(|at| char::from(ALPHABET[(bits >> (6 * at)) as usize & 63])));
        }
        text.truncate(usize::try_from(size).expect("a few kilobytes"));
        text
    }
}

/// The next number of splitmix64.
fn scrambled(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(number: u64) -> Line {
        let topic = Topic { channel: "orders".into(), lane: "low".into(), to: Some("r1".into()) };
        Line { sender: "s1".into(), run: 3, number, topic }
    }

    #[test]
    fn a_line_is_read_as_it_was_written() {
        for number in [1, 2, LARGE_EVERY, 2 * LARGE_EVERY] {
            let text = line(number).to_string();
            assert_eq!(Line::parse(&text), Ok(line(number)));
            assert_eq!(text.len() > SMALL_MAX_PAYLOAD, is_large(number), "{number}");
        }
        let everybody = Line { topic: Topic { to: None, ..line(1).topic }, ..line(1) };
        assert_eq!(Line::parse(&everybody.to_string()), Ok(everybody));
        assert_eq!(small_among(2 * LARGE_EVERY + 1), 2 * LARGE_EVERY - 1);
    }

    #[test]
    fn a_changed_byte_is_noticed_wherever_it_is() {
        let text = line(7).to_string();
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            let changed = String::from_utf8(bytes).expect("still ASCII");
            // The name of the channel, the lane and the receiver are judged by whoever knows them.
            let read = Line::parse(&changed);
            assert!(read != Ok(line(7)), "byte {at}: {changed}");
        }
    }
}
