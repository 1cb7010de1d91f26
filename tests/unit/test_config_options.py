"""Everything that code can configure, file and environment can: each constructor's parameters, one by one."""

from __future__ import annotations

import inspect
import json
import os
from pathlib import Path

import pytest

import nearhit
from nearhit import backends, cache, config, embed, openai, otel, router, tiers, trace
from nearhit.openai import Controls

CODE = "an object that code alone can make; "
PLACES = {
    nearhit.Cache: "cache",
    nearhit.AsyncCache: "cache",
    nearhit.Router: "router",
    nearhit.AsyncRouter: "router",
    router.Cascade: "router.cascade",
    router.TierProfile: "router.profiles.*",
    router.Shadow: "router.shadow",
    router.KeywordRule: "router.rules",
    router.RegexRule: "router.rules",
    router.MetadataRule: "router.rules",
    router.SemanticRule: "router.rules",
    backends.RedisBackend: "cache.backend",
    tiers.Tier: "tiers.openai",
    tiers.OpenAITier: "tiers.openai",
    tiers.CTranslate2Tier: "tiers.ctranslate2",
    tiers.ReplicaTier: "tiers.replicas",
    tiers.Price: "tiers.openai.price",
    tiers.Timeouts: "tiers.openai.timeouts",
    embed.CTranslate2Embedder: "embedder",
    embed.NativeEmbedder: "embedder",
    embed.load: "embedder",
    openai.wrap: "openai",
    Controls: "openai.defaults",
}
"""Where the options of each class and function stand in the file."""

FROM_CODE_ALONE = {
    "cache.embedder": "a part of its own: [embedder]",
    "router.tiers": "parts of their own: [[tiers]]",
    "router.embedder": "a part of its own: [embedder]",
    "router.cache": "Router.from_config(cache=Cache.from_config()), so that it is one cache for all who use it",
    "router.cascade.score": "a function",
    "openai.client": "what is wrapped",
    "openai.cache": CODE + "Cache.from_config()",
    "openai.router": CODE + "Router.from_config()",
}
"""Parameters that no file can set, and why."""

OTHERS = {
    nearhit.FunctionTier: "made of a function",
    nearhit.VectorIndex: "data of the caller's, no part of a running cache",
    router.Rule: "what the kinds of rules share",
    cache.TierJudge: "made of the tier that stands at [cache.judge]",
    cache.Request: "made of a request",
    cache.Trial: "what a judge is given",
    router.RoutingHead: "fitted and saved; router.head names its file",
    otel.OpenTelemetry: 'router.on_trace = "opentelemetry"; its providers are the process\'s own',
}
"""Public classes that have no place in the file, and why."""

RECORDS = {
    "AsyncRouterStream", "AsyncTierStream", "Alternative", "AppliedRule", "BackendStats", "Calibration", "Candidate",
    "Counts",
    "Decision", "Disagreement", "Explanation", "Hit", "Info", "Judgement", "Latency", "Lookup", "RouterStream",
    "ScopeStats", "ShadowReport", "Shadowed", "Span", "Stats", "TierStream", "Trace", "Attempt", "Usage",
}  # fmt: skip
"""What nearhit makes and hands out."""


@pytest.fixture(autouse=True)
def empty(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("NEARHIT_"):
            monkeypatch.delenv(name)


def public_classes():
    found = {}
    for module in (nearhit, cache, router, tiers, embed, backends, openai, otel, trace):
        for name in getattr(module, "__all__", [name for name in vars(module) if not name.startswith("_")]):
            value = getattr(module, name)
            own = getattr(value, "__module__", "").startswith("nearhit")
            if own and isinstance(value, type) and not issubclass(value, BaseException):
                found[name] = value
    return found


def parameters(taker):
    if taker is Controls:
        return list(Controls.__annotations__)
    if not isinstance(taker, type):
        takers = [taker]
    else:
        takers = [each.__dict__["__init__"] for each in taker.__mro__ if "__init__" in vars(each)]
        takers.remove(object.__init__)
    found = [one for each in takers for one in inspect.signature(each).parameters.values()]
    return [one.name for one in found if one.name != "self" and one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)]


def test_every_public_class_has_a_place_or_a_reason():
    classes = public_classes()
    unknown = [name for name, value in classes.items() if value not in {*PLACES, *OTHERS} and name not in RECORDS]
    assert unknown == [], "give them a place in nearhit.config, or a reason here"
    assert set(classes) >= RECORDS - {"Span", "Attempt", "Usage"}


@pytest.mark.parametrize("taker", PLACES, ids=lambda taker: taker.__name__)
def test_every_parameter_can_be_written_or_has_a_reason(taker):
    known = config.options()
    names = [f"{PLACES[taker]}.{name}" for name in parameters(taker)]
    assert names
    missing = [name for name in names if name not in known and name not in FROM_CODE_ALONE]
    assert missing == [], "give them a type that nearhit.config can read, or a reason here"


def test_no_reason_is_out_of_date():
    known = config.options()
    assert [name for name in FROM_CODE_ALONE if name in known] == []
    taken = {f"{place}.{name}" for taker, place in PLACES.items() for name in parameters(taker)}
    assert set(FROM_CODE_ALONE) <= taken


def test_no_option_is_one_that_nobody_takes():
    taken = {f"{place}.{name}" for taker, place in PLACES.items() for name in parameters(taker)}
    places = sorted(set(PLACES.values()), key=len, reverse=True)
    for name in config.options():
        place = next((each for each in places if name.startswith(f"{each}.")), None)
        if place is not None and "." not in name.removeprefix(f"{place}.") and not name.endswith(".type"):
            assert name in taken, name


def literal(value):
    """A value as TOML writes it."""
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(literal, value))}]"
    return json.dumps(value) if isinstance(value, str | bool) else repr(value)


MADE = {
    "cache": (nearhit.Cache, {}),
    "router": (nearhit.Router, {}),
    "cache.backend": (backends.RedisBackend, {"url": "redis://127.0.0.1:1"}),
    "router.cascade": (router.Cascade, {}),
}


@pytest.mark.parametrize("place", MADE)
def test_a_file_with_every_default_makes_what_the_defaults_make(place):
    taker, given = MADE[place]
    known = config.options()
    lines = [f"[{place}]", *(f"{name} = {literal(value)}" for name, value in given.items())]
    stated = 0
    for each in [base for base in taker.__mro__ if "__init__" in vars(base) and base is not object]:
        for one in inspect.signature(each.__init__).parameters.values():
            if f"{place}.{one.name}" in known and one.default is not one.empty:
                lines.append(f"{one.name} = {literal('none' if one.default is None else one.default)}")
                stated += 1
    assert stated >= 3 or place == "router.cascade"
    Path("nearhit.toml").write_text("\n".join(lines), encoding="utf-8")
    found = config.load(environ={})
    if place == "cache":
        assert isinstance(nearhit.Cache.from_config(), nearhit.Cache)
    elif place == "router":
        tier = nearhit.FunctionTier("only", lambda _: "x")
        assert nearhit.Router.from_config(tiers=[tier]).complete("Hello").text == "x"
    elif place == "router.cascade":
        assert found.router_options()["cascade"] == router.Cascade()
    else:
        assert repr(found.cache_options()["backend"]) == repr(backends.RedisBackend("redis://127.0.0.1:1"))
