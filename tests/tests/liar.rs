//! A cloud that lies: somebody runs a second gcp with gcp's real keys and folder (its twin). aws
//! talks to gcp, azure talks to the twin, and aws and azure cannot talk to each other until the
//! test heals their link. Both gcps run the honest program, so everything on the wire is genuine.

use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tercet_core::evidence::{Evidence, Statement};
use tercet_core::signature::SigningKey;
use tercet_core::transparency::{Leaf, SignedNote};
use tercet_tests::config::{address, set};
use tercet_tests::events::Author;
use tercet_tests::proxy::Proxy;
use tercet_tests::wait::check;
use tercet_tests::{Cli, Cluster, eventually};

const LIMIT: Duration = Duration::from_secs(40);
const HONEST: [&str; 2] = ["aws", "azure"];

/// The cluster of the lie.
struct Deceived {
    cluster: Cluster,
    /// Where the twin takes events.
    twin_url: String,
    /// From aws to azure, and back.
    links: [Proxy; 2],
    _dead: [Proxy; 2],
}

impl Deceived {
    fn start() -> Self {
        let mut cluster = Cluster::small();
        cluster.equal_heads(LIMIT);
        assert!(cluster.stop().success());
        let data = cluster.data_dir();
        let twin_folder = data.join("twin");
        copy(&data.join("nodes/gcp-1"), &twin_folder);
        let text = std::fs::read_to_string(data.join("cluster.toml")).unwrap();
        let config: toml::Table = text.parse().unwrap();

        let peer = |node: &str| -> SocketAddr { address(&config, node, "peer_addr") };
        let links = [Proxy::start(peer("azure-1"), true), Proxy::start(peer("aws-1"), true)];
        let dead = [Proxy::start(peer("azure-1"), true), Proxy::start(peer("aws-1"), true)];
        let [twin_peer, twin_client] = free_addresses(peer("gcp-1"));

        let write = |name: &str, changes: &[(&str, &str, String)]| -> PathBuf {
            let mut config = config.clone();
            for (node, key, value) in changes {
                set(&mut config, node, key, value);
            }
            let file = data.join(name);
            std::fs::write(&file, config.to_string()).unwrap();
            file
        };
        let aws = write("aws.toml", &[("azure-1", "peer_addr", links[0].address.to_string())]);
        let azure = write(
            "azure.toml",
            &[
                ("aws-1", "peer_addr", links[1].address.to_string()),
                ("gcp-1", "peer_addr", twin_peer.to_string()),
                ("gcp-1", "client_addr", twin_client.to_string()),
            ],
        );
        let gcp = write("gcp.toml", &[("azure-1", "peer_addr", dead[0].address.to_string())]);
        let twin = write(
            "twin.toml",
            &[
                ("aws-1", "peer_addr", dead[1].address.to_string()),
                ("gcp-1", "peer_addr", twin_peer.to_string()),
                ("gcp-1", "client_addr", twin_client.to_string()),
                ("gcp-1", "data_dir", twin_folder.to_str().unwrap().to_owned()),
            ],
        );
        let twin_url = format!("https://{twin_client}");
        cluster.run_with("aws-1", &aws);
        cluster.run_with("azure-1", &azure);
        cluster.run_with("gcp-1", &gcp);
        cluster.run_as("gcp-1 (twin)", "gcp-1", &twin, &twin_url);
        Self { cluster, twin_url, links, _dead: dead }
    }

    fn submit_to_twin(&self, id: &str, payload: &Value) -> Value {
        let event = self.cluster.author().plain(id, payload);
        let url = format!("{}/v1/tenants/default/events", self.twin_url);
        eventually("the twin takes an event", LIMIT, || {
            let reply = self.cluster.api().post(&url).json(&event).try_send()?;
            check(reply.status == 200 || reply.status == 201, || reply.text())?;
            Ok(reply.json())
        })
    }

