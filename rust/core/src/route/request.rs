//! What the router needs to know of a request: which text decides, how long all of it is, what it requires.

use std::borrow::Cow;

use crate::text::features::PromptFeatures;
use crate::{Error, Result};

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Instructions of the application ("system" or "developer").
    System,
    /// The user.
    User,
    /// The model.
    Assistant,
    /// A tool's result ("tool" or "function").
    Tool,
}

impl Role {
    /// Reads a role's name in the `OpenAI` form.
    ///
    /// # Errors
    /// [`Error::Request`] names the role.
    pub fn parse(name: &str) -> Result<Self> {
        match name {
            "system" | "developer" => Ok(Self::System),
            "user" => Ok(Self::User),
            "assistant" => Ok(Self::Assistant),
            "tool" | "function" => Ok(Self::Tool),
            _ => Err(Error::Request {
                reason: format!("role {name:?} is unknown: use system, developer, user, assistant or tool"),
            }),
        }
    }
}

/// One message.
#[derive(Debug, Clone, PartialEq)]
pub struct Turn<'a> {
    /// Who speaks.
    pub role: Role,
    /// The text parts, joined.
    pub text: Cow<'a, str>,
    /// Number of images.
    pub images: u32,
}

/// Rough cost of an image in tokens, as the large vision models bill a small one.
const IMAGE_TOKENS: f64 = 256.0;

/// A request, read for routing.
#[derive(Debug, Clone, PartialEq)]
pub struct Conversation {
    /// Features of the text that decides: the last user turn, or the one before it if the last only says "yes".
    pub features: PromptFeatures,
    /// True where an earlier turn decided.
    pub inherited: bool,
    /// Estimated tokens of all turns.
    pub tokens: f64,
    /// True where any turn holds an image.
    pub images: bool,
    /// The text that decides, for rules.
    pub prompt: Box<str>,
    /// The system prompt, for rules.
    pub system: Box<str>,
}

impl Conversation {
    /// Reads a plain prompt.
    ///
    /// # Errors
    /// [`Error::EmptyPrompt`].
    pub fn prompt(text: &str) -> Result<Self> {
        if text.trim().is_empty() {
            return Err(Error::EmptyPrompt);
        }
        let features = PromptFeatures::of(text);
        let tokens = f64::from(features.estimated_tokens());
        Ok(Self { features, inherited: false, tokens, images: false, prompt: text.into(), system: "".into() })
    }

    /// Reads the turns of a conversation.
    ///
    /// The system prompt counts by its length only: what it says is the same for easy and hard requests.
    ///
    /// # Errors
    /// [`Error::Request`] without a user turn, [`Error::EmptyPrompt`] if no user turn says anything.
    pub fn read(turns: &[Turn<'_>]) -> Result<Self> {
        let images = turns.iter().any(|turn| turn.images > 0);
        let users = || turns.iter().filter(|turn| turn.role == Role::User);
        if users().next().is_none() {
            return Err(Error::Request { reason: "there is no user message to answer".to_owned() });
        }
        let system: Vec<&str> = turns.iter().filter(|turn| turn.role == Role::System).map(|turn| &*turn.text).collect();
        let system = system.join("\n").into();
        let mut spoken = users().rev().map(|turn| &*turn.text).filter(|text| !text.trim().is_empty());
        let Some(mut prompt) = spoken.next() else {
            if !images {
                return Err(Error::EmptyPrompt);
            }
            let features = PromptFeatures::of("");
            return Ok(Self { features, inherited: false, tokens: IMAGE_TOKENS, images, prompt: "".into(), system });
        };
        let mut features = PromptFeatures::of(prompt);
        let mut inherited = false;
        if features.is_continuation() {
            let earlier = spoken.map(|text| (PromptFeatures::of(text), text)).find(|(read, _)| !read.is_continuation());
            if let Some(earlier) = earlier {
                ((features, prompt), inherited) = (earlier, true);
            }
        }
        let tokens = turns.iter().map(Turn::tokens).sum();
        Ok(Self { features, inherited, tokens, images, prompt: prompt.into(), system })
    }
}

impl Turn<'_> {
    /// Four bytes a token for Latin script, three (one character) for the others: near enough for a prediction, and
    /// cheap on long histories.
    fn tokens(&self) -> f64 {
        let bytes = self.text.len() as f64;
        let divisor = if self.text.get(..64).unwrap_or(&self.text).is_ascii() { 4.0 } else { 3.0 };
        bytes / divisor + f64::from(self.images) * IMAGE_TOKENS
    }
}

