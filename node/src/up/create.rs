//! Makes a federation in a folder: addresses, authorities, keys, genesis, epochs, the first tenant,
//! and the files of DESIGN's layout. `cluster.toml` is written last, so a folder that has one is
//! complete.

use crate::config::{ClusterFile, EngineKind, IDENTITY_FILE, Identity, RaftSection};
use crate::env::Entropy;
use crate::keys::{self, Authority, Pair, Plane, make_private_dir, make_signing_key, write_private, write_signing_key};
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use tercet_core::certificate::{TRUST_VERSION, TrustBundle};
use tercet_core::content::TenantSecret;
use tercet_core::epochs::Opening;
use tercet_core::genesis::{Genesis, Voter};
use tercet_core::ids::{CloudId, FedId, NodeId, TenantId};
use tercet_core::signature::{Signature, SigningKey};
use tercet_core::tenants::{Confirm, Tenant};

/// Events of the first tenant that may wait for FINAL in one cloud.
const DEFAULT_MAX_PENDING: u64 = 1_000_000;

/// What a new federation looks like, before it has keys and addresses.
#[derive(Debug, Clone)]
pub struct Template {
    pub clouds: Vec<CloudTemplate>,
    pub quorum: u32,
    pub engine: EngineKind,
    pub raft: RaftSection,
    /// Where nodes listen, for other nodes and for clients. A node that is not named here gets free
    /// ports on a loopback address.
    pub addresses: BTreeMap<NodeId, [SocketAddr; 2]>,
}

#[derive(Debug, Clone)]
pub struct CloudTemplate {
    pub name: CloudId,
    pub weight: u32,
    pub region: String,
    pub nodes: Vec<NodeId>,
}

impl Template {
    /// aws, azure and gcp with equal weights.
    pub fn standard(nodes_per_cloud: usize) -> Result<Self> {
        let clouds = ["aws", "azure", "gcp"].map(|name| {
            let nodes = numbered(name, nodes_per_cloud)?;
            Ok(CloudTemplate { name: CloudId::new(name)?, weight: 1, region: "local".into(), nodes })
        });
        let clouds = clouds.into_iter().collect::<Result<_>>()?;
        let (engine, raft) = (EngineKind::default(), RaftSection::default());
        Ok(Self { clouds, quorum: 2, engine, raft, addresses: BTreeMap::new() })
    }

    /// The clouds, weights, nodes and settings of a file; its addresses are not taken.
    pub fn from_file(file: &ClusterFile, nodes_per_cloud: Option<usize>) -> Result<Self> {
        let clouds = file.clouds.iter().map(|cloud| {
            let nodes = match nodes_per_cloud {
                Some(count) => numbered(cloud.name.as_str(), count)?,
                None => cloud.nodes.iter().map(|node| node.id.get_ref().clone()).collect(),
            };
            let (weight, region) = (*cloud.weight.get_ref(), cloud.region.clone());
            Ok(CloudTemplate { name: cloud.name.clone(), weight, region, nodes })
        });
        let clouds = clouds.collect::<Result<_>>()?;
        let quorum = *file.federation.quorum.get_ref();
        Ok(Self { clouds, quorum, engine: file.storage.engine, raft: file.raft, addresses: BTreeMap::new() })
    }
}

fn numbered(cloud: &str, count: usize) -> Result<Vec<NodeId>> {
    (1..=count).map(|n| Ok(NodeId::new(format!("{cloud}-{n}"))?)).collect()
}

/// A node with its addresses. The listeners hold the ports until all are chosen.
struct Placed {
    node: NodeId,
    peer: SocketAddr,
    client: SocketAddr,
    _held: Option<[TcpListener; 2]>,
}

