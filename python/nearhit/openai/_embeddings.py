"""Embeddings remembered one input at a time: a request asks its server only for those that nobody asked for before.

An entry is the server's answer to a request with this one input; an answer to several is divided into such answers, and
an answer out of the cache put together from them. Token counts are the server's own: of inputs that were asked for
together they are divided by length, so that the sum for the same inputs is exact.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from nearhit._core import Hit
    from nearhit.cache import Lookup

Body = dict[str, Any]


def inputs_of(request: Mapping[str, Any]) -> list[Any] | None:
    """What a request wants embedded, one by one: texts, or texts as tokens; None where that cannot be told."""
    given = request.get("input")
    if isinstance(given, str):
        return [given]
    if not isinstance(given, list) or not given:
        return None
    if all(isinstance(each, str) for each in given) or all(_is_tokens(each) for each in given):
        return given
    return [given] if _is_tokens(given) else None


def _is_tokens(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(each) is int for each in value)


class Inputs:
    """The inputs of one request, those known and those to be asked for.

    Args:
        given: The inputs, in the request's order.
        body: The request as the cache reads it, without its inputs.

    Attributes:
        missing: The inputs to be asked for, each once, in their order.
        hit: The last hit there was.
    """

    def __init__(self, given: Sequence[Any], body: Mapping[str, Any]) -> None:
        self._given = given
        self._body = body
        self._known: dict[str, Body] = {}  # by the fingerprint of a request with the one input
        self._names: list[str] = []
        self._lookups: dict[str, Lookup] = {}
        self.missing: list[Any] = []
        self.hit: Hit | None = None

    def __len__(self) -> int:
        return len(self._given)

    @property
    def partial(self) -> bool:
        """Whether the server need not be asked for all of them."""
        return len(self.missing) < len(self._given)

    @property
    def known(self) -> int:
        """How many were found."""
        return len(self._known)

    def find(self) -> Generator[Body, Lookup, Body | None]:
        """Asks for each input: yields requests to look up; returns the whole answer if all are known."""
        for each in self._given:
            lookup = yield {**self._body, "prompt": ["embedding of", each]}
            name = lookup.request.fingerprint
            self._names.append(name)
            if name in self._known or name in self._lookups:
                continue
            if lookup.hit is not None and _is_one(lookup.hit.response):
                self._known[name] = lookup.hit.response
                self.hit = lookup.hit
            else:
                self._lookups[name] = lookup
                self.missing.append(each)
        return None if self.missing else self.joined()

    def take(self, body: Any) -> list[tuple[Lookup, Body]] | None:
        """Takes the server's answer to `missing`: what is to be stored; None if it does not hold each."""
        data = body.get("data") if isinstance(body, dict) else None
        if not isinstance(data, list) or len(data) != len(self.missing):
            return None
        placed = {
            item.get("index", place): item
            for place, item in enumerate(data)
            if isinstance(item, dict) and item.get("embedding")
        }
        if placed.keys() != set(range(len(data))):
            return None
        counts = _divided(body.get("usage"), [len(each) for each in self.missing])
        stored = []
        for place, (name, lookup) in enumerate(self._lookups.items()):
            usage = {} if counts is None else {"usage": counts[place]}
            self._known[name] = {**body, "data": [{**placed[place], "index": 0}], **usage}
            stored.append((lookup, self._known[name]))
        return stored

    def joined(self) -> Body:
        """The answer to all of them, as the server would have given it."""
        answers = [self._known[name] for name in self._names]
        data = [{**answer["data"][0], "index": place} for place, answer in enumerate(answers)]
        joined = {**answers[0], "data": data}
        if len(answers) == 1:
            return joined
        usages = [usage for answer in answers if isinstance(usage := answer.get("usage"), dict)]
        if len(usages) == len(answers):
            joined["usage"] = {
                key: sum(each[key] for each in usages)
                for key, value in usages[0].items()
                if type(value) is int and all(type(each.get(key)) is int for each in usages)
            }
        return joined


def _is_one(stored: Any) -> bool:
    """Whether an entry is the answer to one input."""
    data = stored.get("data") if isinstance(stored, dict) else None
    return isinstance(data, list) and len(data) == 1 and isinstance(data[0], dict)


def _divided(usage: Any, weights: Sequence[int]) -> list[dict[str, Any]] | None:
    """Token counts divided among inputs by their length: whole numbers that add up."""
    if not isinstance(usage, dict):
        return None
    parts: list[dict[str, Any]] = [dict(usage) for _ in weights]
    whole = sum(weights) or 1
    for key, value in usage.items():
        if type(value) is not int:
            continue
        given, passed = 0, 0
        for part, weight in zip(parts, weights, strict=True):
            passed += weight
            upto = value * passed // whole
            part[key], given = upto - given, upto
    return parts
