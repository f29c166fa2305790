//! The encoder of what NARs become: one thread, and nothing that depends on time or machine, so that a recipe gives the
//! same bytes wherever and whenever it is followed, as long as the library is the same.

use std::io::{self, Read};

/// How a NAR becomes a zstd file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Encoding {
    pub(crate) level: i32,
    /// Of the NAR, in bytes: the encoder fits its window to it, and fails where more or fewer come.
    pub(crate) nar_size: u64,
}

/// What a recipe says of the encoder.
pub(crate) fn library() -> String {
    format!("zstd-{}", zstd::zstd_safe::version_string())
}

/// The bytes of `nar`, compressed.
pub(crate) fn encoder<'n>(nar: impl Read + 'n, how: Encoding) -> io::Result<Box<dyn Read + 'n>> {
    let mut encoder = zstd::stream::read::Encoder::new(nar, how.level)?;
    encoder.set_pledged_src_size(Some(how.nar_size))?;
    Ok(Box::new(encoder))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives its bytes in pieces of changing lengths.
    struct Pieces<'b>(&'b [u8], usize);

    impl Read for Pieces<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.1 = self.1 * 31 % 9973 + 1;
            let n = self.1.min(buffer.len());
            self.0.read(&mut buffer[..n])
        }
    }

    fn encoded(nar: impl Read, nar_size: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        encoder(nar, Encoding { level: 6, nar_size })?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    #[test]
    fn the_same_bytes_come_however_the_nar_comes() {
        for len in [0_u32, 1, 77, 1 << 20] {
            let nar: Vec<u8> = (0..len).flat_map(|n| (n / 7).to_le_bytes()).collect();
            let whole = encoded(&*nar, nar.len() as u64).expect("encodes");
            for seed in [1, 2, 5000] {
                let pieces = encoded(Pieces(&nar, seed), nar.len() as u64).expect("encodes");
                assert!(pieces == whole, "{len} words");
            }
            assert_eq!(zstd::decode_all(&*whole).expect("decodes"), nar);
        }
    }

    #[test]
    fn a_nar_of_another_size_is_an_error() {
        for said in [99, 101] {
            assert!(encoded(&[7; 100][..], said).is_err(), "{said}");
        }
    }
}