/// Makes everything below `dir`, which may exist but must not hold a cluster.
pub fn create(dir: &Path, template: &Template, entropy: &dyn Entropy) -> Result<()> {
    if dir.join("nodes").exists() && !dir.join("cluster.toml").exists() && holds_state(dir) {
        bail!(
            "{}: nodes have state here, but cluster.toml is missing; restore it, or choose another --data-dir",
            dir.display()
        );
    }
    make_private_dir(dir)?;
    let placed = place(template)?;
    let roots: Vec<SigningKey> = template.clouds.iter().map(|_| make_signing_key(entropy)).collect();
    let voters = template.clouds.iter().zip(&roots).map(|(cloud, root)| Voter {
        cloud: cloud.name.clone(),
        weight: cloud.weight,
        root_key: root.public(),
    });
    let mut voters: Vec<Voter> = voters.collect();
    voters.sort_by(|a, b| a.cloud.cmp(&b.cloud));
    let genesis = Genesis { voters, quorum: template.quorum, nonce: keys::random(entropy) };
    genesis.check()?;
    let openings = make_nodes(dir, template, &placed, &genesis, &roots, entropy)?;
    make_tenant(dir, entropy)?;
    write_private(&dir.join(keys::ADMIN_TOKEN), format!("{}\n", hex::encode(keys::random(entropy))).as_bytes())?;
    write_json(&dir.join("genesis.json"), &genesis)?;
    write_json(&dir.join("openings.json"), &openings)?;
    write_json(&dir.join("trust.json"), &TrustBundle { version: TRUST_VERSION, genesis, openings })?;
    write_private(&dir.join("context.toml"), context_toml(template, &placed).as_bytes())?;
    write_private(&dir.join("cluster.toml"), cluster_toml(template, &placed).as_bytes())?;
    Ok(())
}

fn holds_state(dir: &Path) -> bool {
    let nodes = std::fs::read_dir(dir.join("nodes")).into_iter().flatten().flatten();
    nodes.into_iter().any(|node| node.path().join("raft").exists())
}

/// Takes the given addresses, and else chooses free ports, each cloud on its own loopback address.
fn place(template: &Template) -> Result<Vec<Vec<Placed>>> {
    let mut order: Vec<&CloudId> = template.clouds.iter().map(|cloud| &cloud.name).collect();
    order.sort();
    let cloud = |cloud: &CloudTemplate| {
        let rank = order.iter().position(|name| **name == cloud.name).unwrap_or_default();
        let address = IpAddr::V4(Ipv4Addr::new(127, 0, rank as u8 + 1, 1));
        // Systems other than Linux give only 127.0.0.1 to loopback.
        let address = if TcpListener::bind((address, 0)).is_ok() { address } else { Ipv4Addr::LOCALHOST.into() };
        let place = |node| match template.addresses.get(node) {
            Some(&[peer, client]) => Ok(Placed { node: node.clone(), peer, client, _held: None }),
            None => place_node(node, address),
        };
        cloud.nodes.iter().map(place).collect::<Result<Vec<_>>>()
    };
    template.clouds.iter().map(cloud).collect()
}

fn place_node(node: &NodeId, address: IpAddr) -> Result<Placed> {
    let listen = || TcpListener::bind((address, 0)).with_context(|| format!("no free port on {address}"));
    let held = [listen()?, listen()?];
    Ok(Placed { node: node.clone(), peer: held[0].local_addr()?, client: held[1].local_addr()?, _held: Some(held) })
}

fn make_nodes(
    dir: &Path,
    template: &Template,
    placed: &[Vec<Placed>],
    genesis: &Genesis,
    roots: &[SigningKey],
    entropy: &dyn Entropy,
) -> Result<Vec<Opening>> {
    let fed = genesis.fed_id();
    let (peer_ca, client_ca) = (Authority::make(Plane::Peer, &fed)?, Authority::make(Plane::Client, &fed)?);
    make_private_dir(&dir.join("ca"))?;
    write_pair(&dir.join("ca"), "peer", &peer_ca.pair)?;
    write_pair(&dir.join("ca"), "client", &client_ca.pair)?;
    make_private_dir(&dir.join("roots"))?;
    let mut openings = Vec::new();
    for ((cloud, root), nodes) in template.clouds.iter().zip(roots).zip(placed) {
        write_signing_key(&dir.join("roots").join(format!("{}.key", cloud.name)), root)?;
        let mut node_keys = Vec::new();
        for node in nodes {
            let folder = dir.join("nodes").join(node.node.as_str());
            make_private_dir(&folder)?;
            let key = make_signing_key(entropy);
            write_signing_key(&folder.join(keys::SIGNING_KEY), &key)?;
            write_pair(&folder, "peer", &peer_ca.certify_peer(&fed, &node.node)?)?;
            write_pair(&folder, "client", &client_ca.certify_api(&node.node, &[node.client.ip()])?)?;
            write_json(&folder.join(IDENTITY_FILE), &Identity { fed_id: fed, node: node.node.clone() })?;
            node_keys.push((node.node.clone(), key.public()));
        }
        node_keys.sort_by(|a, b| a.0.cmp(&b.0));
        let threshold = node_keys.len() as u32 / 2 + 1;
        openings.push(sign_opening(&fed, &cloud.name, 0, node_keys, threshold, root));
    }
    openings.sort_by(|a, b| a.cloud.cmp(&b.cloud));
    Ok(openings)
}

