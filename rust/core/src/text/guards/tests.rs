use super::*;
use proptest::prelude::*;

fn refused_by(query: &str, candidate: &str) -> Vec<&'static str> {
    judge(query, candidate).reasons.iter().map(|reason| reason.guard.name()).collect()
}

#[test]
fn traps_are_refused_by_the_guard_that_sees_them() {
    let traps = [
        ("Cancel my subscription", "Don't cancel my subscription", "negation"),
        ("Which foods contain gluten?", "Which foods do not contain gluten?", "negation"),
        ("Is it safe to take with alcohol?", "Is it safe to take without alcohol?", "negation"),
        ("How do I enable two-factor authentication?", "How do I disable two-factor authentication?", "antonym"),
        ("How do I log in?", "How do I log out?", "antonym"),
        ("How do I enable two-factor authentication?", "How do I turn off two-factor authentication?", "antonym"),
        ("How do I stop my plan from being cancelled?", "How do I cancel my plan?", "negation"),
        ("What does the plan cost per month?", "How much does the plan cost per year?", "class"),
        ("How do I unlock my card?", "How do I lock my card?", "antonym"),
        ("Convert 10 km to miles", "Convert 12 km to miles", "number"),
        ("What is 15% of 200?", "What is 15% of 250?", "number"),
        ("Is 5 mg of melatonin safe?", "Is 5 g of melatonin safe?", "number"),
        ("What is new in Python 3.10?", "What is new in Python 3.1?", "number"),
        ("The meeting on 2024-05-01", "The meeting on 2024-05-02", "number"),
        ("Flights at 3pm", "Flights at 3am", "number"),
        ("Can I get $50 back?", "Can I get \u{20ac}50 back?", "number"),
        ("How do I install Docker on Windows?", "How do I install Docker on Linux?", "class"),
        ("What is the capital of Australia?", "What is the capital of Austria?", "class"),
        ("holidays in june", "holidays in july", "class"),
        ("Who is Ada Lovelace?", "Who is Grace Hopper?", "name"),
        ("How do I install podman?", "How do I install nomad?", "substitution"),
        ("Flights from Paris to London", "Flights from London to Paris", "order"),
        ("Convert euros into dollars", "Convert dollars into euros", "order"),
        ("Did the dog bite the man?", "Did the man bite the dog?", "order"),
        ("Is tea better than coffee?", "Is coffee better than tea?", "order"),
        ("merge develop into main", "merge main into develop", "order"),
        ("Why did the company close?", "When did the company close?", "question"),
        ("What does `foo()` return?", "What does `bar()` return?", "literal"),
        ("What does git reset --hard do?", "What does git reset --soft do?", "literal"),
        ("Summarise https://a.example/x", "Summarise https://a.example/y", "literal"),
        ("Translate \"good morning\"", "Translate \"good night\"", "literal"),
        ("What is 5 + 3?", "What is 5 - 3?", "literal"),
        ("How do I reset my password?", "\u{bf}C\u{f3}mo puedo restablecer mi contrase\u{f1}a en la web?", "language"),
        (
            "\u{41a}\u{430}\u{43a} \u{43c}\u{43d}\u{435} \u{432}\u{43e}\u{439}\u{442}\u{438}?",
            "How do I log in?",
            "language",
        ),
        ("\u{6211}\u{80fd}\u{53d6}\u{6d88}\u{5417}", "\u{6211}\u{4e0d}\u{80fd}\u{53d6}\u{6d88}\u{5417}", "negation"),
        ("Kann ich das Konto l\u{f6}schen und wie?", "Kann ich das Konto nicht l\u{f6}schen und wie?", "negation"),
    ];
    for (query, candidate, guard) in traps {
        for (x, y) in [(query, candidate), (candidate, query)] {
            let found = refused_by(x, y);
            assert!(found.contains(&guard), "{x:?} against {y:?}: {found:?}");
        }
    }
}

#[test]
fn paraphrases_pass() {
    let pairs = [
        ("How do I reset my password?", "How can I reset my password?"),
        ("What's the capital of France?", "what is the capital of france"),
        ("Is this natural?", "is this natural ?"),
        ("It is not natural", "It is unnatural"),
        ("Pay 1,000 dollars", "pay $1000"),
        ("I have two dogs", "I have 2 dogs"),
        ("It weighs 1 kg", "It weighs 1000 g"),
        ("at 3pm", "at 15:00"),
        ("Give me one reason", "Give me a reason"),
        ("In India, how do I get a PAN card?", "How do I get a PAN card in India?"),
        ("What is the difference between TCP and UDP?", "What is the difference between UDP and TCP?"),
        ("flights from Paris to London", "flights to London from Paris"),
        ("Isn't it illegal to copy DVDs?", "Is it illegal to copy DVDs?"),
        ("How do I sign in with e-mail?", "How do I signin with email?"),
        ("Are my messages encrypted on the server?", "Does the server encrypt my messages?"),
        ("How do I turn off the alarm?", "How do I disable the alarm?"),
        ("How do I use NumPy?", "how do i use numpy?"),
        ("Who wrote \"Hamlet\"?", "Who wrote Hamlet?"),
        ("Why is the sky blue?", "What is the reason why the sky is blue?"),
    ];
    for (query, candidate) in pairs {
        for (x, y) in [(query, candidate), (candidate, query)] {
            assert_eq!(refused_by(x, y), Vec::<&str>::new(), "{x:?} against {y:?}");
        }
    }
}

#[test]
fn reasons_show_both_pieces() {
    let verdict = judge("Convert 5 km to miles", "Convert 6 km to miles");
    assert_eq!(verdict.reasons[0].to_string(), "number: \"5 km\" against \"6 km\"");
    let verdict = judge("best phone on Android", "best phone");
    assert_eq!(verdict.reasons[0].to_string(), "class: \"Android\" against nothing");
}

#[test]
fn huge_and_hostile_texts_are_judged() {
    let hostile =
        ["(", "\"", "`", "'", "=", "1,", "/,", "- ", "a'", "5-", "\u{300}", "\u{4e0d}", "x_", "\0", ".5", "one "];
    for piece in hostile {
        let text = piece.repeat(100_000 / piece.len());
        assert!(judge(&text, &text).accepted, "{piece:?} repeated");
        let _ = judge(&text, "How do I reset my password?");
    }
}

proptest! {
    #[test]
    fn a_text_is_never_refused_against_itself(text in "\\PC{0,80}") {
        prop_assert_eq!(judge(&text, &text).reasons, Vec::new());
    }

    #[test]
    fn refusal_is_symmetric(a in "([a-z]{1,6}|not|[0-9]{1,3}|to|from|Paris|\\PC)( ([a-z]{1,6}|not|[0-9]{1,3}|Rome|\\PC)){0,12}", b in "([a-z]{1,6}|not|[0-9]{1,3}|to|Rome)( ([a-z]{1,6}|[0-9]{1,3}|\\PC)){0,12}") {
        prop_assert_eq!(judge(&a, &b).accepted, judge(&b, &a).accepted);
    }
}
