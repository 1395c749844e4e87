//! The verifiers on the published vectors, and what is said where they differ or cannot run.

use super::*;
use serde_json::Value;
use std::path::Path;

fn vectors() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/vectors")
}

fn vector(file: &str, list: &str) -> Vec<u8> {
    let text = fs::read_to_string(vectors().join(file)).unwrap();
    let all: Value = serde_json::from_str(&text).unwrap();
    hex::decode(all[list][0]["bytes"].as_str().unwrap()).unwrap()
}

fn trust() -> Vec<u8> {
    fs::read(vectors().join("trust.json")).unwrap()
}

fn judge(product: impl Verifier + 'static, folder: &Path) -> Judge {
    Judge { product: Box::new(product), folder: folder.join("judged"), keep: true, most: 10 }
}

/// A verifier that finds everything good.
struct Credulous;

impl Verifier for Credulous {
    fn certificate(&self, _: &[u8], _: &[u8]) -> Result<Says, String> {
        let text = |text: &str| text.to_owned();
        Ok(Says { tenant: text("t"), id: text("i"), content: text("c"), level: text("SEALED") })
    }

    fn evidence(&self, _: &[u8], _: &[u8]) -> Result<String, String> {
        Ok("aws".into())
    }
}

#[test]
fn a_real_certificate_convinces_both_verifiers_and_one_changed_bit_neither() {
    let folder = tempfile::tempdir().unwrap();
    let certificate = vector("certificates.json", "certificates");
    let mut files = vec![certificate.clone()];
    for at in [0, certificate.len() / 2, certificate.len() - 1] {
        let mut changed = certificate.clone();
        changed[at] ^= 1;
        files.push(changed);
    }
    let judged = judge(Library, folder.path()).certificates(&files, &trust()).unwrap();
    assert!(judged[0].as_ref().is_ok_and(|says| ["FINAL", "SEALED"].contains(&says.level.as_str())), "{judged:?}");
    for bad in &judged[1..] {
        assert!(bad.as_ref().is_err_and(|why| !why.contains("differ")), "{judged:?}");
    }
    let kept = folder.path().join("judged/certificate/00000.certificate");
    assert_eq!(fs::read(kept).unwrap(), certificate, "what was judged is kept");
}

#[test]
fn evidence_names_the_cloud_that_lied() {
    let folder = tempfile::tempdir().unwrap();
    let files = [vector("evidence.json", "evidence")];
    let judged = judge(Library, folder.path()).evidence(&files, &trust()).unwrap();
    assert_eq!(judged, [Ok("gcp".to_owned())]);
}

#[test]
fn a_verifier_that_believes_everything_is_contradicted_by_the_separate_one() {
    let folder = tempfile::tempdir().unwrap();
    let judge = judge(Credulous, folder.path());
    for certificate in [vector("certificates.json", "certificates"), b"junk".to_vec()] {
        let judged = judge.certificates(&[certificate], &trust()).unwrap();
        assert!(judged[0].as_ref().is_err_and(|why| why.starts_with("the verifiers differ")), "{judged:?}");
    }
    let judged = judge.evidence(&[vector("evidence.json", "evidence")], &trust()).unwrap();
    assert!(judged[0].as_ref().is_err_and(|why| why.starts_with("the verifiers differ")), "{judged:?}");
}

#[test]
fn where_the_separate_program_cannot_run_nothing_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let missing = separate::judge_with("a-python-that-is-not-there", &vectors().join("trust.json"), folder.path());
    assert!(missing.unwrap_err().contains("install Python 3"));
    let files = [vector("evidence.json", "evidence")];
    assert!(judge(Library, folder.path()).evidence(&files, b"{}").unwrap_err().contains("convinces nobody"));
}
