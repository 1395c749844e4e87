//! Runs the readable scenario scripts in `tests/scenarios/`: three clouds, what is sent between
//! them, and what each of them then knows. `UPDATE_GOLDENFILES=1` rewrites the expected output.

mod clouds;

use clouds::{Clouds, NAMES, id};
use goldenscript::Command;
use std::error::Error;
use std::fmt::Write as _;
use tercet_core::certificate::Certificate;
use tercet_core::ids::{EventKey, TenantId};
use tercet_core::transparency::Verdict;

#[derive(Default)]
struct Script(Clouds);

impl goldenscript::Runner for Script {
    fn run(&mut self, command: &Command) -> Result<String, Box<dyn Error>> {
        let mut args = command.consume_args();
        let mut next = |what: &str| {
            let argument = args.next_pos().ok_or(format!("{} needs {what}", command.name));
            argument.map(|argument| argument.value.clone())
        };
        let clouds = &mut self.0;
        let mut out = String::new();
        match command.name.as_str() {
            // submit CLOUD EVENT PAYLOAD: a client submits at a cloud.
            "submit" => {
                let (cloud, event, payload) = (next("a cloud")?, next("an event")?, next("a payload")?);
                match clouds.submit(&cloud, tenant(command), &event, &payload) {
                    Ok(receipt) => writeln!(out, "{}", if receipt.new { "new" } else { "existing" })?,
                    Err(rejection) => writeln!(out, "{}", rejection.code().as_str())?,
                }
            }
            // confirm|reject CLOUD EVENT PAYLOAD: an operator decides.
            "confirm" | "reject" => {
                let verdict = if command.name == "confirm" { Verdict::Confirm } else { Verdict::RejectOperator };
                let (cloud, event, payload) = (next("a cloud")?, next("an event")?, next("a payload")?);
                match clouds.decide(&cloud, &event, &payload, verdict) {
                    Ok(_) => writeln!(out, "done")?,
                    Err(rejection) => writeln!(out, "{}", rejection.code().as_str())?,
                }
            }
            // log CLOUD TO [via=CLOUD]: sends one log, as far as its note reaches.
            "log" => {
                let (log, to) = (next("a log")?, next("a receiver")?);
                let via = command.args.iter().find(|arg| arg.key.as_deref() == Some("via"));
                let via = via.map_or(log.clone(), |via| via.value.clone());
                writeln!(out, "{:?}", clouds.send_log(&id(&log), &via, &to))?;
            }
            // send FROM TO: everything that one has, once.
            "send" => {
                let (from, to) = (next("a sender")?, next("a receiver")?);
                clouds.send(&from, &to);
            }
            // exchange CLOUD...: these talk until nobody has news.
            "exchange" => {
                let labels: Vec<String> = args.rest_pos().iter().map(|arg| arg.value.clone()).collect();
                clouds.exchange(&labels.iter().map(String::as_str).collect::<Vec<_>>());
            }
            // show EVENT [CLOUD...]: level, marks and votes.
            "show" => {
                let event = next("an event")?;
                let labels: Vec<String> = args.rest_pos().iter().map(|arg| arg.value.clone()).collect();
                let labels = if labels.is_empty() { NAMES.map(String::from).to_vec() } else { labels };
                for label in labels {
                    writeln!(out, "{label}: {}", clouds.show(&label, tenant(command), &event))?;
                }
            }
            // heads: every cloud's view of every log.
            "heads" => {
                for (label, (_, state)) in &clouds.clouds {
                    for log in NAMES.map(id) {
                        let Some(head) = state.head(&log) else { continue };
                        let by: Vec<String> = NAMES.iter().map(|by| state.audited(&log, &id(by)).to_string()).collect();
                        let flag = if state.is_flagged(&log) { " FLAGGED" } else { "" };
                        let epoch = state.opening(&log).map_or(0, |opening| opening.number);
                        writeln!(
                            out,
                            "{label} holds {log} epoch {epoch} size {} (audited {}){flag}",
                            head.size,
                            by.join("/")
                        )?;
                    }
                }
            }
            // certificate CLOUD EVENT: builds it there, and verifies it from its bytes alone.
            "certificate" => {
                let (cloud, event) = (next("a cloud")?, next("an event")?);
                let note = clouds.note(&cloud).ok_or("no note")?;
                let (entry, state) = &clouds.clouds[&cloud];
                let key = EventKey::new("", event)?;
                match state.certificate(&entry.records, &note, &TenantId::new(tenant(command))?, &key)? {
                    None => writeln!(out, "none")?,
                    Some(certificate) => {
                        let verified = Certificate::verify(&certificate.bytes(), &clouds.trust())?;
                        writeln!(
                            out,
                            "{:?} by {:?}, audited by {:?}",
                            verified.level, verified.voters, verified.auditors
                        )?;
                    }
                }
            }
            // evidence CLOUD: what it can prove, each verified from its bytes alone.
            "evidence" => {
                let (cloud, state) = &clouds.clouds[&next("a cloud")?];
                for proof in state.evidence(&cloud.records)? {
                    proof.verify(&clouds.genesis, &clouds.openings)?;
                    let lie = format!("{:?}", proof.lie);
                    let kind = lie.split('(').next().unwrap_or_default();
                    writeln!(out, "{} lied: {kind}", proof.cloud)?;
                }
            }
            // prove FROM TO: they compare what a third cloud showed them; TO takes the proof of a fork.
            "prove" => {
                let (from, to) = (next("one cloud")?, next("another")?);
                clouds.investigate(&from, &to);
            }
            // testify FROM TO: TO asks what convicted clouds told FROM.
            "testify" => {
                let (from, to) = (next("who is asked")?, next("who asks")?);
                clouds.send_testimony(&from, &to);
            }
            // twin CLOUD: a second copy with the same keys, named with -twin.
            "twin" => clouds.twin(&next("a cloud")?),
            // lose CLOUD: all its state and keys; it comes back, with a new epoch not open yet.
            "lose" => clouds.lose(&next("a cloud")?),
            // rotate CLOUD: it opens a new epoch with fresh keys and loses nothing.
            "rotate" => clouds.rotate(&next("a cloud")?),
            // reopen CLOUD: the lost cloud opens its new epoch.
            "reopen" => clouds.reopen(&next("a cloud")?),
            // introduce CLOUD: it learns every epoch there is.
            "introduce" => clouds.introduce_all(&next("a cloud")?),
            other => return Err(format!("unknown command {other}").into()),
        }
        Ok(out)
    }
}

