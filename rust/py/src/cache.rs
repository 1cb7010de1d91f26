//! The cache for Python: requests in, hits out.

use crate::convert;
use crate::encode::NativeEncoder;
use crate::error::CoreError;
use crate::fork::detached;
use crate::vectors;
use nearhit_core::Error;
use nearhit_core::cache::{
    Answer, Bound as ErrorBound, Cache, Caller, Candidate, Clock, Effort, Entry, Exploration, Form, Hit, Judgement,
    Kind, Meta, NEVER, Near, NearQuery, NewEntry, Opened, Options, Payload, Policy, Sought, Space, Stats, to_json,
};
use nearhit_core::encode::{Embed, Embedded};
use nearhit_core::persist::Durability;
use nearhit_core::text::canonical::{Fingerprint, Request, ScopeId};
use nearhit_core::text::json::Value;
use nearhit_core::verify::model::Model;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};
use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A text's vector, whether the text was cut, and the seconds of tokenising and of the forward pass.
type Vector<'py> = (Bound<'py, PyAny>, bool, f64, f64);

/// A request in canonical form, ready to be looked up, embedded and stored; see `_core.pyi`.
#[pyclass(frozen, module = "nearhit._core", name = "Request")]
pub(crate) struct PyRequest {
    fingerprint: Fingerprint,
    scope: ScopeId,
    text: Option<String>,
    temperature: Option<f64>,
    caller: ScopeId,
    label: Option<String>,
}

#[pymethods]
impl PyRequest {
    #[new]
    #[pyo3(signature = (prompt, scope = None, /))]
    fn new(prompt: &Bound<'_, PyAny>, scope: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        with_request(prompt, scope, |request, caller| Ok(own(request, caller)?))
    }

    /// A request of which only the hashes and the text are known: an exported entry's.
    #[staticmethod]
    #[pyo3(signature = (fingerprint, scope, text, caller, /))]
    fn from_parts(
        fingerprint: &str,
        scope: &str,
        text: Option<String>,
        caller: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let (id, label) = self::caller(caller)?;
        Ok(Self {
            fingerprint: Fingerprint(hex("id", fingerprint)?),
            scope: ScopeId(hex("scope_id", scope)?),
            text,
            temperature: None,
            caller: id,
            label: label.map(|value| to_json(&value)).transpose().map_err(CoreError)?,
        })
    }

    #[getter]
    fn fingerprint(&self) -> String {
        self.fingerprint.to_string()
    }

    #[getter]
    fn scope(&self) -> String {
        self.scope.to_string()
    }

    #[getter]
    fn text(&self) -> Option<&str> {
        self.text.as_deref()
    }

    #[getter]
    fn temperature(&self) -> Option<f64> {
        self.temperature
    }

    #[getter(caller)]
    fn caller_id(&self) -> String {
        self.caller.to_string()
    }

    /// The caller's own scope as JSON; `None` for the shared one.
    #[getter]
    fn label(&self) -> Option<&str> {
        self.label.as_deref()
    }

    fn __repr__(&self) -> String {
        let text = self.text.as_deref().map_or_else(|| "None".into(), |text| format!("{text:?}"));
        format!("Request(fingerprint='{}', text={text})", self.fingerprint)
    }
}

impl PyRequest {
    fn of(entry: &Entry) -> Self {
        Self {
            fingerprint: entry.id(),
            scope: entry.scope(),
            text: entry.text().map(Into::into),
            temperature: None,
            caller: entry.caller(),
            label: entry.tenant().map(Into::into),
        }
    }

    fn asks<'q>(&self, text: &'q str, vector: &'q [f32], threshold: Option<f64>) -> PyResult<NearQuery<'q>> {
        let threshold = optional_threshold(threshold)?;
        let (request, caller, scope) = (self.fingerprint, self.caller, self.scope);
        Ok(NearQuery { request, caller, scope, text, vector, threshold })
    }

    fn caller(&self) -> Caller<'_> {
        Caller { id: self.caller, label: self.label.as_deref() }
    }

    fn borrowed(&self) -> Request<'_> {
        let text = self.text.as_deref().map(Cow::Borrowed);
        Request { fingerprint: self.fingerprint, scope: self.scope, text, temperature: self.temperature }
    }
}

/// An answer from the cache; see `_core.pyi`.
#[pyclass(frozen, module = "nearhit._core", name = "Hit")]
pub(crate) struct PyHit {
    entry: Arc<Entry>,
    kind: Kind,
    similarity: f32,
    confidence: Option<f32>,
    query: Option<Box<str>>,
}

impl From<Hit> for PyHit {
    fn from(hit: Hit) -> Self {
        let Hit { entry, kind, similarity, confidence, query } = hit;
        Self { entry, kind, similarity, confidence, query }
    }
}

