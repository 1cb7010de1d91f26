//! `nearhit._core`'s router: prompts and messages in, decisions out.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use nearhit_core::Error;
use nearhit_core::route::{
    Applied, BreakerOptions, Candidate, Conversation, Decision, Head, Holds, Need, Outcome, Policy, Reason, Role,
    Router, Rules, Sample, Square, Strategy, Surface, Target, TierSpec, Turn, Verdict, standardise,
};
use nearhit_core::text::features::{PromptFeatures, focus};
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyIndexError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString};

use crate::error::CoreError;
use crate::rules::{HeldRules, RuleFields, facts};

/// Bytes up to which keywords and patterns are found in some 20 µs: below, giving up the interpreter lock costs more
/// than it brings.
const QUICK_TEXT: usize = 16_384;

/// Weights of one sum: bias, features, embedding, and squares as weight and direction.
type Weights = (f32, Vec<f32>, Vec<f32>, Vec<(f32, Vec<f32>)>);

/// A tier's profile, read from the attributes of a Python object.
#[derive(FromPyObject)]
struct Profile {
    name: String,
    quality: f64,
    input_cost: f64,
    output_cost: f64,
    context_window: Option<u32>,
    images: bool,
    tools: bool,
    max_concurrency: Option<u32>,
    ttft: Option<f64>,
    tpot: Option<f64>,
}

impl From<Profile> for TierSpec {
    fn from(profile: Profile) -> Self {
        Self {
            name: profile.name,
            quality: profile.quality,
            input_cost: profile.input_cost,
            output_cost: profile.output_cost,
            context: profile.context_window,
            images: profile.images,
            tools: profile.tools,
            slots: profile.max_concurrency,
            ttft: profile.ttft,
            tpot: profile.tpot,
        }
    }
}

fn surface((bias, features, embedding, squares): Weights) -> Result<Surface, CoreError> {
    let squares = squares.into_iter().map(|(weight, direction)| Square { weight, direction }).collect();
    Ok(Surface::new(bias, features, embedding, squares)?)
}

/// A prompt to calibrate on, with its embedding and the rules that hold.
type Asked<'py> = (Py<RouteRequest>, Option<Bound<'py, PyAny>>, Option<Py<HeldRules>>);

/// The head of these weights; the shipped one without any.
fn head_of(heads: Option<Vec<Weights>>, embedded: Option<Vec<Weights>>) -> Result<Head, CoreError> {
    let surfaces = |weights: Vec<Weights>| weights.into_iter().map(surface).collect::<Result<Vec<_>, _>>();
    let Some(heads) = heads else { return Ok(Head::default()) };
    Ok(Head::PerTier { text: surfaces(heads)?, embedded: surfaces(embedded.unwrap_or_default())? })
}

/// The rules of these fields, for tiers of these names.
fn rules_of(rules: Vec<RuleFields>, names: &[String]) -> Result<Rules, CoreError> {
    let specs: Vec<_> = rules.into_iter().map(RuleFields::spec).collect::<Result<_, _>>()?;
    Ok(Rules::new(&specs, names)?)
}

fn text_of<'a>(string: &'a Bound<'_, PyString>) -> Cow<'a, str> {
    // Only lone surrogates cannot be borrowed; a replacement character changes no feature.
    string.to_cow().unwrap_or_else(|_| string.to_string_lossy())
}

fn refuse(reason: String) -> PyErr {
    CoreError(Error::Request { reason }).into()
}

fn kind_of(value: &Bound<'_, PyAny>) -> String {
    value.get_type().name().map_or_else(|_| "an object".to_owned(), |name| name.to_string())
}

fn item<'py>(message: &Bound<'py, PyAny>, key: &str) -> PyResult<Option<Bound<'py, PyAny>>> {
    if let Ok(dict) = message.cast::<PyDict>() {
        return dict.get_item(key);
    }
    let value = message.call_method1("get", (key,))?;
    Ok((!value.is_none()).then_some(value))
}

