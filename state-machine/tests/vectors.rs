//! The published vectors of docs/vectors, made again in memory and compared with the files: so no
//! encoding changes unnoticed. `UPDATE_VECTORS=1 cargo test -p tercet-core --test vectors` rewrites
//! them, which is right only before anything was published under these bytes.

#![allow(clippy::disallowed_methods)] // A test may read and write files.

mod support;

use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use support::{Federation, Log, Scene, cloud, content, envelope, secret, seeded, vote};
use tercet_core::agents::{AgentSecret, Owned, Report, Standing};
use tercet_core::certificate::Certificate;
use tercet_core::content::{Content, Envelope, salted};
use tercet_core::epochs::Closing;
use tercet_core::evidence::{Evidence, Statement};
use tercet_core::ids::{EpochId, EventKey, Hash, HolderId, LeaseId, Tag, TenantId};
use tercet_core::leases::{Claim, Grant, Release, Scope};
use tercet_core::tenants::{TenantSignature, batch_message, single_message};
use tercet_core::time::WallMillis;
use tercet_core::transparency::{
    Frontier, Leaf, Open, Origin, Predecessor, SignedNote, Verdict, Vote, consistency_proof, inclusion_proof,
    leaf_hash, node_hash,
};
use tercet_core::wire::sha256;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/vectors")
}

fn text(value: &Value) -> String {
    serde_json::to_string_pretty(value).expect("JSON values print") + "\n"
}

fn to_hex(bytes: impl AsRef<[u8]>) -> String {
    hex::encode(bytes)
}

#[test]
fn the_published_vectors_are_what_this_build_writes() {
    let vectors = [
        ("trust.json", trust()),
        ("epochs.json", epochs()),
        ("contents.json", contents()),
        ("tenant-signatures.json", tenant_signatures()),
        ("leaves.json", leaves()),
        ("merkle.json", merkle()),
        ("notes.json", notes()),
        ("certificates.json", certificates()),
        ("evidence.json", evidence()),
        ("leases.json", leases()),
    ];
    for (name, value) in vectors {
        let (path, expected) = (folder().join(name), text(&value));
        if std::env::var_os("UPDATE_VECTORS").is_some() {
            std::fs::create_dir_all(folder()).expect("docs/vectors can be made");
            std::fs::write(&path, &expected).expect("a vector can be written");
        }
        let found = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        // Compared as values: the order of names in a JSON object says nothing.
        let found: Value = serde_json::from_str(&found).expect("a vector is JSON");
        assert_eq!(found, value, "{name} differs: an encoding changed");
    }
}

/// The independent verifier in Python knows only docs/PROTOCOL.md.
#[test]
fn the_independent_check_agrees_with_the_vectors() {
    if std::process::Command::new("python3").arg("--version").output().is_err() {
        eprintln!("skipped: python3 is not installed, so docs/vectors/check.py cannot run");
        return;
    }
    let run = std::process::Command::new("python3").arg(folder().join("check.py")).output();
    let run = run.expect("python3 starts, it just did");
    let (out, err) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "check.py refuses the vectors:\n{out}{err}");
    assert!(out.contains("certificate") && out.contains("evidence"), "check.py checked too little:\n{out}");
}

fn trust() -> Value {
    serde_json::to_value(scene().trust()).expect("a trust bundle is JSON")
}

fn scene() -> Scene {
    Scene::voted(Federation::new(), &["aws", "gcp"])
}

fn epochs() -> Value {
    let federation = Federation::new();
    let fed = federation.fed();
    let epochs = federation.openings.iter().map(|opening| {
        let origin = Origin::of(&fed, opening);
        let vkeys: Vec<_> = opening.keys.iter().map(|(node, key)| origin.vkey(node, key)).collect();
        json!({
            "opening": opening, "bytes": to_hex(opening.bytes(&fed)), "epoch": origin.epoch,
            "origin": origin.to_string(), "vkeys": vkeys,
        })
    });
    let epochs: Vec<_> = epochs.collect();
    json!({ "genesis": to_hex(federation.genesis.bytes()), "fedId": fed, "epochs": epochs })
}