impl PyHit {
    fn exact(entry: Arc<Entry>) -> Self {
        Self { entry, kind: Kind::Exact, similarity: 1.0, confidence: Some(1.0), query: None }
    }
}

#[pymethods]
impl PyHit {
    #[getter]
    fn response<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        response(py, self.entry.payload())
    }

    #[getter]
    fn kind(&self) -> &'static str {
        match self.kind {
            Kind::Exact => "exact",
            Kind::Near => "near",
        }
    }

    #[getter]
    fn similarity(&self) -> f64 {
        f64::from(self.similarity)
    }

    /// No verifier has looked at a near hit yet, so only an exact one is certain.
    #[getter]
    fn confidence(&self) -> Option<f64> {
        self.confidence.map(f64::from)
    }

    #[getter]
    fn entry_id(&self) -> String {
        self.entry.id().to_string()
    }

    #[getter]
    fn age(&self) -> f64 {
        seconds_between(self.entry.created(), Clock::System.now())
    }

    #[getter]
    fn scope<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        label(py, self.entry.tenant())
    }

    #[getter]
    fn prompt(&self) -> Option<&str> {
        self.entry.text()
    }

    #[getter]
    fn model(&self) -> Option<&str> {
        self.entry.meta().model.as_deref()
    }

    #[getter]
    fn tokens(&self) -> Option<(u32, u32)> {
        self.entry.meta().tokens
    }

    #[getter]
    fn sequence(&self) -> u64 {
        self.entry.sequence()
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let response = self.response(py)?.repr()?.to_string();
        let shown: String = response.chars().take(60).collect();
        let cut = if shown.len() < response.len() { "..." } else { "" };
        Ok(format!(
            "Hit(kind='{}', similarity={:.4}, entry_id='{}', response={shown}{cut})",
            self.kind(),
            self.similarity,
            self.entry.id()
        ))
    }
}

/// What a near lookup found and where its time went; see `_core.pyi`.
#[pyclass(frozen, module = "nearhit._core", name = "Near")]
pub(crate) struct PyNear {
    #[pyo3(get)]
    hit: Option<Py<PyHit>>,
    #[pyo3(get)]
    near_miss: Option<Py<PyDict>>,
    #[pyo3(get)]
    search_seconds: f64,
    #[pyo3(get)]
    judge_seconds: f64,
    embedded: Option<Arc<Embedded>>,
    #[pyo3(get)]
    tokenise_seconds: f64,
    #[pyo3(get)]
    embed_seconds: f64,
}

#[pymethods]
impl PyNear {
    /// The text's vector, where the lookup has looked for it.
    #[getter]
    fn vector<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.embedded.as_ref().map(|embedded| vectors::frozen(py, &embedded.vector)).transpose()
    }

    #[getter]
    fn truncated(&self) -> bool {
        self.embedded.as_ref().is_some_and(|embedded| embedded.truncated)
    }
}

impl PyNear {
    fn of(py: Python<'_>, sought: Sought) -> PyResult<Self> {
        let Sought { near, embedded, spent } = sought;
        Ok(Self {
            hit: near.hit.map(|hit| Py::new(py, PyHit::from(hit))).transpose()?,
            near_miss: near.near_miss.map(|candidate| describe(py, &candidate)).transpose()?.map(Bound::unbind),
            search_seconds: near.search.as_secs_f64(),
            judge_seconds: near.judge.as_secs_f64(),
            embedded,
            tokenise_seconds: spent.tokenise.as_secs_f64(),
            embed_seconds: spent.forward.as_secs_f64(),
        })
    }
}

/// The cache engine; see `_core.pyi`.
#[pyclass(frozen, module = "nearhit._core", name = "CacheCore", weakref)]
pub(crate) struct PyCache {
    core: Cache,
    opened: Opened,
    synchronous: bool,
}

