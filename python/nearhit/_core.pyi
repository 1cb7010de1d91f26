from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias, final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from typing_extensions import disjoint_base

__version__: str

_Surface: TypeAlias = tuple[float, Sequence[float], Sequence[float], Sequence[tuple[float, Sequence[float]]]]

@final
class CanonicalRequest:
    """A request in canonical form: what must match exactly, and the text that may be compared by meaning.

    Attributes:
        fingerprint: 128 bits in hexadecimal, equal for equal requests and for no others, in every process.
        scope: 128 bits in hexadecimal for everything but the last user text.
        text: The last user text, normalised; None if only an equal request may be answered (images, tools...).
        temperature: The sampling temperature the request states, if it does.
        caller: 128 bits in hexadecimal for the caller's own scope.
        label: The caller's own scope as JSON; None for the shared one.
    """

    @property
    def fingerprint(self) -> str: ...
    @property
    def scope(self) -> str: ...
    @property
    def text(self) -> str | None: ...
    @property
    def temperature(self) -> float | None: ...

def canonical(
    request: str | Sequence[Mapping[str, Any]] | Mapping[str, Any], /, *, scope: Any = None
) -> CanonicalRequest:
    """The canonical form of a prompt, of a conversation's messages, or of an OpenAI request body.

    Example:
        >>> canonical("Why?").fingerprint == canonical([{"role": "user", "content": "Why?"}]).fingerprint
        True

    Raises:
        EmptyPromptError: Nothing but white space in the last user text.
        RequestError: A part that cannot be read; the message names the place.
    """

@final
class RouteRequest:
    """A prompt or a conversation, read once for any number of decisions."""

    @property
    def tokens(self) -> float: ...
    @property
    def inherited(self) -> bool: ...
    @property
    def prompt(self) -> str: ...

@final
class HeldRules:
    """The rules that hold for one request."""

    def __len__(self) -> int: ...

@final
class AppliedRule:
    """A rule that holds for a request.

    Attributes:
        name: Of the rule.
        evidence: What shows that it holds.
        kept: False where it was set aside: no tier that it allows can take the request.
    """

    @property
    def name(self) -> str: ...
    @property
    def evidence(self) -> str: ...
    @property
    def kept(self) -> bool: ...

@final
class Alternative:
    """What a decision thought of one tier.

    Attributes:
        tier: Its name.
        score: Probability that it answers well.
        utility: What the strategy maximises.
        predicted_ttft: Seconds to the first token; None while unknown.
        predicted_e2e: Seconds to the end; None while unknown.
        in_time: Probability that it ends before the deadline; 1 without one.
        burden: What it would take from later requests, as a share of their deadline; 0 without one.
        predicted_cost: US dollars.
        eligible: Whether it could have taken the request.
        verdict: What stands against it, or "eligible".
    """

    @property
    def tier(self) -> str: ...
    @property
    def score(self) -> float: ...
    @property
    def utility(self) -> float: ...
    @property
    def predicted_ttft(self) -> float | None: ...
    @property
    def predicted_e2e(self) -> float | None: ...
    @property
    def in_time(self) -> float: ...
    @property
    def burden(self) -> float: ...
    @property
    def predicted_cost(self) -> float: ...
    @property
    def eligible(self) -> bool: ...
    @property
    def verdict(self) -> str: ...

