"""`nearhit.toml` and `NEARHIT_*` variables: everything that code can configure; code wins over environment over file.

    [cache]                         # NEARHIT_CACHE_MAX_BYTES, NEARHIT_CACHE_TTL...: the options of nearhit.Cache
    max_bytes = "256MiB"
    ttl = 3600

    [cache.backend]                 # NEARHIT_CACHE_BACKEND_URL...: those of nearhit.backends.RedisBackend
    url = "redis://cache.internal"  # (backend = "redis://cache.internal" does, too)
    deadline = 0.05

    [cache.judge]                   # a tier that judges for policy = "verified"; or judge = "exact" or "embedding"
    type = "openai"
    name = "judge"
    model = "gpt-4o-mini"
    base_url = "https://api.openai.com/v1"

    [embedder]                      # NEARHIT_EMBEDDER_MODEL...: those of nearhit.embed.load; no section, no embedder
    model = "all-MiniLM-L6-v2"

    [router]                        # NEARHIT_ROUTER_STRATEGY...: those of nearhit.Router
    strategy = "complexity"
    on_trace = "opentelemetry"

    [router.cascade]                # NEARHIT_ROUTER_CASCADE_THRESHOLD...: those of nearhit.router.Cascade
    threshold = 0.6

    [router.profiles.large]         # NEARHIT_ROUTER_PROFILES_LARGE_TTFT...: those of nearhit.TierProfile, by tier
    ttft = 0.4

    [[router.rules]]                # those of a rule's class; semantic ones use [embedder] where there is no cache
    type = "keywords"               # "regex", "metadata" or "semantic"
    keywords = ["refund", "chargeback"]
    only = "large"

    [router.shadow]                 # those of nearhit.router.Shadow
    cost_weight = 0.1

    [openai]                        # NEARHIT_OPENAI_EMBEDDING_DEADLINE...: those of nearhit.openai.wrap
    embedding_deadline = 0.5
    defaults = {tenant = "acme"}

    [[tiers]]                       # NEARHIT_TIER_LARGE_API_KEY...: those of the tier's class, by the tier's name
    type = "openai"                 # "ctranslate2", or "replicas" with a list of [[tiers.tiers]]
    name = "large"
    model = "gpt-4o"
    base_url = "https://api.openai.com/v1"
    price = {prompt = 2.5e-6, completion = 10e-6}

The file is the one given, else the one that NEARHIT_CONFIG names, else `nearhit.toml` in the working folder, if it is
there. A variable holds a number, a word, words with commas between them, or a list or table as TOML writes them in one
line (NEARHIT_TIERS holds all tiers); the word "none" stands for None. The options and their types are read from the
classes themselves, so that none can be missing here; `options` lists them.
"""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from nearhit._errors import CorruptFileError, OptionError, StorageError, UnknownOptionError
from nearhit.config import _environment
from nearhit.config._options import Made, Option, built, built_all, checked
from nearhit.config._parts import flat, parts, tier
from nearhit.config._words import nearest, shown

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from os import PathLike

    from nearhit._types import Embedder

C = TypeVar("C")

__all__ = ["FILE", "Config", "Option", "load", "options"]

FILE: Final = "nearhit.toml"
"""Name of the file that is looked for in the working folder."""


@dataclass(frozen=True, slots=True)
class Config:
    """What file and environment say, checked; each part is given to the class of its name.

    Attributes:
        cache: Options of `nearhit.Cache`.
        embedder: Options of `nearhit.embed.load`; None for no embedder.
        router: Options of `nearhit.Router`.
        openai: Options of `nearhit.openai.wrap`.
        tiers: One set of options for each tier, with "type" and "name".
        sources: Where each option comes from, by "part.option": a file's name or a variable's.
    """

    cache: dict[str, Any] = field(default_factory=dict)
    embedder: dict[str, Any] | None = None
    router: dict[str, Any] = field(default_factory=dict)
    openai: dict[str, Any] = field(default_factory=dict)
    tiers: tuple[dict[str, Any], ...] = ()
    sources: dict[str, str] = field(default_factory=dict)

    def make_embedder(self, **options: Any) -> Embedder | None:
        """The embedder, or None if none is configured and no option given."""
        if self.embedder is None and not options:
            return None
        from nearhit import embed  # noqa: PLC0415 - loads an engine, which nobody may need

        return embed.load(**{**(self.embedder or {}), **options})

    def make_tiers(self) -> list[Any]:
        """The tiers, in the order of the file."""
        one = Option(("table",), table=tier())
        return [built(dict(each), one, f"tiers.{each['name']}") for each in self.tiers]

    def cache_options(self, *, without: Collection[str] = ()) -> dict[str, Any]:
        """What `nearhit.Cache` is given, but for the embedder: the options, their tables made into objects.

        Args:
            without: Options that come from elsewhere.
        """
        return _made(self.cache, "cache", without)

    def router_options(self, *, without: Collection[str] = ()) -> dict[str, Any]:
        """What `nearhit.Router` is given, but for the tiers: the options, their tables made into objects.

        Args:
            without: Options that come from elsewhere.
        """
        return _made(self.router, "router", without)

    def wrap(self, client: C, **options: Any) -> C:
        """`nearhit.openai.wrap` with the options of the part [openai]; options given here win.

        Args:
            client: An `openai.OpenAI` or `openai.AsyncOpenAI`.
            **options: `cache`, `router` and everything else that `wrap` takes.
        """
        from nearhit.openai import wrap  # noqa: PLC0415 - `import nearhit` stays quick

        return wrap(client, **_made(self.openai, "openai", options), **options)


