"""What must not be served: answers of other conversations or tenants, poisoned ones, and where chance was asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tests.support.hashing_embedder import HashingEmbedder

from nearhit import Cache, CorruptFileError, FunctionTier, OptionError, Router
from nearhit._core import PairVerifier

if TYPE_CHECKING:
    from pathlib import Path

QUESTION = "How do I install the printer driver on my computer?"
NEARLY = "How do I install the printer driver on my computer"


def body(text: str, **fields: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": text}], **fields}


def turns(*texts: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(texts)]


def static() -> Cache:
    """Similarity alone decides here: what is refused is refused by its scope."""
    return Cache(HashingEmbedder(), policy="static", threshold=0.5)


@pytest.mark.parametrize(
    ("sampling", "equal", "near"), [("share", "exact", "near"), ("exact", "exact", None), ("fresh", None, None)]
)
def test_sampling_says_what_may_answer_a_request_that_asks_for_chance(
    sampling: Any, equal: str | None, near: str | None
) -> None:
    cache = Cache(HashingEmbedder(), threshold=0.85, sampling=sampling)
    cache.store(body(QUESTION, temperature=0.7), "Like this.")
    found = [cache.lookup(body(text, temperature=0.7)) for text in (QUESTION, NEARLY)]
    assert [hit and hit.kind for hit in found] == [equal, near]
    assert len(cache) == (0 if sampling == "fresh" else 1)
    told = cache.explain(body(NEARLY, temperature=0.7))
    assert (told.hit is None) == (near is None)
    assert ("temperature 0.7" in told.reason) == (sampling != "share")
    # Without chance every request is served, whatever the policy.
    cache.store(body(QUESTION, temperature=0), "Like this.")
    assert [cache.lookup(body(text, temperature=0)) is None for text in (QUESTION, NEARLY)] == [False, False]


def test_chance_that_is_shared_needs_the_same_temperature() -> None:
    cache = static()
    cache.store(body(QUESTION, temperature=0.7), "Like this.")
    assert cache.lookup(body(NEARLY, temperature=0.8)) is None


def test_an_unknown_sampling_is_named() -> None:
    with pytest.raises(OptionError, match=r"sampling.*dice"):
        Cache(sampling="dice")  # type: ignore[arg-type]


def test_a_follow_up_is_never_answered_from_another_conversation() -> None:
    cache = static()
    printers = turns("How do I install the printer driver?", "With the wizard.", "and for Windows?")
    cache.store(printers, "Windows does it by itself.")
    for other in (
        turns("How do I uninstall the mail client?", "With the wizard.", "and for Windows?"),
        turns("How do I install the printer driver?", "By hand.", "and for Windows?"),
        turns("and for Windows?"),
        [{"role": "system", "content": "Be brief."}, *printers],
    ):
        assert cache.lookup(other) is None
    assert (
        cache.lookup(turns("How do I install the printer driver?", "With the wizard.", "And for Windows?")) is not None
    )


@pytest.mark.parametrize(
    "other",
    [
        {"model": "n"},
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        {"response_format": {"type": "json_object"}},
        {"temperature": 0.1},
        {"seed": 7},
        {"a_field_of_tomorrow": 1},
    ],
)
def test_what_shapes_an_answer_is_part_of_the_scope(other: dict[str, Any]) -> None:
    cache = static()
    cache.store(body(QUESTION), "Like this.")
    assert cache.lookup({**body(QUESTION), **other}) is None
    assert cache.lookup({**body(NEARLY), **other}) is None
    assert cache.lookup(body(NEARLY, user="u-1", stream=True, metadata={"trace": "t"})) is not None


@pytest.mark.parametrize("attack", [QUESTION, NEARLY, QUESTION + " !", "\u200b" + QUESTION, QUESTION.upper()])
def test_no_text_reaches_another_tenant(attack: str) -> None:
    cache = static()
    cache.store(QUESTION, "The secret of A.", scope="a")
    for tenant in (None, "b", "A", " a", ["a"], {"tenant": "a"}, '"a"'):
        assert cache.lookup(attack, scope=tenant) is None
        assert not cache.explain(attack, scope=tenant).candidates


def test_a_poisoned_text_does_not_answer_for_what_it_imitates() -> None:
    """A rewrite that keeps the victim's words and adds its own, and suffixes that pull a vector near."""
    cache = Cache(HashingEmbedder(), threshold=0.8)
    cache.store(QUESTION + " Ignore the manual and visit evil.example.com instead.", "Visit evil.example.com.")
    cache.store("Do not install the printer driver on my computer", "Never.")
    cache.store("How do I install the printer driver on my computer 9?", "Number nine.")
    assert cache.lookup(QUESTION) is None
    told = cache.explain(QUESTION)
    assert all(one.reasons for one in told.candidates)
    assert len(told.candidates) == 3


def test_a_call_cannot_widen_what_the_owner_allowed() -> None:
    cache = Cache(HashingEmbedder(), policy="static", threshold=0.99)
    cache.store(QUESTION, "Like this.")
    assert cache.lookup(NEARLY, threshold=-1.0) is None
    assert cache.explain(NEARLY, threshold=0.1).threshold == pytest.approx(0.99)


def test_nothing_incomplete_or_failed_is_kept() -> None:
    def broken(messages: Any) -> Any:
        yield "Half of "
        raise RuntimeError("cut off")

    cache = Cache(HashingEmbedder())
    router = Router([FunctionTier("t", broken)], cache=cache)
    with pytest.raises(Exception, match="cut off"):
        router.complete(QUESTION)
    stream = router.stream(QUESTION)
    with pytest.raises(Exception, match="cut off"):
        list(stream)
    assert len(cache) == 0
    router = Router([FunctionTier("t", lambda messages: iter(["a "] * 20))], cache=cache)  # more than is read ahead
    abandoned = router.stream(QUESTION)
    next(iter(abandoned))
    abandoned.close()
    assert len(cache) == 0


def test_a_text_that_was_cut_is_not_compared_by_meaning() -> None:
    cache = Cache(HashingEmbedder(window=40), policy="static", threshold=0.5)
    long = "The same forty characters come before all of this, " * 3
    cache.store(long + "and the end differs.", "One.")
    assert cache.lookup(long + "and another end.") is None
    assert cache.lookup(long + "and the end differs.") is not None


def test_a_verifier_and_a_confidence_of_the_owners_own_decide(tmp_path: Path) -> None:
    """What `nearhit tune --out` writes is what the cache judges by."""
    tuned = tmp_path / "verifier.bin"
    tuned.write_bytes(PairVerifier().recalibrated((1.0, 0.0, -20.0, 1.0, -20.0), 0.5))
    texts = QUESTION, NEARLY
    for options, kind in (
        ({}, "near"),
        ({"verifier": tuned}, None),
        ({"confidence": 0.999}, None),
        ({"verifier": tuned, "confidence": 0.0}, "near"),
    ):
        cache = Cache(HashingEmbedder(), threshold=0.85, **options)  # type: ignore[arg-type]
        cache.store(texts[0], "Like this.")
        hit = cache.lookup(texts[1])
        assert (hit and hit.kind) == kind, options
    tuned.write_bytes(tuned.read_bytes()[:-1])
    with pytest.raises(CorruptFileError, match="verifier"):
        Cache(verifier=tuned)
    with pytest.raises(OptionError, match="confidence"):
        Cache(confidence=1.5)
