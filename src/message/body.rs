//! A payload's bytes, compressed once where that makes them smaller.

use bytes::Bytes;

/// How a payload's bytes stand in the file and on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// As they are.
    Raw,
    /// Compressed as one snappy block.
    Snappy,
}

/// A payload as it stands in the file and on the wire: compressed once at `send`, where that makes it smaller, and not
/// touched again until the receiver's handler gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body {
    /// How `data` stands.
    pub encoding: Encoding,
    /// The bytes themselves.
    pub data: Bytes,
}

/// Payloads below this many bytes are not worth compressing.
const COMPRESS_FROM_BYTES: usize = 256;

impl Body {
    /// A body that is not compressed.
    pub fn new(payload: Bytes) -> Self {
        Self { encoding: Encoding::Raw, data: payload }
    }

    /// Compressed, where that saves at least an eighth.
    pub fn compressed(self) -> Self {
        if self.encoding == Encoding::Snappy || self.data.len() < COMPRESS_FROM_BYTES {
            return self;
        }
        match snap::raw::Encoder::new().compress_vec(&self.data) {
            Ok(small) if small.len() + self.data.len() / 8 <= self.data.len() => {
                Self { encoding: Encoding::Snappy, data: small.into() }
            }
            _ => self,
        }
    }

    /// The payload. The size that the data declares is checked against `limit` before anything is allocated.
    pub fn payload(&self, limit: usize) -> Result<Bytes, BodyError> {
        match self.encoding {
            Encoding::Raw if self.data.len() > limit => {
                Err(BodyError::TooLarge { declared: self.data.len(), limit })
            }
            Encoding::Raw => Ok(self.data.clone()),
            Encoding::Snappy => {
                let declared =
                    snap::raw::decompress_len(&self.data).map_err(|_| BodyError::Damaged)?;
                if declared > limit {
                    return Err(BodyError::TooLarge { declared, limit });
                }
                snap::raw::Decoder::new()
                    .decompress_vec(&self.data)
                    .map(Bytes::from)
                    .map_err(|_| BodyError::Damaged)
            }
        }
    }
}

/// A body that cannot be turned into a payload.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Nothing was allocated.
    #[error("the payload declares {declared} bytes, limit {limit}")]
    TooLarge {
        /// Bytes that it would have.
        declared: usize,
        /// Most bytes that are taken.
        limit: usize,
    },
    /// It is no snappy block, or one cut off.
    #[error("the compressed payload is damaged")]
    Damaged,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_compressed_only_where_it_gets_smaller() {
        let text = Body::new(Bytes::from("waypost ".repeat(1000))).compressed();
        assert_eq!(text.encoding, Encoding::Snappy);
        assert!(text.data.len() < 1000);
        assert_eq!(text.payload(8000).as_deref(), Ok("waypost ".repeat(1000).as_bytes()));
        assert_eq!(text.payload(7999), Err(BodyError::TooLarge { declared: 8000, limit: 7999 }));
        let noise: Vec<u8> = (0..4096).map(|_| fastrand::u8(..)).collect();
        assert_eq!(Body::new(noise.into()).compressed().encoding, Encoding::Raw);
    }

    #[test]
    fn a_compressed_body_that_declares_4_gib_is_refused_before_it_is_allocated() {
        let body = Body {
            encoding: Encoding::Snappy,
            data: Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 0x0f, 0x00]),
        };
        let declared = u32::MAX as usize;
        assert_eq!(body.payload(1000), Err(BodyError::TooLarge { declared, limit: 1000 }));
    }
}
