//! `context.toml`: where the clouds are, whom to trust and which keys to use. `tercetd up` writes
//! it; this module finds it and reads it, and never writes it. A token or a key that other users of
//! the machine can read is refused, because it must be considered stolen.

use serde::Deserialize;
use std::path::{Path, PathBuf};
use tercet_core::certificate::TrustBundle;
use tercet_core::ids::{CloudId, NodeId, TenantId};
use tercet_core::signature::SigningKey;
use tercet_core::tenants::Tenant;

/// Where a context is looked for in the working directory and each folder above it.
pub const DEFAULT_PATH: &str = ".tercet/context.toml";
/// Names the context's file, unless `--context` does.
pub const ENV: &str = "TERCET_CONTEXT";
/// The largest file that a context refers to, in bytes.
const MAX_FILE_BYTES: u64 = 16 << 20;

#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    #[error(
        "no cluster context found: neither --context nor {ENV} is set, and no {DEFAULT_PATH} is in {0} or above; \
         start a cluster with `tercetd up`, or name the file with --context"
    )]
    NotFound(PathBuf),
    #[error("cannot read {path}: {why}")]
    Unreadable { path: PathBuf, why: String },
    #[error("{path} is not valid: {why}")]
    Invalid { path: PathBuf, why: String },
    #[error("{path} holds a secret and may be read by others (mode {mode:03o}); run: chmod 600 {path}")]
    LoosePermissions { path: PathBuf, mode: u32 },
    #[error(
        "there is no key for tenant {tenant} at {path}; create the tenant with `tercet tenant create {tenant}`, or pass --tenant-key"
    )]
    NoTenantKey { tenant: TenantId, path: PathBuf },
}

/// One node and the address of its client listener.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeAddress {
    pub id: NodeId,
    pub url: String,
}

/// One cloud and its nodes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CloudAddress {
    pub name: CloudId,
    pub nodes: Vec<NodeAddress>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    ca: PathBuf,
    token_file: PathBuf,
    trust: Option<PathBuf>,
    tenant: Option<TenantId>,
    tenant_key: Option<PathBuf>,
    clouds: Vec<CloudAddress>,
}

/// A context as read: all paths are resolved, no secret is loaded yet.
#[derive(Debug, Clone)]
pub struct Context {
    /// The file itself.
    pub path: PathBuf,
    /// The certificate authority of the clients' plane, PEM.
    pub ca: PathBuf,
    pub token_file: PathBuf,
    pub trust: Option<PathBuf>,
    pub tenant: Option<TenantId>,
    pub tenant_key: Option<PathBuf>,
    pub clouds: Vec<CloudAddress>,
}

impl Context {
    /// Finds the context as the command line does: the given file, else the one that the
    /// environment names, else the nearest `.tercet/context.toml` upwards of `from`.
    pub fn find(given: Option<&Path>, from: &Path) -> Result<Self, ContextError> {
        if let Some(path) = given {
            return Self::read(path);
        }
        if let Some(path) = std::env::var_os(ENV).filter(|path| !path.is_empty()) {
            return Self::read(Path::new(&path));
        }
        let found = from.ancestors().map(|folder| folder.join(DEFAULT_PATH)).find(|path| path.is_file());
        Self::read(&found.ok_or_else(|| ContextError::NotFound(from.to_owned()))?)
    }

    pub fn read(path: &Path) -> Result<Self, ContextError> {
        let text = String::from_utf8(read_bounded(path)?)
            .map_err(|_| ContextError::Invalid { path: path.to_owned(), why: "it is not UTF-8".into() })?;
        let invalid = |why: String| ContextError::Invalid { path: path.to_owned(), why };
        let file: File = toml::from_str(&text).map_err(|error| invalid(error.to_string()))?;
        check(&file.clouds).map_err(invalid)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        Ok(Self {
            path: path.to_owned(),
            ca: folder.join(file.ca),
            token_file: folder.join(file.token_file),
            trust: file.trust.map(|trust| folder.join(trust)),
            tenant: file.tenant,
            tenant_key: file.tenant_key.map(|key| folder.join(key)),
            clouds: file.clouds,
        })
    }

    /// The folder that relative paths are relative to; new tenants' keys go to its `tenants/`.
    pub fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }

    pub fn ca_pem(&self) -> Result<Vec<u8>, ContextError> {
        read_bounded(&self.ca)
    }

    pub fn token(&self) -> Result<String, ContextError> {
        let path = &self.token_file;
        let text = String::from_utf8(read_secret(path)?).unwrap_or_default();
        let token = text.trim();
        if token.is_empty() || !token.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(ContextError::Invalid { path: path.clone(), why: "it does not hold a token".into() });
        }
        Ok(token.to_owned())
    }

    pub fn trust_bundle(&self) -> Result<TrustBundle, ContextError> {
        let Some(path) = &self.trust else {
            let why = "it names no trust bundle; add trust = \"trust.json\"".into();
            return Err(ContextError::Invalid { path: self.path.clone(), why });
        };
        read_json(path, &read_bounded(path)?)
    }

    /// Where the key and the description of a tenant are kept.
    pub fn tenant_files(&self, tenant: &TenantId) -> (PathBuf, PathBuf) {
        let stem = self.folder().join("tenants").join(tenant.as_str());
        let key = match &self.tenant_key {
            Some(key) if self.tenant.as_ref() == Some(tenant) => key.clone(),
            _ => stem.with_extension("key"),
        };
        (key, stem.with_extension("json"))
    }

    /// The tenant's signing key, or `None` if the tenant was made without signatures.
    pub fn signing_key(&self, tenant: &TenantId) -> Result<Option<SigningKey>, ContextError> {
        let (key, description) = self.tenant_files(tenant);
        if key.exists() {
            return read_signing_key(&key).map(Some);
        }
        match self.tenant_description(&description) {
            Ok(Tenant { unsigned: true, .. }) => Ok(None),
            _ => Err(ContextError::NoTenantKey { tenant: tenant.clone(), path: key }),
        }
    }

    /// Reads a tenant's description, which holds its secret.
    pub fn tenant_description(&self, path: &Path) -> Result<Tenant, ContextError> {
        read_json(path, &read_secret(path)?)
    }
}

