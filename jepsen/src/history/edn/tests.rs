//! Reads the EDN back with a reader of its own.

use super::*;

#[derive(Debug, Clone, PartialEq)]
enum Edn {
    Nil,
    Bool(bool),
    Int(i64),
    Text(String),
    Keyword(String),
    Vector(Vec<Edn>),
    Map(Vec<(Edn, Edn)>),
}

struct Reader<'a>(std::iter::Peekable<std::str::Chars<'a>>);

impl Reader<'_> {
    fn read(&mut self) -> Edn {
        self.skip();
        match *self.0.peek().expect("a value") {
            '"' => self.text(),
            ':' => {
                self.0.next();
                Edn::Keyword(self.word())
            }
            '[' => Edn::Vector(self.items(']')),
            '{' => {
                let items = self.items('}');
                assert_eq!(items.len() % 2, 0, "a map has pairs");
                Edn::Map(items.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect())
            }
            _ => match self.word().as_str() {
                "nil" => Edn::Nil,
                "true" => Edn::Bool(true),
                "false" => Edn::Bool(false),
                number => Edn::Int(number.parse().expect("a number")),
            },
        }
    }

    fn skip(&mut self) {
        while self.0.next_if(|c| c.is_whitespace() || *c == ',').is_some() {}
    }

    fn word(&mut self) -> String {
        let mut word = String::new();
        while let Some(c) = self.0.next_if(|c| c.is_alphanumeric() || "-_.?".contains(*c)) {
            word.push(c);
        }
        assert!(!word.is_empty(), "a word");
        word
    }

    fn items(&mut self, end: char) -> Vec<Edn> {
        self.0.next();
        let mut items = Vec::new();
        loop {
            self.skip();
            if self.0.next_if_eq(&end).is_some() {
                return items;
            }
            items.push(self.read());
        }
    }

    fn text(&mut self) -> Edn {
        self.0.next();
        let mut text = String::new();
        loop {
            match self.0.next().expect("the end of the text") {
                '"' => return Edn::Text(text),
                '\\' => text.push(match self.0.next().expect("an escaped letter") {
                    'n' => '\n',
                    't' => '\t',
                    'r' => '\r',
                    'u' => {
                        let code: String = (0..4).filter_map(|_| self.0.next()).collect();
                        u32::from_str_radix(&code, 16).ok().and_then(char::from_u32).expect("a code point")
                    }
                    c @ ('"' | '\\') => c,
                    other => panic!("EDN has no \\{other}"),
                }),
                c => text.push(c),
            }
        }
    }
}

impl Edn {
    fn get(&self, name: &str) -> &Edn {
        let Self::Map(pairs) = self else { panic!("not a map: {self:?}") };
        let found = pairs.iter().find(|(key, _)| *key == Self::Keyword(name.into()));
        &found.unwrap_or_else(|| panic!("no :{name} in {self:?}")).1
    }
}

fn keyword(of: &str) -> Edn {
    Edn::Keyword(of.into())
}

fn string(of: &str) -> Edn {
    Edn::Text(of.into())
}

fn export(whats: Vec<What>) -> Vec<Edn> {
    let record = |(at, what)| Record { time_ns: 1000 + at as u64, what };
    let history: Vec<Record> = whats.into_iter().enumerate().map(record).collect();
    let mut bytes = Vec::new();
    to_edn(&history, &mut bytes).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    text.lines()
        .map(|line| {
            let mut reader = Reader(line.chars().peekable());
            let value = reader.read();
            reader.skip();
            assert_eq!(reader.0.next(), None, "one operation a line");
            value
        })
        .collect()
}

fn invoked(client: u64) -> What {
    What::Invoked { client, cloud: "aws".into(), id: "c0-1".into(), content: "h".into() }
}

#[test]
fn a_submission_is_an_invocation_and_its_answer() {
    let (cloud, id, content) = (String::from("aws"), String::from("c0-1"), String::from("h"));
    let ok =
        What::Acknowledged { client: 0, cloud: cloud.clone(), id: id.clone(), content, new: true, repeated: false };
    let fail = What::Refused { client: 1, cloud, id, code: "id_reuse".into(), first: Some("g".into()) };
    let all = export(vec![invoked(0), ok, invoked(1), fail]);
    let tuple = |value| Edn::Vector(vec![string("aws/c0-1"), value]);
    for (at, operation) in all.iter().enumerate() {
        assert_eq!(*operation.get("index"), Edn::Int(at as i64));
        assert_eq!(*operation.get("time"), Edn::Int(1000 + at as i64));
        assert_eq!(*operation.get("f"), keyword("submit"));
        assert_eq!(*operation.get("process"), Edn::Int(at as i64 / 2));
    }
    let kinds: Vec<_> = all.iter().map(|operation| operation.get("type").clone()).collect();
    assert_eq!(kinds, ["invoke", "ok", "invoke", "fail"].map(keyword));
    assert_eq!(*all[0].get("value"), tuple(string("h")));
    assert_eq!(*all[1].get("value"), tuple(string("h")));
    assert_eq!(*all[1].get("new"), Edn::Bool(true));
    assert_eq!(*all[3].get("value"), tuple(Edn::Nil));
    assert_eq!(*all[3].get("error"), Edn::Vector(vec![string("id_reuse"), string("g")]));
}

#[test]
fn a_process_that_got_info_never_returns() {
    let unknown =
        |client| What::Unknown { client, cloud: "aws".into(), id: "c0-1".into(), why: "a \"b\"\n\u{1}\\".into() };
    let all = export(vec![invoked(0), unknown(0), invoked(2), invoked(0), unknown(0), invoked(0)]);
    let processes: Vec<_> = all.iter().map(|operation| operation.get("process").clone()).collect();
    assert_eq!(processes, [0, 0, 2, 3, 3, 6].map(Edn::Int));
    assert_eq!(*all[1].get("type"), keyword("info"));
    assert_eq!(*all[1].get("error"), string("a \"b\"\n\u{1}\\"));
}

#[test]
fn everything_else_is_info_of_a_process_that_is_no_client() {
    let fault = What::FaultBegan { number: 3, fault: "kill".into(), on: vec!["aws-1".into()], detail: String::new() };
    let healed = What::Healed { took_ms: 1, within_ms: 2, complete: true, missing: None };
    let all = export(vec![fault, healed]);
    let [fault, healed] = &all[..] else { panic!("two operations") };
    assert_eq!([fault.get("process"), fault.get("f")], [&keyword("nemesis"), &keyword("fault-began")]);
    assert_eq!(*fault.get("value").get("on"), Edn::Vector(vec![string("aws-1")]));
    assert_eq!(*healed.get("process"), keyword("observer"));
    assert_eq!(*healed.get("value").get("took-ms"), Edn::Int(1));
    assert_eq!(*healed.get("value").get("missing"), Edn::Nil);
    assert!(all.iter().all(|operation| *operation.get("type") == keyword("info")));
}

#[test]
fn what_was_saved_is_loaded_and_the_edn_lies_beside_it() {
    let history = vec![Record { time_ns: 5, what: invoked(0) }];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.jsonl");
    crate::history::save(&history, &path).unwrap();
    assert_eq!(crate::history::load(&path).unwrap(), history);
    let edn = std::fs::read_to_string(folder.path().join("history.edn")).unwrap();
    assert!(edn.starts_with("{:index 0, :time 5, :process 0, :type :invoke, :f :submit"), "{edn}");
    std::fs::write(&path, "{}\n").unwrap();
    let error = crate::history::load(&path).unwrap_err().to_string();
    assert!(error.starts_with("line 1: "), "{error}");
}
