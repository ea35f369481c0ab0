//! DNS messages, as far as finding services takes: questions, and the records that answer them (RFC 1035, 2782, 3596).

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// RFC 1035, 3.1: a name with its length octets.
const NAME_OCTETS_MAX: usize = 255;
/// RFC 1035, 2.3.4.
const LABEL_OCTETS_MAX: usize = 63;
/// A chain of aliases that is longer than this leads nowhere.
const ALIASES_MAX: usize = 8;
const CLASS_INTERNET: u16 = 1;
const TYPE_ALIAS: u16 = 5;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Kind {
    /// A
    Ipv4 = 1,
    /// AAAA
    Ipv6 = 28,
    /// SRV
    Service = 33,
}

/// One record of the kind that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A or AAAA.
    Address(IpAddr),
    /// SRV.
    Service {
        /// Lower is tried first.
        priority: u16,
        /// Share of the calls among those of one priority.
        weight: u16,
        /// Where it listens.
        port: u16,
        /// On which host, without a dot at its end; empty if the service is not available.
        target: String,
    },
}

/// What a server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The records, if there are any, and how many seconds they may be used.
    Records {
        /// In the order of the answer.
        records: Vec<Record>,
        /// The shortest time to live among them.
        seconds: u32,
    },
    /// There is no such name.
    NoName,
    /// There was more than fits a datagram.
    Truncated,
    /// The server could not or would not, with its code.
    Refused(u8),
}

/// The question for the records of a name; `None` if it is no name. A dot at its end changes nothing.
pub fn question(id: u16, name: &str, kind: Kind) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(18 + name.len());
    bytes.extend_from_slice(&id.to_be_bytes());
    // A standard query that the server shall follow to its end; one question and nothing else.
    bytes.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    let start = bytes.len();
    for label in name.strip_suffix('.').unwrap_or(name).split('.') {
        let length =
            u8::try_from(label.len()).ok().filter(|length| (1..=LABEL_OCTETS_MAX as u8).contains(length))?;
        bytes.push(length);
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    if bytes.len() - start > NAME_OCTETS_MAX {
        return None;
    }
    bytes.extend_from_slice(&(kind as u16).to_be_bytes());
    bytes.extend_from_slice(&CLASS_INTERNET.to_be_bytes());
    Some(bytes)
}

/// Understands the reply to that question; `None` if it is something else.
pub fn reply(bytes: &[u8], question: &[u8], kind: Kind) -> Option<Reply> {
    let mut reader = Reader { bytes, at: 0 };
    let (id, flags) = (reader.u16()?, reader.u16()?);
    let [questions, answers, _, _] = [reader.u16()?, reader.u16()?, reader.u16()?, reader.u16()?];
    let is_reply = flags & 0x8000 != 0;
    if !is_reply || id.to_be_bytes() != question.get(..2)? {
        return None;
    }
    let code = u8::try_from(flags & 0xf).unwrap_or(u8::MAX);
    // Servers that make nothing of a question need not repeat it.
    if questions == 0 && code != 0 {
        return Some(Reply::Refused(code));
    }
    let asked = Reader { bytes: question, at: 12 }.name()?;
    if questions != 1
        || reader.name()? != asked
        || reader.u16()? != kind as u16
        || reader.u16()? != CLASS_INTERNET
    {
        return None;
    }
    match code {
        _ if flags & 0x0200 != 0 => return Some(Reply::Truncated),
        0 => {}
        3 => return Some(Reply::NoName),
        code => return Some(Reply::Refused(code)),
    }
    let mut found = Vec::new();
    let mut aliases = Vec::new();
    for _ in 0..answers {
        let (name, type_, class, seconds) = (reader.name()?, reader.u16()?, reader.u16()?, reader.u32()?);
        let length = usize::from(reader.u16()?);
        let end = reader.at.checked_add(length).filter(|end| *end <= bytes.len())?;
        if class == CLASS_INTERNET && type_ == TYPE_ALIAS {
            aliases.push((name, seconds, reader.name()?));
        } else if class == CLASS_INTERNET && type_ == kind as u16 {
            found.push((name, seconds, reader.record(kind)?));
        }
        reader.at = end;
    }
    Some(follow(asked, &aliases, found))
}

