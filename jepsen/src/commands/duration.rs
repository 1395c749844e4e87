//! Durations and seeds as people write them.

use std::ops::Range;
use std::time::Duration;

/// `30s`, `10m`, `2h`; a bare number is seconds.
pub fn parse(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.find(|letter: char| !letter.is_ascii_digit()) {
        Some(at) => text.split_at(at),
        None => (text, "s"),
    };
    let number: u64 = number.parse().map_err(|_| format!("{text:?} is no duration; write 30s, 10m or 2h"))?;
    let seconds = match unit {
        "s" => Some(number),
        "m" => number.checked_mul(60),
        "h" => number.checked_mul(3600),
        _ => return Err(format!("{text:?} has an unknown unit; write 30s, 10m or 2h")),
    };
    seconds.filter(|seconds| *seconds > 0).map(Duration::from_secs).ok_or(format!("{text:?} is out of range"))
}

/// `A..B`, one number, or `random:N`.
pub fn parse_seeds(text: &str) -> Result<Range<u64>, String> {
    let bad = || format!("{text:?} names no seeds; write 0..200, 17 or random:50");
    let number = |text: &str| text.parse::<u64>().map_err(|_| bad());
    if let Some(count) = text.strip_prefix("random:") {
        let mut bytes = [0; 4];
        getrandom::fill(&mut bytes).map_err(|error| format!("no random bytes: {error}"))?;
        let first = u64::from(u32::from_le_bytes(bytes)) * 1000;
        let end = first.checked_add(number(count)?).filter(|end| *end > first).ok_or_else(bad)?;
        eprintln!("seeds {first}..{end}");
        return Ok(first..end);
    }
    let range = match text.split_once("..") {
        Some((from, to)) => number(from)?..number(to)?,
        None => number(text)?..number(text)?.saturating_add(1),
    };
    if range.is_empty() { Err(bad()) } else { Ok(range) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_seeds_are_read_and_nonsense_is_refused_with_an_example() {
        assert_eq!(parse("90"), Ok(Duration::from_secs(90)));
        assert_eq!(parse("10m"), Ok(Duration::from_secs(600)));
        assert_eq!(parse_seeds("3..5"), Ok(3..5));
        assert_eq!(parse_seeds("7"), Ok(7..8));
        assert_eq!(parse_seeds("random:4").map(|seeds| seeds.end - seeds.start), Ok(4));
        for wrong in ["", "x", "10d", "0s", "99999999999999999999h"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        for wrong in ["", "5..5", "6..5", "a..b", "random:x", "random:0", "random:18446744073709551615"] {
            assert!(parse_seeds(wrong).is_err(), "{wrong}");
        }
    }
}
