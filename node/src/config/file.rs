//! The form of `cluster.toml`, parsed strictly: unknown keys, doubled names and addresses, and
//! weights that could not be both live and unambiguous are refused with their line.

use super::{At, CloudEntry, ConfigError, NodeEntry};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use tercet_core::epochs::MAX_NODES_PER_CLOUD;
use tercet_core::genesis::{CLOUDS, Genesis, Voter};
use tercet_core::ids::{CloudId, NodeId};
use tercet_core::signature::SigningKey;
use toml::Spanned;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineKind {
    Sled,
    #[default]
    Fjall,
}

impl EngineKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sled => "sled",
            Self::Fjall => "fjall",
        }
    }
}

/// A parsed `cluster.toml`. `clouds` are sorted by name, their nodes by id.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterFile {
    pub federation: FederationSection,
    pub clouds: Vec<CloudSection>,
    #[serde(default)]
    pub storage: StorageSection,
    #[serde(default)]
    pub raft: RaftSection,
    #[serde(skip)]
    path: PathBuf,
    #[serde(skip)]
    line_starts: Vec<usize>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FederationSection {
    pub quorum: Spanned<u32>,
    #[serde(default = "default_genesis")]
    pub genesis: PathBuf,
    #[serde(default = "default_openings")]
    pub openings: PathBuf,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CloudSection {
    #[serde(rename = "name")]
    spanned_name: Spanned<CloudId>,
    pub weight: Spanned<u32>,
    pub region: String,
    #[serde(default)]
    pub nodes: Vec<NodeSection>,
    #[serde(skip, default = "placeholder_cloud")]
    pub name: CloudId,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeSection {
    pub id: Spanned<NodeId>,
    pub peer_addr: Spanned<SocketAddr>,
    pub client_addr: Spanned<SocketAddr>,
    pub data_dir: Option<PathBuf>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StorageSection {
    #[serde(default)]
    pub engine: EngineKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RaftSection {
    pub heartbeat_ms: u64,
    pub election_min_ms: u64,
    pub election_max_ms: u64,
}

impl Default for RaftSection {
    fn default() -> Self {
        Self { heartbeat_ms: 300, election_min_ms: 1500, election_max_ms: 2400 }
    }
}

fn default_genesis() -> PathBuf {
    "genesis.json".into()
}

fn default_openings() -> PathBuf {
    "openings.json".into()
}

fn placeholder_cloud() -> CloudId {
    CloudId::new("unnamed").expect("a valid name")
}

impl ClusterFile {
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => ConfigError::Missing { path: path.into() },
            _ => ConfigError::Unreadable { path: path.into(), error },
        })?;
        Self::parse(&text, path)
    }

    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let line_starts: Vec<usize> =
            std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        let mut file: Self = toml::from_str(text).map_err(|error| {
            let offset = error.span().map_or(0, |span| span.start);
            let at = At { path: path.into(), line: line_of(&line_starts, offset) };
            ConfigError::Syntax { at, message: error.message().replace('\n', " ") }
        })?;
        file.path = path.into();
        file.line_starts = line_starts;
        for cloud in &mut file.clouds {
            cloud.name = cloud.spanned_name.get_ref().clone();
        }
        file.check()?;
        file.clouds.sort_by(|a, b| a.name.cmp(&b.name));
        for cloud in &mut file.clouds {
            cloud.nodes.sort_by(|a, b| a.id.get_ref().cmp(b.id.get_ref()));
        }
        Ok(file)
    }

    /// The folder that relative paths begin from.
    pub fn root(&self) -> &Path {
        self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
    }

    pub fn data_dir(&self, node: &NodeSection) -> PathBuf {
        let default = || PathBuf::from("nodes").join(node.id.get_ref().as_str());
        self.root().join(node.data_dir.clone().unwrap_or_else(default))
    }

    pub fn find(&self, node: &NodeId) -> Result<(&CloudSection, &NodeSection), ConfigError> {
        let mut all = self.clouds.iter().flat_map(|cloud| cloud.nodes.iter().map(move |entry| (cloud, entry)));
        all.find(|(_, entry)| entry.id.get_ref() == node).ok_or_else(|| {
            let known = self.clouds.iter().flat_map(|cloud| &cloud.nodes).map(|entry| entry.id.get_ref().as_str());
            let known = known.collect::<Vec<_>>().join(", ");
            ConfigError::UnknownNode { path: self.path.clone(), node: node.clone(), known }
        })
    }

    pub fn entries(&self) -> Vec<CloudEntry> {
        let node = |entry: &NodeSection| NodeEntry {
            node: entry.id.get_ref().clone(),
            peer_addr: *entry.peer_addr.get_ref(),
            client_addr: *entry.client_addr.get_ref(),
        };
        let cloud = |section: &CloudSection| CloudEntry {
            cloud: section.name.clone(),
            region: section.region.clone(),
            nodes: section.nodes.iter().map(node).collect(),
        };
        self.clouds.iter().map(cloud).collect()
    }

    /// Whether names, weights and quorum are those of the genesis.
    pub fn matches(&self, genesis: &Genesis) -> Result<(), ConfigError> {
        let weights = |error| ConfigError::Weights { path: self.path.clone(), error };
        genesis.check().map_err(weights)?;
        let differs = |at: At, difference: String| Err(ConfigError::DiffersFromGenesis { at, difference });
        for cloud in &self.clouds {
            let (name, weight) = (&cloud.name, *cloud.weight.get_ref());
            let Some(voter) = genesis.voter(name) else {
                let known = genesis.clouds().map(CloudId::as_str).collect::<Vec<_>>().join(", ");
                let at = self.at(cloud.spanned_name.span().start);
                return differs(at, format!("cloud {name} is not in the genesis, whose clouds are {known}"));
            };
            if voter.weight != weight {
                let at = self.at(cloud.weight.span().start);
                return differs(at, format!("cloud {name} has weight {weight}, and {} in the genesis", voter.weight));
            }
        }
        let quorum = *self.federation.quorum.get_ref();
        if quorum != genesis.quorum {
            let at = self.at(self.federation.quorum.span().start);
            return differs(at, format!("the quorum is {quorum}, and {} in the genesis", genesis.quorum));
        }
        Ok(())
    }

    fn at(&self, offset: usize) -> At {
        At { path: self.path.clone(), line: line_of(&self.line_starts, offset) }
    }

    fn check(&self) -> Result<(), ConfigError> {
        if self.clouds.len() != CLOUDS {
            return Err(ConfigError::NotThreeClouds { path: self.path.clone(), count: self.clouds.len() });
        }
        self.check_names()?;
        self.check_addresses()?;
        self.check_weights()?;
        self.check_timers()
    }

    fn check_names(&self) -> Result<(), ConfigError> {
        let (mut clouds, mut nodes) = (BTreeSet::new(), BTreeSet::new());
        for cloud in &self.clouds {
            let at = || self.at(cloud.spanned_name.span().start);
            if !clouds.insert(&cloud.name) {
                return Err(ConfigError::DuplicateName { at: at(), what: "cloud", name: cloud.name.to_string() });
            }
            let count = cloud.nodes.len();
            if count == 0 || count > MAX_NODES_PER_CLOUD {
                return Err(ConfigError::NodeCount { at: at(), cloud: cloud.name.clone(), count });
            }
            for node in &cloud.nodes {
                if !nodes.insert(node.id.get_ref()) {
                    let (at, name) = (self.at(node.id.span().start), node.id.get_ref().to_string());
                    return Err(ConfigError::DuplicateName { at, what: "node", name });
                }
            }
        }
        Ok(())
    }

    fn check_addresses(&self) -> Result<(), ConfigError> {
        let mut seen = BTreeSet::new();
        let nodes = self.clouds.iter().flat_map(|cloud| &cloud.nodes);
        for spanned in nodes.flat_map(|node| [&node.peer_addr, &node.client_addr]) {
            let (at, address) = (self.at(spanned.span().start), *spanned.get_ref());
            if address.port() == 0 {
                return Err(ConfigError::PortZero { at, address });
            }
            if !seen.insert(address) {
                return Err(ConfigError::DuplicateAddress { at, address });
            }
        }
        Ok(())
    }

    /// The genesis knows the rule; keys do not matter for it, so any three will do.
    fn check_weights(&self) -> Result<(), ConfigError> {
        let mut voters: Vec<Voter> = (1..)
            .zip(&self.clouds)
            .map(|(seed, cloud)| Voter {
                cloud: cloud.name.clone(),
                weight: *cloud.weight.get_ref(),
                root_key: SigningKey::from_seed(&[seed; 32]).public(),
            })
            .collect();
        voters.sort_by(|a, b| a.cloud.cmp(&b.cloud));
        let genesis = Genesis { voters, quorum: *self.federation.quorum.get_ref(), nonce: [0; 32] };
        genesis.check().map_err(|error| ConfigError::Weights { path: self.path.clone(), error })
    }

    fn check_timers(&self) -> Result<(), ConfigError> {
        let RaftSection { heartbeat_ms, election_min_ms, election_max_ms } = self.raft;
        let problem = if heartbeat_ms < 10 || election_max_ms > 600_000 {
            "heartbeat_ms must be at least 10, and election_max_ms at most 600000"
        } else if election_min_ms < 2 * heartbeat_ms {
            "election_min_ms must be at least twice heartbeat_ms, or a delayed heartbeat costs the leader its office"
        } else if election_max_ms <= election_min_ms {
            "election_max_ms must be more than election_min_ms, or nodes stand for election in step"
        } else {
            return Ok(());
        };
        Err(ConfigError::Timers { path: self.path.clone(), problem })
    }
}

fn line_of(line_starts: &[usize], offset: usize) -> usize {
    line_starts.partition_point(|start| *start <= offset).max(1)
}