/// Reads one message; `at` names it in errors.
fn turn(message: &Bound<'_, PyAny>, at: usize) -> PyResult<Turn<'static>> {
    if !message.hasattr("get")? {
        return Err(refuse(format!("message {at} is {}, not a mapping with a role and a content", kind_of(message))));
    }
    let role = item(message, "role")?.ok_or_else(|| refuse(format!("message {at} has no role")))?;
    let role = role.cast::<PyString>().map_err(|_| refuse(format!("the role of message {at} is not a string")))?;
    let role = Role::parse(&text_of(role)).map_err(CoreError)?;
    let mut text = String::new();
    let mut images = 0;
    match item(message, "content")?.filter(|content| !content.is_none()) {
        None => {}
        Some(content) => {
            if let Ok(string) = content.cast::<PyString>() {
                text = text_of(string).into_owned();
            } else if let Ok(parts) = content.cast::<PyList>() {
                for part in parts {
                    images += read_part(&part, at, &mut text)?;
                }
            } else {
                let kind = kind_of(&content);
                return Err(refuse(format!("the content of message {at} is {kind}: give a string or a list of parts")));
            }
        }
    }
    Ok(Turn { role, text: text.into(), images })
}

/// Adds a content part's text; returns the number of images in it.
fn read_part(part: &Bound<'_, PyAny>, at: usize, text: &mut String) -> PyResult<u32> {
    if !part.hasattr("get")? {
        return Err(refuse(format!("message {at} holds a part that is {}, not a mapping", kind_of(part))));
    }
    if let Some(string) = item(part, "text")?
        && let Ok(string) = string.cast::<PyString>()
    {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&text_of(string));
    }
    Ok(u32::from(item(part, "image_url")?.is_some()))
}

fn conversation(prompt: &Bound<'_, PyAny>) -> PyResult<Conversation> {
    if let Ok(string) = prompt.cast::<PyString>() {
        return Ok(Conversation::prompt(&text_of(string)).map_err(CoreError)?);
    }
    if prompt.is_instance_of::<PyDict>() || prompt.len().is_err() {
        return Err(refuse(format!("a prompt is a string or a list of messages, not {}", kind_of(prompt))));
    }
    let turns: Vec<Turn<'_>> =
        prompt.try_iter()?.enumerate().map(|(at, message)| turn(&message?, at)).collect::<PyResult<_>>()?;
    Ok(Conversation::read(&turns).map_err(CoreError)?)
}

