//! The bytes of one stored record: a checksum over key and value, then the value. And the redo
//! file, which holds all rows of a generation until they are known to be durable.

use super::RowRef;
use tercet_core::records::{Broken, Row};

const CHECKSUM_BYTES: usize = 4;
const REDO_MAGIC: &[u8; 8] = b"tercetg1";

fn checksum(key: &[u8], value: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut hasher = crc32fast::Hasher::new();
    // The length keeps a byte from moving between key and value unnoticed.
    hasher.update(&(key.len() as u64).to_le_bytes());
    hasher.update(key);
    hasher.update(value);
    hasher.finalize().to_le_bytes()
}

/// The stored form of a value.
pub fn seal(key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(CHECKSUM_BYTES + value.len());
    out.extend_from_slice(&checksum(key, value));
    out.extend_from_slice(value);
    out
}

/// The value of a stored form, if it is intact.
pub fn unseal(key: &[u8], stored: &[u8]) -> Result<Vec<u8>, Broken> {
    let value = stored.get(CHECKSUM_BYTES..);
    match value {
        Some(value) if stored[..CHECKSUM_BYTES] == checksum(key, value) => Ok(value.to_vec()),
        _ => Err(Broken(format!("the stored record {} does not match its checksum", hex::encode(key)))),
    }
}

/// All rows of one generation, ending in a checksum over everything before it.
pub fn encode_redo(rows: &[RowRef<'_>]) -> Vec<u8> {
    let size: usize = rows.iter().map(|(key, value)| key.len() + value.len() + 16).sum();
    let mut out = Vec::with_capacity(size + 32);
    out.extend_from_slice(REDO_MAGIC);
    out.extend_from_slice(&(rows.len() as u64).to_le_bytes());
    for (key, value) in rows {
        for part in [key, value] {
            out.extend_from_slice(&(part.len() as u64).to_le_bytes());
            out.extend_from_slice(part);
        }
    }
    let sum = crc32fast::hash(&out);
    out.extend_from_slice(&sum.to_le_bytes());
    out
}

/// The rows of a complete redo file; `None` if it was not written to its end.
pub fn decode_redo(bytes: &[u8]) -> Option<Vec<Row>> {
    let body = bytes.len().checked_sub(4)?;
    let (body, sum) = bytes.split_at(body);
    if crc32fast::hash(body).to_le_bytes() != sum {
        return None;
    }
    let mut rest = body.strip_prefix(REDO_MAGIC)?;
    let count = take_u64(&mut rest)?;
    let mut rows = Vec::new();
    for _ in 0..count {
        let key = take_part(&mut rest)?;
        let value = take_part(&mut rest)?;
        rows.push((key, value));
    }
    rest.is_empty().then_some(rows)
}

fn take_u64(rest: &mut &[u8]) -> Option<u64> {
    let (head, tail) = rest.split_first_chunk::<8>()?;
    *rest = tail;
    Some(u64::from_le_bytes(*head))
}

fn take_part(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let len = usize::try_from(take_u64(rest)?).ok()?;
    if len > rest.len() {
        return None;
    }
    let (head, tail) = rest.split_at(len);
    *rest = tail;
    Some(head.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flipped_bit_in_a_record_is_noticed() {
        let stored = seal(b"k", b"value");
        assert_eq!(unseal(b"k", &stored), Ok(b"value".to_vec()));
        assert!(unseal(b"j", &stored).is_err());
        for bit in 0..stored.len() * 8 {
            let mut bad = stored.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(unseal(b"k", &bad).is_err(), "bit {bit}");
        }
        assert!(unseal(b"k", &stored[..3]).is_err());
    }

    #[test]
    fn a_redo_file_cut_anywhere_is_no_redo_file() {
        let rows = vec![(b"a".to_vec(), b"1".to_vec()), (b"b".to_vec(), vec![0; 40])];
        let bytes = encode_redo(&crate::storage::refs(&rows));
        assert_eq!(decode_redo(&bytes), Some(rows.clone()));
        for len in 0..bytes.len() {
            assert_eq!(decode_redo(&bytes[..len]), None, "cut at {len}");
        }
    }
}
