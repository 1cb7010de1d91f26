"""The parts of the configuration: which class takes the options of which part, and how its objects are written."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from nearhit._errors import MissingDependencyError
from nearhit.config._options import Chosen, Made, Named, Option, options_in, options_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nearhit.config._options import Table


@cache
def parts() -> dict[str, dict[str, Option]]:
    """The options of each part, from the classes and functions that take them."""
    from nearhit import embed  # noqa: PLC0415 - `import nearhit` stays quick
    from nearhit.cache import Cache, TierJudge  # noqa: PLC0415 - likewise
    from nearhit.embed import ct2, native  # noqa: PLC0415 - likewise
    from nearhit.openai import wrap  # noqa: PLC0415 - likewise
    from nearhit.router import Router  # noqa: PLC0415 - likewise

    tables = _tables()
    found = {
        "cache": options_of(Cache, tables),
        "embedder": options_of(native.NativeEmbedder) | options_of(ct2.CTranslate2Embedder) | options_of(embed.load),
        "router": options_of(Router, tables),
        "openai": options_of(wrap, tables),
    }
    tier_judge = Chosen(_single_tiers(), wrap=TierJudge)
    found["cache"]["judge"] = replace(found["cache"]["judge"], kinds=("table",), table=tier_judge)
    del found["router"]["tiers"]  # parts of their own: [[tiers]]
    found["router"]["on_trace"] = Option((), optional=True, choices=("opentelemetry",), word=_exporter)
    return {part: _writable(options) for part, options in found.items()}


@cache
def tier() -> Chosen:
    """What one of [[tiers]] may hold."""
    from nearhit.tiers import ReplicaTier, Tier  # noqa: PLC0415 - `import nearhit` stays quick

    singles = _single_tiers()
    return Chosen({**singles, "replicas": _made(ReplicaTier, {**_tables(), Tier: Chosen(singles)})})


@cache
def _single_tiers() -> dict[str, Made]:
    from nearhit import tiers  # noqa: PLC0415 - `import nearhit` stays quick

    classes = {"openai": tiers.OpenAITier, "ctranslate2": tiers.CTranslate2Tier}
    return {kind: _made(each, _tables()) for kind, each in classes.items()}


@cache
def _tables() -> Mapping[type, Table]:
    """How the objects that options take are written."""
    from nearhit.openai import Controls  # noqa: PLC0415 - `import nearhit` stays quick
    from nearhit.router import Cascade, Rule, Shadow, TierProfile  # noqa: PLC0415 - likewise
    from nearhit.router.rules import KINDS  # noqa: PLC0415 - likewise
    from nearhit.tiers import Price, Timeouts  # noqa: PLC0415 - likewise

    classes: tuple[type, ...] = (Cascade, Price, TierProfile, Timeouts)
    found: dict[type, Table] = {each: _made(each) for each in classes}
    found[Rule] = Chosen({kind: _made(each) for kind, each in KINDS.items()}, named=False)
    found[Shadow] = _made(Shadow, {Rule: found[Rule]})
    found[Controls] = Made(_as_it_is, options_in(Controls))
    try:
        from nearhit.backends import RedisBackend  # noqa: PLC0415 - its parser is an extra
    except MissingDependencyError:
        return found  # its URL alone can be written, and says what is missing when it is used
    return {**found, RedisBackend: _made(RedisBackend, short="url")}


def _made(each: type, tables: Mapping[type, Table] = MappingProxyType({}), *, short: str | None = None) -> Made:
    return Made(each, _writable(options_of(each, tables)), short)


def _writable(options: Mapping[str, Option]) -> dict[str, Option]:
    return {name: option for name, option in options.items() if option.writable}


def _as_it_is(**given: Any) -> dict[str, Any]:
    return given


def _exporter(_: str) -> Any:
    from nearhit.otel import OpenTelemetry  # noqa: PLC0415 - an extra

    return OpenTelemetry()


def flat(options: Mapping[str, Option], place: str) -> dict[str, Option]:
    """Every option below a place, by its dotted name."""
    found: dict[str, Option] = {}
    for name, option in options.items():
        found[f"{place}.{name}"] = option
        held = option.items if option.items is not None else option
        if isinstance(held.table, Named):
            found |= flat(held.table.known(["*"]), f"{place}.{name}")
        elif held.table is not None:
            found |= flat(held.table.known(()), f"{place}.{name}")
    return found
