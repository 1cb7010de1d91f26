use std::time::Instant;

use super::{Facts, Field, RuleSpec, Rules, Stated, Then, When};
use crate::Error;
use crate::route::request::{Conversation, Role, Turn};
use crate::text::json::Value;

fn tiers() -> Vec<String> {
    vec!["small".to_owned(), "large".to_owned()]
}

fn spec(name: &str, when: When) -> RuleSpec {
    let then = Then { only: vec!["large".to_owned()], ..Then::default() };
    RuleSpec { name: name.to_owned(), when, then, strict: false }
}

fn keywords(words: &[&str], at_least: usize) -> When {
    let words = words.iter().map(ToString::to_string).collect();
    When::Keywords { words, at_least, whole_words: true, field: Field::Prompt }
}

fn patterns(patterns: &[&str], field: Field) -> When {
    When::Patterns { patterns: patterns.iter().map(ToString::to_string).collect(), field }
}

fn holding(specs: &[RuleSpec], prompt: &str, facts: &Facts<'_>) -> Vec<(usize, String)> {
    let rules = Rules::new(specs, &tiers()).unwrap();
    let found = rules.holding(&Conversation::prompt(prompt).unwrap(), facts).unwrap();
    found.into_iter().map(|each| (each.rule, each.evidence.to_string())).collect()
}