    /// gcp's vote on an event and the proof that it stands in gcp's log, as an honest cloud holds it.
    fn statement(&self, cloud: &str, event: &Value) -> Statement {
        let base = format!("{}/v1/clouds/gcp", self.cluster.leader_url(cloud));
        let get = |path: String| self.cluster.api().get(&format!("{base}/{path}")).send();
        let note = SignedNote::parse(&get("checkpoint".into()).text()).expect("a signed note");
        let vote = event["votes"].as_array().unwrap().iter().find(|vote| vote["cloud"] == "gcp").expect("gcp voted");
        let index = vote["index"].as_u64().unwrap();
        let leaf = get(format!("leaves?from={index}&limit=1")).ok()["leaves"][0].as_str().unwrap().to_owned();
        let proof = get(format!("proof?index={index}&size={}", note.body.size)).ok();
        Statement {
            leaf: Leaf::decode(&hex::decode(leaf).unwrap()).unwrap(),
            proof: serde_json::from_value(proof["path"].clone()).unwrap(),
            note,
            index,
        }
    }

    /// Hands evidence to a cloud, as any stranger can.
    fn tell(&self, cloud: &str, evidence: &Evidence) {
        let url = format!("{}/v1/evidence", self.cluster.leader_url(cloud));
        let told = self.cluster.api().post(&url).body("application/vnd.tercet.evidence", evidence.bytes()).send();
        assert!((200..300).contains(&told.status), "{}: {}", told.status, told.text());
    }

    fn heal(&self) {
        for link in &self.links {
            link.heal();
        }
    }

    /// Waits until an honest cloud flags gcp, and checks its evidence as an outsider would.
    fn convicted_at(&self, cloud: &str) -> BTreeSet<String> {
        let base = self.cluster.leader_url(cloud);
        let evidence = eventually(&format!("{cloud} holds evidence"), LIMIT, || {
            let list = self.cluster.api().get(&format!("{base}/v1/evidence")).try_send()?.json()["evidence"].clone();
            check(list.as_array().is_some_and(|list| !list.is_empty()), || list.to_string())?;
            Ok(list)
        });
        eventually(&format!("{cloud} flags gcp"), LIMIT, || {
            let status = self.cluster.status(&format!("{cloud}-1"))?;
            let flagged = |name: &str| seen(&status, name)["flagged"].clone();
            check(flagged("gcp") == true, || status.to_string())?;
            for honest in HONEST {
                assert_eq!(flagged(honest), false, "nobody else is accused: {status}");
            }
            Ok(())
        });
        let elsewhere = tempfile::tempdir().unwrap();
        let trust = elsewhere.path().join("trust.json");
        std::fs::copy(self.cluster.data_dir().join("trust.json"), &trust).unwrap();
        let check_one = |item: &Value| {
            assert_eq!(item["cloud"], "gcp", "{item}");
            let id = item["id"].as_str().unwrap();
            let file = elsewhere.path().join("lie.evidence");
            let bytes = self.cluster.api().get(&format!("{base}/v1/evidence/{id}")).send();
            assert_eq!(bytes.status, 200, "{}", bytes.text());
            std::fs::write(&file, &bytes.body).unwrap();
            let arguments = ["verify", file.to_str().unwrap(), "--trust", trust.to_str().unwrap()];
            let verified = Cli::offline().json(&arguments);
            assert_eq!((&verified["kind"], &verified["cloud"]), (&json!("evidence"), &json!("gcp")), "{verified}");
            let mut changed = bytes.body.clone();
            let middle = changed.len() / 2;
            changed[middle] ^= 1;
            std::fs::write(&file, changed).unwrap();
            Cli::offline().run(&arguments).expect(3);
            verified["lie"].as_str().unwrap().to_owned()
        };
        evidence.as_array().unwrap().iter().map(check_one).collect()
    }

    /// Waits until both honest clouds say the same about an event, and it is as wanted.
    fn agreed(&self, id: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        eventually(&format!("aws and azure agree that {id} is {what}"), LIMIT, || {
            let [aws, azure] = HONEST.map(|cloud| self.cluster.event(cloud, id).map(|event| essence(&event)));
            let (aws, azure) = (aws?, azure?);
            check(aws == azure && holds(&aws), || format!("\naws   {aws}\nazure {azure}"))?;
            Ok(aws)
        })
    }

    /// How far an honest cloud has audited gcp's log, and how much of it it holds.
    fn audited(&self, cloud: &str) -> u64 {
        let status = self.cluster.status(&format!("{cloud}-1")).unwrap();
        seen(&status, "gcp")["audited"][cloud].as_u64().unwrap_or_default()
    }
}

