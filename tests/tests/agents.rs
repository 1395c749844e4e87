//! Agents beside real container engines: one owner at a time, through kills and through a planned
//! handover that no client notices.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tercet_tests::cluster::CLOUDS;
use tercet_tests::process::Process;
use tercet_tests::proxy::Proxy;
use tercet_tests::wait::check;
use tercet_tests::{Cli, Cluster, Engine, engine, eventually};

const LIMIT: Duration = Duration::from_secs(90);
const LEASE: Duration = Duration::from_secs(4);

struct Agents {
    cluster: Cluster,
    engines: [Engine; 3],
    agents: Vec<Option<Process>>,
    ports: Vec<u16>,
    /// Where each agent answers leader-only requests.
    listen: Vec<u16>,
    /// Each agent's network.
    links: Vec<Vec<Proxy>>,
    record: Record,
}

/// Which container answered which token, at every moment from the start.
struct Record {
    stop: Arc<AtomicBool>,
    probes: Vec<JoinHandle<Vec<Answer>>>,
}

struct Answer {
    asked: Instant,
    answered: Instant,
    token: u64,
    text: String,
}

impl Record {
    fn start(ports: &[u16]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let probe = |port: &u16| {
            let (port, stop) = (*port, stop.clone());
            std::thread::spawn(move || {
                let mut answers = Vec::new();
                while !stop.load(Ordering::SeqCst) {
                    let asked = Instant::now();
                    let text = get(port);
                    let answered = Instant::now();
                    if let Ok(text) = text
                        && let Some(token) = text.split(' ').nth(1).and_then(|token| token.parse().ok())
                    {
                        answers.push(Answer { asked, answered, token, text });
                    }
                    std::thread::sleep(Duration::from_millis(10));
                }
                answers
            })
        };
        let probes = ports.iter().map(probe).collect();
        Self { stop, probes }
    }

    /// Whoever was asked after somebody answered with a higher token did not act any more.
    fn one_owner_at_every_moment(self) {
        self.stop.store(true, Ordering::SeqCst);
        let mut answers: Vec<Answer> = self.probes.into_iter().flat_map(|probe| probe.join().unwrap()).collect();
        answers.sort_by_key(|answer| answer.answered);
        let mut by_asked: Vec<&Answer> = answers.iter().collect();
        by_asked.sort_by_key(|answer| answer.asked);
        let (mut highest, mut before) = (None::<&Answer>, answers.iter().peekable());
        for answer in by_asked {
            while let Some(earlier) = before.next_if(|earlier| earlier.answered < answer.asked) {
                highest = highest.into_iter().chain([earlier]).max_by_key(|answer| answer.token);
            }
            if let Some(highest) = highest.filter(|highest| highest.token > answer.token) {
                let late = answer.asked - highest.answered;
                panic!("{:?} acted {late:?} after {:?}", answer.text, highest.text);
            }
        }
        eprintln!("{} answers, one owner at every moment", answers.len());
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port()
}

impl Agents {
    fn start(standby: &str) -> Option<Self> {
        let engines = Engine::some::<3>()?;
        let cluster = Cluster::large();
        let cli = cluster.cli();
        cli.json(&["role", "create", "primary", "--scope", "global", "--lease", "4s"]);
        let free = || (0..3).map(|_| free_port()).collect();
        let (ports, listen): (Vec<u16>, Vec<u16>) = (free(), free());
        let links = (0..3).map(|at| links(&cluster, at)).collect();
        let record = Record::start(&ports);
        let mut this = Self { cluster, engines, agents: (0..3).map(|_| None).collect(), ports, listen, links, record };
        for at in 0..3 {
            cli.json(&["agent", "create", &name(at), "--stale", "20s"]);
            let config = format!(
                "id = {:?}\nengine = {:?}\nstate_dir = \"state-{at}\"\nreport_every = \"500ms\"\n\
                 listen = \"127.0.0.1:{}\"\n\
                 [[role]]\nname = \"primary\"\ndrain = \"4s\"\n\
                 [role.container]\nname = \"web\"\nimage = {:?}\nnetwork = \"host\"\nstandby = {standby:?}\n\
                 env = [\"ADDRESS=127.0.0.1:{}\", \"NAME={}\"]\n",
                name(at),
                this.engines[at].socket(),
                this.listen[at],
                engine::IMAGE,
                this.ports[at],
                name(at)
            );
            std::fs::write(this.config(at), config).unwrap();
            this.run(at);
        }
        Some(this)
    }

    fn config(&self, at: usize) -> std::path::PathBuf {
        self.cluster.scratch().join(format!("agent-{at}.toml"))
    }

    fn run(&mut self, at: usize) {
        let config = self.config(at);
        let cli = Cli::with_context(context(&self.cluster, at));
        self.agents[at] = Some(cli.start(&["agent", "run", config.to_str().unwrap()]));
    }

    /// The agent that holds the role, its token, and that its container answers with it.
    fn settled(&self) -> (usize, u64) {
        self.settled_after(0)
    }

