use super::*;

fn shared() -> ScopeId {
    ScopeId::default()
}

fn message(role: &str, content: &str) -> Value {
    Value::object([("role", role.into()), ("content", content.into())])
}

fn conversation(turns: &[(&str, &str)]) -> Vec<Value> {
    turns.iter().map(|(role, content)| message(role, content)).collect()
}

fn body(pairs: Vec<(&str, Value)>) -> Value {
    Value::Object(pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

fn fingerprint_of(value: &Value) -> Fingerprint {
    Request::from_value(value, shared()).unwrap().fingerprint
}

#[test]
fn the_encoding_is_frozen() {
    let request = Request::from_prompt("What is the capital of France?", shared()).unwrap();
    assert_eq!(request.fingerprint.to_string(), "8d462a30e2d68b4602e125b710d5f840");
    let turns = conversation(&[("system", "Be brief."), ("user", "Why?")]);
    let request = Request::from_messages(&turns, ScopeId::of(&"tenant-a".into()).unwrap()).unwrap();
    assert_eq!(request.fingerprint.to_string(), "35cbc5c5ff37721c654b2b02cb97d90e");
}

#[test]
fn white_space_at_the_ends_and_line_ends_do_not_count_but_indentation_does() {
    let of = |text: &str| Request::from_prompt(text, shared()).unwrap().fingerprint;
    assert_eq!(of(" \t\u{3000}why?\r\n"), of("why?"));
    assert_eq!(of("a\r\nb\rc"), of("a\nb\nc"));
    assert_ne!(of("if x:\n  y"), of("if x:\n    y"));
}

#[test]
fn composed_and_decomposed_letters_are_one() {
    let of = |text: &str| Request::from_prompt(text, shared()).unwrap().fingerprint;
    assert_eq!(of("Cafe\u{301}"), of("Caf\u{e9}"));
    assert_ne!(of("\u{fb01}ne"), of("fine"), "NFC keeps compatibility forms apart");
}

#[test]
fn empty_prompts_are_refused() {
    for prompt in ["", " ", "\n\t\u{a0}\u{2003}"] {
        assert!(matches!(Request::from_prompt(prompt, shared()), Err(Error::EmptyPrompt)), "{prompt:?}");
        let turns = conversation(&[("user", prompt)]);
        assert!(matches!(Request::from_messages(&turns, shared()), Err(Error::EmptyPrompt)), "{prompt:?}");
    }
}

#[test]
fn a_lone_user_message_is_the_prompt() {
    let plain = Request::from_prompt("Why?", shared()).unwrap();
    let turns = conversation(&[("user", "Why?")]);
    assert_eq!(Request::from_messages(&turns, shared()).unwrap(), plain);
    let part = Value::object([("type", "text".into()), ("text", "Why?".into())]);
    let parts = [Value::object([("role", "user".into()), ("content", Value::Array(vec![part]))])];
    assert_eq!(Request::from_messages(&parts, shared()).unwrap(), plain);
    let chat = body(vec![("messages", Value::Array(turns.clone())), ("stream", Value::Bool(true))]);
    assert_eq!(Request::from_body(&chat, shared()).unwrap(), plain);
}

#[test]
fn all_but_the_last_user_text_is_scope() {
    let base =
        conversation(&[("system", "Linux only."), ("user", "Install?"), ("assistant", "apt."), ("user", "And vim?")]);
    let first = Request::from_messages(&base, shared()).unwrap();
    assert_eq!(first.text.as_deref(), Some("And vim?"));
    let mut other = base.clone();
    other[3] = message("user", "And emacs?");
    let same_scope = Request::from_messages(&other, shared()).unwrap();
    assert_eq!(same_scope.scope, first.scope);
    assert_ne!(same_scope.fingerprint, first.fingerprint);
    for (index, changed) in [(0, "Windows only."), (1, "Remove?"), (2, "yum.")] {
        let mut other = base.clone();
        let role = base[index].get("role").and_then(Value::as_str).unwrap().to_owned();
        other[index] = message(&role, changed);
        assert_ne!(Request::from_messages(&other, shared()).unwrap().scope, first.scope, "message {index}");
    }
    assert_ne!(Request::from_messages(&base[3..], shared()).unwrap().scope, first.scope, "no history");
    assert_ne!(Request::from_messages(&base, ScopeId([1; 16])).unwrap().scope, first.scope, "tenant");
}

#[test]
fn key_order_number_forms_and_noise_do_not_count_and_unknown_fields_do() {
    let messages = Value::Array(conversation(&[("user", "Why?")]));
    let plain = body(vec![("model", "m".into()), ("temperature", Value::Int(1)), ("messages", messages.clone())]);
    let turned = body(vec![
        ("messages", messages.clone()),
        ("user", "u-17".into()),
        ("metadata", Value::object([("trace", "9".into())])),
        ("temperature", Value::Float(1.0)),
        ("model", "m".into()),
    ]);
    assert_eq!(fingerprint_of(&plain), fingerprint_of(&turned));
    for (key, value) in
        [("top_p", Value::Float(0.5)), ("brand_new_field", Value::Null), ("response_format", Value::object([]))]
    {
        let Value::Object(mut pairs) = plain.clone() else { unreachable!() };
        pairs.push((key.to_owned(), value));
        assert_ne!(fingerprint_of(&Value::Object(pairs)), fingerprint_of(&plain), "{key}");
    }
    assert_eq!(Request::from_body(&plain, shared()).unwrap().temperature, Some(1.0));
}

#[test]
fn number_forms_are_one() {
    let of = |value: Value| ScopeId::of(&value).unwrap();
    assert_eq!(of(Value::Int(0)), of(Value::Float(-0.0)));
    assert_eq!(of(Value::Int(100)), of(Value::Float(1e2)));
    assert_eq!(of(Value::BigInt("7".into())), of(Value::Int(7)));
    assert_eq!(of(Value::BigInt("18446744073709551616".into())), of(Value::Float(18_446_744_073_709_551_616.0)));
    assert_ne!(of(Value::Float(0.1)), of(Value::Float(0.1 + f64::EPSILON)));
    assert_ne!(of(Value::Int(1)), of(Value::from("1")));
    assert_ne!(of(Value::Int(1)), of(Value::Bool(true)));
    for number in [f64::NAN, f64::INFINITY] {
        assert!(matches!(ScopeId::of(&Value::Float(number)), Err(Error::Request { .. })));
    }
}

#[test]
fn structure_cannot_be_forged_by_strings() {
    let of = |value: Value| ScopeId::of(&value).unwrap();
    assert_ne!(of(Value::Array(vec!["ab".into(), "c".into()])), of(Value::Array(vec!["a".into(), "bc".into()])));
    assert_ne!(of(Value::Array(vec![Value::Array(vec![])])), of(Value::Array(vec![])));
    assert_ne!(of(Value::object([("a", Value::Null)])), of(Value::Array(vec!["a".into(), Value::Null])));
}

#[test]
fn images_tools_and_prefills_are_exact_only() {
    let image = Value::object([
        ("role", "user".into()),
        ("content", Value::Array(vec![Value::object([("type", "image_url".into()), ("image_url", Value::Null)])])),
    ]);
    let tool_result = Value::object([("role", "tool".into()), ("content", "42".into())]);
    let ask = message("user", "Why?");
    for turns in [
        vec![ask.clone(), message("assistant", "So."), image],
        vec![ask.clone(), tool_result.clone(), ask.clone()],
        vec![ask.clone(), message("assistant", "Because")],
    ] {
        let request = Request::from_messages(&turns, shared()).unwrap();
        assert_eq!(request.text, None, "{turns:?}");
        assert_eq!(request, Request::from_messages(&turns, shared()).unwrap());
    }
    let tools = Value::Array(vec![Value::object([("type", "function".into())])]);
    let with_tools = body(vec![("messages", Value::Array(vec![ask.clone()])), ("tools", tools)]);
    assert_eq!(Request::from_body(&with_tools, shared()).unwrap().text, None);
}

#[test]
fn the_three_bodies_are_read_and_kept_apart() {
    let prompt = body(vec![("model", "m".into()), ("prompt", "Why?".into())]);
    let input = body(vec![("model", "m".into()), ("input", "Why?".into())]);
    let listed = body(vec![("model", "m".into()), ("input", Value::Array(conversation(&[("user", "Why?")])))]);
    let chat = body(vec![("model", "m".into()), ("messages", Value::Array(conversation(&[("user", "Why?")])))]);
    for value in [&prompt, &input, &listed, &chat] {
        assert_eq!(Request::from_body(value, shared()).unwrap().text.as_deref(), Some("Why?"));
    }
    assert_eq!(fingerprint_of(&input), fingerprint_of(&listed));
    assert_ne!(fingerprint_of(&prompt), fingerprint_of(&input));
    assert_ne!(fingerprint_of(&chat), fingerprint_of(&input));
    let tokens = body(vec![("prompt", Value::Array(vec![Value::Int(5), Value::Int(6)]))]);
    assert_eq!(Request::from_body(&tokens, shared()).unwrap().text, None);
    assert!(Request::from_body(&body(vec![("model", "m".into())]), shared()).is_err());
}

#[test]
fn malformed_messages_are_refused_by_their_place() {
    let good = message("user", "Why?");
    let bad = [
        Value::Int(3),
        Value::object([]),
        Value::object([("role", Value::Int(1)), ("content", "x".into())]),
        Value::object([("role", "user".into())]),
        Value::object([("role", "user".into()), ("content", Value::Int(4))]),
        Value::object([("role", "user".into()), ("content", Value::Array(vec!["x".into()]))]),
    ];
    for wrong in bad {
        let turns = [good.clone(), wrong, good.clone()];
        match Request::from_messages(&turns, shared()) {
            Err(Error::Request { reason }) => assert!(reason.contains("message 1"), "{reason}"),
            other => panic!("{other:?}"),
        }
    }
    assert!(Request::from_messages(&[], shared()).is_err());
}

#[test]
fn nesting_is_bounded() {
    let mut value = Value::Null;
    for _ in 0..=crate::text::json::MAX_DEPTH {
        value = Value::Array(vec![value]);
    }
    assert!(matches!(ScopeId::of(&value), Err(Error::Request { .. })));
}
