//! A history on disk: JSON lines, which `load` reads back, and beside them the same as EDN.

use super::{MAX_RECORDS, Record, to_edn};
use std::fs::File;
use std::io::{BufRead as _, BufReader, BufWriter, Error, ErrorKind, Result, Write as _};
use std::path::Path;

/// Writes `path`, and the EDN beside it (`history.jsonl`, `history.edn`).
pub fn save(history: &[Record], path: &Path) -> Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    for record in history {
        serde_json::to_writer(&mut file, record)?;
        file.write_all(b"\n")?;
    }
    file.flush()?;
    let mut file = BufWriter::new(File::create(path.with_extension("edn"))?);
    to_edn(history, &mut file)?;
    file.flush()
}

pub fn load(path: &Path) -> Result<Vec<Record>> {
    let mut history = Vec::new();
    for (number, line) in BufReader::new(File::open(path)?).lines().enumerate() {
        if number >= MAX_RECORDS {
            return Err(Error::new(ErrorKind::InvalidData, format!("more than {MAX_RECORDS} records")));
        }
        let broken = |error| Error::new(ErrorKind::InvalidData, format!("line {}: {error}", number + 1));
        history.push(serde_json::from_str(&line?).map_err(broken)?);
    }
    Ok(history)
}
