//! Events as a client makes them: canonical content, signed with the tenant's key.

use serde_json::{Value, json};
use std::path::Path;
use tercet_core::cloudevents;
use tercet_core::content::Content;
use tercet_core::genesis::Genesis;
use tercet_core::ids::{FedId, TenantId};
use tercet_core::signature::SigningKey;
use tercet_core::tenants::TenantSignature;

/// Real events, kept beside the repository and not in it.
const SHARED_EVENTS: &str = "shared/data/events/etcd-commits.ndjson";

/// Signs for one tenant of one cluster.
#[derive(Debug, Clone)]
pub struct Author {
    pub fed: FedId,
    pub tenant: TenantId,
    pub key: SigningKey,
}

impl Author {
    /// The tenant that `tercetd up` makes.
    pub fn of(data_dir: &Path) -> Self {
        Self::named(data_dir, "default")
    }

    pub fn named(data_dir: &Path, tenant: &str) -> Self {
        let genesis = std::fs::read(data_dir.join("genesis.json")).expect("the genesis is readable");
        let genesis: Genesis = serde_json::from_slice(&genesis).expect("the genesis is JSON");
        let key = std::fs::read_to_string(data_dir.join("tenants").join(format!("{tenant}.key")));
        let mut seed = [0; 32];
        hex::decode_to_slice(key.expect("the tenant's key is readable").trim(), &mut seed).expect("a seed");
        Self {
            fed: genesis.fed_id(),
            tenant: TenantId::new(tenant).expect("a tenant's name"),
            key: SigningKey::from_seed(&seed),
        }
    }

    pub fn sign(&self, content: &Content) -> TenantSignature {
        TenantSignature::sign(&self.fed, &content.hash(), &self.key)
    }

    /// An event in the plain form, signed.
    pub fn plain(&self, id: &str, payload: &Value) -> Value {
        let mut event = json!({ "id": id, "payload": payload });
        let read = cloudevents::from_plain(&self.tenant, event.to_string().as_bytes());
        let (content, _) = read.expect("a test's event is valid");
        event["signature"] = serde_json::to_value(self.sign(&content)).expect("a signature is JSON");
        event
    }

    /// The header that carries the signature of a CloudEvent.
    pub fn signature_header(&self, content: &Content) -> String {
        serde_json::to_string(&self.sign(content)).expect("a signature is JSON")
    }
}

/// Lines of CloudEvents: the shared file if it is there, else generated ones.
pub fn lines(count: usize) -> Vec<String> {
    // Beside the repository; further up for a work tree of it.
    let above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().skip(2).take(2);
    let found = above.map(|folder| folder.join(SHARED_EVENTS)).find(|file| file.exists());
    match found.map(std::fs::read_to_string) {
        Some(Ok(text)) => text.lines().take(count).map(str::to_owned).collect(),
        _ => {
            eprintln!("../{SHARED_EVENTS} is absent: events are generated instead");
            (0..count).map(generated).collect()
        }
    }
}

fn generated(number: usize) -> String {
    let data = json!({ "number": number, "text": "x".repeat(number % 200), "tags": ["a", "b"] });
    let id = format!("generated-{number}");
    json!({ "specversion": "1.0", "id": id, "source": "/tests", "type": "test.generated", "data": data }).to_string()
}
