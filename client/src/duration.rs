//! Times as people write them: `500ms`, `30s`, `5m`, `1h`.

use serde::{Deserialize, Deserializer};
use std::time::Duration;

pub fn parse(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| "use a number and a unit, such as 500ms, 30s, 5m or 1h".to_owned())?;
    let millis = match unit {
        "ms" => 1,
        "s" | "" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(format!("unit {unit:?} is not known; use ms, s, m or h")),
    };
    number.checked_mul(millis).map(Duration::from_millis).ok_or_else(|| "that is too long".to_owned())
}

/// The same, and refuses shorter ones.
pub fn parse_at_least(text: &str, shortest: Duration) -> Result<Duration, String> {
    let duration = parse(text)?;
    if duration < shortest { Err(format!("use at least {shortest:?}")) } else { Ok(duration) }
}

pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit_or_are_seconds() {
        let millis = |text| parse(text).map(|duration| duration.as_millis());
        assert_eq!(millis("500ms"), Ok(500));
        assert_eq!(millis("2"), Ok(2000));
        assert_eq!(millis("5m"), Ok(300_000));
        assert!(millis("5 weeks").is_err() && millis("").is_err() && millis("99999999999999999h").is_err());
    }
}