def load(path: str | PathLike[str] | None = None, *, environ: Mapping[str, str] | None = None) -> Config:
    """Reads the file and the environment.

    Args:
        path: The file; None for NEARHIT_CONFIG, else `nearhit.toml` in the working folder, if it is there.
        environ: The environment; None for the process's.

    Raises:
        OptionError: A value of the wrong type; the message names the place and what is expected.
        UnknownOptionError: A part, an option or a variable that does not exist; the message names the nearest one.
        CorruptFileError: The file is not TOML.
        StorageError: The file cannot be read.

    Example:
        >>> config = load(environ={"NEARHIT_CACHE_MAX_BYTES": "64MiB", "NEARHIT_CACHE_TTL": "60"})
        >>> config.cache
        {'max_bytes': '64MiB', 'ttl': 60}
    """
    environment = os.environ if environ is None else environ
    file, tables = _file(path, environment)
    places = _places()
    found: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for name, value in tables.items():
        if name not in places:
            raise UnknownOptionError(f"{file} has a part [{name}] that is unknown: {nearest(name, places)}")
        if not isinstance(value, list if name == "tiers" else dict):
            expected = "parts [[tiers]]" if name == "tiers" else f"a part [{name}]"
            raise OptionError(f"{file}: {name}={shown(name, value)} is not valid: expected {expected}")
        found[name] = checked(value, places[name], name, file)
        sources.update(_from_file(name, found[name], file))
    _environment.overlay(environment, places, found, sources)
    return Config(
        cache=found.get("cache", {}),
        embedder=found.get("embedder"),
        router=found.get("router", {}),
        openai=found.get("openai", {}),
        tiers=tuple(found.get("tiers", ())),
        sources=sources,
    )


def options() -> dict[str, Option]:
    """Every option there is, by its name in the file; * stands for a name of the user's own.

    Example:
        >>> options()["router.cascade.threshold"].expected, options()["router.profiles.*.quality"].optional
        ('float', True)
    """
    found = {"tiers": _places()["tiers"]}
    for part, own in parts().items():
        found |= flat(own, part)
    for kind, made in tier().kinds.items():
        found |= flat(made.options, f"tiers.{kind}")
    return found


def _places() -> dict[str, Option]:
    """One option for each part: a table, but for the list of tiers."""
    found = {part: Option(("table",), table=Made(dict, own)) for part, own in parts().items()}
    return {**found, "tiers": Option(("list",), items=Option(("table",), table=tier()))}


def _made(values: Mapping[str, Any], part: str, without: Collection[str]) -> dict[str, Any]:
    left = {name: value for name, value in values.items() if name not in without}
    return built_all(left, parts()[part], part)


def _from_file(part: str, value: Any, file: str) -> dict[str, str]:
    if part != "tiers":
        return {f"{part}.{option}": file for option in value}
    return {f"tiers.{each['name']}.{option}": file for each in value for option in each}


def _file(path: str | PathLike[str] | None, environment: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
    chosen = path if path is not None else environment.get("NEARHIT_CONFIG")
    source = Path(chosen or FILE).expanduser()
    if not chosen and not source.is_file():
        return FILE, {}
    try:
        return str(source), tomllib.loads(source.read_text(encoding="utf-8"))
    except OSError as error:
        raise StorageError(f"cannot read {source}: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CorruptFileError(f"{source} is not TOML: {error}") from error
