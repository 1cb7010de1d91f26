"""One tier of several replicas: balance, affinity, failover."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from nearhit import FunctionTier, OptionError, ReplicaTier, Router, TierConnectionError, TierError, TierStatusError
from nearhit._types import Chunk
from nearhit.tiers import Price


def named(*names: str, **options: Any) -> list[FunctionTier]:
    def make(name: str) -> FunctionTier:
        async def answer(messages: Any) -> str:
            return name

        return FunctionTier(name, answer, **options)

    return [make(name) for name in names]


def fails(name: str, error: Exception) -> FunctionTier:
    async def fail(messages: Any) -> str:
        raise error

    return FunctionTier(name, fail)


def turns(number: int, later: int = 0) -> list[dict[str, str]]:
    first = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": f"Question {number}"}]
    return first + [{"role": "assistant", "content": "x"}, {"role": "user", "content": "And then?"}] * later


def test_a_conversation_stays_where_it_began_and_conversations_are_spread() -> None:
    tier = ReplicaTier("r", named("a", "b", "c"))
    homes = [tier.complete(turns(number)).text for number in range(30)]
    assert homes == [tier.complete(turns(number, later=2)).text for number in range(30)]
    assert set(homes) == {"a", "b", "c"}


def test_a_session_goes_before_the_beginning() -> None:
    tier = ReplicaTier("r", named("a", "b", "c", "d"))
    assert len({tier.complete(turns(number), session="s").text for number in range(20)}) == 1
    router = Router([tier])
    assert len({router.complete(turns(number), session="s").text for number in range(20)}) == 1
    plain = ReplicaTier("r", named("a", "b", "c", "d"), affinity="session")
    assert len({plain.complete(turns(1)).text for _ in range(60)}) > 1


async def test_one_that_is_full_is_passed_over() -> None:
    gate = asyncio.Event()
    at_work: Counter[str] = Counter()
    all_at_work = asyncio.Event()

    def holds(name: str) -> FunctionTier:
        async def hold(messages: Any) -> str:
            at_work[name] += 1
            if at_work.total() == 4:
                all_at_work.set()
            await gate.wait()
            return name

        return FunctionTier(name, hold, max_concurrency=2)

    tier = ReplicaTier("r", [holds("a"), holds("b")])
    tasks = [asyncio.ensure_future(tier.acomplete("same prompt")) for _ in range(4)]
    await all_at_work.wait()
    assert at_work == {"a": 2, "b": 2}
    gate.set()
    await asyncio.gather(*tasks)
    assert tier.limiter.slots == 4


def test_one_that_fails_before_content_is_followed_by_another_and_shows_in_the_trace() -> None:
    tier = ReplicaTier("r", [fails("bad", TierConnectionError("gone")), *named("good")], breaker_failures=3)
    router = Router([tier], retries=0)
    completions = [router.complete(turns(number)) for number in range(40)]
    assert {completion.text for completion in completions} == {"good"}
    assert all(len(completion.trace.attempts) == 1 for completion in completions)
    assert {completion.trace.attempts[0].replica for completion in completions} == {"good"}
    spans = [span for each in completions for span in each.trace.spans if span.name == "replica"]
    assert [span.attributes["tier"] for span in spans] == ["bad"] * 3
    assert tier.state()["bad"]["down_for"] > 0
    assert tier.state()["bad"]["failures"] == 3


def test_after_content_nobody_else_answers() -> None:
    async def breaks(messages: Any) -> Any:
        yield Chunk("half")
        raise TierConnectionError("cut")

    tier = ReplicaTier("r", [FunctionTier(name, breaks) for name in ("a", "b")])
    stream = tier.stream("x")
    assert next(stream).text == "half"
    with pytest.raises(TierConnectionError):
        next(stream)
    assert sum(state["calls"] for state in tier.state().values()) == 1


def test_errors_that_no_replica_can_help_and_the_first_of_those_that_all_have() -> None:
    wrong = ReplicaTier(
        "r", [fails("a", TierStatusError("no", status=400)), fails("b", TierStatusError("no", status=400))]
    )
    with pytest.raises(TierStatusError):
        wrong.complete("x")
    assert sum(state["calls"] for state in wrong.state().values()) == 1
    gone = ReplicaTier("r", [fails(name, TierConnectionError(name)) for name in "ab"], breaker_failures=1)
    with pytest.raises(TierConnectionError):
        gone.complete("x")
    with pytest.raises(TierError, match="every replica is set aside"):
        gone.complete("x")
    assert all(state["in_flight"] == 0 for state in gone.state().values())


def test_what_it_states_is_the_least_of_its_replicas() -> None:
    tiers = [
        *named("a", max_context=100, capabilities=["tools", "images"], price=Price(prompt=1e-6, completion=2e-6)),
        *named("b", max_context=50, capabilities=["tools"]),
    ]
    tier = ReplicaTier("r", tiers)
    assert (tier.max_context, tier.capabilities, tier.price) == (50, frozenset({"tools"}), tiers[0].price)
    assert tier.limiter.slots is None
    assert tier.model == tiers[0].model
    assert tier.count_tokens("x") is None
    tier.close()
    assert all(each.closed for each in tiers)


@pytest.mark.parametrize(
    ("tiers", "options"),
    [([], {}), (["a"], {}), (named("a", "a"), {}), ([None], {}), (named("a"), {"affinity": "tag"}),
     (named("a"), {"load_gate": -1.0}), (named("a"), {"breaker_failures": 0}), ([ReplicaTier("r", named("a"))], {})],
)  # fmt: skip
def test_options_out_of_range_are_refused(tiers: Any, options: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        ReplicaTier("r", tiers, **options)
