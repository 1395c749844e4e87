//! Canonical JSON (RFC 8785) from bytes that nobody vouches for. It refuses whatever two parsers
//! could read differently: duplicate names, integers that a double cannot hold, numbers that are
//! not finite, broken UTF-8 and lone surrogates. It never guesses and never repairs.
//!
//! What it accepts it writes in exactly one way, and it accepts its own output unchanged. That is
//! why the same event, sent twice by different libraries, has one content hash. (A general reader
//! would not do: serde_json takes the last of two equal names, and reads some doubles one unit off.)

use std::borrow::Cow;
use std::cmp::Ordering;

/// The deepest nesting of arrays and objects.
pub const MAX_DEPTH: usize = 64;
/// The most values (of any kind, at any depth) in one text: it bounds the memory of a parsed text.
pub const MAX_VALUES: usize = 1 << 20;
/// The largest magnitude of an integer, 2^53: above it neighbouring integers share one double.
const MAX_INTEGER: u64 = 1 << 53;
/// The longest number token, in bytes; a double never needs more than about 770 digits.
const MAX_NUMBER_BYTES: usize = 1024;

/// A parsed text. Strings borrow from the input where they had no escapes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Json<'a> {
    Null,
    Bool(bool),
    /// The canonical text of the number.
    Number(Cow<'a, str>),
    String(Cow<'a, str>),
    Array(Vec<Json<'a>>),
    /// Members in canonical order (by UTF-16 code units), each name once.
    Object(Vec<(Cow<'a, str>, Json<'a>)>),
}

/// Why bytes have no canonical form, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("JSON at byte {at}: {problem}")]
pub struct JsonError {
    pub at: usize,
    pub problem: Problem,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("the text ends too early")]
    Truncated,
    #[error("{0} was expected here")]
    Expected(&'static str),
    #[error("something follows the value; send exactly one JSON value")]
    Trailing,
    #[error("the text is not UTF-8")]
    NotUtf8,
    #[error("a control character must be written as an escape")]
    RawControl,
    #[error("this escape is not one of JSON's, or is half of a surrogate pair")]
    BadEscape,
    #[error("the name {0:?} occurs twice in one object; readers would disagree on its value")]
    Duplicate(String),
    #[error("this integer is beyond 2^53 and would change in other readers; send it as a string")]
    IntegerTooLarge,
    #[error("this number is not finite as a double; send it as a string")]
    NotFinite,
    #[error("this number has more than {MAX_NUMBER_BYTES} characters")]
    NumberTooLong,
    #[error("arrays and objects are nested deeper than {MAX_DEPTH}")]
    TooDeep,
    #[error("more than {MAX_VALUES} values in one text")]
    TooManyValues,
}

/// The canonical form of one JSON text.
pub fn canonicalise(bytes: &[u8]) -> Result<Vec<u8>, JsonError> {
    Ok(parse(bytes)?.canonical())
}

/// Parses exactly one JSON text.
pub fn parse(bytes: &[u8]) -> Result<Json<'_>, JsonError> {
    let text =
        std::str::from_utf8(bytes).map_err(|error| JsonError { at: error.valid_up_to(), problem: Problem::NotUtf8 })?;
    let mut parser = Parser { text, at: 0, values: 0 };
    parser.skip_space();
    let value = parser.value(0)?;
    parser.skip_space();
    if parser.at < text.len() {
        return Err(parser.error(Problem::Trailing));
    }
    Ok(value)
}

impl<'a> Json<'a> {
    pub fn canonical(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128);
        self.write(&mut out);
        out
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Null => out.extend_from_slice(b"null"),
            Self::Bool(true) => out.extend_from_slice(b"true"),
            Self::Bool(false) => out.extend_from_slice(b"false"),
            Self::Number(text) => out.extend_from_slice(text.as_bytes()),
            Self::String(text) => write_string(text, out),
            Self::Array(items) => {
                out.push(b'[');
                for (at, item) in items.iter().enumerate() {
                    if at > 0 {
                        out.push(b',');
                    }
                    item.write(out);
                }
                out.push(b']');
            }
            Self::Object(members) => {
                out.push(b'{');
                for (at, (name, value)) in members.iter().enumerate() {
                    if at > 0 {
                        out.push(b',');
                    }
                    write_string(name, out);
                    out.push(b':');
                    value.write(out);
                }
                out.push(b'}');
            }
        }
    }

    /// An object from members in any order; a later member of the same name is dropped.
    pub fn object(members: impl IntoIterator<Item = (Cow<'a, str>, Json<'a>)>) -> Self {
        let mut members: Vec<_> = members.into_iter().collect();
        members.sort_by(|a, b| utf16_order(&a.0, &b.0));
        members.dedup_by(|later, earlier| later.0 == earlier.0);
        Self::Object(members)
    }

    /// What kind of value this is, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::String(_) => "a string",
            Self::Array(_) => "an array",
            Self::Object(_) => "an object",
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    values: usize,
}

