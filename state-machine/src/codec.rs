//! The internal encoding of records and log entries: one version byte, then bincode with a limit.
//! Nothing is ever signed or hashed over these bytes; what is signed has its bytes in `wire`.

use serde::Serialize;
use serde::de::{DeserializeOwned, Deserializer, Error, Visitor};
use std::cell::Cell;
use std::fmt;

/// The only version that is read.
pub(crate) const VERSION: u8 = 3;

/// The largest value that is decoded, in bytes. It bounds what a corrupt length can allocate.
pub const MAX_BYTES: usize = 64 << 20;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("undecodable record: {0}")]
pub struct CodecError(pub String);

fn config() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<MAX_BYTES>()
}

/// The largest encoding whose buffer is kept for the next one, in bytes.
const KEPT_BYTES: usize = 1 << 20;

thread_local! {
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Encodes into a buffer that has grown before, and copies what there is: growing a new one each time took a twentieth of a
/// busy node's time.
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    let mut buffer = BUFFER.take();
    buffer.clear();
    buffer.push(VERSION);
    // Writing to a Vec fails only for types that cannot say their length; ours all can.
    bincode::serde::encode_into_std_write(value, &mut buffer, config()).expect("our types encode");
    let out = buffer.as_slice().to_vec();
    if buffer.capacity() <= KEPT_BYTES {
        BUFFER.set(buffer);
    }
    out
}

pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let (value, left) = decode_some(bytes)?;
    if left > 0 { Err(CodecError(format!("{left} bytes left over"))) } else { Ok(value) }
}

fn decode_some<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, usize), CodecError> {
    let (&version, body) = bytes.split_first().ok_or_else(|| CodecError("empty".into()))?;
    if version != VERSION {
        return Err(CodecError(format!("version {version}, this build reads {VERSION}")));
    }
    let (value, used) = bincode::serde::decode_from_slice(body, config()).map_err(|e| CodecError(e.to_string()))?;
    Ok((value, body.len() - used))
}

/// The first field of what was encoded, whatever comes after it.
pub(crate) fn decode_first<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let (value, _) = decode_some(bytes)?;
    Ok(value)
}

/// Reads bytes that were written with `serialize_bytes`, in one copy.
pub(crate) fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    struct Bytes;

    impl Visitor<'_> for Bytes {
        type Value = Vec<u8>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("bytes")
        }

        fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
            Ok(bytes.to_vec())
        }

        fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
            Ok(bytes)
        }
    }

    deserializer.deserialize_byte_buf(Bytes)
}

/// Reads an array that was written with `serialize_bytes`: in one copy, where serde's own arrays go byte by byte.
pub(crate) fn array<'de, D: Deserializer<'de>, const N: usize>(deserializer: D) -> Result<[u8; N], D::Error> {
    struct Bytes<const N: usize>;

    impl<const N: usize> Visitor<'_> for Bytes<N> {
        type Value = [u8; N];

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "{N} bytes")
        }

        fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<[u8; N], E> {
            bytes.try_into().map_err(|_| E::invalid_length(bytes.len(), &self))
        }
    }

    deserializer.deserialize_bytes(Bytes)
}