/// The records of a name, behind its aliases.
fn follow(asked: String, aliases: &[(String, u32, String)], found: Vec<(String, u32, Record)>) -> Reply {
    let (mut name, mut usable) = (asked, u32::MAX);
    for _ in 0..ALIASES_MAX {
        let Some((_, seconds, target)) = aliases.iter().find(|(from, _, _)| *from == name) else { break };
        usable = usable.min(*seconds);
        name.clone_from(target);
    }
    let mut records = Vec::new();
    for (_, seconds, record) in found.into_iter().filter(|(owner, _, _)| *owner == name) {
        usable = usable.min(seconds);
        records.push(record);
    }
    Reply::Records { records, seconds: usable }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let taken = self.bytes.get(self.at..)?.first_chunk::<N>()?;
        self.at += N;
        Some(*taken)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }

    fn record(&mut self, kind: Kind) -> Option<Record> {
        Some(match kind {
            Kind::Ipv4 => Record::Address(Ipv4Addr::from(self.take::<4>()?).into()),
            Kind::Ipv6 => Record::Address(Ipv6Addr::from(self.take::<16>()?).into()),
            Kind::Service => Record::Service {
                priority: self.u16()?,
                weight: self.u16()?,
                port: self.u16()?,
                target: self.name()?,
            },
        })
    }

    /// A name in lower case, without a dot at its end. The root is empty.
    fn name(&mut self) -> Option<String> {
        let mut name = String::new();
        let mut at = self.at;
        // Where reading goes on after the name: behind the first pointer, if there is one.
        let mut after = None;
        let mut octets = 1;
        loop {
            let length = usize::from(*self.bytes.get(at)?);
            match length {
                0 => break,
                // RFC 1035, 4.1.4. Backwards only, so that it ends.
                0xc0.. => {
                    let target = (length & 0x3f) << 8 | usize::from(*self.bytes.get(at + 1)?);
                    after.get_or_insert(at + 2);
                    if target >= at {
                        return None;
                    }
                    at = target;
                    continue;
                }
                1..=LABEL_OCTETS_MAX => {}
                _ => return None,
            }
            octets += length + 1;
            if octets > NAME_OCTETS_MAX {
                return None;
            }
            let label = self.bytes.get(at + 1..at + 1 + length)?;
            if !name.is_empty() {
                name.push('.');
            }
            for byte in label {
                match byte {
                    // RFC 1035, 5.1: what would be read as something else, and what cannot be read.
                    b'.' | b'\\' => name.extend(['\\', char::from(*byte)]),
                    0x21..=0x7e => name.push(char::from(byte.to_ascii_lowercase())),
                    _ => name.push_str(&format!("\\{byte:03}")),
                }
            }
            at += 1 + length;
        }
        self.at = after.unwrap_or(at + 1);
        Some(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Header, the question itself, then records of: owner, type, seconds, data.
    fn answer(question: &[u8], flags: u16, records: &[(&[u8], u16, u32, &[u8])]) -> Vec<u8> {
        let mut bytes = question.to_vec();
        bytes[2..4].copy_from_slice(&flags.to_be_bytes());
        bytes[6..8].copy_from_slice(&u16::try_from(records.len()).unwrap().to_be_bytes());
        for (owner, type_, seconds, data) in records {
            bytes.extend_from_slice(owner);
            bytes.extend_from_slice(&type_.to_be_bytes());
            bytes.extend_from_slice(&[0, 1]);
            bytes.extend_from_slice(&seconds.to_be_bytes());
            bytes.extend_from_slice(&u16::try_from(data.len()).unwrap().to_be_bytes());
            bytes.extend_from_slice(data);
        }
        bytes
    }

    /// The name of the question, compressed.
    const ASKED: &[u8] = &[0xc0, 12];

    #[test]
    fn a_question_is_laid_out_as_rfc_1035_says() {
        let bytes = question(0x0102, "_grpc._tcp.a.example.", Kind::Service).unwrap();
        let expected = b"\x01\x02\x01\0\0\x01\0\0\0\0\0\0\x05_grpc\x04_tcp\x01a\x07example\0\0\x21\0\x01";
        assert_eq!(bytes, expected);
        let long = "a".repeat(64);
        let longer = vec!["a".repeat(63); 5].join(".");
        for no_name in ["", "a..b", ".", &long, &longer] {
            assert_eq!(question(1, no_name, Kind::Ipv4), None, "{no_name}");
        }
    }

    #[test]
    fn services_come_with_priority_weight_and_port() {
        let asked = question(7, "_grpc._tcp.X.test", Kind::Service).unwrap();
        let data = b"\0\x0a\0\x3c\x13\x89\x03ONE\x04test\0";
        let bytes = answer(&asked, 0x8180, &[(ASKED, 33, 60, data), (ASKED, 16, 5, b"\x01t")]);
        let service = Record::Service { priority: 10, weight: 60, port: 5001, target: "one.test".to_owned() };
        let expected = Reply::Records { records: vec![service], seconds: 60 };
        assert_eq!(reply(&bytes, &asked, Kind::Service), Some(expected));
    }

    #[test]
    fn aliases_are_followed_and_strangers_left_out() {
        let asked = question(7, "www.test", Kind::Ipv4).unwrap();
        let bytes = answer(
            &asked,
            0x8180,
            &[
                (ASKED, 5, 30, b"\x04host\xc0\x10"),
                (b"\x04host\xc0\x10", 1, 90, &[10, 0, 0, 1]),
                (b"\x04evil\xc0\x10", 1, 90, &[10, 0, 0, 2]),
            ],
        );
        let expected = Reply::Records { records: vec![Record::Address([10, 0, 0, 1].into())], seconds: 30 };
        assert_eq!(reply(&bytes, &asked, Kind::Ipv4), Some(expected));
        let circle = answer(&asked, 0x8180, &[(ASKED, 5, 30, ASKED)]);
        let nothing = Reply::Records { records: vec![], seconds: 30 };
        assert_eq!(reply(&circle, &asked, Kind::Ipv4), Some(nothing));
    }

    #[test]
    fn only_the_answer_to_the_question_counts() {
        let asked = question(7, "a.test", Kind::Ipv4).unwrap();
        let good = answer(&asked, 0x8180, &[]);
        assert!(reply(&good, &asked, Kind::Ipv4).is_some());
        assert_eq!(reply(&asked, &asked, Kind::Ipv4), None, "a question is no answer");
        let others = [
            question(8, "a.test", Kind::Ipv4),
            question(7, "b.test", Kind::Ipv4),
            question(7, "a.test", Kind::Ipv6),
        ];
        for other in others.map(Option::unwrap) {
            assert_eq!(reply(&answer(&other, 0x8180, &[]), &asked, Kind::Ipv4), None);
        }
    }

    #[test]
    fn codes_say_what_went_wrong() {
        let asked = question(7, "a.test", Kind::Ipv4).unwrap();
        let outcome = |flags| reply(&answer(&asked, flags, &[]), &asked, Kind::Ipv4).unwrap();
        assert_eq!(outcome(0x8183), Reply::NoName);
        assert_eq!(outcome(0x8182), Reply::Refused(2));
        assert_eq!(outcome(0x8380), Reply::Truncated);
        assert_eq!(reply(b"\0\x07\x81\x81\0\0\0\0\0\0\0\0", &asked, Kind::Ipv4), Some(Reply::Refused(1)));
    }

    proptest::proptest! {
        #[test]
        fn garbage_never_panics(tail in proptest::collection::vec(proptest::num::u8::ANY, 0..200), count: u16) {
            for kind in [Kind::Ipv4, Kind::Ipv6, Kind::Service] {
                let asked = question(7, "a.test", kind).unwrap();
                let mut bytes = answer(&asked, 0x8180, &[]);
                bytes[6..8].copy_from_slice(&count.to_be_bytes());
                bytes.extend_from_slice(&tail);
                let _ = reply(&bytes, &asked, kind);
                let _ = reply(&tail, &asked, kind);
            }
        }
    }
}