impl<'a> Parser<'a> {
    fn error(&self, problem: Problem) -> JsonError {
        JsonError { at: self.at, problem }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8, name: &'static str) -> Result<(), JsonError> {
        match self.peek() {
            Some(found) if found == byte => {
                self.at += 1;
                Ok(())
            }
            Some(_) => Err(self.error(Problem::Expected(name))),
            None => Err(self.error(Problem::Truncated)),
        }
    }

    fn value(&mut self, depth: usize) -> Result<Json<'a>, JsonError> {
        self.values += 1;
        if self.values > MAX_VALUES {
            return Err(self.error(Problem::TooManyValues));
        }
        match self.peek() {
            None => Err(self.error(Problem::Truncated)),
            Some(b'{' | b'[') if depth == MAX_DEPTH => Err(self.error(Problem::TooDeep)),
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => Ok(Json::String(self.string()?)),
            Some(b'-' | b'0'..=b'9') => Ok(Json::Number(self.number()?)),
            Some(b't') => self.word("true", Json::Bool(true)),
            Some(b'f') => self.word("false", Json::Bool(false)),
            Some(b'n') => self.word("null", Json::Null),
            Some(_) => Err(self.error(Problem::Expected("a JSON value"))),
        }
    }

    fn word(&mut self, word: &str, value: Json<'a>) -> Result<Json<'a>, JsonError> {
        if !self.text[self.at..].starts_with(word) {
            return Err(self.error(Problem::Expected("a JSON value")));
        }
        self.at += word.len();
        Ok(value)
    }

    fn array(&mut self, depth: usize) -> Result<Json<'a>, JsonError> {
        self.at += 1;
        let mut items = Vec::new();
        self.skip_space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Json::Array(items));
        }
        loop {
            self.skip_space();
            items.push(self.value(depth + 1)?);
            self.skip_space();
            if self.peek() == Some(b',') {
                self.at += 1;
                continue;
            }
            self.expect(b']', "',' or ']'")?;
            return Ok(Json::Array(items));
        }
    }

    fn object(&mut self, depth: usize) -> Result<Json<'a>, JsonError> {
        let start = self.at;
        self.at += 1;
        let mut members: Vec<(Cow<'a, str>, Json<'a>)> = Vec::new();
        self.skip_space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Json::Object(members));
        }
        loop {
            self.skip_space();
            if self.peek().is_some_and(|byte| byte != b'"') {
                return Err(self.error(Problem::Expected("a name in double quotes")));
            }
            let name = self.string()?;
            self.skip_space();
            self.expect(b':', "':'")?;
            self.skip_space();
            members.push((name, self.value(depth + 1)?));
            self.skip_space();
            if self.peek() == Some(b',') {
                self.at += 1;
                continue;
            }
            self.expect(b'}', "',' or '}'")?;
            break;
        }
        members.sort_by(|a, b| utf16_order(&a.0, &b.0));
        if let Some(pair) = members.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            let name = pair[0].0.chars().take(80).collect();
            return Err(JsonError { at: start, problem: Problem::Duplicate(name) });
        }
        Ok(Json::Object(members))
    }

    fn string(&mut self) -> Result<Cow<'a, str>, JsonError> {
        self.expect(b'"', "a string")?;
        let start = self.at;
        let mut unescaped: Option<String> = None;
        let mut run = start;
        loop {
            match self.peek() {
                None => return Err(self.error(Problem::Truncated)),
                Some(b'"') => {
                    let tail = &self.text[run..self.at];
                    self.at += 1;
                    return Ok(match unescaped {
                        None => Cow::Borrowed(tail),
                        Some(text) => Cow::Owned(text + tail),
                    });
                }
                Some(b'\\') => {
                    let text = unescaped.get_or_insert_default();
                    text.push_str(&self.text[run..self.at]);
                    let escaped = self.escape()?;
                    unescaped.get_or_insert_default().push(escaped);
                    run = self.at;
                }
                Some(0..=0x1f) => return Err(self.error(Problem::RawControl)),
                Some(_) => self.at += 1,
            }
        }
    }

    fn escape(&mut self) -> Result<char, JsonError> {
        let bad = self.error(Problem::BadEscape);
        self.at += 1;
        let Some(kind) = self.peek() else { return Err(self.error(Problem::Truncated)) };
        self.at += 1;
        Ok(match kind {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let first = self.hex4().ok_or_else(|| bad.clone())?;
                let scalar = match first {
                    0xD800..=0xDBFF => {
                        if !self.text[self.at..].starts_with("\\u") {
                            return Err(bad);
                        }
                        self.at += 2;
                        let second = self.hex4().filter(|unit| (0xDC00..=0xDFFF).contains(unit));
                        let second = second.ok_or_else(|| bad.clone())?;
                        0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00)
                    }
                    unit => unit,
                };
                // A lone low surrogate is no character.
                return char::from_u32(scalar).ok_or(bad);
            }
            _ => return Err(bad),
        })
    }

    fn hex4(&mut self) -> Option<u32> {
        let digits = self.text.as_bytes().get(self.at..self.at + 4)?;
        let value = digits.iter().try_fold(0, |value, digit| Some(value * 16 + char::from(*digit).to_digit(16)?))?;
        self.at += 4;
        Some(value)
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == start { Err(self.error(Problem::Expected("a digit"))) } else { Ok(()) }
    }

    fn number(&mut self) -> Result<Cow<'a, str>, JsonError> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        let first_digit = self.at;
        self.digits()?;
        if self.text.as_bytes()[first_digit] == b'0' && self.at > first_digit + 1 {
            self.at = first_digit;
            return Err(self.error(Problem::Expected("a number without leading zeros")));
        }
        let integer_end = self.at;
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        let token = &self.text[start..self.at];
        let is_integer = self.at == integer_end;
        canonical_number(token, is_integer).map_err(|problem| JsonError { at: start, problem })
    }
}