/// What the honest clouds must agree on: level, marks, and who voted what.
fn essence(event: &Value) -> Value {
    let mut votes: Vec<String> = event["votes"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|vote| format!("{} {} {}", vote["cloud"], vote["verdict"], vote["contentHash"]))
        .collect();
    votes.sort();
    votes.dedup();
    json!({ "level": event["level"], "marks": event["marks"], "votes": votes })
}

fn seen(status: &Value, cloud: &str) -> Value {
    let clouds = status["clouds"].as_array().expect("a status lists clouds");
    clouds.iter().find(|seen| seen["cloud"] == cloud).expect("every cloud is listed").clone()
}

#[test]
fn a_cloud_that_votes_twice_is_convicted_and_the_honest_clouds_agree() {
    let lie = Deceived::start();
    lie.submit_to_twin("only-the-twin", &json!({}));
    lie.cluster.submit("gcp", "order-1", &json!("A")).ok();
    lie.submit_to_twin("order-1", &json!("B"));
    let at_aws = lie.cluster.wait_level("aws", "order-1", "FINAL", LIMIT);
    let at_azure = lie.cluster.wait_level("azure", "order-1", "FINAL", LIMIT);
    assert_ne!(at_aws["contentHash"], at_azure["contentHash"], "each side was told another content");

    // Two different votes for one event, at two places: whoever has seen both can prove it.
    let statements = [(&at_aws, "aws"), (&at_azure, "azure")].map(|(event, cloud)| lie.statement(cloud, event));
    assert_ne!(statements[0].index, statements[1].index, "the twin had one event more");
    let [first, second] = statements;
    lie.tell("aws", &Evidence::double_vote(first, second));
    assert_eq!(lie.convicted_at("aws"), BTreeSet::from(["double-vote".to_owned()]));
    let event = lie.cluster.event("aws", "order-1").unwrap();
    assert_eq!((&event["level"], &event["marks"]["review"]), (&json!("FINAL"), &json!(true)), "{event}");

    lie.heal();
    let lies: Vec<BTreeSet<String>> = HONEST.iter().map(|cloud| lie.convicted_at(cloud)).collect();
    eprintln!("proven at aws and azure: {lies:?}");
    let event = lie.agreed("order-1", "FINAL, in CONFLICT and in REVIEW", |event| {
        event["level"] == "FINAL" && event["marks"]["conflict"] == true && event["marks"]["review"] == true
    });
    assert_eq!(event["votes"].as_array().unwrap().len(), 4, "gcp's two votes and the honest ones: {event}");

    let audited = HONEST.map(|cloud| lie.audited(cloud));
    lie.cluster.submit("aws", "order-2", &json!("C")).ok();
    lie.cluster.submit("gcp", "order-3", &json!("D")).ok();
    for cloud in HONEST {
        for id in ["order-2", "order-3"] {
            eventually(&format!("{id} is settled at {cloud}"), LIMIT, || {
                let event = lie.cluster.event(cloud, id)?;
                let level = event["level"].as_str().unwrap_or_default();
                check(level == "FINAL" || level == "SEALED", || event.to_string())?;
                check(event["marks"]["review"] == false, || event.to_string())
            });
        }
    }
    assert_eq!(HONEST.map(|cloud| lie.audited(cloud)), audited, "its epoch is never audited again");
}

