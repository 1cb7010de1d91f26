"""Options that nothing has."""

from __future__ import annotations

from typing import Any

import pytest

import nearhit


def tier() -> nearhit.FunctionTier:
    return nearhit.FunctionTier("only", lambda _messages: "yes")


@pytest.mark.parametrize("make", [nearhit.Cache, nearhit.AsyncCache])
def test_a_cache_names_an_unknown_option_and_the_nearest_one(make: Any) -> None:
    with pytest.raises(nearhit.UnknownOptionError, match=r"no option treshold=0\.8: did you mean threshold\?"):
        make(treshold=0.8)


@pytest.mark.parametrize("make", [nearhit.Router, nearhit.AsyncRouter])
def test_a_router_names_an_unknown_option_and_those_it_has(make: Any) -> None:
    with pytest.raises(nearhit.UnknownOptionError, match=r"Router has no option colour='red': it has tiers,"):
        make([tier()], colour="red")


def test_an_unknown_option_is_also_what_python_raises_for_one() -> None:
    with pytest.raises(TypeError):
        nearhit.Cache(colour="red")  # type: ignore[arg-type]
