"""Rules of the application: which tiers a request may go to, whatever its difficulty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Final

from nearhit._errors import OptionError
from nearhit._types import Embedder
from nearhit.cache._embedding import Embedded, embed
from nearhit.tiers.options import check_number

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from nearhit._core import HeldRules, RouterCore, RouteRequest

    RuleFields = tuple[str, bool, tuple[str, ...], tuple[str, ...], float | None, Any]

Scalar = str | int | float | bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What every rule has: a name, and what it demands of the tier where it holds. Use one of its kinds.

    Rules are applied in their order: each narrows what those before it have left. A rule that would leave no tier that
    can take the request (up, able, within deadline and cost) is set aside and the decision says so; with `strict=True`
    the request is refused instead. Strict rules are applied before all others.

    Attributes:
        only: Name or names of the only tiers allowed; one name forces that tier.
        exclude: Name or names of tiers not allowed.
        min_quality: Probability of a good answer that the tier must have for this prompt, in [0, 1).
        strict: Whether a request is refused (`NoTierError`) rather than answered against the rule.
        name: How decisions call the rule; by default "rule 1", "rule 2"...
    """

    only: str | Sequence[str] = ()
    exclude: str | Sequence[str] = ()
    min_quality: float | None = None
    strict: bool = False
    name: str | None = None

    def __post_init__(self) -> None:
        if type(self) is Rule:
            kinds = "KeywordRule, RegexRule, MetadataRule or SemanticRule"
            raise OptionError(f"a Rule alone says not when it holds: use {kinds}")
        self._listed("only", "exclude")
        check_number("min_quality", self.min_quality, least=0.0, most=1.0)
        if not isinstance(self.strict, bool):
            raise OptionError(f"strict={self.strict!r} is not valid: expected True or False")
        if self.name is not None and not isinstance(self.name, str):
            raise OptionError(f"name={self.name!r} is not valid: expected a text, or None")

    def _listed(self, *names: str) -> None:
        """Turns a text, or a sequence of texts, into a tuple of texts."""
        for name in names:
            value = getattr(self, name)
            listed = (value,) if isinstance(value, str) else value
            if not isinstance(listed, Sequence) or not all(isinstance(each, str) for each in listed):
                raise OptionError(f"{name}={value!r} is not valid: expected a text or a list of texts")
            object.__setattr__(self, name, tuple(listed))

    def _in(self, name: str, choices: Sequence[str]) -> None:
        value = getattr(self, name)
        if value not in choices:
            raise OptionError(f"{name}={value!r} is not valid: expected {' or '.join(map(repr, choices))}")

    def _whole(self, name: str) -> None:
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise OptionError(f"{name}={value!r} is not valid: expected a whole number, at least 1")


FIELDS: Final = ("prompt", "system")


@dataclass(frozen=True, slots=True)
class KeywordRule(Rule):
    """Holds where the text has the keywords, in any case; all keywords of all rules are found in one pass.

    Attributes:
        keywords: What to look for, words or phrases.
        at_least: How many different ones there must be.
        whole_words: Whether letters or digits beside a keyword make it another word; scripts without spaces have none.
        field: "prompt" (the last user turn, or the one that a bare "yes" continues) or "system".

    Example:
        >>> rule = KeywordRule(["refund", "chargeback"], only="large", name="payments")
    """

    keywords: str | Sequence[str]
    at_least: int = field(default=1, kw_only=True)
    whole_words: bool = field(default=True, kw_only=True)
    field: str = field(default="prompt", kw_only=True)

    def __post_init__(self) -> None:
        Rule.__post_init__(self)
        self._listed("keywords")
        self._in("field", FIELDS)
        self._whole("at_least")
        if not isinstance(self.whole_words, bool):
            raise OptionError(f"whole_words={self.whole_words!r} is not valid: expected True or False")