#[test]
fn a_forked_log_puts_finals_in_review_until_the_third_vote_stands() {
    let lie = Deceived::start();
    lie.cluster.submit("gcp", "order-1", &json!("A")).ok();
    lie.cluster.submit("gcp", "order-2", &json!("B")).ok();
    lie.submit_to_twin("order-2", &json!("B"));
    lie.submit_to_twin("order-1", &json!("A"));
    for cloud in HONEST {
        for id in ["order-1", "order-2"] {
            let event = lie.cluster.wait_level(cloud, id, "FINAL", LIMIT);
            assert_eq!(event["marks"]["review"], false, "{event}");
        }
    }
    let evidence = eventually("two notes of one size", LIMIT, || {
        let [a, b] = HONEST.map(|cloud| {
            let url = format!("{}/v1/clouds/gcp/checkpoint", lie.cluster.leader_url(cloud));
            let text = lie.cluster.api().get(&url).send().text();
            SignedNote::parse(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
        });
        check(a.body.size == b.body.size, || format!("{} and {}", a.body.size, b.body.size))?;
        assert_ne!(a.body.root, b.body.root, "one size, two histories");
        Ok(Evidence::fork_at_size(a, b))
    });
    // azure learns of the lie from a stranger, before it can talk to aws.
    lie.tell("azure", &evidence);
    assert_eq!(lie.convicted_at("azure"), BTreeSet::from(["fork-at-size".to_owned()]));
    let reviewed = eventually("order-1 is in REVIEW at azure", LIMIT, || {
        let event = lie.cluster.event("azure", "order-1")?;
        check(event["marks"]["review"] == true, || event.to_string())?;
        Ok(event)
    });
    assert_eq!(reviewed["level"], "FINAL", "{reviewed}");

    lie.heal();
    for cloud in HONEST {
        eprintln!("proven at {cloud}: {:?}", lie.convicted_at(cloud));
    }
    for id in ["order-1", "order-2"] {
        lie.agreed(id, "FINAL or SEALED, and no longer in REVIEW", |event| {
            let level = event["level"].as_str().unwrap_or_default();
            (level == "FINAL" || level == "SEALED")
                && event["marks"]["review"] == false
                && event["marks"]["conflict"] == false
        });
    }
}

#[test]
fn a_cloud_that_votes_without_the_tenants_signature_achieves_nothing() {
    let cluster = Cluster::small();
    let author = cluster.author();
    let tenant = tercet_core::ids::TenantId::new("raced").unwrap();
    let honest = Author { tenant: tenant.clone(), ..author.clone() };
    let thief = Author { key: SigningKey::from_seed(&[66; 32]), ..honest.clone() };
    // gcp pretends to know another key of the tenant, so it accepts and votes for what the tenant
    // never signed.
    let put = |cloud: &str, key: &SigningKey| {
        let tenant = json!({ "id": "raced", "secret": "07".repeat(32), "confirm": "auto", "keys": [key.public()],
            "unsigned": false, "max_pending": 1000 });
        let url = format!("{}/v1/tenants/raced", cluster.leader_url(cloud));
        cluster.api().request("PUT", &url).json(&tenant).send().ok();
    };
    put("aws", &honest.key);
    put("azure", &honest.key);
    put("gcp", &thief.key);
    let events = |cloud: &str| format!("{}/v1/tenants/raced/events", cluster.leader_url(cloud));
    let stolen = cluster.api().post(&events("gcp")).json(&thief.plain("raced-1", &json!("stolen"))).send().ok();
    assert_eq!(stolen["new"], true);
    let genuine = honest.plain("raced-1", &json!("genuine"));
    let receipt = cluster.api().post(&events("aws")).json(&genuine).send().ok();
    for cloud in HONEST {
        let event = eventually(&format!("the genuine content is FINAL at {cloud}"), LIMIT, || {
            let reply = cluster.api().get(&format!("{}/raced-1", events(cloud))).try_send()?;
            check(reply.status == 200, || reply.text())?;
            let event = reply.json();
            let level = event["level"].as_str().unwrap_or_default();
            check(level == "FINAL" || level == "SEALED", || event.to_string())?;
            Ok(event)
        });
        assert_eq!(event["contentHash"], receipt["contentHash"], "{event}");
        assert_eq!(event["marks"]["review"], false, "{event}");
    }
    let alone = cluster.api().post(&events("gcp")).json(&thief.plain("raced-2", &json!("stolen"))).send().ok();
    assert_eq!(alone["level"], "PENDING");
    let waited = cluster.api().get(&format!("{}/raced-2?wait=final&timeoutMs=3000", events("gcp"))).send().ok();
    assert_eq!(waited["level"], "PENDING", "no other cloud follows: {waited}");
    // The id is still the tenant's own.
    let later = cluster.api().post(&format!("{}?wait=final&timeoutMs=10000", events("azure")));
    let later = later.json(&honest.plain("raced-2", &json!("genuine"))).send().ok();
    assert!(later["level"] == "FINAL" || later["level"] == "SEALED", "{later}");
}

// ---- files ----

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    std::fs::set_permissions(to, std::fs::metadata(from).unwrap().permissions()).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}

/// Two addresses beside a given one that the system says are free.
fn free_addresses(beside: SocketAddr) -> [SocketAddr; 2] {
    let listeners = [0, 1].map(|_| TcpListener::bind((beside.ip(), 0)).expect("a free port"));
    listeners.map(|listener| listener.local_addr().expect("a bound socket has an address"))
}