/// The one text of a number: as ECMAScript prints the double.
fn canonical_number(token: &str, is_integer: bool) -> Result<Cow<'_, str>, Problem> {
    if token.len() > MAX_NUMBER_BYTES {
        return Err(Problem::NumberTooLong);
    }
    let exact = |text: &str| text.trim_start_matches('-').parse::<u64>().is_ok_and(|n| n <= MAX_INTEGER);
    if is_integer {
        return match token {
            "-0" => Ok(Cow::Borrowed("0")),
            token if exact(token) => Ok(Cow::Borrowed(token)),
            _ => Err(Problem::IntegerTooLarge),
        };
    }
    let double: f64 = token.parse().map_err(|_| Problem::Expected("a number"))?;
    if !double.is_finite() {
        return Err(Problem::NotFinite);
    }
    let text = ryu_js::Buffer::new().format_finite(double).to_owned();
    // Up to 1e21 a double is printed as an integer: then the rule for integers holds, so that the
    // canonical form is itself accepted.
    let prints_as_integer = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    if prints_as_integer && !exact(&text) {
        return Err(Problem::IntegerTooLarge);
    }
    Ok(Cow::Owned(text))
}

fn write_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut run = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        let short = match byte {
            b'"' => b'"',
            b'\\' => b'\\',
            0x08 => b'b',
            0x09 => b't',
            0x0a => b'n',
            0x0c => b'f',
            0x0d => b'r',
            0..=0x1f => b'u',
            _ => continue,
        };
        out.extend_from_slice(&bytes[run..at]);
        out.extend_from_slice(&[b'\\', short]);
        if short == b'u' {
            out.extend_from_slice(format!("{byte:04x}").as_bytes());
        }
        run = at + 1;
    }
    out.extend_from_slice(&bytes[run..]);
    out.push(b'"');
}

