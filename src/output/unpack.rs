//! Numbers in bytes, by the letters of Python's `struct` as kcat's `-s` and rpk have them.
//!
//! ```text
//! < > little, big endian (which it is at first)   b h i q signed numbers of 1, 2, 4, 8 bytes   B H I Q unsigned ones
//! c . a character   s the rest as text   $ nothing may be left
//! ```

/// What is expected, one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unpack(Vec<Item>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Item {
    Number { bytes: usize, is_signed: bool, is_little: bool },
    Character,
    Rest,
    End,
}

impl Unpack {
    /// Parses the letters.
    ///
    /// # Errors
    /// The letter that is none.
    pub fn parse(letters: &str) -> Result<Self, char> {
        let (mut items, mut is_little) = (Vec::new(), false);
        for letter in letters.chars() {
            let number = |bytes| Item::Number { bytes, is_signed: letter.is_ascii_lowercase(), is_little };
            items.push(match letter {
                '<' | '>' => {
                    is_little = letter == '<';
                    continue;
                }
                ' ' => continue,
                'b' | 'B' => number(1),
                'h' | 'H' => number(2),
                'i' | 'I' => number(4),
                'q' | 'Q' => number(8),
                'c' | '.' => Item::Character,
                's' => Item::Rest,
                '$' => Item::End,
                other => return Err(other),
            });
        }
        Ok(Self(items))
    }

    /// The values with spaces between them; from where they do not fit on, what is left in hex, behind `0x`.
    pub fn show(&self, bytes: &[u8]) -> Vec<u8> {
        let (mut out, mut rest) = (Vec::new(), bytes);
        for item in &self.0 {
            let shown = match *item {
                Item::Number { bytes, is_signed, is_little } => rest
                    .split_at_checked(bytes)
                    .map(|(number, after)| (shown(number, is_signed, is_little).into_bytes(), after)),
                Item::Character => rest.split_first().map(|(first, after)| (vec![*first], after)),
                Item::Rest => Some((rest.to_vec(), &[][..])),
                Item::End if rest.is_empty() => continue,
                Item::End => None,
            };
            if !out.is_empty() {
                out.push(b' ');
            }
            let Some((value, after)) = shown else {
                out.extend_from_slice(b"0x");
                rest.iter().for_each(|byte| out.extend_from_slice(format!("{byte:02x}").as_bytes()));
                break;
            };
            out.extend_from_slice(&value);
            rest = after;
        }
        out
    }
}

/// A number of up to eight bytes.
fn shown(bytes: &[u8], is_signed: bool, is_little: bool) -> String {
    let mut value: u64 = 0;
    for at in 0..bytes.len() {
        value = value << 8 | u64::from(bytes[if is_little { bytes.len() - 1 - at } else { at }]);
    }
    let unused = 64 - 8 * bytes.len();
    if is_signed { ((value << unused).cast_signed() >> unused).to_string() } else { value.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_in_both_orders_and_what_does_not_fit_is_shown_as_it_is() {
        let show = |letters: &str, bytes: &[u8]| {
            String::from_utf8(Unpack::parse(letters).unwrap().show(bytes)).unwrap()
        };
        assert_eq!(show("i", &[0xff, 0xff, 0xff, 0xfe]), "-2");
        assert_eq!(show("<I", &[1, 2, 0, 0]), "513");
        assert_eq!(
            show(">hB<q$", &[0x80, 0, 200, 7, 0, 0, 0, 0, 0, 0, 0x80]),
            "-32768 200 -9223372036854775801"
        );
        assert_eq!(show("Q", &[0xff; 8]), u64::MAX.to_string());
        assert_eq!(show("bcs", b"\x05xrest of it"), "5 x rest of it");
        assert_eq!(show("iq", &[0, 0, 0, 1, 2]), "1 0x02");
        assert_eq!(show("b$", &[1, 2, 3]), "1 0x0203");
        assert_eq!(show("", b"x"), "");
        assert_eq!(Unpack::parse("iz"), Err('z'));
    }
}
