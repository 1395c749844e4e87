//! What protects a resource: it takes nothing but a grant that verifies, and no token lower than the
//! highest it has seen. Offline: all it needs is the federation's public keys.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use tercet_core::certificate::TrustBundle;
use tercet_core::ids::{LeaseId, TenantId};
use tercet_core::leases::{Grant, Granted, NotGranted, Scope};
use tercet_core::signature::PublicKey;

/// The largest file with a highest token, in bytes.
const MAX_FILE_BYTES: u64 = 4096;

/// Why a resource refuses.
#[derive(Debug, thiserror::Error)]
pub enum NotAdmitted {
    #[error(transparent)]
    NotGranted(#[from] NotGranted),
    #[error("the grant is of lease {lease} of tenant {tenant}; this resource is guarded by {expected}")]
    OtherLease { tenant: TenantId, lease: LeaseId, expected: LeaseId },
    #[error("the grant is of scope {scope}, this resource is guarded by scope {expected}")]
    OtherScope { scope: String, expected: Scope },
    #[error("fencing token {token} is over: {highest} was seen here")]
    StaleToken { token: u64, highest: u64 },
    #[error("token {0} was seen here from another holder: a cloud voted twice; show both grants to the clouds")]
    SplitBrain(u64),
    #[error("cannot remember the token: {0}")]
    Storage(#[from] io::Error),
}

/// The guard of one resource. It remembers the highest token, in a file if it is given one, so that a
/// restart forgets nothing.
pub struct FencedResource {
    trust: TrustBundle,
    tenant: TenantId,
    lease: LeaseId,
    /// A grant of another scope would be made by fewer clouds, or by one that lies.
    scope: Scope,
    highest: Option<(u64, PublicKey)>,
    file: Option<Kept>,
}

/// A file that one guard has for itself: two would not know each other's highest token.
struct Kept {
    path: PathBuf,
    _lock: fs::File,
}

impl FencedResource {
    /// A guard that forgets with its process.
    pub fn new(trust: TrustBundle, tenant: TenantId, lease: LeaseId, scope: Scope) -> Self {
        Self { trust, tenant, lease, scope, highest: None, file: None }
    }

    /// A guard that keeps the highest token in a file. A file that cannot be read is an error: without it old tokens
    /// would be taken again; so is one that another guard has open.
    pub fn open(trust: TrustBundle, tenant: TenantId, lease: LeaseId, scope: Scope, file: PathBuf) -> io::Result<Self> {
        let lock = fs::File::create(beside(&file, ".lock"))?;
        if let Err(error) = lock.try_lock() {
            return Err(io::Error::other(format!("{} is another guard's: {error}", file.display())));
        }
        let highest = match fs::metadata(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
            Ok(found) if found.len() > MAX_FILE_BYTES => return Err(damaged(&file)),
            Ok(_) => Some(parse(&fs::read_to_string(&file)?).ok_or_else(|| damaged(&file))?),
        };
        let file = Some(Kept { path: file, _lock: lock });
        Ok(Self { highest, file, ..Self::new(trust, tenant, lease, scope) })
    }

    /// The federation opened another epoch: whose votes verify from now on.
    pub fn learn(&mut self, trust: TrustBundle) {
        if trust.genesis == self.trust.genesis {
            self.trust = trust;
        }
    }

    pub fn highest(&self) -> Option<u64> {
        self.highest.map(|(token, _)| token)
    }

    /// Verifies the grant (its text form) and that no higher token was seen. To be called with the same lock held as
    /// the write that it admits.
    pub fn admit(&mut self, grant: &str) -> Result<Granted, NotAdmitted> {
        let granted = Grant::from_text(grant)?.verify(&self.trust.genesis, &self.trust.openings)?;
        if (&granted.tenant, &granted.lease) != (&self.tenant, &self.lease) {
            let Granted { tenant, lease, .. } = granted;
            return Err(NotAdmitted::OtherLease { tenant, lease, expected: self.lease.clone() });
        }
        if granted.scope != self.scope.to_string() {
            return Err(NotAdmitted::OtherScope { scope: granted.scope, expected: self.scope.clone() });
        }
        let token = granted.fencing_token;
        match self.highest {
            Some((highest, _)) if highest > token => return Err(NotAdmitted::StaleToken { token, highest }),
            Some((highest, session)) if highest == token && session != granted.session => {
                return Err(NotAdmitted::SplitBrain(token));
            }
            Some((highest, _)) if highest == token => return Ok(granted),
            _ => {}
        }
        if let Some(file) = &self.file {
            write(&file.path, &format!("{token} {}\n", granted.session))?;
        }
        self.highest = Some((token, granted.session));
        Ok(granted)
    }
}

fn parse(text: &str) -> Option<(u64, PublicKey)> {
    let (token, session) = text.trim_end().split_once(' ')?;
    let mut bytes = [0; 32];
    hex::decode_to_slice(session, &mut bytes).ok()?;
    Some((token.parse().ok()?, PublicKey::from_bytes(&bytes).ok()?))
}

fn damaged(file: &std::path::Path) -> io::Error {
    let text =
        format!("{} does not hold a token and its session; restore it, or old tokens would count", file.display());
    io::Error::new(io::ErrorKind::InvalidData, text)
}

fn beside(file: &std::path::Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Replaces the file, and returns once that is on disk.
fn write(file: &std::path::Path, text: &str) -> io::Result<()> {
    let fresh = beside(file, ".new");
    let mut out = fs::File::create(&fresh)?;
    out.write_all(text.as_bytes())?;
    out.sync_all()?;
    fs::rename(&fresh, file)?;
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    fs::File::open(folder.unwrap_or(std::path::Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    const VECTORS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/vectors/");

    fn vector(name: &str) -> Value {
        serde_json::from_slice(&fs::read(format!("{VECTORS}{name}")).unwrap()).unwrap()
    }

    fn guard(lease: &str, file: Option<PathBuf>) -> io::Result<FencedResource> {
        let trust: TrustBundle = serde_json::from_value(vector("trust.json")).unwrap();
        let (tenant, lease) = (TenantId::new("default").unwrap(), LeaseId::new(lease).unwrap());
        match file {
            Some(file) => FencedResource::open(trust, tenant, lease, Scope::Global, file),
            None => Ok(FencedResource::new(trust, tenant, lease, Scope::Global)),
        }
    }

    /// The published grant of token 7.
    fn grant() -> String {
        vector("leases.json")["grants"][0]["text"].as_str().unwrap().to_owned()
    }

    #[test]
    fn the_highest_token_outlives_a_restart_and_a_lower_one_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("highest");
        assert_eq!(guard("primary", Some(file.clone())).unwrap().admit(&grant()).unwrap().fencing_token, 7);
        let mut again = guard("primary", Some(file.clone())).unwrap();
        assert!(guard("primary", Some(file.clone())).err().unwrap().to_string().contains("another guard's"));
        assert_eq!(again.highest(), Some(7));
        again.admit(&grant()).expect("the same holder goes on");
        let (_, session) = again.highest.unwrap();
        drop(again);
        fs::write(&file, format!("9 {session}\n")).unwrap();
        let refused = guard("primary", Some(file)).unwrap().admit(&grant());
        assert!(matches!(refused, Err(NotAdmitted::StaleToken { token: 7, highest: 9 })), "{refused:?}");
    }

    #[test]
    fn one_token_of_two_holders_is_a_split_brain() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("highest");
        let other = tercet_core::signature::SigningKey::from_seed(&[1; 32]).public();
        fs::write(&file, format!("7 {other}\n")).unwrap();
        let refused = guard("primary", Some(file)).unwrap().admit(&grant());
        assert!(matches!(refused, Err(NotAdmitted::SplitBrain(7))), "{refused:?}");
    }

    #[test]
    fn what_cannot_be_trusted_is_refused_with_its_reason() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("highest");
        fs::write(&file, "seven").unwrap();
        assert!(guard("primary", Some(file)).err().unwrap().to_string().contains("old tokens would count"));
        let other = guard("another", None).unwrap().admit(&grant());
        assert!(matches!(other, Err(NotAdmitted::OtherLease { .. })), "{other:?}");
        for wider in [1, 2] {
            // Published grants of the same lease, strict and of one cloud.
            let text = vector("leases.json")["grants"][wider]["text"].as_str().unwrap().to_owned();
            let refused = guard("primary", None).unwrap().admit(&text);
            assert!(matches!(refused, Err(NotAdmitted::OtherScope { .. })), "{refused:?}");
        }
        let changed = grant().replacen('A', "B", 1);
        assert!(matches!(guard("primary", None).unwrap().admit(&changed), Err(NotAdmitted::NotGranted(_))));
    }
}