pub(super) fn sign_opening(
    fed: &FedId,
    cloud: &CloudId,
    number: u32,
    keys: Vec<(NodeId, tercet_core::signature::PublicKey)>,
    threshold: u32,
    root: &SigningKey,
) -> Opening {
    let unsigned = Signature([0; 64]);
    let mut opening = Opening { cloud: cloud.clone(), number, keys, threshold, root_signature: unsigned };
    opening.root_signature = root.sign(&opening.bytes(fed));
    opening
}

fn make_tenant(dir: &Path, entropy: &dyn Entropy) -> Result<()> {
    let folder = dir.join("tenants");
    make_private_dir(&folder)?;
    let key = make_signing_key(entropy);
    write_signing_key(&folder.join("default.key"), &key)?;
    let tenant = Tenant {
        id: TenantId::new("default")?,
        secret: TenantSecret(keys::random(entropy)),
        confirm: Confirm::Auto,
        keys: vec![key.public()],
        unsigned: false,
        max_pending: DEFAULT_MAX_PENDING,
    };
    write_json(&folder.join("default.json"), &tenant)
}

pub(super) fn write_pair(folder: &Path, name: &str, pair: &Pair) -> Result<()> {
    write_private(&folder.join(format!("{name}.pem")), pair.cert_pem.as_bytes())?;
    Ok(write_private(&folder.join(format!("{name}.key")), pair.key_pem.as_bytes())?)
}

pub(super) fn write_json<T: serde::Serialize>(path: &Path, value: &T) -> Result<()> {
    let mut bytes = serde_json::to_vec_pretty(value)?;
    bytes.push(b'\n');
    Ok(write_private(path, &bytes)?)
}

fn cluster_toml(template: &Template, placed: &[Vec<Placed>]) -> String {
    let mut out = format!(
        "# Made by `tercetd up`. One node by hand: tercetd run --config cluster.toml --node {}\n\n\
         [federation]\nquorum = {}\ngenesis = \"genesis.json\"\nopenings = \"openings.json\"\n",
        placed[0][0].node, template.quorum
    );
    for (cloud, nodes) in template.clouds.iter().zip(placed) {
        let region = toml::Value::from(cloud.region.clone());
        let _ = write!(out, "\n[[clouds]]\nname = \"{}\"\nweight = {}\nregion = {region}\n", cloud.name, cloud.weight);
        for Placed { node, peer, client, .. } in nodes {
            let _ = write!(
                out,
                "\n[[clouds.nodes]]\nid = \"{node}\"\npeer_addr = \"{peer}\"\nclient_addr = \"{client}\"\ndata_dir = \"nodes/{node}\"\n"
            );
        }
    }
    let RaftSection { heartbeat_ms, election_min_ms, election_max_ms } = template.raft;
    let _ = write!(
        out,
        "\n[storage]\nengine = \"{}\"\n\n[raft]\nheartbeat_ms = {heartbeat_ms}\nelection_min_ms = {election_min_ms}\nelection_max_ms = {election_max_ms}\n",
        template.engine.as_str()
    );
    out
}

/// How `tercet` finds and trusts this cluster.
fn context_toml(template: &Template, placed: &[Vec<Placed>]) -> String {
    let mut out = String::from(
        "# How `tercet` reaches this cluster; made by `tercetd up`.\n\
         ca = \"ca/client.pem\"\ntoken_file = \"admin.token\"\ntrust = \"trust.json\"\n\
         tenant = \"default\"\ntenant_key = \"tenants/default.key\"\n",
    );
    for (cloud, nodes) in template.clouds.iter().zip(placed) {
        let _ = write!(out, "\n[[clouds]]\nname = \"{}\"\n", cloud.name);
        for Placed { node, client, .. } in nodes {
            let _ = write!(out, "\n[[clouds.nodes]]\nid = \"{node}\"\nurl = \"https://{client}\"\n");
        }
    }
    out
}
