//! `tercetd renew`: a cloud whose state is gone for good gets fresh node keys and a new epoch, signed
//! by its root key. It votes again only once every other cloud has closed the old epoch; nothing here
//! can shorten that. State that is still there is never touched.

use super::create::{sign_opening, write_json, write_pair};
use crate::config::{ClusterFile, IDENTITY_FILE, Identity};
use crate::env::Entropy;
use crate::keys::{self, Authority, Pair, Plane, load_signing_key, make_private_dir, make_signing_key};
use crate::keys::{read_private, write_signing_key};
use anyhow::{Context, Result, bail};
use std::path::Path;
use tercet_core::certificate::{TRUST_VERSION, TrustBundle};
use tercet_core::epochs::Opening;
use tercet_core::genesis::Genesis;
use tercet_core::ids::{CloudId, FedId};

/// Makes the new epoch in the files beside `config`, and says what to do next.
pub fn renew(config: &Path, cloud: &CloudId, entropy: &dyn Entropy) -> Result<String> {
    let file = ClusterFile::read(config)?;
    let root = file.root();
    let section = file.clouds.iter().find(|section| section.name == *cloud);
    let section = section.with_context(|| format!("{}: no cloud is called {cloud}", config.display()))?;
    for node in &section.nodes {
        let raft = file.data_dir(node).join("raft");
        if raft.exists() {
            bail!(
                "{} is still there: start {} instead. If the state is truly lost, or came back from an old backup, \
                 move the folders `raft` and `state` of every node of {cloud} away first; what the other clouds hold \
                 of it will be fetched back",
                raft.display(),
                node.id.get_ref()
            );
        }
    }
    let genesis: Genesis = read_json(&root.join(&file.federation.genesis))?;
    let openings_file = root.join(&file.federation.openings);
    let mut openings: Vec<Opening> = read_json(&openings_file)?;
    let last = openings.iter().filter(|opening| opening.cloud == *cloud).map(|opening| opening.number).max();
    let number = last.map_or(0, |last| last + 1);
    let fed = genesis.fed_id();
    let root_key = load_signing_key(&root.join("roots").join(format!("{cloud}.key")))
        .context("the cloud's root key certifies its epochs; bring it here for this command")?;
    let (peer_ca, client_ca) = (authority(root, Plane::Peer, &fed)?, authority(root, Plane::Client, &fed)?);
    let mut node_keys = Vec::new();
    for node in &section.nodes {
        let (id, folder) = (node.id.get_ref(), file.data_dir(node));
        make_private_dir(&folder)?;
        let key = make_signing_key(entropy);
        write_signing_key(&folder.join(keys::SIGNING_KEY), &key)?;
        write_pair(&folder, "peer", &peer_ca.certify_peer(&fed, id)?)?;
        write_pair(&folder, "client", &client_ca.certify_api(id, &[node.client_addr.get_ref().ip()])?)?;
        write_json(&folder.join(IDENTITY_FILE), &Identity { fed_id: fed, node: id.clone() })?;
        node_keys.push((id.clone(), key.public()));
    }
    node_keys.sort_by(|a, b| a.0.cmp(&b.0));
    let threshold = node_keys.len() as u32 / 2 + 1;
    let opening = sign_opening(&fed, cloud, number, node_keys, threshold, &root_key);
    opening.check(&genesis)?;
    openings.push(opening);
    write_json(&root.join("trust.json"), &TrustBundle { version: TRUST_VERSION, genesis, openings: openings.clone() })?;
    // Last, since this is what makes the epoch known.
    write_json(&openings_file, &openings)?;
    Ok(format!(
        "Epoch {number} of {cloud} is made. Start its nodes; they hand out the epoch to the other clouds, take back \
         what those hold of the old one, and vote once both have closed it. Then run `tercet tenant create NAME` again \
         for every tenant (`tercetd up` does it for the default one), and give the new trust.json to whoever verifies certificates."
    ))
}

fn authority(root: &Path, plane: Plane, fed: &FedId) -> Result<Authority> {
    let name = match plane {
        Plane::Peer => "peer",
        Plane::Client => "client",
    };
    let path = |end: &str| root.join("ca").join(format!("{name}.{end}"));
    let key_pem = String::from_utf8(read_private(&path("key"))?).context("the authority's key is not text")?;
    let cert_pem =
        std::fs::read_to_string(path("pem")).with_context(|| format!("cannot read {}", path("pem").display()))?;
    Ok(Authority::load(plane, fed, Pair { cert_pem, key_pem })?)
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&bytes).with_context(|| format!("{} is not what it should be", path.display()))
}