/// RFC 8785 sorts names by UTF-16 code units, which differs from UTF-8 order above U+FFFF.
fn utf16_order(a: &str, b: &str) -> Ordering {
    if a.is_ascii() && b.is_ascii() { a.cmp(b) } else { a.encode_utf16().cmp(b.encode_utf16()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn canonical(text: &str) -> String {
        String::from_utf8(canonicalise(text.as_bytes()).expect("accepted")).expect("UTF-8")
    }

    fn problem(text: &str) -> Problem {
        canonicalise(text.as_bytes()).expect_err("refused").problem
    }

    #[test]
    fn the_example_of_rfc_8785_section_3_2_2() {
        let input = r#"{
            "numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
            "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
            "literals": [null, true, false]
        }"#;
        let expected = "{\"literals\":[null,true,false],\"numbers\":[333333333.3333333,1e+30,4.5,0.002,1e-27],\
                        \"string\":\"€$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\"}";
        assert_eq!(canonical(input), expected);
    }

    #[test]
    fn the_sorting_example_of_rfc_8785_section_3_2_3() {
        let input = r#"{"\u20ac":"Euro Sign","\r":"Carriage Return","\ufb33":"Hebrew Letter Dalet With Dagesh","1":"One",
            "\ud83d\ude00":"Emoji: Grinning Face","\u0080":"Control","\u00f6":"Latin Small Letter O With Diaeresis"}"#;
        let expected = "{\"\\r\":\"Carriage Return\",\"1\":\"One\",\"\u{80}\":\"Control\",\
                        \"ö\":\"Latin Small Letter O With Diaeresis\",\"€\":\"Euro Sign\",\
                        \"😀\":\"Emoji: Grinning Face\",\"\u{fb33}\":\"Hebrew Letter Dalet With Dagesh\"}";
        assert_eq!(canonical(input), expected);
    }

    #[test]
    fn the_numbers_of_rfc_8785_appendix_b() {
        let samples: [(u64, &str); 24] = [
            (0x0000000000000000, "0"),
            (0x8000000000000000, "0"),
            (0x0000000000000001, "5e-324"),
            (0x8000000000000001, "-5e-324"),
            (0x7fefffffffffffff, "1.7976931348623157e+308"),
            (0xffefffffffffffff, "-1.7976931348623157e+308"),
            (0x4340000000000000, "9007199254740992"),
            (0xc340000000000000, "-9007199254740992"),
            (0x4430000000000000, "295147905179352830000"),
            (0x44b52d02c7e14af5, "9.999999999999997e+22"),
            (0x44b52d02c7e14af6, "1e+23"),
            (0x44b52d02c7e14af7, "1.0000000000000001e+23"),
            (0x444b1ae4d6e2ef4e, "999999999999999700000"),
            (0x444b1ae4d6e2ef4f, "999999999999999900000"),
            (0x444b1ae4d6e2ef50, "1e+21"),
            (0x3eb0c6f7a0b5ed8c, "9.999999999999997e-7"),
            (0x3eb0c6f7a0b5ed8d, "0.000001"),
            (0x41b3de4355555553, "333333333.3333332"),
            (0x41b3de4355555554, "333333333.33333325"),
            (0x41b3de4355555555, "333333333.3333333"),
            (0x41b3de4355555556, "333333333.3333334"),
            (0x41b3de4355555557, "333333333.33333343"),
            (0xbecbf647612f3696, "-0.0000033333333333333333"),
            (0x43143ff3c1cb0959, "1424953923781206.2"),
        ];
        for (bits, expected) in samples {
            let double = f64::from_bits(bits);
            assert_eq!(ryu_js::Buffer::new().format_finite(double), expected);
            // The same double, written so that it does not look like an integer.
            let written = format!("{double:e}");
            let found = canonical_number(&written, false);
            let too_large = expected.bytes().all(|b| b.is_ascii_digit()) && expected.len() > 16;
            if too_large {
                assert_eq!(found, Err(Problem::IntegerTooLarge), "{expected}");
            } else {
                assert_eq!(found.as_deref(), Ok(expected));
            }
        }
    }

    #[test]
    fn what_two_readers_could_read_differently_is_refused() {
        assert_eq!(problem(r#"{"a":1,"b":{"c":1,"\u0063":2}}"#), Problem::Duplicate("c".into()));
        assert_eq!(problem("9007199254740993"), Problem::IntegerTooLarge);
        assert_eq!(problem("-9007199254740993"), Problem::IntegerTooLarge);
        assert_eq!(problem("1e17"), Problem::IntegerTooLarge);
        assert_eq!(problem("123456789012345678901234567890"), Problem::IntegerTooLarge);
        assert_eq!(problem("1e400"), Problem::NotFinite);
        assert_eq!(problem(r#""\ud800""#), Problem::BadEscape);
        assert_eq!(problem(r#""\udc00""#), Problem::BadEscape);
        assert_eq!(problem(r#""\ud83d\u0041""#), Problem::BadEscape);
        assert_eq!(problem(&format!("1.{}", "0".repeat(2000))), Problem::NumberTooLong);
        assert_eq!(canonicalise(b"\"\xff\"").expect_err("refused").problem, Problem::NotUtf8);
    }

    #[test]
    fn what_is_not_json_is_refused() {
        for text in [
            "",
            " ",
            "nul",
            "tru",
            "01",
            "-",
            "+1",
            ".5",
            "1.",
            "1e",
            "0x10",
            "NaN",
            "Infinity",
            "[1,]",
            "[1 2]",
            "[,1]",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{a:1}",
            "{'a':1}",
            "\"\\x\"",
            "\"\\u12\"",
            "\"",
            "\"\u{1}\"",
            "[",
            "{",
            "{}{}",
            "1 2",
            "\u{feff}1",
            "//x\n1",
            "\"\\u00e\u{e9}\"",
        ] {
            assert!(canonicalise(text.as_bytes()).is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn depth_and_number_of_values_are_bounded() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(canonicalise(nested(MAX_DEPTH).as_bytes()).is_ok());
        assert_eq!(problem(&nested(MAX_DEPTH + 1)), Problem::TooDeep);
        assert_eq!(problem(&nested(100_000)), Problem::TooDeep);
        let wide = format!("[{}1]", "1,".repeat(MAX_VALUES));
        assert_eq!(problem(&wide), Problem::TooManyValues);
    }

    #[test]
    fn spaces_order_and_escapes_do_not_matter() {
        assert_eq!(
            canonical(" { \"b\" : [ 1.0 , -0 , 1e2 ] , \"a\" : \"\\u0061\\/\" } \r\n"),
            r#"{"a":"a/","b":[1,0,100]}"#
        );
    }

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let number = prop_oneof![
            (-(1_i64 << 53)..=(1 << 53)).prop_map(serde_json::Value::from),
            any::<f64>().prop_map(serde_json::Value::from),
        ];
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(serde_json::Value::from),
            number,
            any::<String>().prop_map(serde_json::Value::from),
        ];
        leaf.prop_recursive(5, 64, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(serde_json::Value::from),
                prop::collection::btree_map(any::<String>(), inner, 0..8)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_canonical_form_is_accepted_and_stays(value in any_json()) {
            if let Ok(first) = canonicalise(value.to_string().as_bytes()) {
                prop_assert_eq!(canonicalise(&first).expect("canonical text is accepted"), first.clone());
                let pretty = serde_json::to_vec_pretty(&value).expect("JSON");
                prop_assert_eq!(canonicalise(&pretty).expect("the same value"), first);
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = canonicalise(&bytes);
        }

        #[test]
        fn no_text_of_json_characters_makes_it_panic(text in "[\\[\\]{}\",:0-9eE+.\\\\u a-f-]{0,60}") {
            if let Ok(first) = canonicalise(text.as_bytes()) {
                let reference: Result<serde_json::Value, _> = serde_json::from_str(&text);
                prop_assert!(reference.is_ok(), "accepted what serde_json refuses: {}", text);
                prop_assert_eq!(canonicalise(&first), Ok(first));
            }
        }
    }
}