@final
class RouteDecision:
    """Which tier, why, and what was thought of the others.

    Attributes:
        tier: Name of the chosen tier.
        index: Its place in the router's list.
        score: Probability that it answers well.
        difficulty: Of the prompt, in logits; 0 for an average one.
        inherited: True where an earlier turn's difficulty was used.
        prompt_tokens: Estimated tokens of the whole prompt.
        reason: Why this tier, in words.
        degraded: True where this is not what the strategy would have preferred.
        predicted_ttft: Seconds to the first token; None while unknown.
        predicted_e2e: Seconds to the end; None while unknown.
        predicted_cost: US dollars.
        alternatives: The other tiers, the most useful first.
        choice: The chosen tier in the form of the alternatives.
        rules: The rules that hold for the request, in the order in which they were applied.
    """

    @property
    def tier(self) -> str: ...
    @property
    def index(self) -> int: ...
    @property
    def score(self) -> float: ...
    @property
    def difficulty(self) -> float: ...
    @property
    def inherited(self) -> bool: ...
    @property
    def prompt_tokens(self) -> float: ...
    @property
    def reason(self) -> str: ...
    @property
    def degraded(self) -> bool: ...
    @property
    def predicted_ttft(self) -> float | None: ...
    @property
    def predicted_e2e(self) -> float | None: ...
    @property
    def predicted_cost(self) -> float: ...
    @property
    def alternatives(self) -> list[Alternative]: ...
    @property
    def choice(self) -> Alternative: ...
    @property
    def rules(self) -> list[AppliedRule]: ...

@final
class RouterCore:
    """Tiers, a head and a policy; all arithmetic of the router. Times are seconds, `now` on the caller's clock."""

    def __new__(
        cls,
        profiles: Sequence[Any],
        *,
        strategy: str,
        cost_weight: float,
        failures: int,
        cooldown: float,
        heads: Sequence[_Surface] | None = None,
        embedded_heads: Sequence[_Surface] | None = None,
        rules: Sequence[tuple[str, bool, Sequence[str], Sequence[str], float | None, Any]] = ...,
    ) -> RouterCore: ...
    def beside(
        self,
        *,
        strategy: str,
        cost_weight: float,
        heads: Sequence[_Surface] | None = None,
        embedded_heads: Sequence[_Surface] | None = None,
        rules: Sequence[tuple[str, bool, Sequence[str], Sequence[str], float | None, Any]] = ...,
    ) -> RouterCore: ...
    def calibrate(
        self,
        prompts: Sequence[tuple[RouteRequest, Any, HeldRules | None]],
        strong: int,
        target: str,
        value: float,
    ) -> tuple[float, float, float, float, list[float]]: ...
    def decide(
        self,
        prompt: str | Sequence[Mapping[str, Any]] | RouteRequest,
        *,
        deadline: float | None = None,
        max_cost: float | None = None,
        max_tokens: int | None = None,
        tools: bool = False,
        excluded: Sequence[int] = ...,
        vector: Any = None,
        held: HeldRules | None = None,
        now: float | None = None,
    ) -> RouteDecision: ...
    def holding(
        self,
        request: RouteRequest,
        *,
        tags: Sequence[str] = ...,
        fields: Sequence[Any] = ...,
        tools: bool = False,
        vector: Any = None,
    ) -> HeldRules: ...
    @staticmethod
    def read(prompt: str | Sequence[Mapping[str, Any]]) -> RouteRequest: ...
    def start(self, tier: int, *, now: float | None = None) -> int: ...
    def answered(
        self,
        tier: int,
        tokens: float,
        ttft: float | None,
        decode: float,
        output: int,
        *,
        load: int | None = None,
        now: float | None = None,
    ) -> None: ...
    def failed(
        self,
        tier: int,
        tokens: float,
        waited: float | None = None,
        *,
        load: int | None = None,
        now: float | None = None,
    ) -> None: ...
    def cancelled(
        self,
        tier: int,
        tokens: float,
        waited: float | None = None,
        *,
        load: int | None = None,
        now: float | None = None,
    ) -> None: ...
    def stopped(
        self,
        tier: int,
        tokens: float,
        ttft: float,
        decode: float,
        output: int,
        *,
        load: int | None = None,
        now: float | None = None,
    ) -> None: ...
    def ttft_quantile(
        self, tier: int, q: float, least: int, *, tokens: float | None = None, now: float | None = None
    ) -> float | None: ...
    def rest(self, tier: int, seconds: float, *, now: float | None = None) -> None: ...
    def rested_in(self, *, now: float | None = None) -> tuple[float, float] | None: ...
    def state(self, tier: int, *, now: float | None = None) -> tuple[int, int, int, float]: ...