#[pymethods]
impl PyCache {
    #[new]
    #[pyo3(signature = (*, threshold, policy, verifier, confidence, delta, exploration, sampling, max_entries, max_bytes, scope_bytes, ttl, embedder, encoder, memo, path, durability, read_only))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments of the Python class")]
    fn new(
        py: Python<'_>,
        threshold: Option<f64>,
        policy: &str,
        verifier: Option<PathBuf>,
        confidence: Option<f32>,
        delta: f64,
        exploration: f64,
        sampling: &str,
        max_entries: Option<usize>,
        max_bytes: Option<usize>,
        scope_bytes: Option<usize>,
        ttl: Option<f64>,
        embedder: Option<(String, usize)>,
        encoder: Option<&Bound<'_, NativeEncoder>>,
        memo: usize,
        path: Option<PathBuf>,
        durability: &str,
        read_only: bool,
    ) -> PyResult<Self> {
        let policy: Policy = policy.parse().map_err(CoreError)?;
        let options = Options {
            threshold: threshold.map_or(Ok(policy.threshold()), as_threshold)?,
            space: embedder.map(|(id, dim)| Space::of(&id, dim)),
            encoder: encoder.map(|encoder| encoder.get().shared() as Arc<dyn Embed>),
            memo,
            policy,
            verifier: verifier.map(|path| Model::load(&path)).transpose().map_err(CoreError)?.map(Arc::new),
            confidence,
            bound: ErrorBound { delta, exploration },
            sampling: sampling.parse().map_err(CoreError)?,
            max_entries,
            max_bytes,
            scope_bytes,
            ttl: ttl.map(duration).transpose()?,
            clock: Clock::System,
        };
        let durability = Durability::parse(durability).map_err(CoreError)?;
        let (core, opened) = match path {
            Some(path) if read_only => detached(py, || Cache::look(options, &path)),
            Some(path) => detached(py, || Cache::open(options, &path, durability)),
            None => Cache::new(options).map(|cache| (cache, Opened::default())),
        }
        .map_err(CoreError)?;
        let synchronous = core.path().is_some() && durability == Durability::Sync;
        Ok(Self { core, opened, synchronous })
    }

    /// What opening the file brought to light: entries, foreign, damaged, why it broke off, set aside.
    #[getter]
    fn opened(&self) -> (usize, usize, usize, Option<String>, Option<PathBuf>) {
        let Opened { entries, foreign, damaged, broken, set_aside } = self.opened.clone();
        (entries, foreign, damaged, broken, set_aside)
    }

    /// Waits until everything stored so far is in the file.
    fn flush(&self, py: Python<'_>) -> PyResult<()> {
        Ok(detached(py, || self.core.flush()).map_err(CoreError)?)
    }

    /// Writes what is left and lets another process have the file.
    fn close(&self, py: Python<'_>) {
        detached(py, || self.core.close());
    }

    /// Why the last attempt to write the file failed, if it did.
    #[getter]
    fn storage_failure(&self) -> Option<String> {
        self.core.storage_failure()
    }

    /// Requests of entries that wait for a vector of the present embedder.
    fn awaiting_vectors(&self, py: Python<'_>) -> Vec<PyRequest> {
        let entries = detached(py, || self.core.snapshot());
        entries.iter().filter(|entry| entry.awaits_vector()).map(|entry| PyRequest::of(entry)).collect()
    }

    /// Gives an entry the vector it waits for; false if it has gone or been replaced.
    fn give_vector(
        &self,
        py: Python<'_>,
        request: &Bound<'_, PyRequest>,
        vector: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<bool> {
        let id = request.get().fingerprint;
        let vector = vector.map(vectors::one).transpose()?;
        Ok(detached(py, || self.core.give_vector(id, vector.as_deref())).map_err(CoreError)?)
    }

    /// The exact hit, or the request that has none.
    #[pyo3(signature = (prompt, scope = None, /))]
    fn find<'py>(
        &self,
        py: Python<'py>,
        prompt: &Bound<'py, PyAny>,
        scope: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        with_request(prompt, scope, |request, caller| match self.core.find(&request) {
            Some(hit) => Ok(Bound::new(py, PyHit::from(hit))?.into_any()),
            None => Ok(Bound::new(py, own(request, caller)?)?.into_any()),
        })
    }