fn tenant(command: &Command) -> &str {
    command.prefix.as_deref().unwrap_or("shop")
}

macro_rules! scenarios {
    ($($name:ident),* $(,)?) => {
        $(#[test]
        fn $name() {
            let path = concat!("tests/scenarios/", stringify!($name), ".script");
            goldenscript::run(&mut Script::default(), path).expect("the scenario runs as written");
        })*

        #[test]
        fn every_script_is_run() {
            let listed = [$(concat!(stringify!($name), ".script")),*];
            for entry in std::fs::read_dir("tests/scenarios").expect("the folder exists") {
                let name = entry.expect("readable").file_name().into_string().expect("UTF-8");
                assert!(listed.contains(&name.as_str()), "{name} is not listed in scenarios.rs");
            }
        }
    };
}

scenarios!(
    an_event_becomes_final_and_sealed,
    a_cloud_is_down,
    two_clouds_are_cut_and_the_third_relays,
    the_same_id_with_other_content,
    the_same_content_at_two_clouds,
    operators_confirm_and_reject,
    three_different_votes_are_quarantined,
    a_cloud_votes_twice,
    a_cloud_forks_its_log,
    a_fork_goes_on_while_it_is_proven,
    a_fork_is_proven_before_it_is_audited,
    a_cloud_is_restored_from_an_old_copy,
    a_lost_cloud_comes_back,
    a_lost_cloud_hears_the_closings_first,
    a_lost_cloud_is_known_better_by_one,
    a_cloud_loses_its_state_twice,
    a_cloud_loses_its_state_before_anybody_hears_of_its_new_epoch,
    a_renewed_cloud_answers_again,
    a_cloud_says_less_to_each_than_to_the_other,
);