@final
class CallBudget:
    """Budgets of retries and hedges, as shares of all requests. Times are seconds."""

    def __new__(cls, *, retry_share: float, hedge_share: float, seed: int | None = None) -> CallBudget: ...
    def arrived(self, *, now: float | None = None) -> None: ...
    def retry(self, *, now: float | None = None) -> bool: ...
    def hedge(self, *, now: float | None = None) -> bool: ...
    def left(self, *, now: float | None = None) -> tuple[float, float]: ...
    def pause(self, retry: int, retry_after: float | None = None) -> float: ...

@final
class ReplicaCore:
    """State of a tier's replicas, and the choice among them. Times are seconds, `now` on the caller's clock."""

    def __new__(
        cls, slots: Sequence[int | None], *, load_gate: float, failures: int, cooldown: float
    ) -> ReplicaCore: ...
    def start(
        self, tokens: float, *, key: int | None = None, avoid: Sequence[int] = ..., now: float | None = None
    ) -> tuple[int, str] | None: ...
    def answered(
        self, replica: int, tokens: float, ttft: float | None, decode: float, output: int, *, now: float | None = None
    ) -> None: ...
    def failed(self, replica: int, tokens: float, waited: float | None = None, *, now: float | None = None) -> None: ...
    def cancelled(
        self, replica: int, tokens: float, waited: float | None = None, *, now: float | None = None
    ) -> None: ...
    def rest(self, replica: int, seconds: float, *, now: float | None = None) -> None: ...
    def state(self, replica: int, *, now: float | None = None) -> tuple[int, int, int, float]: ...

def prompt_features(text: str, *, raw: bool = False) -> list[float]:
    """Features of a prompt as heads weigh them: standardised and clipped, in the order of `feature_names`.

    Args:
        text: The prompt.
        raw: As they were counted, instead.
    """

def prompt_kind(text: str) -> Literal["choice", "quantity", "open"]:
    """The kind of a prompt, by which the shipped head chooses its weights."""

def prompt_focus(text: str) -> str:
    """The last question of a few-shot prompt, without the examples before it; any other text as a whole."""

def feature_names() -> list[str]:
    """Names of the prompt features."""

def guard(query: str, candidate: str, /) -> list[tuple[str, str, str]]:
    """Asks the lexical guards about two texts.

    Returns:
        One (guard, piece of the query, piece of the candidate) for each guard that refuses; empty if all accept.

    Raises:
        RequestError: A text holds a lone surrogate.
    """

def guard_many(pairs: Sequence[tuple[str, str]], /) -> list[list[tuple[str, str, str]]]:
    """`guard` for many pairs, in their order."""

@disjoint_base
class VectorIndex:
    """The exact index behind `nearhit.VectorIndex`, which documents it.

    `path` loads a saved index instead of making an empty one.
    """

    def __new__(
        cls,
        dim: int,
        *,
        storage: str = "f32",
        transform: ArrayLike | None = None,
        path: str | PathLike[str] | None = None,
    ) -> Self: ...
    @property
    def dim(self) -> int: ...
    @property
    def storage(self) -> str: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def isa(self) -> str: ...
    @property
    def next_id(self) -> int: ...
    def __len__(self) -> int: ...
    def add(self, vector: ArrayLike) -> int: ...
    def add_many(self, vectors: ArrayLike) -> NDArray[np.uint64]: ...
    def remove(self, id_: int, /) -> bool: ...
    def vector(self, id_: int, /) -> NDArray[np.float32] | None: ...
    def search(self, vector: ArrayLike, threshold: float = -1.0, k: int = 1) -> list[tuple[int, float]]: ...
    def search_from(self, vector: ArrayLike, threshold: float, k: int, first_id: int) -> list[tuple[int, float]]: ...
    def search_many(
        self, vectors: ArrayLike, threshold: float = -1.0, k: int = 1
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]: ...
    def similarities(self, vector: ArrayLike, ids: Sequence[int]) -> list[float | None]: ...
    def vectors(self, first_id: int, end: int, count: int) -> tuple[NDArray[np.uint64], NDArray[np.float32]]: ...
    def save(self, path: str | PathLike[str]) -> None: ...
    def validate(self) -> None: ...