    /// A whole lookup: the hit, or None, or the request if Python's embedder is needed to tell.
    #[pyo3(signature = (prompt, scope, threshold, recall = false, /))]
    fn lookup<'py>(
        &self,
        py: Python<'py>,
        prompt: &Bound<'py, PyAny>,
        scope: Option<&Bound<'py, PyAny>>,
        threshold: Option<f64>,
        recall: bool,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let threshold = optional_threshold(threshold)?;
        with_request(prompt, scope, |request, caller| {
            if let Some(hit) = self.core.find(&request) {
                return Ok(Some(Bound::new(py, PyHit::from(hit))?.into_any()));
            }
            let effort = effort(recall);
            let answer = detached(py, || self.core.lookup(&request, caller.0, threshold, effort)).map_err(CoreError)?;
            Ok(match answer {
                Answer::Hit(hit) => Some(Bound::new(py, PyHit::from(hit))?.into_any()),
                Answer::Miss => None,
                Answer::Unembedded => Some(Bound::new(py, own(request, caller)?)?.into_any()),
            })
        })
    }

    /// The part of a lookup after `find` had nothing, uncounted; None if Python's embedder is needed to tell.
    #[pyo3(signature = (request, threshold, recall = false, /))]
    fn seek(
        &self,
        py: Python<'_>,
        request: &Bound<'_, PyRequest>,
        threshold: Option<f64>,
        recall: bool,
    ) -> PyResult<Option<PyNear>> {
        let (request, threshold, effort) = (request.get(), optional_threshold(threshold)?, effort(recall));
        let asked = request.borrowed();
        let sought = detached(py, || self.core.seek(&asked, request.caller, threshold, effort)).map_err(CoreError)?;
        sought.map(|sought| PyNear::of(py, sought)).transpose()
    }

    /// What is known or made of a text; None if Python's embedder is needed.
    #[pyo3(signature = (text, recall = false, /))]
    fn vector_of<'py>(
        &self,
        py: Python<'py>,
        text: &Bound<'py, PyString>,
        recall: bool,
    ) -> PyResult<Option<Vector<'py>>> {
        let (text, effort) = (convert::text(text)?, effort(recall));
        let found = match effort {
            Effort::Recall => self.core.vector_of(text, effort),
            Effort::Embed => detached(py, || self.core.vector_of(text, effort)),
        };
        let Some((embedded, spent)) = found.map_err(CoreError)? else { return Ok(None) };
        let (tokenise, forward) = (spent.tokenise.as_secs_f64(), spent.forward.as_secs_f64());
        Ok(Some((vectors::frozen(py, &embedded.vector)?, embedded.truncated, tokenise, forward)))
    }

    /// Remembers what Python's embedder made of a text.
    fn remember(&self, text: &Bound<'_, PyString>, vector: &Bound<'_, PyAny>, truncated: bool) -> PyResult<()> {
        let vector = vectors::one(vector)?.into_boxed_slice();
        Ok(self.core.keep_vector(convert::text(text)?, Embedded { vector, truncated }).map_err(CoreError)?)
    }

    /// Whether a request may be compared by meaning: it has a text, and does not ask for more chance than is shared.
    fn compares(&self, request: &Bound<'_, PyRequest>) -> bool {
        let request = request.get();
        request.text.is_some() && self.core.options().compares(request.temperature)
    }

    /// Whether a request may be answered from the cache at all, and its answer kept.
    fn shares(&self, request: &Bound<'_, PyRequest>) -> bool {
        self.core.options().shares(request.get().temperature)
    }

    /// The near hit, or the best candidate that was refused.
    fn near(
        &self,
        py: Python<'_>,
        request: &Bound<'_, PyRequest>,
        vector: &Bound<'_, PyAny>,
        threshold: Option<f64>,
    ) -> PyResult<PyNear> {
        let request = request.get();
        let mut near = Near::default();
        if let Some(text) = request.text.as_deref() {
            let vector = vectors::one(vector)?;
            let query = request.asks(text, &vector, threshold)?;
            near = detached(py, || self.core.lookup_near(&query)).map_err(CoreError)?;
        }
        PyNear::of(py, Sought { near, ..Sought::default() })
    }

    /// The `k` nearest entries of the request's scope, whatever their similarity.
    fn candidates<'py>(
        &self,
        py: Python<'py>,
        request: &Bound<'py, PyRequest>,
        vector: &Bound<'py, PyAny>,
        threshold: Option<f64>,
        k: usize,
    ) -> PyResult<Vec<Bound<'py, PyDict>>> {
        let request = request.get();
        let Some(text) = request.text.as_deref() else { return Ok(Vec::new()) };
        let vector = vectors::one(vector)?;
        let query = request.asks(text, &vector, threshold)?;
        let found = detached(py, || self.core.candidates(&query, k)).map_err(CoreError)?;
        found.iter().map(|candidate| describe(py, candidate)).collect()
    }

    /// The exact hit of a request, not counted as one.
    fn peek(&self, request: &Bound<'_, PyRequest>) -> Option<PyHit> {
        let entry = self.core.peek(request.get().fingerprint)?;
        Some(PyHit::exact(entry))
    }

    /// The entry with this id as a near hit of the similarity given, not counted as one.
    fn peek_near(
        &self,
        request: &Bound<'_, PyRequest>,
        entry_id: &str,
        similarity: f32,
        confidence: f32,
    ) -> PyResult<Option<PyHit>> {
        let entry = self.core.peek(fingerprint(entry_id)?);
        let query = request.get().text.as_deref().map(Into::into);
        let hit = |entry| PyHit { entry, kind: Kind::Near, similarity, confidence: Some(confidence), query };
        Ok(entry.map(hit))
    }

    /// What the policy thinks of a candidate held elsewhere: its confidence, and the reasons against it.
    fn consider(
        &self,
        py: Python<'_>,
        request: &Bound<'_, PyRequest>,
        vector: &Bound<'_, PyAny>,
        text: &str,
        similarity: f32,
        threshold: Option<f64>,
    ) -> PyResult<(f32, Vec<String>)> {
        let request = request.get();
        let vector = vectors::one(vector)?;
        let asked = request.text.as_deref().unwrap_or_default();
        let query = request.asks(asked, &vector, threshold)?;
        Ok(detached(py, || self.core.consider(&query, text, similarity)).map_err(CoreError)?)
    }

    /// An entry found elsewhere and stored here, as a hit that counts; with a similarity, as a near one.
    #[pyo3(signature = (request, entry_id, similarity = None, confidence = None, /))]
    fn serve(
        &self,
        request: &Bound<'_, PyRequest>,
        entry_id: &str,
        similarity: Option<f32>,
        confidence: Option<f32>,
    ) -> PyResult<Option<PyHit>> {
        let kind = if similarity.is_some() { Kind::Near } else { Kind::Exact };
        let Some(entry) = self.core.serve(fingerprint(entry_id)?, kind) else { return Ok(None) };
        Ok(Some(match similarity {
            None => PyHit { entry, kind, similarity: 1.0, confidence: Some(1.0), query: None },
            Some(similarity) => {
                let query = request.get().text.as_deref().map(Into::into);
                PyHit { entry, kind, similarity, confidence, query }
            }
        }))
    }

    /// The request of the entry with this id.
    fn request_of(&self, entry_id: &str) -> PyResult<Option<PyRequest>> {
        Ok(self.core.peek(fingerprint(entry_id)?).map(|entry| PyRequest::of(&entry)))
    }

    /// Counts a lookup that found nothing.
    fn count_miss(&self) {
        self.core.count_miss();
    }

    /// Checks a per-call threshold and returns the one that counts.
    fn threshold(&self, given: Option<f64>) -> PyResult<f64> {
        Ok(f64::from(self.core.effective_threshold(optional_threshold(given)?).map_err(CoreError)?))
    }

    /// Stores an answer; returns its entry id.
    #[expect(clippy::too_many_arguments, reason = "keyword arguments of the Python method")]
    #[pyo3(signature = (request, response, *, json = false, vector = None, ttl = None, tags = Vec::new(), cost = None,
                        model = None, tokens = None, created = None, expires = None))]
    fn store(
        &self,
        py: Python<'_>,
        request: &Bound<'_, PyRequest>,
        response: &Bound<'_, PyAny>,
        json: bool,
        vector: Option<&Bound<'_, PyAny>>,
        ttl: Option<f64>,
        tags: Vec<String>,
        cost: Option<f64>,
        model: Option<String>,
        tokens: Option<(u32, u32)>,
        created: Option<f64>,
        expires: Option<f64>,
    ) -> PyResult<String> {
        let request = request.get();
        let vector = vector.map(vectors::one).transpose()?;
        let new = NewEntry {
            fingerprint: request.fingerprint,
            scope: request.scope,
            text: request.text.as_deref(),
            caller: request.caller(),
            vector: vector.as_deref(),
            awaits_vector: false,
            payload: payload(response, json)?,
            meta: Meta { tags: tags.into_iter().map(Into::into).collect(), cost, model: model.map(Into::into), tokens },
            ttl: ttl.map(duration).transpose()?,
            // An exported entry states its end, which may be never; a fresh one has the life given or the default.
            expires: created.map(|_| expires.map_or(NEVER, millis)),
            created: created.map(millis),
        };
        // Waiting for the disk is long; everything else takes less time than leaving the GIL and coming back.
        let stored = if self.synchronous { detached(py, || self.core.store(&new)) } else { self.core.store(&new) };
        Ok(stored.map_err(CoreError)?.id().to_string())
    }

    /// Takes a judgement of a hit: a wrong near hit makes its entry exact-only, a wrong exact one removes it.
    fn feedback(&self, py: Python<'_>, hit: &Bound<'_, PyHit>, correct: bool) -> PyResult<()> {
        let PyHit { entry, kind, similarity, confidence, query } = hit.get();
        let (kind, similarity, confidence) = (*kind, *similarity, *confidence);
        let hit = Hit { entry: Arc::clone(entry), kind, similarity, confidence, query: query.clone() };
        Ok(detached(py, || self.core.feedback(&hit, correct)).map_err(CoreError)?)
    }

    /// What the verified policy tried for a request, as a near hit that was not served; handed out once.
    fn exploration(&self, request: &Bound<'_, PyRequest>) -> Option<PyHit> {
        let request = request.get();
        let Exploration { entry, similarity, confidence } = self.core.exploration(request.fingerprint)?;
        let query = request.text.as_deref().map(Into::into);
        Some(PyHit { entry, kind: Kind::Near, similarity, confidence: Some(confidence), query })
    }

    /// Takes a judgement of what `exploration` handed out.
    fn learn(&self, py: Python<'_>, tried: &Bound<'_, PyHit>, correct: bool) -> PyResult<()> {
        let PyHit { entry, similarity, confidence, query, .. } = tried.get();
        let exploration = Exploration {
            entry: Arc::clone(entry),
            similarity: *similarity,
            confidence: confidence.unwrap_or_default(),
        };
        let query = query.as_deref().unwrap_or_default();
        Ok(detached(py, || self.core.learn(query, exploration, correct)).map_err(CoreError)?)
    }

    /// What was said of near hits, oldest first: query, candidate, whether it was right, similarity, when.
    fn judgements(&self, py: Python<'_>) -> Vec<(String, String, bool, f64, f64)> {
        let told = |judged: Judgement| {
            let (query, candidate) = (judged.query.into_string(), judged.candidate.into_string());
            (query, candidate, judged.correct, f64::from(judged.similarity), judged.at as f64 / 1e3)
        };
        detached(py, || self.core.judgements()).into_iter().map(told).collect()
    }

    /// Makes the entry with this id exact-only; false if there is none with a vector.
    fn demote(&self, py: Python<'_>, entry_id: &str) -> PyResult<bool> {
        let id = fingerprint(entry_id)?;
        let Some(entry) = self.core.peek(id) else { return Ok(false) };
        Ok(detached(py, || self.core.demote(id, entry.sequence())).map_err(CoreError)?)
    }

    /// Every live entry as a dict, oldest first.
    fn entries(&self, py: Python<'_>) -> PyEntries {
        PyEntries { entries: Mutex::new(detached(py, || self.core.snapshot()).into_iter()) }
    }

    /// Removes the entry with this id; with `sequence`, only if that store made it.
    #[pyo3(signature = (entry_id, sequence = None, /))]
    fn invalidate_id(&self, py: Python<'_>, entry_id: &str, sequence: Option<u64>) -> PyResult<bool> {
        let id = fingerprint(entry_id)?;
        Ok(detached(py, || self.core.invalidate(id, sequence)).map_err(CoreError)?)
    }

    fn invalidate_tag(&self, py: Python<'_>, tag: &str) -> PyResult<usize> {
        Ok(detached(py, || self.core.invalidate_tag(tag)).map_err(CoreError)?)
    }

    #[pyo3(signature = (scope, /))]
    fn invalidate_scope(&self, py: Python<'_>, scope: Option<&Bound<'_, PyAny>>) -> PyResult<usize> {
        let (id, _) = caller(scope)?;
        Ok(detached(py, || self.core.invalidate_caller(id)).map_err(CoreError)?)
    }

    /// Removes every entry of the caller with this id.
    fn invalidate_caller(&self, py: Python<'_>, caller: &str) -> PyResult<usize> {
        let id = ScopeId(hex("caller", caller)?);
        Ok(detached(py, || self.core.invalidate_caller(id)).map_err(CoreError)?)
    }

    fn invalidate_older_than(&self, py: Python<'_>, seconds: f64) -> PyResult<usize> {
        let age = age(seconds)?;
        Ok(detached(py, || self.core.invalidate_older_than(age)).map_err(CoreError)?)
    }

    fn clear(&self, py: Python<'_>) -> PyResult<usize> {
        Ok(detached(py, || self.core.clear()).map_err(CoreError)?)
    }

    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let stats = detached(py, || self.core.stats());
        describe_stats(py, &stats)
    }

    /// Checks the cache's own structures; raises `AssertionError` naming what does not agree.
    fn validate(&self, py: Python<'_>) -> PyResult<()> {
        detached(py, || self.core.validate()).map_err(pyo3::exceptions::PyAssertionError::new_err)
    }

    fn __len__(&self) -> usize {
        self.core.len()
    }
}

