"""Properties of the decision that hold for any tiers and any text."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from nearhit import FunctionTier, NoTierError, Router, TierProfile

PROFILES = st.builds(
    TierProfile,
    quality=st.floats(0.05, 0.95),
    input_cost=st.floats(0, 1e-4),
    output_cost=st.floats(0, 1e-4),
    ttft=st.none() | st.floats(0, 10),
    tpot=st.none() | st.floats(0, 0.2),
)
TEXTS = st.text(min_size=1, max_size=400).filter(lambda text: text.strip())


def _router(profiles: list[TierProfile], **options: float) -> Router:
    tiers = [FunctionTier(f"tier {index}", lambda messages: "x") for index in range(len(profiles))]
    return Router(
        tiers, profiles={tier.name: profile for tier, profile in zip(tiers, profiles, strict=False)}, **options
    )  # type: ignore[arg-type]


@given(TEXTS, st.lists(PROFILES, min_size=1, max_size=6))
def test_the_choice_is_the_most_useful_of_the_eligible(text: str, profiles: list[TierProfile]) -> None:
    decision = _router(profiles).decide(text)
    others = decision.alternatives
    assert len(others) == len(profiles) - 1
    assert decision.choice.eligible
    assert all(decision.choice.utility >= other.utility for other in others if other.eligible)
    assert {decision.tier, *(other.tier for other in others)} == {f"tier {i}" for i in range(len(profiles))}


@given(TEXTS, st.lists(PROFILES, min_size=1, max_size=6), st.floats(0, 0.01))
def test_a_cost_limit_is_kept(text: str, profiles: list[TierProfile], most: float) -> None:
    try:
        decision = _router(profiles).decide(text, max_cost=most)
    except NoTierError:
        return
    assert decision.predicted_cost <= most


@given(TEXTS, st.lists(PROFILES, min_size=2, max_size=6))
def test_a_higher_price_of_quality_never_buys_a_dearer_answer(text: str, profiles: list[TierProfile]) -> None:
    costs = [_router(profiles, cost_weight=weight).decide(text).predicted_cost for weight in (0.0, 0.1, 0.5, 5.0)]
    assert all(later <= earlier * (1 + 1e-9) for earlier, later in itertools.pairwise(costs))


def _useful(router: Router, text: str, **limits: float) -> float | None:
    """What the choice is worth among the tiers that keep the limits; None if none does."""
    try:
        decision = router.decide(text, **limits)  # type: ignore[arg-type]
    except NoTierError:
        return None
    return decision.choice.utility if decision.choice.eligible else None


@given(TEXTS, st.lists(PROFILES, min_size=1, max_size=6), st.floats(1e-6, 0.05), st.floats(1.0, 10.0))
def test_more_money_never_buys_a_worse_choice(text: str, profiles: list[TierProfile], most: float, more: float) -> None:
    router = _router(profiles)
    tight, wide = _useful(router, text, max_cost=most), _useful(router, text, max_cost=most * more)
    assert tight is None or (wide is not None and wide >= tight)


@given(TEXTS, st.lists(PROFILES, min_size=1, max_size=6), st.floats(0.01, 10.0), st.floats(1.0, 10.0))
def test_more_time_never_buys_a_worse_choice(text: str, profiles: list[TierProfile], time: float, more: float) -> None:
    router = _router(profiles)
    tight, wide = _useful(router, text, deadline=time), _useful(router, text, deadline=time * more)
    assert tight is None or (wide is not None and wide >= tight)
