use super::*;
use crate::env::memory::MemoryNetwork;
use std::time::Duration;
use tokio::sync::Semaphore;

fn node(name: &str) -> NodeId {
    NodeId::new(name).expect("a valid name")
}

fn echo() -> Handler {
    Arc::new(|_, request| Box::pin(async move { Ok(request) }))
}

/// Never answers, and counts what it was asked.
fn never() -> (Handler, Arc<Semaphore>) {
    let asked = Arc::new(Semaphore::new(0));
    let count = asked.clone();
    let handler: Handler = Arc::new(move |_, _| {
        count.add_permits(1);
        Box::pin(std::future::pending())
    });
    (handler, asked)
}

async fn times(asked: &Semaphore, n: usize) {
    asked.acquire_many(n as u32).await.expect("open").forget();
}

fn no_streams() -> StreamHandler {
    Arc::new(|_| Box::pin(async {}))
}

fn serve(network: &MemoryNetwork, name: &str, methods: Vec<(Method, Handler)>) -> PeerServer {
    PeerServer::start(
        network.env(node(name), 1),
        Arc::new(|peer| peer.as_str().starts_with("gcp")),
        methods,
        no_streams(),
    )
}

#[tokio::test]
async fn pipelined_requests_get_their_own_answers() {
    let network = MemoryNetwork::new();
    let slow_first: Handler = Arc::new(|_, request: Bytes| {
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(u64::from(100 - request[0]))).await;
            Ok(request)
        })
    });
    let _server = serve(&network, "gcp-1", vec![(Method::Sign, slow_first)]);
    let client = PeerClient::new(network.env(node("gcp-2"), 1));
    let to = node("gcp-1");
    let calls = (0..50u8).map(|n| {
        let (client, to) = (client.clone(), to.clone());
        async move { client.call(&to, Method::Sign, Bytes::from(vec![n])).await.map(|answer| (n, answer[0])) }
    });
    for answer in futures::future::join_all(calls).await {
        let (sent, got) = answer.expect("answered");
        assert_eq!(sent, got);
    }
}

#[tokio::test]
async fn a_cut_link_fails_waiting_calls_at_once_and_heals() {
    let network = MemoryNetwork::new();
    let (never, asked) = never();
    let _server = serve(&network, "gcp-1", vec![(Method::Sign, never), (Method::Propose, echo())]);
    let client = PeerClient::new(network.env(node("gcp-2"), 1));
    let to = node("gcp-1");
    let waiting = tokio::spawn({
        let (client, to) = (client.clone(), to.clone());
        async move { client.call(&to, Method::Sign, Bytes::new()).await }
    });
    times(&asked, 1).await;
    network.cut(&to, &node("gcp-2"));
    assert!(waiting.await.expect("no panic").is_err());
    assert!(client.call(&to, Method::Propose, Bytes::new()).await.is_err());
    network.heal(&to, &node("gcp-2"));
    while client.call(&to, Method::Propose, Bytes::from_static(b"again")).await.is_err() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn nodes_of_other_clouds_have_no_inner_service() {
    let network = MemoryNetwork::new();
    let _server = serve(&network, "gcp-1", vec![(Method::Propose, echo())]);
    let client = PeerClient::new(network.env(node("aws-1"), 1));
    assert!(client.call(&node("gcp-1"), Method::Propose, Bytes::new()).await.is_err());
}

#[tokio::test]
async fn a_handler_error_reaches_its_caller_and_only_it() {
    let network = MemoryNetwork::new();
    let refusing: Handler = Arc::new(|_, _| Box::pin(async { Err("not the leader".to_owned()) }));
    let _server = serve(&network, "gcp-1", vec![(Method::Propose, refusing), (Method::Sign, echo())]);
    let client = PeerClient::new(network.env(node("gcp-2"), 1));
    let refused = client.call(&node("gcp-1"), Method::Propose, Bytes::new()).await.expect_err("refused");
    assert!(refused.to_string().contains("not the leader"));
    assert!(client.call(&node("gcp-1"), Method::Sign, Bytes::new()).await.is_ok());
    let unknown = client.call(&node("gcp-1"), Method::RaftVote, Bytes::new()).await.expect_err("unknown");
    assert!(unknown.to_string().contains("does not know that method"));
}

#[tokio::test]
async fn too_many_waiting_requests_wait_and_do_not_hold_up_proposals() {
    let network = MemoryNetwork::new();
    let (never, asked) = never();
    let _server = serve(&network, "gcp-1", vec![(Method::Sign, never), (Method::Propose, echo())]);
    let client = PeerClient::new(network.env(node("gcp-2"), 1));
    let to = node("gcp-1");
    for _ in 0..2 * MAX_REQUESTS_IN_FLIGHT {
        let (client, to) = (client.clone(), to.clone());
        tokio::spawn(async move { client.call(&to, Method::Sign, Bytes::new()).await });
    }
    times(&asked, MAX_REQUESTS_IN_FLIGHT).await;
    assert!(client.call(&to, Method::Propose, Bytes::new()).await.is_ok());
}

#[tokio::test]
async fn a_dropped_server_breaks_its_connections() {
    let network = MemoryNetwork::new();
    let (never, asked) = never();
    let server = serve(&network, "gcp-1", vec![(Method::Propose, echo()), (Method::Sign, never)]);
    let client = PeerClient::new(network.env(node("gcp-2"), 1));
    let to = node("gcp-1");
    client.call(&to, Method::Propose, Bytes::new()).await.expect("served");
    let waiting = tokio::spawn({
        let (client, to) = (client.clone(), to.clone());
        async move { client.call(&to, Method::Sign, Bytes::new()).await }
    });
    times(&asked, 1).await;
    drop(server);
    assert!(waiting.await.expect("no panic").is_err());
}