/// Entries on their way to Python, described one at a time.
#[pyclass(frozen, module = "nearhit._core", name = "Entries")]
pub(crate) struct PyEntries {
    entries: Mutex<std::vec::IntoIter<Arc<Entry>>>,
}

#[pymethods]
impl PyEntries {
    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        let next = self.entries.lock().unwrap_or_else(PoisonError::into_inner).next();
        next.map(|entry| describe_entry(py, &entry)).transpose()
    }
}

/// Reads the caller's scope and the request, and hands both on; a plain prompt in the shared scope allocates nothing.
fn with_request<T>(
    prompt: &Bound<'_, PyAny>,
    scope: Option<&Bound<'_, PyAny>>,
    then: impl FnOnce(Request<'_>, (ScopeId, Option<Value>)) -> PyResult<T>,
) -> PyResult<T> {
    let caller = caller(scope)?;
    if let Ok(prompt) = prompt.cast::<PyString>() {
        let request = Request::from_prompt(convert::text(prompt)?, caller.0).map_err(CoreError)?;
        return then(request, caller);
    }
    let value = convert::value(prompt)?;
    let request = Request::from_value(&value, caller.0).map_err(CoreError)?;
    then(request, caller)
}

fn caller(scope: Option<&Bound<'_, PyAny>>) -> PyResult<(ScopeId, Option<Value>)> {
    let Some(scope) = scope else { return Ok((ScopeId::default(), None)) };
    let value = convert::value(scope)?;
    Ok((ScopeId::of(&value).map_err(CoreError)?, Some(value)))
}

fn own(request: Request<'_>, (caller, label): (ScopeId, Option<Value>)) -> Result<PyRequest, CoreError> {
    Ok(PyRequest {
        fingerprint: request.fingerprint,
        scope: request.scope,
        text: request.text.map(Cow::into_owned),
        temperature: request.temperature,
        caller,
        label: label.map(|value| to_json(&value)).transpose()?,
    })
}

fn payload(response: &Bound<'_, PyAny>, json: bool) -> PyResult<Payload> {
    if let Ok(bytes) = response.cast::<PyBytes>() {
        return Ok(Payload::new(Form::Bytes, bytes.as_bytes()));
    }
    if let Ok(text) = response.cast::<PyString>() {
        let form = if json { Form::Json } else { Form::Text };
        return Ok(Payload::new(form, convert::text(text)?.as_bytes()));
    }
    Ok(Payload::new(Form::Json, to_json(&convert::value(response)?).map_err(CoreError)?.into_bytes()))
}

fn response<'py>(py: Python<'py>, payload: &Payload) -> PyResult<Bound<'py, PyAny>> {
    match payload.form() {
        Form::Bytes => Ok(PyBytes::new(py, &payload.data()).into_any()),
        Form::Text => Ok(PyString::from_bytes(py, &payload.data())?.into_any()),
        Form::Json => loads(py, &payload.data()),
    }
}

