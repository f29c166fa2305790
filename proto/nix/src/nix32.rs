//! Nix's base 32: 5 bits per character, little-endian, most significant character first.
//!
//! Decoding is strict: exact length, exact alphabet (lower case, without `e`, `o`, `t`, `u`), and
//! no bits beyond the last byte, so one value has exactly one text. Absent on purpose: decoding
//! to a length that is not known beforehand.

const ALPHABET: &[u8; 32] = b"0123456789abcdfghijklmnpqrsvwxyz";

/// Value of each byte as a digit; [`NO_DIGIT`] where it is none.
const DIGITS: [u8; 256] = digits();
const NO_DIGIT: u8 = 0xff;

const fn digits() -> [u8; 256] {
    let mut table = [NO_DIGIT; 256];
    let mut value = 0;
    while value < ALPHABET.len() {
        table[ALPHABET[value] as usize] = value as u8;
        value += 1;
    }
    table
}

/// Number of characters that `bytes` bytes take: 32 for 20, 52 for 32.
pub(crate) const fn encoded_len(bytes: usize) -> usize {
    (bytes * 8).div_ceil(5)
}

/// Encodes bytes of any length; no bytes give the empty string.
pub fn encode(bytes: &[u8]) -> String {
    (0..encoded_len(bytes.len()))
        .rev()
        .map(|position| char::from(ALPHABET[usize::from(five_bits(bytes, position))]))
        .collect()
}

/// The 5 bits at bit `5 * position`; bits past the end are 0.
fn five_bits(bytes: &[u8], position: usize) -> u8 {
    let (index, shift) = (position * 5 / 8, position * 5 % 8);
    let low = u16::from(bytes[index]);
    let high = u16::from(bytes.get(index + 1).copied().unwrap_or(0));
    (((high << 8 | low) >> shift) & 0x1f) as u8
}

/// Decodes the 32 characters of a 20-byte value (a store path hash).
pub fn decode_20(text: &str) -> Option<[u8; 20]> {
    decode(text)
}

/// Decodes the 52 characters of a 32-byte value (a sha256).
pub fn decode_32(text: &str) -> Option<[u8; 32]> {
    decode(text)
}

/// Whether `c` is a nix32 digit.
pub fn is_nix32_char(c: char) -> bool {
    u8::try_from(c).is_ok_and(|byte| DIGITS[usize::from(byte)] != NO_DIGIT)
}

pub(crate) fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    decode_into(text, &mut bytes)?;
    Some(bytes)
}

/// Decodes into all of `bytes`, which must be zeroed; None leaves it in an unspecified state.
pub(crate) fn decode_into(text: &str, bytes: &mut [u8]) -> Option<()> {
    if text.len() != encoded_len(bytes.len()) {
        return None;
    }
    for (position, character) in text.bytes().rev().enumerate() {
        let digit = DIGITS[usize::from(character)];
        if digit == NO_DIGIT {
            return None;
        }
        put_five_bits(bytes, position, digit)?;
    }
    Some(())
}

/// None when the digit has bits beyond the last byte.
fn put_five_bits(bytes: &mut [u8], position: usize, digit: u8) -> Option<()> {
    let (index, shift) = (position * 5 / 8, position * 5 % 8);
    let [low, high] = (u16::from(digit) << shift).to_le_bytes();
    *bytes.get_mut(index)? |= low;
    match bytes.get_mut(index + 1) {
        Some(next) => *next |= high,
        None if high != 0 => return None,
        None => {}
    }
    Some(())
}