@final
class NativeEncoder:
    """A BERT encoder on the CPU in 8-bit integers. Safe to call from any number of threads; calls release the GIL.

    Args:
        config: hidden, heads, layers, intermediate, positions, vocabulary, max_length (integers), pooling ("mean" or
            "cls") and epsilon.
        tokeniser: clean_text, split_cjk, strip_accents, lowercase, max_word_chars, unknown, first, last (ids), special
            (pairs of text and id) and tokens (the vocabulary in the order of its ids).
        tensors: The model's float32 tensors by their names in BERT's own checkpoint.

    Raises:
        ModelFormatError: A tensor is missing, misshapen or not finite, or the kernels do not fit the architecture.
    """

    def __new__(
        cls, config: Mapping[str, Any], tokeniser: Mapping[str, Any], tensors: dict[str, Any]
    ) -> NativeEncoder: ...
    @staticmethod
    def load(path: str | PathLike[str]) -> NativeEncoder:
        """Reads what `save` wrote.

        Raises:
            CorruptFileError: The file is damaged, or of another version.
            StorageError: It cannot be read.
        """

    def save(self, path: str | PathLike[str]) -> None:
        """Writes the packed model, whole or not at all.

        Raises:
            StorageError: The file system refused.
        """

    @property
    def dim(self) -> int: ...
    @property
    def max_length(self) -> int: ...
    @property
    def isa(self) -> str: ...
    def tokenise(self, text: str) -> tuple[list[int], bool]:
        """Token ids of a text, special tokens included, and whether it was cut."""

    def encode(self, texts: Sequence[str], threads: int = 1) -> tuple[bytearray, list[bool], list[int], float, float]:
        """Unit vectors as native float32 bytes [n, dim], which texts were cut, their tokens, seconds of tokenising and of the forward pass.

        Raises:
            RequestError: A text holds a lone surrogate.
            EmbeddingError: The model gave a vector without direction.
        """

@final
class Request:
    """A request in canonical form, ready to be looked up, embedded and stored.

    Args:
        prompt: A prompt, a conversation's messages, or the body of an OpenAI request.
        scope: The caller's own scope: None, a string, or any JSON value.

    Attributes:
        fingerprint: 128 bits in hexadecimal: the id of the entry that answers exactly this request.
        scope: 128 bits in hexadecimal for everything but the last user text.
        text: The text that may be compared by meaning; None if only an equal request may be answered.
        temperature: The sampling temperature the request states, if it does.
        caller: 128 bits in hexadecimal for the caller's own scope.
        label: The caller's own scope as JSON; None for the shared one.
    """

    def __new__(
        cls, prompt: str | Sequence[Mapping[str, Any]] | Mapping[str, Any], scope: Any = None, /
    ) -> Request: ...
    @staticmethod
    def from_parts(fingerprint: str, scope: str, text: str | None, caller: Any, /) -> Request: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def scope(self) -> str: ...
    @property
    def text(self) -> str | None: ...
    @property
    def temperature(self) -> float | None: ...
    @property
    def caller(self) -> str: ...
    @property
    def label(self) -> str | None: ...