fn contents() -> Value {
    let fed = Federation::new().fed();
    let plain = Content {
        tenant: TenantId::new("default").unwrap(),
        key: EventKey::new("", "hello").unwrap(),
        attributes: Vec::new(),
        content_type: "application/json".into(),
        payload: b"{}".to_vec(),
        supersedes: None,
    };
    let appeal = Content {
        key: EventKey::new("/bestellungen/\u{fc}ber", "a-2 \u{1f30d}").unwrap(),
        content_type: "application/octet-stream".into(),
        payload: vec![0, 255, 10],
        supersedes: Some(content("a-1").key),
        ..content("a-2")
    };
    let empty = Content { content_type: String::new(), payload: Vec::new(), ..plain.clone() };
    let cases = [
        (plain, envelope("aws")),
        (content("a-1"), envelope("gcp")),
        (appeal, last_envelope()),
        (empty, envelope("aws")),
    ];
    let cases: Vec<_> = cases.iter().map(|(content, envelope)| content_case(&fed, content, envelope)).collect();
    json!({ "fedId": fed, "tenantSecret": secret(), "cases": cases })
}

fn last_envelope() -> Envelope {
    Envelope { origin_cloud: cloud("azure"), logical_clock: u64::MAX, region: String::new(), created_at: WallMillis(0) }
}

fn content_case(fed: &tercet_core::ids::FedId, content: &Content, envelope: &Envelope) -> Value {
    content.check().expect("a valid content");
    let secret = secret();
    let content_hash = content.hash();
    let hash = envelope.hash(&content_hash);
    let (content_salt, envelope_salt) = (secret.content_salt(&content_hash), secret.envelope_salt(&hash));
    assert_eq!(secret.salted_content(&content_hash), salted(&content_hash, &content_salt));
    json!({
        "content": content, "contentHash": content_hash,
        "envelope": envelope, "hash": hash,
        "keySalt": secret.key_salt(&content.key), "tag": secret.tag(fed, &content.tenant, &content.key),
        "contentSalt": content_salt, "saltedContent": salted(&content_hash, &content_salt),
        "envelopeSalt": envelope_salt, "saltedEnvelope": salted(&hash, &envelope_salt),
    })
}

fn tenant_signatures() -> Value {
    let (fed, key) = (Federation::new().fed(), seeded("tenant"));
    let hashes: Vec<Hash> = (1..=5).map(|n| content(&format!("a-{n}")).hash()).collect();
    let single = TenantSignature::sign(&fed, &hashes[0], &key);
    single.verify(&fed, &hashes[0]).expect("a valid signature");

    let mut frontier = Frontier::default();
    let mut log = std::collections::BTreeMap::new();
    for hash in &hashes {
        frontier.append_to(leaf_hash(&hash.0), |level, at, hash| {
            log.insert((level, at), hash);
        });
    }
    let (nodes, size) = (Stored(log), hashes.len() as u64);
    let message = batch_message(&fed, size, &frontier.root());
    let signature = key.sign(&message);
    let items = (0..size).map(|index| {
        let path = inclusion_proof(&nodes, index, size).expect("every node is in memory");
        let item = TenantSignature::Batch { key: key.public(), signature, index, size, path };
        let content_hash = &hashes[index as usize];
        item.verify(&fed, content_hash).expect("a valid signature");
        json!({ "contentHash": content_hash, "tenantSignature": item })
    });
    let items: Vec<_> = items.collect();
    json!({
        "fedId": fed,
        "single": {
            "contentHash": hashes[0], "message": to_hex(single_message(&fed, &hashes[0])), "tenantSignature": single,
        },
        "batch": { "root": frontier.root(), "message": to_hex(message), "items": items },
    })
}

struct Stored(std::collections::BTreeMap<(u8, u64), Hash>);

impl tercet_core::transparency::Nodes for Stored {
    fn node(&self, level: u8, index: u64) -> Result<Hash, tercet_core::records::Broken> {
        self.0.get(&(level, index)).copied().ok_or_else(|| tercet_core::records::Broken("no such node".into()))
    }
}

fn leaves() -> Value {
    let fed = Federation::new().fed();
    let confirm = vote(&fed, &content("a-1"), &envelope("gcp"));
    let open = |predecessor| Open { opening: sha256(b"opening"), config: 0, config_hash: Hash(fed.0), predecessor };
    let leaves = [
        Leaf::Open(open(None)),
        Leaf::Open(open(Some(Predecessor { epoch: EpochId([1; 16]), size: 1 << 40, root: sha256(b"closed root") }))),
        Leaf::Vote(confirm.clone()),
        Leaf::Vote(Vote { verdict: Verdict::RejectOperator, ..confirm.clone() }),
        Leaf::Vote(Vote { config: u32::MAX, tag: Tag([0xff; 32]), ..confirm }),
        Leaf::Held { config: 0, tag: Tag([0x2a; 32]) },
    ];
    let leaves: Vec<_> = leaves
        .iter()
        .map(|leaf| json!({ "leaf": leaf, "bytes": to_hex(leaf.bytes()), "leafHash": leaf_hash(&leaf.bytes()) }))
        .collect();
    json!({ "leaves": leaves })
}