/// Reads an Ed25519 seed: 64 hexadecimal digits.
pub fn read_signing_key(path: &Path) -> Result<SigningKey, ContextError> {
    let mut seed = [0; 32];
    let bytes = read_secret(path)?;
    hex::decode_to_slice(bytes.trim_ascii(), &mut seed).map_err(|_| ContextError::Invalid {
        path: path.to_owned(),
        why: "a key file holds one Ed25519 seed, 64 hexadecimal digits".into(),
    })?;
    Ok(SigningKey::from_seed(&seed))
}

fn check(clouds: &[CloudAddress]) -> Result<(), String> {
    if clouds.is_empty() {
        return Err("it names no clouds".into());
    }
    for (at, cloud) in clouds.iter().enumerate() {
        if clouds[..at].iter().any(|other| other.name == cloud.name) {
            return Err(format!("cloud {} is named twice", cloud.name));
        }
        if cloud.nodes.is_empty() {
            return Err(format!("cloud {} has no nodes", cloud.name));
        }
        for node in &cloud.nodes {
            let url = reqwest::Url::parse(&node.url).map_err(|error| format!("url of node {}: {error}", node.id))?;
            if url.scheme() != "https" || url.host().is_none() {
                return Err(format!("url of node {} must be https://HOST:PORT, not {}", node.id, node.url));
            }
        }
    }
    Ok(())
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T, ContextError> {
    serde_json::from_slice(bytes)
        .map_err(|error| ContextError::Invalid { path: path.to_owned(), why: error.to_string() })
}

/// Reads a file that only its owner may see.
pub(crate) fn read_secret(path: &Path) -> Result<Vec<u8>, ContextError> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = metadata(path)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(ContextError::LoosePermissions { path: path.to_owned(), mode });
        }
    }
    read_bounded(path)
}

fn read_bounded(path: &Path) -> Result<Vec<u8>, ContextError> {
    let len = metadata(path)?.len();
    if len > MAX_FILE_BYTES {
        let why = format!("it has {len} bytes, at most {MAX_FILE_BYTES} are read");
        return Err(ContextError::Invalid { path: path.to_owned(), why });
    }
    std::fs::read(path).map_err(|error| unreadable(path, &error))
}

fn metadata(path: &Path) -> Result<std::fs::Metadata, ContextError> {
    std::fs::metadata(path).map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &Path, error: &std::io::Error) -> ContextError {
    ContextError::Unreadable { path: path.to_owned(), why: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const TEXT: &str = r#"
ca = "ca/client.pem"
token_file = "admin.token"
trust = "trust.json"
tenant = "default"
tenant_key = "tenants/default.key"

[[clouds]]
name = "gcp"
[[clouds.nodes]]
id = "gcp-1"
url = "https://127.0.3.1:4001"
"#;

    fn write(folder: &Path, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn paths_are_relative_to_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = write(folder.path(), "context.toml", TEXT, 0o600);
        let context = Context::read(&path).unwrap();
        assert_eq!(context.token_file, folder.path().join("admin.token"));
        assert_eq!(context.clouds[0].nodes[0].id.as_str(), "gcp-1");
        let other = TenantId::new("other").unwrap();
        assert_eq!(context.tenant_files(&other).0, folder.path().join("tenants/other.key"));
    }

    #[test]
    fn a_context_is_found_from_folders_below() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), DEFAULT_PATH, TEXT, 0o600);
        let below = folder.path().join("a/b");
        std::fs::create_dir_all(&below).unwrap();
        assert_eq!(Context::find(None, &below).unwrap().path, folder.path().join(DEFAULT_PATH));
    }

    #[test]
    fn a_token_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = write(folder.path(), "context.toml", TEXT, 0o600);
        write(folder.path(), "admin.token", "abc\n", 0o644);
        let context = Context::read(&path).unwrap();
        let error = context.token().unwrap_err().to_string();
        assert!(error.contains("chmod 600"), "{error}");
        write(folder.path(), "admin.token", "abc\n", 0o600);
        assert_eq!(context.token().unwrap(), "abc");
    }

    #[test]
    fn unknown_keys_and_plain_http_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        for (bad, why) in [
            (format!("colour = 1\n{TEXT}"), "colour"),
            (TEXT.replace("https", "http"), "https"),
            (
                TEXT.replace("[[clouds.nodes]]\nid = \"gcp-1\"\nurl = \"https://127.0.3.1:4001\"", "nodes = []"),
                "no nodes",
            ),
        ] {
            let path = write(folder.path(), "context.toml", &bad, 0o600);
            let error = Context::read(&path).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn a_key_file_holds_a_seed() {
        let folder = tempfile::tempdir().unwrap();
        let path = write(folder.path(), "t.key", &format!("{}\n", "07".repeat(32)), 0o600);
        assert_eq!(read_signing_key(&path).unwrap().seed(), [7; 32]);
        let bad = write(folder.path(), "bad.key", "xyz", 0o600);
        assert!(read_signing_key(&bad).is_err());
    }
}
