//! The internal encoding of records and log entries: one version byte, then bincode with a limit.
//! Nothing is ever signed or hashed over these bytes; what is signed has its bytes in `wire`.

use serde::{Serialize, de::DeserializeOwned};

/// The only version so far. A reader refuses any other.
const VERSION: u8 = 1;

/// The largest value that is decoded, in bytes. It bounds what a corrupt length can allocate.
pub const MAX_BYTES: usize = 64 << 20;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("undecodable record: {0}")]
pub struct CodecError(pub String);

fn config() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<MAX_BYTES>()
}

pub fn encode<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    let mut out = vec![VERSION];
    // Writing to a Vec fails only for types that cannot say their length; ours all can.
    bincode::serde::encode_into_std_write(value, &mut out, config()).expect("our types encode");
    out
}

pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let (&version, body) = bytes.split_first().ok_or_else(|| CodecError("empty".into()))?;
    if version != VERSION {
        return Err(CodecError(format!("version {version}, this build reads {VERSION}")));
    }
    let (value, used) = bincode::serde::decode_from_slice(body, config()).map_err(|e| CodecError(e.to_string()))?;
    if used != body.len() {
        return Err(CodecError(format!("{} bytes left over", body.len() - used)));
    }
    Ok(value)
}