fn label<'py>(py: Python<'py>, label: Option<&str>) -> PyResult<Bound<'py, PyAny>> {
    label.map_or_else(|| Ok(py.None().into_bound(py)), |label| loads(py, label.as_bytes()))
}

fn loads<'py>(py: Python<'py>, json: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    py.import(pyo3::intern!(py, "json"))?.call_method1(pyo3::intern!(py, "loads"), (PyString::from_bytes(py, json)?,))
}

fn describe<'py>(py: Python<'py>, candidate: &Candidate) -> PyResult<Bound<'py, PyDict>> {
    let entry = &candidate.entry;
    let fields = PyDict::new(py);
    fields.set_item("entry_id", entry.id().to_string())?;
    fields.set_item("prompt", entry.text())?;
    fields.set_item("similarity", f64::from(candidate.similarity))?;
    fields.set_item("confidence", f64::from(candidate.confidence))?;
    fields.set_item("reasons", &candidate.reasons)?;
    fields.set_item("response", response(py, entry.payload())?)?;
    fields.set_item("age", seconds_between(entry.created(), Clock::System.now()))?;
    Ok(fields)
}

fn describe_entry<'py>(py: Python<'py>, entry: &Entry) -> PyResult<Bound<'py, PyDict>> {
    let form = match entry.payload().form() {
        Form::Text => "text",
        Form::Bytes => "bytes",
        Form::Json => "json",
    };
    let meta = entry.meta();
    let expires = (entry.expires() != NEVER).then(|| entry.expires() as f64 / 1e3);
    let fields = PyDict::new(py);
    fields.set_item("id", entry.id().to_string())?;
    fields.set_item("scope_id", entry.scope().to_string())?;
    fields.set_item("prompt", entry.text())?;
    fields.set_item("scope", label(py, entry.tenant())?)?;
    fields.set_item("response", response(py, entry.payload())?)?;
    fields.set_item("form", form)?;
    fields.set_item("tags", meta.tags.iter().map(AsRef::as_ref).collect::<Vec<&str>>())?;
    fields.set_item("created", entry.created() as f64 / 1e3)?;
    fields.set_item("expires", expires)?;
    fields.set_item("cost", meta.cost)?;
    fields.set_item("model", meta.model.as_deref())?;
    fields.set_item("tokens", meta.tokens)?;
    fields.set_item("hits", entry.hits())?;
    fields.set_item("last_hit", entry.last_hit().map(|at| at as f64 / 1e3))?;
    fields.set_item(
        "near",
        if entry.has_vector() {
            "yes"
        } else if entry.awaits_vector() {
            "foreign"
        } else {
            "no"
        },
    )?;
    Ok(fields)
}