    /// The same with a higher token than this.
    fn settled_after(&self, before: u64) -> (usize, u64) {
        let mut found = (0, 0);
        eventually("one agent holds the role and its container serves", LIMIT, || {
            let shown = self.cluster.cli().json(&["role", "show", "primary"]);
            let holder = (0..3).find(|at| shown["holderIdentity"] == name(*at).as_str());
            let (holder, token) = holder.zip(shown["fencingToken"].as_u64()).ok_or_else(|| shown.to_string())?;
            check(token > before, || format!("still token {token}"))?;
            let answer = get(self.ports[holder])?;
            found = (holder, token);
            check(answer == format!("{} {token}", name(holder)), || format!("{answer:?}, {}", self.outputs()))
        });
        found
    }

    /// A request to an agent itself: status and body.
    fn ask(&self, at: usize, method: &str, path: &str, body: &str) -> (u16, String) {
        let token = std::fs::read_to_string(self.cluster.data_dir().join("admin.token")).unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            token.trim(),
            body.len()
        );
        let answer = exchange(self.listen[at], &head).expect("the agent answers");
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        (status, answer.split_once("\r\n\r\n").map_or_else(String::new, |(_, body)| body.to_owned()))
    }

    fn outputs(&self) -> String {
        self.agents.iter().flatten().map(Process::output).collect::<Vec<_>>().join("\n--\n")
    }

    fn kill(&mut self, at: usize) {
        let agent = self.agents[at].take().expect("it runs");
        kill(Pid::from_raw(agent.pid()), Signal::SIGKILL).unwrap();
    }

    fn history(&self) -> Vec<Value> {
        let history = self.cluster.cli().json(&["role", "history", "primary", "--limit", "1000"]);
        assert!(!history.to_string().contains("split-brain"), "{history}");
        let changes = history["changes"].as_array().expect("a list").iter().rev();
        changes.filter_map(|change| change["what"].get("acquired").cloned()).collect()
    }
}

/// Writes a context that leads to every node through a link of its own.
fn links(cluster: &Cluster, at: usize) -> Vec<Proxy> {
    let mut text = std::fs::read_to_string(cluster.data_dir().join("context.toml")).unwrap();
    let mut links = Vec::new();
    for node in CLOUDS.iter().flat_map(|cloud| cluster.nodes(cloud)) {
        let url = cluster.url(&node);
        let link = Proxy::start(url.strip_prefix("https://").unwrap().parse().unwrap(), false);
        text = text.replace(&url, &format!("https://{}", link.address));
        links.push(link);
    }
    std::fs::write(context(cluster, at), text).unwrap();
    links
}

fn context(cluster: &Cluster, at: usize) -> PathBuf {
    cluster.data_dir().join(format!("context-{at}.toml"))
}

fn name(at: usize) -> String {
    format!("web-{at}")
}

/// The body of one request on a connection of its own.
fn get(port: u16) -> Result<String, String> {
    let answer = exchange(port, "GET / HTTP/1.1\r\nhost: x\r\n\r\n")?;
    answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).ok_or_else(|| format!("half an answer: {answer:?}"))
}

fn exchange(port: u16, request: &str) -> Result<String, String> {
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2)).map_err(|e| e.to_string())?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).map_err(|e| e.to_string())?;
    stream.write_all(request.as_bytes()).map_err(|e| e.to_string())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(|e| e.to_string())?;
    Ok(answer)
}

#[test]
fn the_container_follows_the_role_when_the_leading_agent_or_a_cloud_is_killed_or_its_network_goes_silent() {
    let Some(mut agents) = Agents::start("cold") else { return };
    let (first, token) = agents.settled();
    for at in (0..3).filter(|at| *at != first) {
        assert!(agents.engines[at].running().is_empty(), "{} runs a container without the role", name(at));
    }
    only_the_leader_deploys(&agents, first, token);
    let killed = Instant::now();
    agents.kill(first);
    let (second, next) = agents.settled_after(token);
    eprintln!("served again {:.2} s after the kill, with a lease of {LEASE:?}", killed.elapsed().as_secs_f64());
    assert!(second != first && next > token, "{first} with {token}, then {second} with {next}");
    eventually("the killed agent's container has been stopped by its watchdog", LIMIT, || {
        check(agents.engines[first].running().is_empty(), || "it runs".into())
    });

    // The role stays where it is when a cloud is gone, and moves when its container's agent goes as well.
    agents.cluster.kill_cloud("aws");
    agents.run(first);
    assert_eq!(agents.settled(), (second, next), "{}", agents.outputs());
    agents.kill(second);
    let (third, last) = agents.settled_after(next);
    assert!(third != second && last > next, "{second} with {next}, then {third} with {last}");

    // A container that ends by itself is started again.
    agents.engines[third].docker(&["kill", "web"]).unwrap();
    assert_eq!(agents.settled(), (third, last));

    // Who hears nothing any more stops in time, and takes part again when it does.
    agents.run(second);
    let silent = Instant::now();
    agents.links[third].iter().for_each(Proxy::silence);
    let (fourth, newest) = agents.settled_after(last);
    eprintln!("served again {:.2} s after the network went silent", silent.elapsed().as_secs_f64());
    assert!(fourth != third && newest > last, "{third} with {last}, then {fourth} with {newest}");
    assert!(agents.engines[third].running().is_empty(), "the container outlived its role");
    agents.links[third].iter().for_each(Proxy::heal);
    agents.kill(fourth);
    agents.kill((0..3).find(|at| ![third, fourth].contains(at)).unwrap());
    let (back, highest) = agents.settled_after(newest);
    assert_eq!(back, third);

    let tokens: Vec<u64> = agents.history().iter().filter_map(|acquired| acquired["token"].as_u64()).collect();
    assert!(tokens.windows(2).all(|pair| pair[0] < pair[1]) && tokens.len() == 5, "{tokens:?}");
    assert_eq!(tokens.last(), Some(&highest));
    agents.record.one_owner_at_every_moment();
}