#[test]
fn keywords_and_patterns_of_many_rules_are_told_apart() {
    let specs = vec![
        spec("tax", keywords(&["vat", "income tax"], 1)),
        spec("both", keywords(&["vat", "refund"], 2)),
        spec("ids", patterns(&[r"\bINV-\d{4}\b", r"(?i)order no"], Field::Prompt)),
        spec("card", patterns(&[r"\b\d{16}\b"], Field::Prompt)),
    ];
    let found = holding(&specs, "Refund the VAT of INV-2031", &Facts::default());
    let shown: Vec<_> = found.iter().map(|(rule, evidence)| (*rule, evidence.as_str())).collect();
    assert_eq!(shown, [(0, "keyword \"VAT\""), (1, "keyword \"Refund\""), (2, r#"pattern "\\bINV-\\d{4}\\b""#)]);
}

#[test]
fn strict_rules_come_first() {
    let strict = RuleSpec { strict: true, ..spec("second", keywords(&["b"], 1)) };
    let found = holding(&[spec("first", keywords(&["a"], 1)), strict], "a b", &Facts::default());
    assert_eq!(found.iter().map(|(rule, _)| *rule).collect::<Vec<_>>(), [1, 0]);
}

#[test]
fn the_system_prompt_is_a_field_and_a_yes_is_read_as_what_it_continues() {
    let turn = |role, text: &'static str| Turn { role, text: text.into(), images: 0 };
    let turns = [
        turn(Role::System, "You write titles."),
        turn(Role::User, "My invoice is wrong, explain it in detail please."),
        turn(Role::Assistant, "Shall I?"),
        turn(Role::User, "yes"),
    ];
    let request = Conversation::read(&turns).unwrap();
    let specs = vec![
        spec("titles", patterns(&["titles"], Field::System)),
        spec("invoice", keywords(&["invoice"], 1)),
        spec("not", patterns(&["titles"], Field::Prompt)),
    ];
    let rules = Rules::new(&specs, &tiers()).unwrap();
    let found = rules.holding(&request, &Facts::default()).unwrap();
    assert_eq!(found.iter().map(|each| each.rule).collect::<Vec<_>>(), [0, 1]);
}

#[test]
fn everything_stated_of_a_request_must_be_true() {
    let asked = Stated {
        tags: vec!["batch".to_owned(), "night".to_owned()],
        fields: vec![(0, vec![Value::from("free"), Value::Int(1)])],
        tools: Some(true),
        tokens: Some(0.0..=100.0),
        languages: vec!["de".to_owned()],
        ..Stated::default()
    };
    let prompt = "Kannst du mir sagen, wie ich das mit der Rechnung und dem Konto mache?";
    let facts =
        Facts { tags: vec!["night".to_owned()], fields: vec![Some(Value::Float(1.0))], tools: true, vector: None };
    let holds =
        |facts: &Facts<'_>, prompt| !holding(&[spec("r", When::Stated(asked.clone()))], prompt, facts).is_empty();
    assert!(holds(&facts, prompt));
    assert!(!holds(&Facts { tags: vec![], ..facts.clone() }, prompt));
    assert!(!holds(&Facts { fields: vec![None], ..facts.clone() }, prompt));
    assert!(!holds(&Facts { tools: false, ..facts.clone() }, prompt));
    assert!(!holds(&facts, "What is it that you want to do with this account and the invoice?"));
    assert!(!holds(&facts, &prompt.repeat(20)));
}

#[test]
fn utterances_are_compared_by_the_mean_of_the_nearest() {
    let near = |threshold, neighbours| {
        let when = When::Near { rows: vec![1.0, 0.0, 0.6, 0.8], dim: 2, threshold, neighbours };
        holding(&[spec("near", when)], "x", &Facts { vector: Some(&[1.0, 0.0]), ..Facts::default() }).len()
    };
    assert_eq!((near(0.99, 1), near(0.81, 2), near(0.79, 2)), (1, 0, 1));
    let when = When::Near { rows: vec![1.0, 0.0], dim: 2, threshold: -1.0, neighbours: 1 };
    assert!(holding(&[spec("near", when)], "x", &Facts::default()).is_empty(), "no embedding at hand");
}

#[test]
fn of_rules_by_utterances_the_nearest_holds_and_strict_ones_besides() {
    let near = |name: &str, row: [f32; 2], strict| {
        let when = When::Near { rows: row.to_vec(), dim: 2, threshold: 0.5, neighbours: 1 };
        RuleSpec { strict, ..spec(name, when) }
    };
    let rules = [
        near("far", [0.8, 0.6], false),
        near("nearest", [1.0, 0.1], false),
        near("strict", [0.6, 0.8], true),
        spec("word", keywords(&["x"], 1)),
    ];
    let facts = Facts { vector: Some(&[1.0, 0.0]), ..Facts::default() };
    let found = holding(&rules, "x", &facts);
    assert_eq!(found.iter().map(|(rule, _)| *rule).collect::<Vec<_>>(), [2, 1, 3]);
}

#[test]
fn rules_without_a_meaning_are_refused_by_name() {
    let wrong = |spec: RuleSpec| match Rules::new(&[spec], &tiers()) {
        Err(Error::InvalidOption { name, value, expected }) => format!("{name} {value} {expected}"),
        other => format!("{other:?}"),
    };
    let good = || spec("good", keywords(&["a"], 1));
    let unknown = Then { only: vec!["huge".to_owned()], ..Then::default() };
    assert!(
        wrong(RuleSpec { then: unknown, ..good() }).contains("\"huge\" (rule \"good\") tiers of this router: small")
    );
    let all = Then { exclude: tiers(), ..Then::default() };
    assert!(wrong(RuleSpec { then: all, ..good() }).contains("leaves a tier"));
    assert!(wrong(RuleSpec { then: Then::default(), ..good() }).contains("demands something"));
    let sure = Then { min_quality: Some(1.0), ..Then::default() };
    assert!(wrong(RuleSpec { then: sure, ..good() }).contains("min_quality"));
    assert!(wrong(spec("lost", patterns(&["(a"], Field::Prompt))).contains("unclosed group"));
    assert!(wrong(spec("behind", patterns(&["(?<=a)b"], Field::Prompt))).contains("look-around"));
    assert!(wrong(spec("vast", patterns(&[r"\w{900}{90}"], Field::Prompt))).contains("size limit"));
    assert!(wrong(spec("none", keywords(&[], 1))).contains("at least one keyword"));
    assert!(wrong(spec("more", keywords(&["a", "A"], 2))).contains("1 to 1"));
    assert!(
        wrong(spec("klingon", When::Stated(Stated { languages: vec!["tlh".to_owned()], ..Stated::default() })))
            .contains("Cyrillic")
    );
    assert!(wrong(spec("empty", When::Stated(Stated::default()))).contains("states something"));
    let none = When::Near { rows: vec![], dim: 2, threshold: 0.5, neighbours: 1 };
    assert!(wrong(spec("mute", none)).contains("at least one utterance"));
    let twice = Rules::new(&[spec("a", keywords(&["x"], 1)), spec("a", keywords(&["y"], 1))], &tiers());
    assert!(twice.is_err());
}

#[test]
fn hostile_texts_take_linear_time() {
    let specs = vec![
        spec("nested", patterns(&["(a*)*b", "(a|aa)+$", "(x+x+)+y"], Field::Prompt)),
        spec("chain", keywords(&["a", "aa", "aaa", "aaaa", "aaaaa"], 5)),
    ];
    let rules = Rules::new(&specs, &tiers()).unwrap();
    let least = |length: usize| {
        let request = Conversation::prompt(&"a".repeat(length)).unwrap();
        let times = (0..7).map(|_| {
            let start = Instant::now();
            rules.holding(&request, &Facts::default()).unwrap();
            start.elapsed()
        });
        times.min().unwrap().as_secs_f64()
    };
    // Square time would be 16,384 times as long; a busy machine has made 16 times the text take 97 times as long.
    let (short, long) = (least(4_000), least(512_000));
    assert!(long < 128.0 * 20.0 * short, "128 times the text took {:.0} times as long", long / short);
}
