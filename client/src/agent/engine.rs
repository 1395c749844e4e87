//! The container engine, through its socket. A container's labels never change after its creation, so
//! they say only what it is for; who owns it is what its agent reports with a fencing token.

use super::config::ContainerConfig;
use bollard::errors::Error;
use bollard::models::{ContainerCreateBody, HostConfig};
use bollard::query_parameters::{
    CreateContainerOptions, ListContainersOptions, RemoveContainerOptions, StopContainerOptions,
};
use bollard::{API_DEFAULT_VERSION, Docker};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tercet_core::ids::{HolderId, LeaseId, TenantId};

/// How long one call to the engine may take, in seconds.
const CALL_S: u64 = 60;

const TENANT: &str = "tercet.tenant";
const ROLE: &str = "tercet.role";
const AGENT: &str = "tercet.agent";

pub struct Engine {
    docker: Docker,
    pub(super) socket: PathBuf,
}

/// Whom a container belongs to.
pub struct Belongs<'a> {
    pub tenant: &'a TenantId,
    pub role: &'a LeaseId,
    pub agent: &'a HolderId,
}

impl Belongs<'_> {
    fn labels(&self) -> [(String, String); 3] {
        [(TENANT, self.tenant.to_string()), (ROLE, self.role.to_string()), (AGENT, self.agent.to_string())]
            .map(|(name, value)| (name.to_owned(), value))
    }
}

impl Engine {
    pub async fn connect(socket: &Path) -> Result<Self, Error> {
        let docker = Docker::connect_with_unix(&socket.to_string_lossy(), CALL_S, API_DEFAULT_VERSION)?;
        let docker = docker.negotiate_version().await?;
        docker.ping().await?;
        Ok(Self { docker, socket: socket.to_owned() })
    }

    pub async fn has_image(&self, image: &str) -> bool {
        self.docker.inspect_image(image).await.is_ok()
    }

    /// The id of the container of this name, if it runs.
    pub async fn running(&self, name: &str) -> Result<Option<String>, Error> {
        match self.docker.inspect_container(name, None).await {
            Ok(found) => {
                let runs = found.state.and_then(|state| state.running).unwrap_or(false);
                Ok(found.id.filter(|_| runs))
            }
            Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes the container run: one that runs already is adopted if it is what the role asks for, any other of that
    /// name is replaced. `folder` is mounted at `/run/tercet`. Returns its id.
    pub async fn ensure(
        &self,
        belongs: &Belongs<'_>,
        config: &ContainerConfig,
        folder: &Path,
    ) -> Result<String, Error> {
        match self.docker.inspect_container(&config.name, None).await {
            Ok(found) => {
                let runs = found.state.as_ref().and_then(|state| state.running).unwrap_or(false);
                let spec = found.config.unwrap_or_default();
                let labels = spec.labels.unwrap_or_default();
                let ours = belongs.labels().iter().all(|(name, value)| labels.get(name) == Some(value));
                if ours && spec.image.as_deref() == Some(&config.image) {
                    let id = found.id.unwrap_or_else(|| config.name.clone());
                    if !runs {
                        self.docker.start_container(&id, None).await?;
                    }
                    return Ok(id);
                }
                self.remove(&config.name).await?;
            }
            Err(Error::DockerResponseServerError { status_code: 404, .. }) => {}
            Err(error) => return Err(error),
        }
        let options = CreateContainerOptions { name: Some(config.name.clone()), ..Default::default() };
        let body = ContainerCreateBody {
            image: Some(config.image.clone()),
            cmd: (!config.command.is_empty()).then(|| config.command.clone()),
            env: Some(config.env.clone()),
            labels: Some(HashMap::from(belongs.labels())),
            host_config: Some(HostConfig {
                network_mode: Some(config.network.clone()),
                binds: Some(vec![format!("{}:/run/tercet:ro", folder.display())]),
                ..Default::default()
            }),
            ..Default::default()
        };
        let created = self.docker.create_container(Some(options), body).await?;
        self.docker.start_container(&created.id, None).await?;
        Ok(created.id)
    }

    /// SIGTERM, and SIGKILL when `within` is over.
    pub async fn stop(&self, name: &str, within: Duration) -> Result<(), Error> {
        let options = StopContainerOptions { t: Some(within.as_secs().min(3600) as i32), ..Default::default() };
        match self.docker.stop_container(name, Some(options)).await {
            // It stands already, or is gone.
            Err(Error::DockerResponseServerError { status_code: 304 | 404, .. }) | Ok(()) => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub async fn remove(&self, name: &str) -> Result<(), Error> {
        let options = RemoveContainerOptions { force: true, ..Default::default() };
        match self.docker.remove_container(name, Some(options)).await {
            Err(Error::DockerResponseServerError { status_code: 404, .. }) | Ok(()) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Running containers of this role and agent.
    pub async fn of_role(&self, belongs: &Belongs<'_>) -> Result<Vec<String>, Error> {
        let labels = belongs.labels().map(|(name, value)| format!("{name}={value}")).to_vec();
        let filters = HashMap::from([("label".to_owned(), labels)]);
        let listed = self
            .docker
            .list_containers(Some(ListContainersOptions { filters: Some(filters), ..Default::default() }))
            .await?;
        Ok(listed.into_iter().filter_map(|container| container.id).collect())
    }
}