@final
class Hit:
    """An answer from the cache.

    Attributes:
        response: The answer as it was stored: str, bytes or a JSON value.
        kind: "exact" for the very same request, "near" for another one that means the same.
        similarity: Cosine of the two prompts; 1.0 for an exact hit.
        confidence: Probability that the answer fits, where the policy estimates one; 1.0 for an exact hit, else None.
        entry_id: Id of the entry: the fingerprint of the request that was stored.
        age: Seconds since the entry was stored.
        scope: The caller's own scope the entry was stored under; None for the shared one.
        prompt: The text that was stored; None for an exact-only request.
        model: Model that gave the answer, if stated.
        tokens: Tokens of the prompt and of the answer, if stated.
        sequence: Number of the store that made the entry.
    """

    @property
    def response(self) -> Any: ...
    @property
    def kind(self) -> Literal["exact", "near"]: ...
    @property
    def similarity(self) -> float: ...
    @property
    def confidence(self) -> float | None: ...
    @property
    def entry_id(self) -> str: ...
    @property
    def age(self) -> float: ...
    @property
    def scope(self) -> Any: ...
    @property
    def prompt(self) -> str | None: ...
    @property
    def model(self) -> str | None: ...
    @property
    def tokens(self) -> tuple[int, int] | None: ...
    @property
    def sequence(self) -> int: ...

@final
class Near:
    """What a near lookup found and where its time went.

    Attributes:
        vector: The text's vector, read-only; None where it was given, or the request is not compared by meaning.
        truncated: The embedder cut the text, so that nothing was searched.
    """

    @property
    def hit(self) -> Hit | None: ...
    @property
    def vector(self) -> NDArray[np.float32] | None: ...
    @property
    def truncated(self) -> bool: ...
    @property
    def tokenise_seconds(self) -> float: ...
    @property
    def embed_seconds(self) -> float: ...
    @property
    def near_miss(self) -> dict[str, Any] | None: ...
    @property
    def search_seconds(self) -> float: ...
    @property
    def judge_seconds(self) -> float: ...

@final
class Entries:
    """Entries on their way to Python, described one at a time."""

    def __iter__(self) -> Entries: ...
    def __next__(self) -> dict[str, Any]: ...