fn describe_stats<'py>(py: Python<'py>, stats: &Stats) -> PyResult<Bound<'py, PyDict>> {
    let fields = PyDict::new(py);
    for (name, count) in [
        ("exact_hits", stats.exact_hits),
        ("near_hits", stats.near_hits),
        ("misses", stats.misses),
        ("near_misses", stats.near_misses),
        ("stores", stats.stores),
        ("replaced", stats.replaced),
        ("evicted_bytes", stats.evicted_bytes),
        ("evicted_entries", stats.evicted_entries),
        ("evicted_quota", stats.evicted_quota),
        ("expired", stats.expired),
        ("invalidated", stats.invalidated),
        ("judged_correct", stats.judged_correct),
        ("judged_wrong", stats.judged_wrong),
        ("explored", stats.explored),
        ("labels", stats.labels),
        ("memo_hits", stats.memo_hits),
        ("bytes_memo", stats.memo_bytes as u64),
        ("entries", stats.entries as u64),
        ("bytes", stats.bytes.total() as u64),
        ("bytes_entries", stats.bytes.entries as u64),
        ("bytes_vectors", stats.bytes.vectors as u64),
        ("bytes_bookkeeping", stats.bytes.bookkeeping as u64),
    ] {
        fields.set_item(name, count)?;
    }
    let scopes = stats
        .tenants
        .iter()
        .map(|tenant| {
            let scope = PyDict::new(py);
            scope.set_item("scope", label(py, tenant.label.as_deref())?)?;
            scope.set_item("entries", tenant.entries)?;
            scope.set_item("bytes", tenant.bytes)?;
            scope.set_item("exact_hits", tenant.exact_hits)?;
            scope.set_item("near_hits", tenant.near_hits)?;
            scope.set_item("risk_limit", tenant.risk_limit)?;
            Ok(scope)
        })
        .collect::<PyResult<Vec<_>>>()?;
    fields.set_item("scopes", scopes)?;
    for (name, latency) in
        [("exact", stats.exact_latency), ("near", stats.near_latency), ("store", stats.store_latency)]
    {
        fields.set_item(format!("{name}_latency"), (latency.count, latency.p50, latency.p95, latency.p99))?;
    }
    Ok(fields)
}

