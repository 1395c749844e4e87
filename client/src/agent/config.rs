//! `agent.toml`, and the key that reports are signed with.

use crate::context::{Context, ContextError};
use crate::duration;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tercet_core::agents::{AgentSecret, MAX_STANDING};
use tercet_core::ids::{HolderId, LeaseId};

/// The longest name of an image, in bytes.
const MAX_IMAGE_BYTES: usize = 255;

/// What `tercet agent create` wrote beside the context.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentKey {
    pub agent: HolderId,
    pub secret: AgentSecret,
}

/// One agent.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub id: HolderId,
    /// How often it reports when nothing changes.
    #[serde(default = "five_seconds", deserialize_with = "duration::deserialize")]
    pub report_every: Duration,
    /// Where grants are written for containers and hooks.
    #[serde(default = "default_state_dir")]
    pub state_dir: PathBuf,
    /// The container engine's socket; without one only hooks run.
    pub engine: Option<PathBuf>,
    /// Where leader-only requests are answered.
    pub listen: Option<SocketAddr>,
    #[serde(rename = "role")]
    pub roles: Vec<RoleConfig>,
}

/// What follows a role.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleConfig {
    pub name: LeaseId,
    /// Run when the role is won, before anything else is told; a failure gives the role back.
    #[serde(default)]
    pub on_promote: Vec<String>,
    /// Run when the role is over.
    #[serde(default)]
    pub on_demote: Vec<String>,
    /// Run while standing by: exit code 0 says that this agent could take over now.
    #[serde(default)]
    pub ready: Vec<String>,
    /// A file with the number of how far the service is; who is behind does not lead.
    pub epoch_file: Option<PathBuf>,
    /// After a handover the old holder's container goes on for so long, to finish what it has begun.
    #[serde(default = "two_seconds", deserialize_with = "duration::deserialize")]
    pub drain: Duration,
    pub container: Option<ContainerConfig>,
}

/// Whether a container runs while its agent stands by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Standby {
    /// It starts when the role is won, and stops when it is lost.
    #[default]
    Cold,
    /// It always runs, and is told by its grant file whether it leads.
    Warm,
}

/// The container of a role.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContainerConfig {
    /// Its name on this engine.
    pub name: String,
    pub image: String,
    #[serde(default)]
    pub command: Vec<String>,
    #[serde(default)]
    pub env: Vec<String>,
    /// `host`, `none`, `bridge` or a network's name.
    #[serde(default = "bridge")]
    pub network: String,
    #[serde(default)]
    pub standby: Standby,
}

fn five_seconds() -> Duration {
    Duration::from_secs(5)
}

fn two_seconds() -> Duration {
    Duration::from_secs(2)
}

fn default_state_dir() -> PathBuf {
    "agent-state".into()
}

fn bridge() -> String {
    "bridge".into()
}

impl Config {
    /// Reads and checks the file. Relative paths are relative to its folder.
    pub fn read(path: &Path) -> Result<Self, ContextError> {
        let invalid = |why: String| ContextError::Invalid { path: path.to_owned(), why };
        let text = std::fs::read_to_string(path)
            .map_err(|error| ContextError::Unreadable { path: path.to_owned(), why: error.to_string() })?;
        let mut config: Self = toml::from_str(&text).map_err(|error| invalid(error.to_string()))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        config.state_dir = std::path::absolute(folder.join(&config.state_dir)).map_err(|e| invalid(e.to_string()))?;
        config.engine = config.engine.map(|socket| folder.join(socket));
        for role in &mut config.roles {
            role.epoch_file = role.epoch_file.take().map(|file| folder.join(file));
        }
        config.check().map_err(invalid)?;
        Ok(config)
    }

    fn check(&self) -> Result<(), String> {
        if self.roles.is_empty() || self.roles.len() > MAX_STANDING {
            return Err(format!("an agent stands for 1 to {MAX_STANDING} roles; write them as [[role]]"));
        }
        let mut names: Vec<_> = self.roles.iter().map(|role| &role.name).collect();
        names.sort();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(format!("role {} is there twice", pair[0]));
        }
        if self.report_every < Duration::from_millis(100) {
            return Err("report_every is at least 100ms".into());
        }
        for container in self.roles.iter().filter_map(|role| role.container.as_ref()) {
            check_image(&container.image)?;
        }
        Ok(())
    }
}

/// Whether this is the name of an image, as `[registry/]path[:tag][@digest]`: nothing that a shell or an engine could
/// read as more.
pub fn check_image(image: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/' | ':' | '@');
    let well_formed = !image.is_empty()
        && image.len() <= MAX_IMAGE_BYTES
        && image.chars().all(allowed)
        && image.starts_with(|c: char| c.is_ascii_alphanumeric())
        && image.ends_with(|c: char| c.is_ascii_alphanumeric())
        && image.split('/').all(|part| !part.is_empty() && part.starts_with(|c: char| c.is_ascii_alphanumeric()));
    if well_formed { Ok(()) } else { Err(format!("{image:?} is not the name of an image, such as shop/web:1.2")) }
}

impl AgentKey {
    /// Where the key of an agent is kept.
    pub fn path(context: &Context, agent: &HolderId) -> PathBuf {
        context.folder().join("agents").join(agent.as_str()).with_extension("json")
    }

    pub fn read(path: &Path) -> Result<Self, ContextError> {
        let bytes = crate::context::read_secret(path)?;
        let invalid =
            |error: serde_json::Error| ContextError::Invalid { path: path.to_owned(), why: error.to_string() };
        serde_json::from_slice(&bytes).map_err(invalid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_images_hold_nothing_that_could_be_more() {
        for good in ["web", "shop/web:1.2", "registry.local:5000/shop/web@sha256:abc", "a_b-c.d"] {
            assert_eq!(check_image(good), Ok(()), "{good}");
        }
        for bad in ["", "-web", "web;rm", "web latest", "$(x)", "../web", "web/", "a//b", "web\n", "`x`", ":tag"] {
            assert!(check_image(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_file_says_what_is_wrong_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.toml");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            Config::read(&path)
        };
        let good = read("id = \"a\"\n[[role]]\nname = \"primary\"\ndrain = \"500ms\"\n").unwrap();
        assert_eq!((good.roles[0].drain, good.report_every), (Duration::from_millis(500), Duration::from_secs(5)));
        for (text, why) in [
            ("id = \"a\"\nrole = []\n", "1 to 64 roles"),
            ("id = \"A\"\n[[role]]\nname = \"x\"\n", "holder"),
            ("id = \"a\"\n[[role]]\nname = \"x\"\n[[role]]\nname = \"x\"\n", "twice"),
            ("id = \"a\"\n[[role]]\nname = \"x\"\ndrian = \"1s\"\n", "drian"),
            ("id = \"a\"\n[[role]]\nname = \"x\"\n[role.container]\nname = \"w\"\nimage = \"a b\"\n", "image"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
