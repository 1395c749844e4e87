//! What a certificate or a proof is worth to a stranger who has public keys only. The product's own
//! verifier judges each, and a separate program that shares no code with it judges a sample or all of
//! them: a fault that issuer and verifier share must not go unseen. Both have to say the same.

mod library;
mod program;
mod separate;

pub use library::Library;
pub use program::Program;
pub use separate::Finding;

use std::fs;
use std::path::PathBuf;

/// What a certificate proves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Says {
    pub tenant: String,
    pub id: String,
    pub content: String,
    pub level: String,
}

/// The product's verifier, in one of its forms.
pub trait Verifier: Send + Sync {
    /// What the certificate proves, or why it proves nothing.
    fn certificate(&self, bytes: &[u8], trust: &[u8]) -> Result<Says, String>;
    /// The cloud that the evidence convicts, or why it convicts none.
    fn evidence(&self, bytes: &[u8], trust: &[u8]) -> Result<String, String>;
}

pub struct Judge {
    pub product: Box<dyn Verifier>,
    /// Where the files that are judged lie.
    pub folder: PathBuf,
    /// Whether they stay there.
    pub keep: bool,
    /// The most files of a kind that the separate program is given: it is slow.
    pub most: usize,
}

impl Judge {
    /// What each proves, or why nothing. An error says why the separate program could not judge.
    pub fn certificates(&self, files: &[Vec<u8>], trust: &[u8]) -> Result<Vec<Result<Says, String>>, String> {
        let judged = files.iter().map(|bytes| self.product.certificate(bytes, trust)).collect();
        self.compare(separate::CERTIFICATE, files, trust, judged, |says: &Says, found: &separate::Says| {
            found.level.as_deref() == Some(&says.level) && found.content_hash.as_deref() == Some(&says.content)
        })
    }

    /// The cloud that each convicts, or why none.
    pub fn evidence(&self, files: &[Vec<u8>], trust: &[u8]) -> Result<Vec<Result<String, String>>, String> {
        let judged = files.iter().map(|bytes| self.product.evidence(bytes, trust)).collect();
        let same = |cloud: &String, found: &separate::Says| found.cloud.as_ref() == Some(cloud);
        self.compare(separate::EVIDENCE, files, trust, judged, same)
    }

    /// The separate program has to agree about each file that it is given.
    fn compare<T: std::fmt::Debug>(
        &self,
        kind: &str,
        files: &[Vec<u8>],
        trust: &[u8],
        mut judged: Vec<Result<T, String>>,
        same: impl Fn(&T, &separate::Says) -> bool,
    ) -> Result<Vec<Result<T, String>>, String> {
        let step = files.len().div_ceil(self.most.max(1)).max(1);
        let chosen: Vec<usize> = (0..files.len()).step_by(step).collect();
        if chosen.is_empty() {
            return Ok(judged);
        }
        let folder = self.folder.join(kind);
        let name = |at: usize| format!("{at:05}.{kind}");
        let write = || -> std::io::Result<PathBuf> {
            // An earlier run's files are not judged again.
            if folder.exists() {
                fs::remove_dir_all(&folder)?;
            }
            fs::create_dir_all(&folder)?;
            let keys = self.folder.join("trust.json");
            fs::write(&keys, trust)?;
            chosen.iter().try_for_each(|at| fs::write(folder.join(name(*at)), &files[*at]))?;
            Ok(keys)
        };
        let keys = write().map_err(|error| format!("cannot write into {}: {error}", folder.display()))?;
        let findings = separate::judge(&keys, &folder)?;
        for at in chosen {
            let finding = findings.iter().find(|finding| finding.file == name(at));
            let Some(Finding { valid, why, says, .. }) = finding else {
                return Err(format!("the separate verifier says nothing of {}", name(at)));
            };
            let agrees = match (&judged[at], says) {
                (Ok(of), Some(says)) => *valid && same(of, says),
                (Ok(_), None) => false,
                (Err(_), _) => !valid,
            };
            if !agrees {
                let product = &judged[at];
                judged[at] = Err(format!(
                    "the verifiers differ: the product's says {product:?}, the separate one {says:?} ({why:?})"
                ));
            }
        }
        if !self.keep {
            fs::remove_dir_all(&self.folder).map_err(|error| format!("{}: {error}", self.folder.display()))?;
        }
        Ok(judged)
    }
}

#[cfg(test)]
mod tests;
