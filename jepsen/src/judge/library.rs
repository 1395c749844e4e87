//! The client library as the verifier.

use super::{Says, Verifier};
use tercet::events::level_name;
use tercet::verify::{Checked, read_trust, verify};

pub struct Library;

impl Library {
    fn verify(bytes: &[u8], trust: &[u8]) -> Result<Checked, String> {
        let trust = read_trust(trust, None).map_err(|error| error.to_string())?;
        verify(bytes, &trust).map_err(|error| error.to_string())
    }
}

impl Verifier for Library {
    fn certificate(&self, bytes: &[u8], trust: &[u8]) -> Result<Says, String> {
        match Self::verify(bytes, trust)? {
            Checked::Certificate(verified) => Ok(Says {
                tenant: verified.content.tenant.to_string(),
                id: verified.content.key.id().to_owned(),
                content: verified.content_hash.to_string(),
                level: level_name(verified.level).to_owned(),
            }),
            Checked::Evidence(_) => Err("it is evidence".into()),
        }
    }

    fn evidence(&self, bytes: &[u8], trust: &[u8]) -> Result<String, String> {
        match Self::verify(bytes, trust)? {
            Checked::Evidence(found) => Ok(found.cloud.to_string()),
            Checked::Certificate(_) => Err("it is a certificate".into()),
        }
    }
}
