use super::*;
use crate::port::{Answer, Event as Submitted, Port, tenant_of};
use crate::sim::cluster::Timers;
use crate::sim::port::SimPort;
use crate::sim::trace::Trace;
use tercet_core::tenants::Confirm;
use tercetd::raft::Retention;

async fn formed() -> (Cluster, Arc<SimPort>) {
    let (heartbeat, election_min) = (Duration::from_millis(300), Duration::from_millis(1500));
    let sync = (Duration::from_micros(200), Duration::from_micros(1500));
    let timers =
        Timers { heartbeat, election_min, election_max: election_min * 2, retention: Retention::default(), sync };
    let cluster = Cluster::new(1, timers, Trace::new(None, false));
    for seat in cluster.seats() {
        cluster.start(&seat).await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(10)).await;
    let port = SimPort::new(cluster.clone());
    for cloud in CLOUDS {
        port.put_tenants(cloud).await.unwrap();
    }
    (cluster, port)
}

fn event(id: &str) -> Event {
    (TenantId::new(tenant_of(Confirm::Auto)).unwrap(), EventKey::new("", id).unwrap())
}

fn violated(recorder: &Recorder) -> usize {
    recorder.count(|what| matches!(what, What::Violated { .. }))
}

#[tokio::test(start_paused = true)]
async fn what_happened_before_a_replica_was_followed_is_known() {
    let (cluster, port) = formed().await;
    let submitted = Submitted { confirm: Confirm::Auto, id: "early".into(), payload: "content".into() };
    assert!(matches!(port.submit("aws", &submitted).await, Answer::Acknowledged { .. }));
    tokio::time::sleep(Duration::from_secs(10)).await;
    let recorder = Arc::new(Recorder::default());
    let monitor = Monitor::start(cluster, recorder.clone(), &[]);
    tokio::time::sleep(LOOK * 2).await;
    for cloud in CLOUDS {
        let inner = monitor.inner();
        let standing = inner.standings.get(&(cloud.to_owned(), event("early")));
        assert_eq!(standing.map(|standing| standing.level), Some(Level::Sealed), "at {cloud}");
    }
    monitor.finish().await;
    assert_eq!(violated(&recorder), 0);
    assert_eq!(monitor.checks(), Checks { always: 1, on_change: 0, at_rest: 3, when_quiet: 1 });
}

#[tokio::test(start_paused = true)]
async fn a_level_that_falls_in_the_log_is_a_violation_and_a_lagging_replica_is_none() {
    let (cluster, _) = formed().await;
    let recorder = Arc::new(Recorder::default());
    let monitor = Monitor::start(cluster, recorder.clone(), &[]);
    let (seats, group) = (["aws-1".to_owned(), "aws-2".to_owned()], "aws".to_owned());
    monitor.look_at_level(&seats[0], &group, &event("e"), Level::Final, 70);
    monitor.look_at_level(&seats[1], &group, &event("e"), Level::Pending, 60);
    assert_eq!(violated(&recorder), 0);
    monitor.look_at_level(&seats[1], &group, &event("e"), Level::Pending, 80);
    assert_eq!(violated(&recorder), 1);
    // A cloud that lost its log begins to count anew.
    monitor.forget("aws");
    monitor.look_at_level(&seats[1], &group, &event("e"), Level::Pending, 80);
    assert_eq!(violated(&recorder), 1);
}

#[tokio::test(start_paused = true)]
async fn a_run_in_which_nothing_was_evaluated_is_a_violation() {
    let (cluster, _) = formed().await;
    let recorder = Arc::new(Recorder::default());
    let monitor = Monitor::start(cluster.clone(), recorder.clone(), &[]);
    cluster.seats().iter().for_each(|seat| cluster.kill(seat));
    tokio::time::sleep(Duration::from_secs(120)).await;
    monitor.finish().await;
    assert_eq!(violated(&recorder), 1);
}