@final
class CacheCore:
    """The cache engine under `nearhit.Cache`, which documents the options."""

    def __new__(
        cls,
        *,
        threshold: float | None,
        policy: str,
        verifier: PathLike[str] | None,
        confidence: float | None,
        delta: float,
        exploration: float,
        sampling: str,
        max_entries: int | None,
        max_bytes: int | None,
        scope_bytes: int | None,
        ttl: float | None,
        embedder: tuple[str, int] | None,
        encoder: NativeEncoder | None,
        memo: int,
        path: PathLike[str] | None,
        durability: str,
        read_only: bool,
    ) -> CacheCore: ...
    @property
    def opened(self) -> tuple[int, int, int, str | None, Path | None]:
        """What opening the file brought to light: entries, foreign vectors, damaged records, why it broke off, copy."""
    @property
    def storage_failure(self) -> str | None:
        """Why the last attempt to write the file failed, if it did."""
    def flush(self) -> None:
        """Waits until everything stored so far is in the file."""
    def close(self) -> None:
        """Writes what is left and lets another process have the file."""
    def awaiting_vectors(self) -> list[Request]:
        """Requests of entries that wait for a vector of the present embedder."""
    def give_vector(self, request: Request, vector: Any) -> bool:
        """Gives an entry the vector it waits for; None makes it exact-only."""
    def find(
        self, prompt: str | Sequence[Mapping[str, Any]] | Mapping[str, Any], scope: Any = None, /
    ) -> Hit | Request:
        """The exact hit, or the request that has none."""
    def lookup(
        self,
        prompt: str | Sequence[Mapping[str, Any]] | Mapping[str, Any],
        scope: Any,
        threshold: float | None,
        recall: bool = False,
        /,
    ) -> Hit | Request | None:
        """A whole lookup: the hit, or None, or the request if an embedder in Python is needed to tell.

        With `recall`, whatever has to be embedded is left to the caller: the call takes microseconds.
        """
    def seek(self, request: Request, threshold: float | None, recall: bool = False, /) -> Near | None:
        """The part of a lookup after `find` had nothing; no miss is counted. None if an embedder in Python is needed.

        With `recall`, None also if the text has to be embedded.
        """
    def vector_of(self, text: str, recall: bool = False, /) -> tuple[NDArray[np.float32], bool, float, float] | None:
        """A text's vector, whether it was cut, seconds of tokenising and of the forward pass; None as in `seek`."""
    def remember(self, text: str, vector: Any, truncated: bool) -> None:
        """Remembers what an embedder in Python has made of a text."""
    def compares(self, request: Request) -> bool:
        """Whether a request may be compared by meaning: it has a text, and asks for no more chance than is shared."""
    def shares(self, request: Request) -> bool:
        """Whether a request may be answered from the cache at all, and its answer kept."""
    def near(self, request: Request, vector: Any, threshold: float | None) -> Near:
        """The near hit, or the best candidate that was refused."""
    def candidates(self, request: Request, vector: Any, threshold: float | None, k: int) -> list[dict[str, Any]]:
        """The `k` nearest entries of the request's scope, whatever their similarity."""
    def peek(self, request: Request) -> Hit | None:
        """The exact hit of a request, not counted as one."""
    def peek_near(self, request: Request, entry_id: str, similarity: float, confidence: float) -> Hit | None:
        """The entry with this id as a near hit of the similarity given, not counted as one."""
    def consider(
        self, request: Request, vector: Any, text: str, similarity: float, threshold: float | None
    ) -> tuple[float, list[str]]:
        """What the policy thinks of a candidate held elsewhere: its confidence, and the reasons against it."""
    def serve(
        self, request: Request, entry_id: str, similarity: float | None = None, confidence: float | None = None, /
    ) -> Hit | None:
        """An entry found elsewhere and stored here, as a hit that counts; with a similarity, as a near one."""
    def request_of(self, entry_id: str) -> Request | None:
        """The request of the entry with this id."""
    def count_miss(self) -> None:
        """Counts a lookup that found nothing."""
    def threshold(self, given: float | None) -> float:
        """Checks a per-call threshold and returns the one that counts."""
    def store(
        self,
        request: Request,
        response: Any,
        *,
        json: bool = False,
        vector: Any = None,
        ttl: float | None = None,
        tags: Sequence[str] = ...,
        cost: float | None = None,
        model: str | None = None,
        tokens: tuple[int, int] | None = None,
        created: float | None = None,
        expires: float | None = None,
    ) -> str:
        """Stores an answer; returns its entry id. With `created`, `expires` None means never."""
    def feedback(self, hit: Hit, correct: bool) -> None:
        """Takes a judgement of a hit."""
    def exploration(self, request: Request) -> Hit | None:
        """What the verified policy tried for a request, as a near hit that was not served; handed out once."""
    def learn(self, tried: Hit, correct: bool) -> None:
        """Takes a judgement of what `exploration` handed out."""
    def judgements(self) -> list[tuple[str, str, bool, float, float]]:
        """What was said of near hits: query, candidate, whether it was right, similarity, when."""
    def demote(self, entry_id: str) -> bool:
        """Makes the entry with this id exact-only; false if there is none with a vector."""
    def entries(self) -> Entries:
        """Every live entry as a dict, oldest first."""
    def invalidate_id(self, entry_id: str, sequence: int | None = None, /) -> bool:
        """Removes the entry with this id; with `sequence`, only if that store made it."""
    def invalidate_tag(self, tag: str) -> int: ...
    def invalidate_scope(self, scope: Any, /) -> int: ...
    def invalidate_caller(self, caller: str) -> int:
        """Removes every entry of the caller with this id."""
    def invalidate_older_than(self, seconds: float) -> int: ...
    def clear(self) -> int: ...
    def stats(self) -> dict[str, Any]: ...
    def validate(self) -> None:
        """Checks the cache's own structures; raises AssertionError naming what does not agree."""
    def __len__(self) -> int: ...

def pair_feature_names() -> list[str]:
    """Names of the features that the pair verifier sees besides the vectors, in their order."""

