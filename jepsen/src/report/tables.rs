//! What is told in rows: verdicts, faults with their proof, lies with their proof, versions.

use super::Meta;
use super::chart::{brief, duration, escape};
use crate::checker::{Judged, Run};
use crate::history::{Record, What};

/// The most rows of a table, and the most letters of a cell.
const MAX_ROWS: usize = 500;
const MAX_LETTERS: usize = 600;

pub fn verdicts(body: &mut String, judged: &[Judged]) {
    body.push_str("<h2>Verdicts</h2>\n<div class=\"wide\"><table>");
    for Judged { invariant, verdict } in judged {
        let name = verdict.name();
        let why = verdict.why().map_or(String::new(), |why| format!("<small>{}</small>", brief(why, MAX_LETTERS)));
        let class = name.to_ascii_lowercase();
        *body += &format!("<tr><td class=\"tag {class}\">{name}</td><td>{}{why}</td></tr>", escape(invariant));
    }
    body.push_str("</table></div>\n");
}

pub fn faults(body: &mut String, run: &Run<'_>) {
    if run.faults.is_empty() {
        return;
    }
    body.push_str("<h2>Faults</h2>\n<div class=\"wide\"><table class=\"log\">");
    body.push_str("<tr><th>at</th><th>lasted</th><th>fault</th><th>on</th><th>what proves it</th></tr>");
    for fault in run.faults.iter().take(MAX_ROWS) {
        let began_ns = run.history[fault.began].time_ns;
        let lasted = fault.ended.map(|ended| duration(run.history[ended].time_ns - began_ns));
        let detail = match &run.history[fault.began].what {
            What::FaultBegan { detail, .. } if !detail.is_empty() => {
                format!("<small>{}</small>", brief(detail, MAX_LETTERS))
            }
            _ => String::new(),
        };
        let proof = fault.proven.and_then(|at| match &run.history[at].what {
            What::FaultProven { how, .. } => Some(brief(how, MAX_LETTERS)),
            _ => None,
        });
        *body += &format!(
            "<tr><td class=\"number\">{}</td><td class=\"number\">{}</td><td>{}{detail}</td><td>{}</td><td>{}</td></tr>",
            duration(began_ns),
            lasted.unwrap_or_else(|| "to the end".into()),
            escape(fault.name),
            brief(&fault.on.join(", "), MAX_LETTERS),
            proof.unwrap_or_else(|| "<b class=\"broken\">nothing</b>".into()),
        );
    }
    body.push_str("</table></div>\n");
    left_out(body, run.faults.len());
}

fn left_out(body: &mut String, rows: usize) {
    if rows > MAX_ROWS {
        *body += &format!("<p>{} more are in the history.</p>\n", rows - MAX_ROWS);
    }
}

pub fn lies(body: &mut String, run: &Run<'_>) {
    let lies: Vec<_> = run.history.iter().filter(|record| matches!(record.what, What::Lied { .. })).collect();
    if lies.is_empty() {
        return;
    }
    body.push_str("<h2>Lies</h2>\n<div class=\"wide\"><table class=\"log\">");
    body.push_str("<tr><th>at</th><th>cloud</th><th>lie</th><th>convicted by</th></tr>");
    let convictions = run.convictions();
    for record in lies.iter().take(MAX_ROWS) {
        let What::Lied { cloud: liar, lie, detectable } = &record.what else { continue };
        let judges: Vec<&str> =
            convictions.iter().filter(|((_, cloud), _)| cloud == liar).map(|((by, _), _)| *by).collect();
        let judged = match (judges.is_empty(), detectable) {
            (false, _) => escape(&judges.join(", ")),
            (true, true) => "<b class=\"broken\">nobody</b>".into(),
            (true, false) => "nobody; it cannot be proven".into(),
        };
        *body += &format!(
            "<tr><td class=\"number\">{}</td><td>{}</td><td>{}</td><td>{judged}</td></tr>",
            duration(record.time_ns),
            escape(liar),
            brief(lie, MAX_LETTERS)
        );
    }
    body.push_str("</table></div>\n");
    left_out(body, lies.len());
}

pub fn versions(body: &mut String, history: &[Record], meta: &Meta) {
    body.push_str("<h2>Versions</h2>\n<div class=\"wide\"><table>");
    let mut rows: Vec<(&str, String)> = Vec::new();
    if let Some(Record { what: What::Run { layer, seed, version, clouds, liars, .. }, .. }) = history.first() {
        rows.push(("layer", layer.clone()));
        rows.push(("seed", seed.to_string()));
        rows.push(("tercet", version.clone()));
        rows.push(("clouds", clouds.join(", ")));
        rows.push(("liars", if liars.is_empty() { "none".into() } else { liars.join(", ") }));
    }
    rows.extend(meta.versions.iter().map(|(name, version)| (name.as_str(), version.clone())));
    rows.push(("records", history.len().to_string()));
    for (name, value) in rows {
        *body += &format!("<tr><td>{}</td><td>{}</td></tr>", escape(name), brief(&value, MAX_LETTERS));
    }
    body.push_str("</table></div>\n");
}