fn merkle() -> Value {
    const SIZE: u64 = 13;
    let mut frontier = Frontier::default();
    let mut nodes = Stored(std::collections::BTreeMap::new());
    let (mut roots, mut data) = (vec![frontier.root()], Vec::new());
    for index in 0..SIZE {
        let leaf = format!("leaf {index}");
        frontier.append_to(leaf_hash(leaf.as_bytes()), |level, at, hash| {
            nodes.0.insert((level, at), hash);
        });
        data.push(to_hex(leaf));
        roots.push(frontier.root());
    }
    assert_eq!(roots[2], node_hash(&leaf_hash(b"leaf 0"), &leaf_hash(b"leaf 1")));
    let inclusion = (0..SIZE).map(|index| inclusion_proof(&nodes, index, SIZE).expect("every node is in memory"));
    let inclusion: Vec<_> =
        inclusion.enumerate().map(|(index, path)| json!({ "index": index, "path": path })).collect();
    let consistency = (1..SIZE).map(|old| {
        let path = consistency_proof(&nodes, old, SIZE).expect("every node is in memory");
        json!({ "old": old, "path": path })
    });
    let consistency: Vec<_> = consistency.collect();
    json!({ "leaves": data, "roots": roots, "size": SIZE, "inclusion": inclusion, "consistency": consistency })
}

fn notes() -> Value {
    let scene = scene().all_audited();
    let mut closing = scene.note("gcp").body;
    let closed = [(EpochId([2; 16]), 12), (EpochId([1; 16]), 7)];
    closing.closings.extend(closed.map(|(epoch, size)| Closing {
        cloud: cloud("aws"),
        epoch,
        size,
        root: sha256(b"closed root"),
    }));
    let notes = [
        scene.note("gcp"),
        scene.federation.sign(closing),
        scene.federation.sign(Log::new(&scene.federation, "aws").body(vec![])),
    ];
    let case = |note: &SignedNote| {
        let fed = scene.federation.fed();
        note.verify(&fed, scene.federation.opening(note.body.origin.cloud.as_str())).expect("a valid note");
        json!({ "text": note.text(), "size": note.body.size, "root": note.body.root })
    };
    json!({ "notes": notes.iter().map(case).collect::<Vec<_>>() })
}

fn certificates() -> Value {
    let scenes = [scene().audit("aws", "gcp").audit("gcp", "aws"), scene().all_audited()];
    let cases = scenes.map(|scene| {
        let bytes = scene.certificate().expect("FINAL or SEALED").bytes();
        let verified = Certificate::verify(&bytes, &scene.trust()).expect("what is built verifies");
        json!({
            "bytes": to_hex(&bytes), "level": verified.level, "contentHash": verified.content_hash,
            "hash": verified.hash, "voters": verified.voters, "auditors": verified.auditors,
        })
    });
    json!({ "mediaType": tercet_core::certificate::MEDIA_TYPE, "certificates": cases })
}