@dataclass(frozen=True, slots=True)
class RegexRule(Rule):
    r"""Holds where one of the patterns is found in the text.

    Patterns have the syntax of Rust's `regex` crate: like Python's, without look-around and back-references, and
    matched in time linear in the text, whatever it holds. All patterns of all rules are matched in one pass.

    Attributes:
        patterns: One or more; `(?i)` in front ignores case.
        field: "prompt" (the last user turn, or the one that a bare "yes" continues) or "system".

    Example:
        >>> rule = RegexRule(r"\b\d{4} \d{4} \d{4} \d{4}\b", only="local", strict=True, name="card numbers")
    """

    patterns: str | Sequence[str]
    field: str = field(default="prompt", kw_only=True)

    def __post_init__(self) -> None:
        Rule.__post_init__(self)
        self._listed("patterns")
        self._in("field", FIELDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class MetadataRule(Rule):
    """Holds where all that is stated is true of the request; what is left out is not asked.

    Attributes:
        tags: The request has one of these: `router.complete(..., tags=["batch"])`.
        fields: Values by name; "metadata.plan" is the `plan` within `metadata`. Names are looked up in the request's
            `about=`, then in its parameters (`user`, `temperature`, `metadata`...). A list means: one of these.
        has_tools: Whether tools are given.
        has_images: Whether a turn holds an image.
        tokens: The least and the most tokens of all turns, as estimated; None at an end leaves it open.
        languages: The prompt is in one of these: "en", "de", "fr", "es", "it", "pt", "nl", "ru", or one of the scripts
            "Latin", "Cyrillic", "Han" ("zh"), "Japanese" ("ja"), "Hangul" ("ko"), "Arabic" ("ar")... Languages in Latin
            letters are told by their frequent words; a text with fewer than two of them is of none.

    Example:
        >>> rule = MetadataRule(fields={"metadata.plan": "free"}, exclude="large")
        >>> long = MetadataRule(tokens=(8_000, None), only="long-context")
    """

    tags: str | Sequence[str] = ()
    fields: Mapping[str, Scalar | Sequence[Scalar]] = field(default_factory=dict)
    has_tools: bool | None = None
    has_images: bool | None = None
    tokens: Sequence[float | None] | None = None
    languages: str | Sequence[str] = ()

    def __post_init__(self) -> None:
        Rule.__post_init__(self)
        self._listed("tags", "languages")
        for name in ("has_tools", "has_images"):
            if not isinstance(getattr(self, name), bool | None):
                raise OptionError(f"{name}={getattr(self, name)!r} is not valid: expected True, False or None")
        if not isinstance(self.fields, Mapping):
            raise OptionError(f"fields={self.fields!r} is not valid: expected values by name")
        listed = {name: _listed_values(name, value) for name, value in self.fields.items()}
        object.__setattr__(self, "fields", listed)
        object.__setattr__(self, "tokens", _ends(self.tokens))


@dataclass(frozen=True, slots=True)
class SemanticRule(Rule):
    """Holds where the prompt means nearly the same as one of the example utterances.

    Where several semantic rules that are not strict would hold, only the nearest does: they are alternatives.

    The utterances are embedded once, by the router's `embedder` (its cache's by default). A prompt that its cache has
    embedded already costs microseconds more; any other has to be embedded, which takes milliseconds.

    Attributes:
        utterances: What users say who mean this.
        threshold: Similarity (cosine) to the nearest utterance that is enough. With ten utterances and
            all-MiniLM-L6-v2, 0.6 found 73 % of the requests of a rule and 0.2 % of those of another (CLINC150), within
            one domain 93 % and 3 % (BANKING77); 0.7 found 57 % and 80 %, 0.05 % and 0.8 %.
        neighbours: How many of the nearest utterances count; the mean of their similarities must reach the threshold.

    Example:
        >>> rule = SemanticRule(["Where is my parcel?", "My order has not arrived"], only="small", threshold=0.6)
    """

    utterances: str | Sequence[str]
    threshold: float = field(default=0.6, kw_only=True)
    neighbours: int = field(default=1, kw_only=True)

    def __post_init__(self) -> None:
        Rule.__post_init__(self)
        self._listed("utterances")
        check_number("threshold", self.threshold, least=-1.0, most=1.0)
        if self.threshold is None:
            raise OptionError("threshold=None is not valid: expected a similarity in [-1, 1]")
        self._whole("neighbours")
        if not self.utterances or not all(each.strip() for each in self.utterances):
            raise OptionError(f"utterances={self.utterances!r} is not valid: expected at least one, none of them blank")


KINDS: Final[Mapping[str, type[Rule]]] = {
    "keywords": KeywordRule,
    "regex": RegexRule,
    "metadata": MetadataRule,
    "semantic": SemanticRule,
}
"""Kinds of rules, by their names in `nearhit.toml`."""


@dataclass(frozen=True, slots=True)
class _Stated:
    """A `MetadataRule` as the core reads it: fields by their number among all that are asked for."""

    tags: tuple[str, ...]
    fields: list[tuple[int, tuple[Scalar, ...]]]
    has_tools: bool | None
    has_images: bool | None
    tokens: tuple[float, float] | None
    languages: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Near:
    """A `SemanticRule` as the core reads it."""

    rows: NDArray[np.float32]
    threshold: float
    neighbours: int


class RuleBook:
    """A router's rules, and what has to be known of a request to apply them.

    Args:
        rules: The rules, the first taking precedence.
        embedder: Embeds utterances and prompts; None where no rule is semantic.

    Attributes:
        fields: The rules as `RouterCore` takes them.
        embedder: The embedder; None where no rule needs one.
        strict: Whether a semantic rule is strict, so that a prompt which cannot be embedded must be refused.

    Raises:
        OptionError: Something that is not a rule, or semantic rules without an embedder.
        EmbeddingError: The utterances cannot be embedded.
    """

    __slots__ = ("_paths", "embedder", "fields", "strict")

    _MISSING: ClassVar[object] = object()

    def __init__(self, rules: Sequence[Rule], embedder: Embedder | None) -> None:
        if not isinstance(rules, list | tuple) or not all(isinstance(rule, Rule) for rule in rules):
            raise OptionError(f"rules={rules!r} is not valid: expected a list of {', '.join(_names())}")
        semantic = [rule for rule in rules if isinstance(rule, SemanticRule)]
        if semantic and not isinstance(embedder, Embedder):
            raise OptionError(
                f"embedder={embedder!r} is not valid: semantic rules need one; give the router an embedder, or a cache "
                "that has one (see nearhit.embed.load)"
            )
        self.embedder = embedder if semantic else None
        self.strict = any(rule.strict for rule in semantic)
        self._paths: list[tuple[str, ...]] = []
        self.fields: list[RuleFields] = [self._compiled(rule, place) for place, rule in enumerate(rules, start=1)]

    def _compiled(self, rule: Rule, place: int) -> RuleFields:
        name = f"rule {place}" if rule.name is None else rule.name
        return name, rule.strict, tuple(rule.only), tuple(rule.exclude), rule.min_quality, self._when(rule)

    def _when(self, rule: Rule) -> Any:
        if isinstance(rule, MetadataRule):
            asked = [(self._number(name), _tuple(values)) for name, values in rule.fields.items()]
            ends = None if rule.tokens is None else (rule.tokens[0] or 0.0, _or_endless(rule.tokens[1]))
            return _Stated(_tuple(rule.tags), asked, rule.has_tools, rule.has_images, ends, _tuple(rule.languages))
        if isinstance(rule, SemanticRule):
            import numpy as np  # noqa: PLC0415 - routers without such rules need none

            assert self.embedder is not None  # noqa: S101 - refused above
            rows = np.stack([each.vector for each in embed(self.embedder, list(rule.utterances))])
            return _Near(rows, rule.threshold, rule.neighbours)
        return rule

    def _number(self, name: str) -> int:
        path = tuple(name.split("."))
        if path not in self._paths:
            self._paths.append(path)
        return self._paths.index(path)

    def embed(self, request: RouteRequest) -> Embedded | None:
        """Embeds a request's prompt; None where no rule needs it, or it holds images alone.

        Raises:
            EmbeddingError: The embedder failed.
        """
        if self.embedder is None or not request.prompt:
            return None
        return embed(self.embedder, [request.prompt])[0]

    def held(
        self,
        core: RouterCore,
        request: RouteRequest,
        *,
        tags: Sequence[str],
        about: Mapping[str, Any],
        params: Mapping[str, Any],
        vector: NDArray[np.float32] | None,
    ) -> HeldRules:
        """The rules that hold for a request.

        Args:
            core: Where the rules were compiled.
            request: The request.
            tags: Its tags.
            about: What else is known about it.
            params: Its parameters.
            vector: The prompt's embedding, where a rule needs it.
        """
        found = [self._field(path, about, params) for path in self._paths]
        return core.holding(request, tags=list(tags), fields=found, tools=bool(params.get("tools")), vector=vector)

    def _field(self, path: tuple[str, ...], *sources: Mapping[str, Any]) -> Scalar:
        for source in sources:
            value: Any = source
            for key in path:
                value = value.get(key, self._MISSING) if isinstance(value, Mapping) else self._MISSING
            if isinstance(value, str | int | float):  # bool is an int; what else there is cannot be asked for
                return value
        return None


def _names() -> list[str]:
    return [kind.__name__ for kind in KINDS.values()]


def _tuple(values: Any) -> tuple[Any, ...]:
    return tuple(values)


def _or_endless(value: float | None) -> float:
    return float("inf") if value is None else value


def _listed_values(name: object, value: object) -> tuple[Scalar, ...]:
    listed = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (value,)
    if not isinstance(name, str) or not listed or not all(isinstance(each, str | int | float) for each in listed):
        raise OptionError(f"fields: {name!r}: {value!r} is not valid: expected texts, numbers or booleans by name")
    return listed


def _ends(tokens: Any) -> tuple[float | None, float | None] | None:
    if tokens is None:
        return None
    wrong = OptionError(f"tokens={tokens!r} is not valid: expected the least and the most, either of them None")
    try:
        least, most = tokens
    except (TypeError, ValueError):
        raise wrong from None
    for end in (least, most):
        if end is not None and (isinstance(end, bool) or not isinstance(end, int | float)):
            raise wrong
    return least, most