fn vector(vector: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Vec<f32>>> {
    vector.map(|vector| PyBuffer::<f32>::get(vector)?.to_vec(vector.py())).transpose()
}

/// A prompt or a conversation, read once for any number of decisions.
#[pyclass(frozen, module = "nearhit._core")]
pub(crate) struct RouteRequest(Conversation);

#[pymethods]
impl RouteRequest {
    /// Estimated tokens of the whole prompt.
    #[getter]
    fn tokens(&self) -> f64 {
        self.0.tokens
    }

    /// True where an earlier turn's difficulty counts.
    #[getter]
    fn inherited(&self) -> bool {
        self.0.inherited
    }

    /// The text that decides: the last user turn, or the one that it continues.
    #[getter]
    fn prompt(&self) -> &str {
        &self.0.prompt
    }
}

/// Features of a prompt as heads weigh them: standardised and clipped, in the order of `feature_names`; as they were
/// counted if they are to be `raw`.
#[pyfunction]
#[pyo3(signature = (text, *, raw=false))]
pub(crate) fn prompt_features(text: &Bound<'_, PyString>, raw: bool) -> Vec<f32> {
    let features = PromptFeatures::of(&text_of(text));
    if raw { features.values().to_vec() } else { standardise(&features).to_vec() }
}

/// The kind of a prompt, by which the shipped head chooses its weights: "choice", "quantity" or "open".
#[pyfunction]
pub(crate) fn prompt_kind(text: &Bound<'_, PyString>) -> &'static str {
    nearhit_core::route::prompt_kind(&PromptFeatures::of(&text_of(text)))
}

/// The last question of a few-shot prompt, without the examples before it; any other text as a whole.
#[pyfunction]
pub(crate) fn prompt_focus(text: &Bound<'_, PyString>) -> String {
    focus(&text_of(text)).to_owned()
}

/// Names of the prompt features.
#[pyfunction]
pub(crate) fn feature_names() -> Vec<&'static str> {
    PromptFeatures::names().collect()
}

/// Tiers, a head and a policy; all arithmetic of the router.
#[pyclass(frozen, module = "nearhit._core")]
pub(crate) struct RouterCore {
    router: Router,
    names: Arc<[String]>,
    started: Instant,
}

impl RouterCore {
    fn clock(&self, now: Option<f64>) -> f64 {
        now.unwrap_or_else(|| self.started.elapsed().as_secs_f64())
    }

    fn choose(
        &self,
        request: &Conversation,
        need: &Need,
        embedding: Option<&[f32]>,
        holds: &[Holds],
        now: Option<f64>,
    ) -> PyResult<RouteDecision> {
        let decision = self.router.decide(request, need, embedding, holds, self.clock(now)).map_err(CoreError)?;
        Ok(RouteDecision { decision, names: Arc::clone(&self.names), tokens: request.tokens })
    }

    fn end(&self, tier: usize, outcome: Outcome, tokens: f64, load: Option<u32>, now: Option<f64>) -> PyResult<()> {
        let tier = self.tier(tier)?;
        tier.leave(outcome, tokens, load.unwrap_or_else(|| tier.in_flight()), self.clock(now));
        Ok(())
    }

    fn tier(&self, tier: usize) -> PyResult<&nearhit_core::route::Tier> {
        self.router.tiers().get(tier).ok_or_else(|| PyIndexError::new_err(format!("no tier number {tier}")))
    }
}

#[pymethods]
impl RouterCore {
    #[new]
    #[pyo3(signature = (profiles, *, strategy, cost_weight, failures, cooldown, heads=None, embedded_heads=None, rules=Vec::new()))]
    #[expect(clippy::too_many_arguments, reason = "one keyword each on the Python side")]
    fn new(
        profiles: Vec<Profile>,
        strategy: &str,
        cost_weight: f64,
        failures: u16,
        cooldown: f64,
        heads: Option<Vec<Weights>>,
        embedded_heads: Option<Vec<Weights>>,
        rules: Vec<RuleFields>,
    ) -> Result<Self, CoreError> {
        let head = head_of(heads, embedded_heads)?;
        let breaker = BreakerOptions { failures, cooldown };
        let policy = Policy { strategy: Strategy::parse(strategy)?, cost_weight, breaker };
        let specs: Vec<TierSpec> = profiles.into_iter().map(TierSpec::from).collect();
        let names: Arc<[String]> = specs.iter().map(|spec| spec.name.clone()).collect();
        let router = Router::new(specs, head, policy)?.with_rules(rules_of(rules, &names)?);
        Ok(Self { router, names, started: Instant::now() })
    }

    /// Another core over the same tiers in the same state, with a policy, a head and rules of its own.
    #[pyo3(signature = (*, strategy, cost_weight, heads=None, embedded_heads=None, rules=Vec::new()))]
    fn beside(
        &self,
        strategy: &str,
        cost_weight: f64,
        heads: Option<Vec<Weights>>,
        embedded_heads: Option<Vec<Weights>>,
        rules: Vec<RuleFields>,
    ) -> Result<Self, CoreError> {
        let policy = Policy { strategy: Strategy::parse(strategy)?, cost_weight, ..Policy::default() };
        let router = self.router.beside(head_of(heads, embedded_heads)?, policy)?;
        let router = router.with_rules(rules_of(rules, &self.names)?);
        Ok(Self { router, names: Arc::clone(&self.names), started: self.started })
    }

    /// The cost weight that meets a target ("strong share", "cost" or "quality") on prompts.
    ///
    /// Returns it with the share of strong calls, the mean cost, the mean quality and the share of each tier.
    fn calibrate(
        &self,
        py: Python<'_>,
        prompts: Vec<Asked<'_>>,
        strong: usize,
        target: &str,
        value: f64,
    ) -> PyResult<(f64, f64, f64, f64, Vec<f64>)> {
        self.tier(strong)?;
        let target = Target::parse(target, value).map_err(CoreError)?;
        let now = self.clock(None);
        let mut sample = Sample::new(self.names.len(), self.router.is_priced());
        for (request, vector, held) in prompts {
            let vector = self::vector(vector.as_ref())?;
            let holds = held.as_ref().map_or(&[][..], |held| &held.get().0);
            let options = self.router.options(&request.get().0, vector.as_deref(), holds, now).map_err(CoreError)?;
            sample.add(options, strong);
        }
        let found = py.detach(|| sample.calibrate(target)).map_err(CoreError)?;
        Ok((found.cost_weight, found.strong_share, found.cost, found.quality, found.shares))
    }

    /// Chooses a tier for a prompt or a conversation; changes nothing.
    #[pyo3(signature = (prompt, *, deadline=None, max_cost=None, max_tokens=None, tools=false, excluded=Vec::new(), vector=None, held=None, now=None))]
    #[expect(clippy::too_many_arguments, reason = "one keyword each on the Python side")]
    fn decide(
        &self,
        prompt: &Bound<'_, PyAny>,
        deadline: Option<f64>,
        max_cost: Option<f64>,
        max_tokens: Option<u32>,
        tools: bool,
        excluded: Vec<usize>,
        vector: Option<&Bound<'_, PyAny>>,
        held: Option<&HeldRules>,
        now: Option<f64>,
    ) -> PyResult<RouteDecision> {
        let need = Need { deadline, max_cost, max_tokens, tools, excluded };
        let embedding = self::vector(vector)?;
        let holds = held.map_or(&[][..], |held| &held.0);
        match prompt.cast::<RouteRequest>() {
            Ok(read) => self.choose(&read.get().0, &need, embedding.as_deref(), holds, now),
            Err(_) => self.choose(&conversation(prompt)?, &need, embedding.as_deref(), holds, now),
        }
    }

    /// The rules that hold for a request, for `decide`.
    #[pyo3(signature = (request, *, tags=Vec::new(), fields=Vec::new(), tools=false, vector=None))]
    fn holding(
        &self,
        py: Python<'_>,
        request: &RouteRequest,
        tags: Vec<String>,
        fields: Vec<Option<Bound<'_, PyAny>>>,
        tools: bool,
        vector: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<HeldRules> {
        let Some(rules) = self.router.rules() else { return Ok(HeldRules(Vec::new())) };
        let vector = self::vector(vector)?;
        let facts = facts(tags, fields, tools, vector.as_deref())?;
        let find = || rules.holding(&request.0, &facts);
        let held = if request.0.prompt.len() > QUICK_TEXT { py.detach(find) } else { find() };
        Ok(HeldRules(held.map_err(CoreError)?))
    }

    /// Reads a prompt or a conversation for `decide`.
    #[staticmethod]
    fn read(prompt: &Bound<'_, PyAny>) -> PyResult<RouteRequest> {
        conversation(prompt).map(RouteRequest)
    }

    /// Starts a call of a tier; returns how many are under way with it, 0 if its breaker forbids it. Each one that was
    /// started needs one `answered`, `failed`, `cancelled` or `stopped`, which is told that number.
    #[pyo3(signature = (tier, *, now=None))]
    fn start(&self, tier: usize, now: Option<f64>) -> PyResult<u32> {
        Ok(self.tier(tier)?.join(self.clock(now)).unwrap_or(0))
    }

    /// Ends a call that answered.
    #[pyo3(signature = (tier, tokens, ttft, decode, output, *, load=None, now=None))]
    #[expect(clippy::too_many_arguments, reason = "one keyword each on the Python side")]
    fn answered(
        &self,
        tier: usize,
        tokens: f64,
        ttft: Option<f64>,
        decode: f64,
        output: u32,
        load: Option<u32>,
        now: Option<f64>,
    ) -> PyResult<()> {
        self.end(tier, Outcome::Answered { ttft, decode, output }, tokens, load, now)
    }

    /// Ends a call that failed.
    #[pyo3(signature = (tier, tokens, waited=None, *, load=None, now=None))]
    fn failed(
        &self,
        tier: usize,
        tokens: f64,
        waited: Option<f64>,
        load: Option<u32>,
        now: Option<f64>,
    ) -> PyResult<()> {
        self.end(tier, Outcome::Failed { waited }, tokens, load, now)
    }

    /// Ends a call that was given up before its first token, after `waited` seconds of work.
    #[pyo3(signature = (tier, tokens, waited=None, *, load=None, now=None))]
    fn cancelled(
        &self,
        tier: usize,
        tokens: f64,
        waited: Option<f64>,
        load: Option<u32>,
        now: Option<f64>,
    ) -> PyResult<()> {
        self.end(tier, Outcome::Cancelled { waited }, tokens, load, now)
    }

    /// Ends a call that was given up after its first token, when `output` tokens had come.
    #[pyo3(signature = (tier, tokens, ttft, decode, output, *, load=None, now=None))]
    #[expect(clippy::too_many_arguments, reason = "one keyword each on the Python side")]
    fn stopped(
        &self,
        tier: usize,
        tokens: f64,
        ttft: f64,
        decode: f64,
        output: u32,
        load: Option<u32>,
        now: Option<f64>,
    ) -> PyResult<()> {
        self.end(tier, Outcome::Stopped { ttft, decode, output }, tokens, load, now)
    }

    /// A quantile of the time to first token over the last minutes, or None below `least` calls; of prompts of about so
    /// many tokens as far as there are enough of them, or of all.
    #[pyo3(signature = (tier, q, least, *, tokens=None, now=None))]
    fn ttft_quantile(
        &self,
        tier: usize,
        q: f64,
        least: u32,
        tokens: Option<f64>,
        now: Option<f64>,
    ) -> PyResult<Option<f64>> {
        Ok(self.tier(tier)?.ttft_quantile(tokens, q, least, self.clock(now)))
    }

    /// Sends a tier no call for so many seconds, as its server has asked.
    #[pyo3(signature = (tier, seconds, *, now=None))]
    fn rest(&self, tier: usize, seconds: f64, now: Option<f64>) -> PyResult<()> {
        self.tier(tier)?.rest(seconds, self.clock(now));
        Ok(())
    }

    /// Seconds until the first of the tiers that rest at their servers' wish may be called, and that time on the clock
    /// of `now`; None if none rests.
    #[pyo3(signature = (*, now=None))]
    fn rested_in(&self, now: Option<f64>) -> Option<(f64, f64)> {
        let now = self.clock(now);
        let resting = self.router.tiers().iter().map(|tier| tier.resting_for(now)).filter(|left| *left > 0.0);
        resting.min_by(f64::total_cmp).map(|left| (left, now + left))
    }

    /// State of a tier: calls, failures, calls under way, seconds until its breaker lets a call through.
    #[pyo3(signature = (tier, *, now=None))]
    fn state(&self, tier: usize, now: Option<f64>) -> PyResult<(u64, u64, u32, f64)> {
        let tier = self.tier(tier)?;
        let (calls, failures) = tier.counts();
        Ok((calls, failures, tier.in_flight(), tier.down_for(self.clock(now))))
    }
}

/// What a decision thought of one tier.
#[pyclass(frozen, get_all, module = "nearhit._core")]
pub(crate) struct Alternative {
    tier: String,
    score: f64,
    utility: f64,
    predicted_ttft: Option<f64>,
    predicted_e2e: Option<f64>,
    in_time: f64,
    burden: f64,
    predicted_cost: f64,
    eligible: bool,
    verdict: String,
}

#[pymethods]
impl Alternative {
    fn __repr__(&self) -> String {
        format!("Alternative({:?}, score={:.3}, {})", self.tier, self.score, self.verdict)
    }
}

/// A rule that holds for a request.
#[pyclass(frozen, get_all, module = "nearhit._core")]
pub(crate) struct AppliedRule {
    name: String,
    evidence: String,
    kept: bool,
}

impl From<&Applied> for AppliedRule {
    fn from(applied: &Applied) -> Self {
        Self { name: applied.name.to_string(), evidence: applied.evidence.to_string(), kept: applied.kept }
    }
}

#[pymethods]
impl AppliedRule {
    fn __repr__(&self) -> String {
        let aside = if self.kept { "" } else { ", set aside" };
        format!("AppliedRule({:?}, {}{aside})", self.name, self.evidence)
    }
}

/// Which tier, why, and what was thought of the others.
#[pyclass(frozen, module = "nearhit._core")]
pub(crate) struct RouteDecision {
    decision: Decision,
    names: Arc<[String]>,
    tokens: f64,
}

impl RouteDecision {
    fn chosen(&self) -> &Candidate {
        &self.decision.candidates[self.decision.tier]
    }

    fn alternative(&self, candidate: &Candidate) -> Alternative {
        Alternative {
            tier: self.names[candidate.tier].clone(),
            score: candidate.quality,
            utility: candidate.utility,
            predicted_ttft: candidate.ttft,
            predicted_e2e: candidate.e2e,
            in_time: candidate.in_time,
            burden: candidate.burden,
            predicted_cost: candidate.cost,
            eligible: candidate.verdict == Verdict::Eligible,
            verdict: candidate.words(&self.decision.rules),
        }
    }
}

#[pymethods]
impl RouteDecision {
    #[getter]
    fn tier(&self) -> &str {
        &self.names[self.decision.tier]
    }

    #[getter]
    fn index(&self) -> usize {
        self.decision.tier
    }

    #[getter]
    fn score(&self) -> f64 {
        self.chosen().quality
    }

    #[getter]
    fn difficulty(&self) -> f64 {
        self.decision.difficulty
    }

    #[getter]
    fn inherited(&self) -> bool {
        self.decision.inherited
    }

    #[getter]
    fn prompt_tokens(&self) -> f64 {
        self.tokens
    }

    #[getter]
    fn reason(&self) -> String {
        self.decision.explain(&self.names)
    }

    /// The rules that hold for the request, in the order in which they were applied.
    #[getter]
    fn rules(&self) -> Vec<AppliedRule> {
        self.decision.rules.iter().map(AppliedRule::from).collect()
    }

    #[getter]
    fn degraded(&self) -> bool {
        self.decision.reason != Reason::Preferred
    }

    #[getter]
    fn predicted_ttft(&self) -> Option<f64> {
        self.chosen().ttft
    }

    #[getter]
    fn predicted_e2e(&self) -> Option<f64> {
        self.chosen().e2e
    }

    #[getter]
    fn predicted_cost(&self) -> f64 {
        self.chosen().cost
    }

    /// Every tier but the chosen one, the most useful first.
    #[getter]
    fn alternatives(&self) -> Vec<Alternative> {
        self.decision.others().into_iter().map(|candidate| self.alternative(candidate)).collect()
    }

    /// What was thought of the chosen tier.
    #[getter]
    fn choice(&self) -> Alternative {
        self.alternative(self.chosen())
    }

    fn __repr__(&self) -> String {
        format!("Decision({:?}, score={:.3}, reason={:?})", self.tier(), self.score(), self.reason())
    }
}