fn leases() -> Value {
    let federation = Federation::new();
    let (fed, key) = (federation.fed(), seeded("session"));
    let claim = |lease: &str, token, renewal| Claim {
        tenant: TenantId::new("default").unwrap(),
        lease: LeaseId::new(lease).unwrap(),
        token,
        renewal,
        holder: HolderId::new("web-gcp").unwrap(),
        session: key.public(),
        duration_ms: 3_000,
    };
    let grant = |scope: &str, clouds: &[&str]| {
        let (claim, scope): (Claim, Scope) = (claim("primary", 7, 2), scope.parse().unwrap());
        let vote = |name: &&str| {
            let voted_at = WallMillis(1_700_000_000_000 + u64::from(name.as_bytes()[0]));
            federation.lease_vote(name, &claim, &scope, voted_at)
        };
        let grant = Grant { votes: clouds.iter().map(vote).collect(), claim: claim.clone(), scope: scope.clone() };
        let granted = grant.verify(&federation.genesis, &federation.openings).expect("a grant");
        let mut shown = serde_json::to_value(&granted).expect("plain values");
        shown["bytes"] = to_hex(grant.bytes()).into();
        shown["durationMs"] = claim.duration_ms.into();
        shown["text"] = grant.to_text().into();
        assert_eq!(Grant::decode(&grant.bytes()), Ok(grant));
        shown
    };
    let claims = [claim("primary", 7, 0), claim("primary", 7, 2)].map(|claim| {
        let signed = claim.sign(&fed, &key);
        let (bytes, claim) = (to_hex(signed.claim.message(&fed)), &signed.claim);
        json!({ "bytes": bytes, "token": claim.token, "session": claim.session, "signature": signed.signature })
    });
    let releases = [None, Some(HolderId::new("web-aws").unwrap())].map(|to| {
        let release = Release::sign(&fed, &claim("primary", 7, 2), to, &key);
        let Release { session, signature, to, .. } = &release;
        json!({ "bytes": to_hex(release.message(&fed)), "to": to, "session": session, "signature": signature })
    });
    let secret = AgentSecret(sha256(b"tercet test vector agent").0);
    let owned = |container: Option<&str>| Owned { token: 7, container: container.map(str::to_owned) };
    let standing = |lease: &str, owns| Standing { lease: LeaseId::new(lease).unwrap(), epoch: 4, ready: true, owns };
    let standing = vec![
        standing("cron", None),
        standing("hooks", Some(owned(None))),
        standing("primary", Some(owned(Some("3f1c0ffee")))),
    ];
    let report = Report {
        tenant: TenantId::new("default").unwrap(),
        agent: HolderId::new("web-gcp").unwrap(),
        boot: 3,
        sequence: 9,
        sent_at: WallMillis(1_700_000_000_000),
        standing,
        mac: Hash([0; 32]),
    };
    let report = report.sign(&fed, &secret);
    let reports = [json!({
        "bytes": to_hex(report.message(&fed)), "secret": to_hex(secret.0), "mac": report.mac, "report": report,
    })];
    json!({
        "claims": claims, "releases": releases, "reports": reports,
        "grants": [
            grant("global", &["aws", "gcp"]), grant("strict", &["aws", "azure", "gcp"]), grant("cloud:gcp", &["gcp"]),
        ],
    })
}

fn evidence() -> Value {
    let federation = Federation::new();
    let fed = federation.fed();
    let log = |payloads: &[&str]| {
        let mut log = Log::new(&federation, "gcp");
        for payload in payloads {
            let content = Content { payload: payload.as_bytes().to_vec(), ..content("a-1") };
            log.push(Leaf::Vote(vote(&fed, &content, &envelope("gcp"))));
        }
        log
    };
    let statement = |log: &Log, index: u64| Statement {
        note: federation.sign(log.body(Vec::new())),
        index,
        leaf: log.leaves[index as usize].clone(),
        proof: inclusion_proof(log, index, log.size()).expect("every node is in memory"),
    };
    let (both, one, other) = (log(&["1", "2"]), log(&["1"]), log(&["2"]));
    let lease_vote = |holder: &str| {
        let claim = Claim {
            tenant: TenantId::new("default").unwrap(),
            lease: LeaseId::new("primary").unwrap(),
            token: 7,
            renewal: 0,
            holder: HolderId::new(holder).unwrap(),
            session: seeded(&format!("session {holder}")).public(),
            duration_ms: 3_000,
        };
        federation.lease_vote("gcp", &claim, &Scope::Global, WallMillis(1_700_000_000_000))
    };
    let cases = [
        Evidence::double_vote(statement(&both, 1), statement(&both, 2)),
        Evidence::fork_at_size(federation.sign(one.body(Vec::new())), federation.sign(other.body(Vec::new()))),
        Evidence::fork_at_index(statement(&one, 1), statement(&other, 1)),
        Evidence::diverging_notes(
            federation.sign(one.body(vec![Log::new(&federation, "aws").audit()])),
            federation.sign(both.body(Vec::new())),
        ),
        Evidence::double_lease_vote(lease_vote("web-aws"), lease_vote("web-gcp")),
    ];
    let cases = cases.map(|evidence| {
        evidence.verify(&federation.genesis, &federation.openings).expect("a proven lie");
        let kind = evidence.kind();
        json!({ "kind": kind, "cloud": evidence.cloud, "id": evidence.id(), "bytes": to_hex(evidence.bytes()) })
    });
    json!({ "mediaType": tercet_core::evidence::MEDIA_TYPE, "evidence": cases })
}