/// What a request demands of a tier.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Need {
    /// Seconds that are left for the whole answer.
    pub deadline: Option<f64>,
    /// US dollars that it may cost.
    pub max_cost: Option<f64>,
    /// Longest answer asked for, in tokens.
    pub max_tokens: Option<u32>,
    /// Whether tools are given.
    pub tools: bool,
    /// Tiers that must not be chosen, by number: those that have failed this request already.
    pub excluded: Vec<usize>,
}

impl Need {
    /// Refuses limits without a meaning.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] names the limit.
    pub fn check(&self) -> Result<()> {
        let refuse = |name, value: f64, expected: &str| {
            Err(Error::InvalidOption { name, value: value.to_string(), expected: expected.to_owned() })
        };
        if let Some(deadline) = self.deadline.filter(|seconds| seconds.is_nan() || *seconds <= 0.0) {
            return refuse("deadline", deadline, "seconds, more than 0");
        }
        if let Some(cost) = self.max_cost.filter(|cost| cost.is_nan() || *cost < 0.0) {
            return refuse("max_cost", cost, "US dollars, 0 or more");
        }
        if self.max_tokens == Some(0) {
            return refuse("max_tokens", 0.0, "at least 1");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Conversation, Need, Role, Turn};

    fn turn(role: Role, text: &str) -> Turn<'_> {
        Turn { role, text: text.into(), images: 0 }
    }

    #[test]
    fn a_bare_yes_inherits_the_request_it_answers() {
        let hard = "Prove that the square root of 2 is irrational, step by step.";
        let turns = [
            turn(Role::System, "You are terse."),
            turn(Role::User, hard),
            turn(Role::Assistant, "Shall I use contradiction?"),
            turn(Role::User, "ok"),
            turn(Role::Assistant, "In detail?"),
            turn(Role::User, "Yes, please."),
        ];
        let read = Conversation::read(&turns).unwrap();
        assert!(read.inherited);
        assert_eq!(read.features, Conversation::prompt(hard).unwrap().features);
        assert!(read.tokens > 25.0 && read.tokens < 45.0, "{}", read.tokens);
    }

    #[test]
    fn a_first_yes_stands_for_itself() {
        let read = Conversation::read(&[turn(Role::User, "yes")]).unwrap();
        assert!(!read.inherited);
    }

    #[test]
    fn images_alone_are_a_request_and_nothing_is_not() {
        let picture = Turn { role: Role::User, text: "".into(), images: 1 };
        assert!(Conversation::read(&[picture]).unwrap().images);
        assert!(Conversation::read(&[]).is_err());
        assert!(Conversation::read(&[turn(Role::Assistant, "Hello")]).is_err());
        assert!(Conversation::read(&[turn(Role::User, " \n")]).is_err());
        assert!(Conversation::prompt("").is_err());
        assert!(Role::parse("wizard").is_err());
    }

    #[test]
    fn limits_without_meaning_are_refused() {
        for need in [
            Need { deadline: Some(0.0), ..Need::default() },
            Need { deadline: Some(f64::NAN), ..Need::default() },
            Need { max_cost: Some(-1.0), ..Need::default() },
            Need { max_tokens: Some(0), ..Need::default() },
        ] {
            assert!(need.check().is_err(), "{need:?}");
        }
    }
}