fn effort(recall: bool) -> Effort {
    if recall { Effort::Recall } else { Effort::Embed }
}

fn fingerprint(id: &str) -> PyResult<Fingerprint> {
    hex("id", id).map(Fingerprint)
}

fn hex(name: &'static str, digits: &str) -> PyResult<[u8; 16]> {
    let mut bytes = [0; 16];
    let parsed = digits.len() == 32
        && digits.bytes().all(|digit| digit.is_ascii_hexdigit())
        && bytes.iter_mut().enumerate().all(|(place, byte)| {
            u8::from_str_radix(&digits[2 * place..2 * place + 2], 16).map(|value| *byte = value).is_ok()
        });
    if parsed {
        return Ok(bytes);
    }
    let expected = "32 hexadecimal digits, as store() returns them".into();
    Err(CoreError(Error::InvalidOption { name, value: format!("{digits:?}"), expected }).into())
}

fn as_threshold(value: f64) -> PyResult<f32> {
    if (-1.0..=1.0).contains(&value) {
        return Ok(value as f32);
    }
    Err(CoreError(Error::Threshold { value }).into())
}

fn optional_threshold(value: Option<f64>) -> PyResult<Option<f32>> {
    value.map(as_threshold).transpose()
}

fn millis(seconds: f64) -> u64 {
    (seconds * 1e3).round() as u64 // saturates: negative and NaN give 0
}

fn duration(seconds: f64) -> PyResult<Duration> {
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if duration >= Duration::from_millis(1) => Ok(duration),
        _ => Err(invalid("ttl", seconds, "seconds, at least 0.001")),
    }
}

fn age(seconds: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(seconds).map_err(|_| invalid("older_than", seconds, "seconds, at least 0"))
}

fn invalid(name: &'static str, value: f64, expected: &str) -> PyErr {
    CoreError(Error::InvalidOption { name, value: value.to_string(), expected: expected.into() }).into()
}

fn seconds_between(from: u64, to: u64) -> f64 {
    if from == NEVER { 0.0 } else { to.saturating_sub(from) as f64 / 1e3 }
}