fn only_the_leader_deploys(agents: &Agents, leader: usize, token: u64) {
    let deploy = |at: usize, image: &str| {
        agents.ask(at, "POST", "/deploy", &format!("{{\"role\": \"primary\", \"image\": {image:?}}}"))
    };
    let (status, refused) = deploy((leader + 1) % 3, engine::IMAGE);
    assert_eq!(status, 421, "{refused}");
    assert!(refused.contains("not_leader") && refused.contains(&name(leader)), "{refused}");
    assert_eq!(deploy(leader, "web; rm -rf /").0, 400);
    assert_eq!(agents.ask(leader, "GET", "/leader/primary", "").0, 200);
    agents.engines[leader].docker(&["tag", engine::IMAGE, "tercet-test:2"]).unwrap();
    let (status, deployed) = deploy(leader, "tercet-test:2");
    assert_eq!(status, 200, "{deployed}");
    assert_eq!(agents.settled(), (leader, token), "the role stays where it is");
    let image = agents.engines[leader].docker(&["inspect", "-f", "{{.Config.Image}}", "web"]).unwrap();
    assert_eq!(image.trim(), "tercet-test:2");
}

#[test]
fn a_planned_handover_under_load_fails_no_request() {
    let Some(agents) = Agents::start("cold") else { return };
    let (first, _) = agents.settled();
    let target = Arc::new(AtomicUsize::new(first));
    let stop = Arc::new(AtomicBool::new(false));
    let ports = agents.ports.clone();
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (target, stop, ports) = (target.clone(), stop.clone(), ports.clone());
            std::thread::spawn(move || {
                let (mut served, mut failed) = (vec![0u32; 3], Vec::new());
                let begun = Instant::now();
                for request in 0u32.. {
                    if stop.load(Ordering::SeqCst) {
                        break;
                    }
                    let at = target.load(Ordering::SeqCst);
                    match get(ports[at]) {
                        Ok(_) => served[at] += 1,
                        Err(why) => failed.push(format!("{}: {why}", name(at))),
                    }
                    // 50 a second each: the next one at its time, however long this one took.
                    std::thread::sleep(
                        (begun + Duration::from_millis(20) * (request + 1)).saturating_duration_since(Instant::now()),
                    );
                }
                (served, failed)
            })
        })
        .collect();
    let handovers = 3;
    let mut now = first;
    for _ in 0..handovers {
        let to = (now + 1) % 3;
        eventually("the successor is ready", LIMIT, || {
            let listed = agents.cluster.cli().json(&["agent", "list"]);
            let ready = listed["agents"].as_array().is_some_and(|all| {
                all.iter().any(|agent| agent["agent"] == name(to).as_str() && agent["standing"][0]["ready"] == true)
            });
            check(ready, || listed.to_string())
        });
        let moved = agents.cluster.cli().json(&["role", "handover", "primary", "--to", &name(to)]);
        assert_eq!(moved["to"], name(to).as_str());
        // What a router does: it follows once the new one serves.
        let (holder, _) = agents.settled();
        assert_eq!(holder, to);
        target.store(to, Ordering::SeqCst);
        now = to;
        eventually("the old container has drained and ended", LIMIT, || {
            let before = (to + 2) % 3;
            check(agents.engines[before].running().is_empty(), || format!("{} still runs", name(before)))
        });
    }
    stop.store(true, Ordering::SeqCst);
    let mut served = [0; 3];
    for client in clients {
        let (of, failed) = client.join().unwrap();
        assert!(failed.is_empty(), "{failed:?}\n{}", agents.outputs());
        (0..3).for_each(|at| served[at] += of[at]);
    }
    eprintln!("{handovers} handovers, requests served by each: {served:?}, none failed");
    assert!(served.iter().all(|count| *count > 0));
    let because: Vec<_> = agents.history().iter().map(|acquired| acquired["because"].clone()).collect();
    assert_eq!(because, ["first", "released", "released", "released"]);
}
