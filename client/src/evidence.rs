//! Evidence over HTTP: what a cloud holds about lying clouds, and the bytes to verify elsewhere.

use crate::client::{Client, Route};
use crate::error::Error;
use crate::http::Call;
use bytes::Bytes;
use reqwest::Method;
use serde::{Deserialize, Serialize};

/// The media type of evidence.
pub const MEDIA_TYPE: &str = "application/vnd.tercet.evidence";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvidenceSummary {
    pub id: String,
    /// The cloud that lied.
    pub cloud: String,
    pub kind: String,
}

impl Client {
    pub async fn evidence_list(&self, route: &Route) -> Result<Vec<EvidenceSummary>, Error> {
        #[derive(Deserialize)]
        struct List {
            evidence: Vec<EvidenceSummary>,
        }
        Ok(self.send(route, &Call::get(&["v1", "evidence"])).await?.json::<List>()?.evidence)
    }

    pub async fn evidence(&self, route: &Route, id: &str) -> Result<Bytes, Error> {
        Ok(self.send(route, &Call::get(&["v1", "evidence", id])).await?.body)
    }

    /// Hands evidence to a cloud, which verifies it itself.
    pub async fn accuse(&self, route: &Route, bytes: Bytes) -> Result<(), Error> {
        let call = Call::new(Method::POST, &["v1", "evidence"]).body(MEDIA_TYPE, bytes).once();
        self.send(route, &call).await.map(|_| ())
    }
}