def pair_features(pairs: Sequence[tuple[str, str]], similarities: Sequence[float], rarity: bytes) -> bytes:
    """Features of pairs as float32 in native byte order, one row a pair; learned word weights count as zero.

    Args:
        pairs: Two texts each.
        similarities: Their cosines.
        rarity: Inverse document frequencies, one byte a word bucket.

    Raises:
        OptionError: `rarity` has another length.
    """

def pair_words(pairs: Sequence[tuple[str, str]]) -> list[tuple[list[int], list[int]]]:
    """Buckets of the content words of pairs: those that stand on one side only, and those of both sides."""

def word_buckets(texts: Sequence[str]) -> list[list[int]]:
    """Buckets of the content words of texts, each bucket once a text."""

def checksum(body: bytes) -> bytes:
    """The 16 bytes that end a verifier file, over all bytes before them."""

@final
class PairVerifier:
    """Estimates the probability that two prompts have the same answer.

    Args:
        path: A file that `nearhit tune` wrote; the shipped verifier by default.

    Raises:
        StorageError: The file cannot be read.
        CorruptFileError: It is damaged, or of another version.

    Example:
        >>> verifier = PairVerifier()
        >>> pairs = [("How do I reset my password?", "How can I reset my password?")]
        >>> [(trees, network, confidence, accepted)] = verifier.judge_many(pairs, [0.97])
        >>> accepted and confidence > verifier.threshold
        True
    """

    def __new__(cls, path: str | PathLike[str] | None = None) -> PairVerifier: ...
    @property
    def threshold(self) -> float:
        """Least confidence at which a near hit is served."""

    @property
    def embedder(self) -> str:
        """Name of the embedder whose vectors it knows; with others it goes by the texts and the similarity."""

    @property
    def dim(self) -> int:
        """Length of the vectors it knows."""

    def recalibrated(self, calibration: Sequence[float], threshold: float) -> bytes:
        """The content of this verifier's file with another calibration and threshold.

        Args:
            calibration: Weights of the log odds by trees and by network, and bias; weight of the trees alone, and bias.
            threshold: Least confidence at which a near hit is served.
        """

    def judge_many(
        self,
        pairs: Sequence[tuple[str, str]],
        similarities: Sequence[float],
        vectors: tuple[ArrayLike, ArrayLike] | None = None,
    ) -> list[tuple[float, float | None, float, bool]]:
        """Judges pairs.

        Args:
            pairs: Two texts each.
            similarities: Their cosines.
            vectors: Unit vectors of the first and of the second texts, each of shape [n, dim].

        Returns:
            For each pair the log odds by the trees, those by the network (None without vectors), the calibrated
            confidence in [0, 1], and whether the lexical guards accept it.
        """

def wait_for_detached() -> None:
    """Returns when no call of the cache is away from the GIL; to be called before a fork."""

@final
class VerifiedPolicy:
    """Keeps wrong near hits below a share of all requests, learning from judged answers.

    Args:
        delta: Greatest share of wrong hits among all requests.
        exploration: Share of what would be served that is explored all the same, so that drift is seen.
        seed: Of that choice.

    Raises:
        OptionError: `delta` or `exploration` is out of range.

    Example:
        >>> policy = VerifiedPolicy(0.02)
        >>> served, risk, limit = policy.decide(1, 0.5)
        >>> served
        False
        >>> policy.learn(1, 0.5, right=True)
    """

    def __new__(cls, delta: float = 0.02, *, exploration: float = 0.02, seed: int = 0) -> VerifiedPolicy: ...
    def pass_(self) -> None:
        """Counts a request without a candidate; it leaves its share of the budget to others."""

    def decide(self, entry: int, confidence: float) -> tuple[bool, float, float]:
        """Whether to serve the entry, its pessimistic risk of being wrong, and the greatest risk served at present."""

    def learn(self, entry: int, confidence: float, right: bool) -> None:
        """Learns whether the entry's answer was right for a request of this confidence."""

    @property
    def labels(self) -> int:
        """Labels learned from."""
