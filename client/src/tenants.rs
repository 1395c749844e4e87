//! Tenants over HTTP, and the files that make one. Every cloud is told separately, because each
//! decides for itself whom it serves; telling it again changes nothing.

use crate::client::{Client, Route};
use crate::context::{Context, ContextError};
use crate::error::Error;
use crate::http::Call;
use reqwest::Method;
use serde_json::Value;
use std::io::Write;
use std::path::Path;
use tercet_core::content::TenantSecret;
use tercet_core::ids::{CloudId, TenantId};
use tercet_core::signature::SigningKey;
use tercet_core::tenants::{Confirm, Tenant};

/// The most events of a new tenant that may wait for FINAL in one cloud, unless asked otherwise.
pub const DEFAULT_MAX_PENDING: u64 = 100_000;

/// What a new tenant shall be like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTenant {
    pub id: TenantId,
    pub confirm: Confirm,
    pub unsigned: bool,
    pub max_pending: u64,
}

/// Writes the tenant's key and description next to the context, or reads them back if they are
/// there: so a creation that reached only some clouds is completed with the same secret.
pub fn prepare(context: &Context, new: &NewTenant) -> Result<(Tenant, bool), Error> {
    let (key_path, description) = context.tenant_files(&new.id);
    if description.exists() {
        let tenant = context.tenant_description(&description)?;
        if tenant.confirm != new.confirm || tenant.unsigned != new.unsigned {
            return Err(Error::Invalid(format!(
                "{} describes tenant {} with other settings (confirm {:?}, unsigned {}); use those, or another name",
                description.display(),
                new.id,
                tenant.confirm,
                tenant.unsigned
            )));
        }
        return Ok((tenant, false));
    }
    let key = match new.unsigned {
        true => None,
        false if key_path.exists() => Some(crate::context::read_signing_key(&key_path)?),
        false => {
            let key = SigningKey::from_seed(&random());
            write_secret(&key_path, format!("{}\n", hex::encode(key.seed())).as_bytes())?;
            Some(key)
        }
    };
    let tenant = Tenant {
        id: new.id.clone(),
        secret: TenantSecret(random()),
        confirm: new.confirm,
        keys: key.iter().map(SigningKey::public).collect(),
        unsigned: new.unsigned,
        max_pending: new.max_pending,
    };
    let json = serde_json::to_vec_pretty(&tenant).expect("a tenant has string keys and no failing serialisers");
    write_secret(&description, &json)?;
    Ok((tenant, true))
}

impl Client {
    /// Tells one cloud about the tenant.
    pub async fn put_tenant(&self, cloud: &CloudId, tenant: &Tenant) -> Result<(), Error> {
        let call = Call::new(Method::PUT, &["v1", "tenants", tenant.id.as_str()]).json(tenant).once();
        self.send(&Route::Only(cloud.clone()), &call).await.map(|_| ())
    }

    /// The tenants that one cloud knows; their secrets are never shown.
    pub async fn tenants(&self, cloud: &CloudId) -> Result<Vec<Value>, Error> {
        let answer = self.send(&Route::Only(cloud.clone()), &Call::get(&["v1", "tenants"])).await?;
        match answer.json()? {
            Value::Array(tenants) => Ok(tenants),
            Value::Object(mut members) => match members.remove("tenants") {
                Some(Value::Array(tenants)) => Ok(tenants),
                _ => Err(Error::Protocol { node: answer.node, why: "no list of tenants".into() }),
            },
            _ => Err(Error::Protocol { node: answer.node, why: "no list of tenants".into() }),
        }
    }
}

fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).expect("the operating system has random bytes");
    bytes
}

/// Writes a file that only its owner may see. It never overwrites: losing a key would lose the
/// tenant.
pub fn write_secret(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let why = |error: std::io::Error| ContextError::Unreadable { path: path.to_owned(), why: error.to_string() };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(why)?;
    }
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path).map_err(why)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(why)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preparing_twice_keeps_secret_and_key() {
        let folder = tempfile::tempdir().unwrap();
        let context = Context {
            path: folder.path().join("context.toml"),
            ca: "ca".into(),
            token_file: "token".into(),
            trust: None,
            tenant: None,
            tenant_key: None,
            clouds: Vec::new(),
        };
        let id = TenantId::new("shop").unwrap();
        let new = NewTenant { id: id.clone(), confirm: Confirm::Manual, unsigned: false, max_pending: 5 };
        let (first, fresh) = prepare(&context, &new).unwrap();
        let (second, again) = prepare(&context, &new).unwrap();
        assert!(fresh && !again);
        assert_eq!(first, second);
        assert_eq!(context.signing_key(&id).unwrap().unwrap().public(), first.keys[0]);
        let other = NewTenant { unsigned: true, ..new };
        assert!(prepare(&context, &other).unwrap_err().to_string().contains("other settings"));
    }
}
