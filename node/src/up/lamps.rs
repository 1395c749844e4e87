//! Three lamps, one a cloud, for one event: on a terminal one line that changes in place, elsewhere
//! one line for each change.

use std::io::{IsTerminal, Write};
use std::time::Duration;
use tercet_core::events::Level;
use tercet_core::ids::CloudId;

/// What a cloud did about the event, as far as the asked node knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lamp {
    /// No vote known.
    Dark,
    Voted,
    /// Both other clouds audited the vote.
    Audited,
    Rejected,
}

impl Lamp {
    fn symbol(self) -> &'static str {
        match self {
            Self::Dark => "○",
            Self::Voted => "◐",
            Self::Audited => "●",
            Self::Rejected => "✗",
        }
    }

    fn colour(self) -> &'static str {
        match self {
            Self::Dark => "2",
            Self::Voted => "33",
            Self::Audited => "32",
            Self::Rejected => "31",
        }
    }
}

pub struct Lamps {
    event: String,
    terminal: bool,
    colour: bool,
    shown: Option<(Vec<(CloudId, Lamp)>, Level)>,
}

impl Lamps {
    pub fn new(event: &str) -> Self {
        let terminal = std::io::stdout().is_terminal();
        let colour = terminal && std::env::var_os("NO_COLOR").is_none();
        Self { event: event.to_owned(), terminal, colour, shown: None }
    }

    pub fn legend(&self) {
        say!("  ○ no vote yet   ◐ voted   ● voted, and audited by both other clouds");
    }

    /// Shows the lamps if they changed.
    pub fn show(&mut self, lamps: Vec<(CloudId, Lamp)>, level: Level, elapsed: Duration) {
        if self.shown.as_ref().is_some_and(|shown| *shown == (lamps.clone(), level)) {
            return;
        }
        let line = self.line(&lamps, level, elapsed);
        if self.terminal {
            let mut out = std::io::stdout();
            // A terminal that cannot be written to shows nothing, and that harms nobody.
            let _ = write!(out, "\r\x1b[2K{line}").and_then(|()| out.flush());
        } else {
            say!("{line}");
        }
        self.shown = Some((lamps, level));
    }

    /// Ends the line that changes in place.
    pub fn end(&self) {
        if self.terminal && self.shown.is_some() {
            say!();
        }
    }

    fn line(&self, lamps: &[(CloudId, Lamp)], level: Level, elapsed: Duration) -> String {
        let clouds: Vec<String> =
            lamps.iter().map(|(cloud, lamp)| format!("{} {cloud}", self.paint(lamp.symbol(), lamp.colour()))).collect();
        let (name, colour) = level_name(level);
        let millis = elapsed.as_millis();
        format!("  {}   {}   {:<11} {millis:>6} ms", self.event, clouds.join("   "), self.paint(name, colour))
    }

    fn paint(&self, text: &str, colour: &str) -> String {
        if self.colour { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

pub fn level_name(level: Level) -> (&'static str, &'static str) {
    match level {
        Level::Pending => ("PENDING", "33"),
        Level::Quarantined => ("QUARANTINED", "31"),
        Level::Final => ("FINAL", "32"),
        Level::Sealed => ("SEALED", "1;32"),
    }
}
