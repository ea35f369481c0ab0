//! LZW as Go's `compress/lzw` writes it (LSB first, 8 bits), in memberlist's envelope.

use weezl::{BitOrder, LzwStatus};

use super::message::kind;
use super::msgpack::{Fault, Reader, write_key, write_map, write_raw, write_unsigned};

/// Bytes that are decompressed at a time.
const STEP_BYTES: usize = 16 * 1024;

/// Appends `message` compressed, with the type of that envelope.
pub fn compress(message: &[u8], to: &mut Vec<u8>) {
    let mut packed = Vec::new();
    let result = weezl::encode::Encoder::new(BitOrder::Lsb, 8).into_vec(&mut packed).encode_all(message);
    result.status.expect("every byte has a code of 8 bits");
    to.push(kind::COMPRESSED);
    write_map(to, 2);
    write_key(to, "Algo");
    write_unsigned(to, 0);
    write_key(to, "Buf");
    write_raw(to, &packed);
}

/// Takes the envelope's body off and decompresses it to at most `bytes_max`.
///
/// # Errors
/// Malformed, another algorithm, or more than that comes out.
pub fn decompress(body: &[u8], bytes_max: usize) -> Result<Vec<u8>, Fault> {
    let (mut algorithm, mut packed) = (0, &[][..]);
    Reader::new(body).fields(&["Algo", "Buf"], |field, reader| {
        match field {
            0 => algorithm = reader.u8()?,
            _ => packed = reader.bytes()?,
        }
        Ok(())
    })?;
    if algorithm != 0 {
        return Err(Fault::Invalid("compressed with something else than LZW"));
    }
    unpack(packed, bytes_max)
}

fn unpack(mut packed: &[u8], bytes_max: usize) -> Result<Vec<u8>, Fault> {
    let mut decoder = weezl::decode::Decoder::new(BitOrder::Lsb, 8);
    let (mut out, mut filled) = (Vec::new(), 0);
    loop {
        if filled == out.len() {
            if filled >= bytes_max {
                let (length, max) = (filled as u64 + 1, bytes_max as u64);
                return Err(Fault::Length { what: "what was compressed", length, max });
            }
            out.resize((filled + STEP_BYTES).min(bytes_max), 0);
        }
        let result = decoder.decode_bytes(packed, &mut out[filled..]);
        packed = &packed[result.consumed_in..];
        filled += result.consumed_out;
        match result.status {
            Ok(LzwStatus::Done) => break,
            // Go needs no end code either: whatever came is what there is.
            Ok(LzwStatus::NoProgress) if packed.is_empty() => break,
            Ok(LzwStatus::NoProgress) if filled < out.len() => {
                return Err(Fault::Invalid("LZW that does not go on"));
            }
            Ok(LzwStatus::Ok | LzwStatus::NoProgress) => {}
            Err(_) => return Err(Fault::Invalid("LZW with a code that cannot be")),
        }
    }
    out.truncate(filled);
    Ok(out)
}
