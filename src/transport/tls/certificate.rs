//! What an X.509 certificate says about its holder, read from DER (X.690) without a library for the rest of it.
//!
//! Verification is rustls' work; this only reads names and times out of what was verified, for users and messages.

use rustls::pki_types::CertificateDer;

/// A certificate's holder and time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The holder as RFC 4514 writes names, the most specific part first: `CN=bob,O=Example`.
    pub subject: String,
    /// The holder's common name alone.
    pub common_name: Option<String>,
    /// Valid from.
    pub not_before: jiff::Timestamp,
    /// Valid until.
    pub not_after: jiff::Timestamp,
}

impl Certificate {
    /// Reads `der`; none if it is not a certificate.
    pub fn read(der: &CertificateDer<'_>) -> Option<Self> {
        // RFC 5280, 4.1: Certificate ::= SEQUENCE { tbsCertificate SEQUENCE { [0] version, serialNumber,
        // signature, issuer, validity, subject, … } … }
        let mut outer = Reader(der.as_ref());
        let mut certificate = Reader(outer.expect(SEQUENCE)?);
        let mut tbs = Reader(certificate.expect(SEQUENCE)?);
        if tbs.0.first() == Some(&VERSION) {
            tbs.next()?;
        }
        tbs.expect(INTEGER)?;
        tbs.expect(SEQUENCE)?;
        tbs.expect(SEQUENCE)?;
        let mut validity = Reader(tbs.expect(SEQUENCE)?);
        let not_before = validity.time()?;
        let not_after = validity.time()?;
        let (subject, common_name) = name(tbs.expect(SEQUENCE)?)?;
        Some(Self { subject, common_name, not_before, not_after })
    }
}

const INTEGER: u8 = 0x02;
const OID: u8 = 0x06;
const UTF8_STRING: u8 = 0x0c;
const PRINTABLE_STRING: u8 = 0x13;
const TELETEX_STRING: u8 = 0x14;
const IA5_STRING: u8 = 0x16;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const BMP_STRING: u8 = 0x1e;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const VERSION: u8 = 0xa0;

/// Short names of RFC 4514, section 3, and of the certificates seen in the wild.
const ATTRIBUTES: [(&[u8], &str); 9] = [
    (&[0x55, 4, 3], "CN"),
    (&[0x55, 4, 5], "SERIALNUMBER"),
    (&[0x55, 4, 6], "C"),
    (&[0x55, 4, 7], "L"),
    (&[0x55, 4, 8], "ST"),
    (&[0x55, 4, 9], "STREET"),
    (&[0x55, 4, 10], "O"),
    (&[0x55, 4, 11], "OU"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25], "DC"),
];

/// Takes one element after the other from the front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, mut rest) = rest.split_first()?;
        let length = if first < 0x80 {
            usize::from(first)
        } else {
            // More than four bytes of length would be over 4 GiB; zero would be BER's indefinite form.
            let count = usize::from(first & 0x7f);
            if !(1..=4).contains(&count) {
                return None;
            }
            let (bytes, after) = rest.split_at_checked(count)?;
            rest = after;
            bytes.iter().fold(0usize, |length, &byte| (length << 8) | usize::from(byte))
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }

    fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next().and_then(|(found, content)| (found == tag).then_some(content))
    }

    /// RFC 5280, 4.1.2.5: `YYMMDDHHMMSSZ`, where 50 is 1950, or `YYYYMMDDHHMMSSZ`.
    fn time(&mut self) -> Option<jiff::Timestamp> {
        let (tag, content) = self.next()?;
        let text = std::str::from_utf8(content).ok()?.strip_suffix('Z')?;
        if !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let number = |range: std::ops::Range<usize>| text.get(range)?.parse::<i16>().ok();
        let (year, at) = match (tag, text.len()) {
            (UTC_TIME, 12) => {
                let year = number(0..2)?;
                (if year < 50 { 2000 + year } else { 1900 + year }, 2)
            }
            (GENERALIZED_TIME, 14) => (number(0..4)?, 4),
            _ => return None,
        };
        let part = |index: usize| i8::try_from(number(at + 2 * index..at + 2 * index + 2)?).ok();
        let time =
            jiff::civil::DateTime::new(year, part(0)?, part(1)?, part(2)?, part(3)?, part(4)?, 0).ok()?;
        jiff::tz::TimeZone::UTC.to_timestamp(time).ok()
    }
}

