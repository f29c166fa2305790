//! The codecs of NAR files, fast and whole in memory: for fixtures, and for tests that look into
//! what they were served.

use std::io::{self, Read, Write};

use ncps_nix::Compression;

/// Compresses at the fastest level of each codec.
///
/// # Panics
/// Never for lack of space: the output is in memory.
pub fn encode(compression: Compression, data: &[u8]) -> Vec<u8> {
    let encoded = match compression {
        Compression::None => Ok(data.to_vec()),
        Compression::Xz => encode_xz(data),
        Compression::Bzip2 => encode_bzip2(data),
        Compression::Zstd => zstd::encode_all(data, 1),
    };
    encoded.expect("an encoder that writes to memory does not fail")
}

fn encode_xz(data: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 0);
    encoder.write_all(data)?;
    encoder.finish()
}

fn encode_bzip2(data: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    encoder.write_all(data)?;
    encoder.finish()
}

/// Decompresses, all streams or frames of it.
///
/// # Errors
/// If `data` is not whole and valid in that codec.
pub fn decode(compression: Compression, data: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    match compression {
        Compression::None => out.extend_from_slice(data),
        Compression::Xz => drop(liblzma::read::XzDecoder::new_multi_decoder(data).read_to_end(&mut out)?),
        Compression::Bzip2 => drop(bzip2::read::MultiBzDecoder::new(data).read_to_end(&mut out)?),
        Compression::Zstd => out = zstd::decode_all(data)?,
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_decodes() {
        let data = b"some text, some text, some text".repeat(100);
        for compression in [Compression::None, Compression::Xz, Compression::Bzip2, Compression::Zstd] {
            let encoded = encode(compression, &data);
            assert_eq!(decode(compression, &encoded).expect("just encoded"), data, "{compression}");
            let half = &encoded[..encoded.len() / 2];
            assert_ne!(decode(compression, half).ok().as_deref(), Some(&data[..]), "{compression}");
        }
    }
}