/// The name's text, and the common name in it.
fn name(content: &[u8]) -> Option<(String, Option<String>)> {
    let mut parts = Vec::new();
    let mut common = None;
    let mut sequence = Reader(content);
    while !sequence.0.is_empty() {
        let mut set = Reader(sequence.expect(SET)?);
        let mut values = Vec::new();
        while !set.0.is_empty() {
            let mut attribute = Reader(set.expect(SEQUENCE)?);
            let oid = attribute.expect(OID)?;
            let (tag, value) = attribute.next()?;
            let value = text(tag, value)?;
            let label =
                ATTRIBUTES.iter().find(|(known, _)| *known == oid).map(|(_, label)| (*label).to_owned());
            let label = label.unwrap_or_else(|| dotted(oid));
            values.push(format!("{label}={}", escaped(&value)));
            if label == "CN" {
                common = Some(value);
            }
        }
        parts.push(values.join("+"));
    }
    parts.reverse();
    Some((parts.join(","), common))
}

fn text(tag: u8, bytes: &[u8]) -> Option<String> {
    match tag {
        UTF8_STRING | PRINTABLE_STRING | IA5_STRING => String::from_utf8(bytes.to_vec()).ok(),
        // Latin-1 in practice.
        TELETEX_STRING => Some(bytes.iter().map(|&byte| char::from(byte)).collect()),
        BMP_STRING => {
            let units = bytes.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
            String::from_utf16(&units.collect::<Vec<_>>()).ok()
        }
        _ => None,
    }
}

/// RFC 4514, 2.4; control characters as well, because these names are printed.
fn escaped(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let last = value.chars().count().saturating_sub(1);
    for (at, c) in value.chars().enumerate() {
        let edge_space = c == ' ' && (at == 0 || at == last);
        if matches!(c, '"' | '+' | ',' | ';' | '<' | '>' | '\\') || edge_space || (c == '#' && at == 0) {
            out.push('\\');
            out.push(c);
        } else if c.is_control() {
            let mut bytes = [0; 4];
            for byte in c.encode_utf8(&mut bytes).bytes() {
                out.push_str(&format!("\\{byte:02X}"));
            }
        } else {
            out.push(c);
        }
    }
    out
}

/// `1.2.840…`: X.690, 8.19.
fn dotted(oid: &[u8]) -> String {
    let mut numbers: Vec<u64> = Vec::new();
    let mut number = 0u64;
    for &byte in oid {
        number = number.wrapping_shl(7) | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            if numbers.is_empty() {
                let first = (number / 40).min(2);
                numbers.push(first);
                number -= first * 40;
            }
            numbers.push(number);
            number = 0;
        }
    }
    numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rcgen::{CertificateParams, DnType, KeyPair};

    fn certificate(parts: &[(DnType, &str)]) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, value) in parts {
            params.distinguished_name.push(kind.clone(), *value);
        }
        params.not_before = rcgen::date_time_ymd(1999, 12, 31);
        params.not_after = rcgen::date_time_ymd(2050, 1, 2);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    #[test]
    fn names_and_times_are_read() {
        let der = certificate(&[
            (DnType::CountryName, "DE"),
            (DnType::OrganizationName, "Acme, Inc."),
            (DnType::CommonName, " bob"),
            (DnType::CustomDnType(vec![1, 2, 840, 113549, 1]), "x\n"),
        ]);
        let read = Certificate::read(&der).unwrap();
        assert_eq!(read.subject, r"1.2.840.113549.1=x\0A,CN=\ bob,O=Acme\, Inc.,C=DE");
        assert_eq!(read.common_name.as_deref(), Some(" bob"));
        // One time in each of the two encodings.
        assert_eq!(read.not_before.to_string(), "1999-12-31T00:00:00Z");
        assert_eq!(read.not_after.to_string(), "2050-01-02T00:00:00Z");
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Certificate::read(&CertificateDer::from(bytes));
        }

        #[test]
        fn damage_never_panics(at in 0usize..300, value in any::<u8>()) {
            let mut bytes = certificate(&[(DnType::CommonName, "bob")]).to_vec();
            let at = at % bytes.len();
            bytes[at] = value;
            let _ = Certificate::read(&CertificateDer::from(bytes));
        }
    }
}
