"""`nearhit.toml` and `NEARHIT_*` variables: everything that code can configure; code wins over environment over file.

    [cache]                         # NEARHIT_CACHE_MAX_BYTES, NEARHIT_CACHE_TTL...: the options of nearhit.Cache
    max_bytes = "256MiB"
    ttl = 3600

    [embedder]                      # NEARHIT_EMBEDDER_MODEL...: those of nearhit.embed.load; no section, no embedder
    model = "all-MiniLM-L6-v2"

    [router]                        # NEARHIT_ROUTER_STRATEGY...: those of nearhit.Router
    strategy = "complexity"

    [openai]                        # NEARHIT_OPENAI_EMBEDDING_DEADLINE...: those of nearhit.openai.wrap
    embedding_deadline = 0.5

    [[tiers]]                       # NEARHIT_TIER_LARGE_API_KEY...: those of the tier's class
    type = "openai"                 # or "ctranslate2"
    name = "large"
    model = "gpt-4o"
    base_url = "https://api.openai.com/v1"

The file is the one given, else the one that NEARHIT_CONFIG names, else `nearhit.toml` in the working folder, if it is
there. The options and their types are read from the classes themselves, so that none can be missing here.
"""

from __future__ import annotations

import difflib
import inspect
import os
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from nearhit._errors import CorruptFileError, OptionError, StorageError, UnknownOptionError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from os import PathLike

    from nearhit._types import Embedder

C = TypeVar("C")

FILE: Final = "nearhit.toml"
"""Name of the file that is looked for in the working folder."""

_PREFIX: Final = "NEARHIT_"
_OTHERS: Final = ("NEARHIT_CONFIG", "NEARHIT_DATA", "NEARHIT_HOME", "NEARHIT_ISA")
_SIMPLE: Final = ("bool", "int", "float", "str")
_WORDS: Final = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}
_PASSED: Final = frozenset({"self", "cache", "embedder", "tiers", "router", "client", "name", "owner"})


@dataclass(frozen=True, slots=True)
class Option:
    """One option that can be written in the file or the environment.

    Attributes:
        kinds: Names of the types it takes: of "bool", "int", "float", "str", "list", "table".
        optional: Whether it may be none.
        choices: The words it takes, where it takes only some.
    """

    kinds: tuple[str, ...]
    optional: bool = False
    choices: tuple[str, ...] = ()

    @property
    def expected(self) -> str:
        """What it takes, in words."""
        words = [repr(each) for each in self.choices] or list(self.kinds)
        return " or ".join([*words, "none"] if self.optional else words)


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
        return [_tier_class(tier["type"])(**_built(tier)) for tier in self.tiers]

    def wrap(self, client: C, **options: Any) -> C:
        """`nearhit.openai.wrap` with the options of the part [openai]; options given here win.

        Args:
            client: An `openai.OpenAI` or `openai.AsyncOpenAI`.
            **options: `cache`, `router` and everything else that `wrap` takes.
        """
        from nearhit.openai import wrap  # noqa: PLC0415 - `import nearhit` stays quick

        return wrap(client, **{**self.openai, **options})


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
    parts = _parts()
    found: dict[str, dict[str, Any]] = {}
    sources: dict[str, str] = {}
    tiers: list[dict[str, Any]] = []
    for name, table in tables.items():
        if name == "tiers":
            tiers = _tiers(table, file, sources)
            continue
        if name not in parts:
            raise UnknownOptionError(f"{file} has a part [{name}] that is unknown: {_nearest(name, [*parts, 'tiers'])}")
        if not isinstance(table, dict):
            raise OptionError(f"{file}: {name}={table!r} is not valid: expected a part [{name}]")
        found[name] = _checked(table, parts[name], name, file)
        sources.update({f"{name}.{option}": file for option in table})
    _read_environment(environment, parts, found, tiers, sources)
    return Config(
        cache=found.get("cache", {}),
        embedder=found.get("embedder"),
        router=found.get("router", {}),
        openai=found.get("openai", {}),
        tiers=tuple(tiers),
        sources=sources,
    )


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


def _parts() -> dict[str, dict[str, Option]]:
    """The options of each part, from the classes and functions that take them."""
    from nearhit import embed  # noqa: PLC0415 - `import nearhit` stays quick
    from nearhit.cache import Cache  # noqa: PLC0415 - likewise
    from nearhit.embed import ct2, native  # noqa: PLC0415 - likewise
    from nearhit.openai import wrap  # noqa: PLC0415 - likewise
    from nearhit.router import Router  # noqa: PLC0415 - likewise

    engines = {**_options(native.NativeEmbedder), **_options(ct2.CTranslate2Embedder)}
    return {
        "cache": _options(Cache),
        "embedder": {**engines, **_options(embed.load)},
        "router": _options(Router),
        "openai": {**_options(wrap), "defaults": Option(("table",))},
    }


def _tier_class(kind: str) -> Any:
    from nearhit import tiers  # noqa: PLC0415 - `import nearhit` stays quick

    return {"openai": tiers.OpenAITier, "ctranslate2": tiers.CTranslate2Tier}[kind]


def _tier_options(kind: str) -> dict[str, Option]:
    from nearhit.tiers import Tier  # noqa: PLC0415 - `import nearhit` stays quick

    given = {**_options(Tier), **_options(_tier_class(kind))}
    tables = {name: Option(("table",)) for name in ("price", "timeouts")}
    return {**given, **tables, "capabilities": Option(("list",)), "type": Option(("str",)), "name": Option(("str",))}


def _options(taker: Callable[..., Any]) -> dict[str, Option]:
    """What a class or function takes that can be written down."""
    found = {}
    for parameter in inspect.signature(taker).parameters.values():
        if parameter.name in _PASSED or parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        option = _option(str(parameter.annotation))
        if option.kinds:
            found[parameter.name] = option
    return found


def _option(annotation: str) -> Option:
    """Reads an annotation; an option whose types are all objects comes back without kinds."""
    optional = "None" in re.split(r"\W+", annotation)
    literal = re.search(r"Literal\[(.*?)\]", annotation)
    if literal:
        return Option(("str",), optional, tuple(re.findall(r"['\"](.*?)['\"]", literal[1])))
    plain = re.sub(r"\[.*?\]", "", annotation)
    words = {word.strip() for word in plain.split("|")}
    kinds = [kind for kind in _SIMPLE if kind in words]
    if words & {"Path", "PathLike", "Policy"} and "str" not in kinds:
        kinds.append("str")
    return Option(tuple(kinds), optional)


def _checked(table: Mapping[str, Any], options: Mapping[str, Option], part: str, file: str) -> dict[str, Any]:
    for name, value in table.items():
        if name not in options:
            raise UnknownOptionError(f"{file}: [{part}] has no option {name}={value!r}: {_nearest(name, options)}")
        if not _fits(value, options[name]):
            raise OptionError(f"{file}: {part}.{name}={value!r} is not valid: expected {options[name].expected}")
    return {name: _plain(value, options[name]) for name, value in table.items()}


def _fits(value: Any, option: Option) -> bool:
    if value == "none" and option.optional:
        return True
    classes = {"bool": bool, "int": int, "float": float, "str": str, "list": list, "table": dict}
    if isinstance(value, bool):
        return "bool" in option.kinds
    if isinstance(value, int) and "float" in option.kinds:
        return True
    if option.choices:
        return value in option.choices
    return any(isinstance(value, classes[kind]) for kind in option.kinds)


def _plain(value: Any, option: Option) -> Any:
    """TOML and environment have no null: the word "none" stands for it."""
    return None if value == "none" and option.optional else value


def _tiers(tables: Any, file: str, sources: dict[str, str]) -> list[dict[str, Any]]:
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise OptionError(f"{file}: tiers={tables!r} is not valid: expected parts [[tiers]]")
    found = []
    for table in tables:
        kind, name = table.get("type"), table.get("name")
        if kind not in ("openai", "ctranslate2"):
            raise OptionError(f'{file}: tiers.type={kind!r} is not valid: expected "openai" or "ctranslate2"')
        if not isinstance(name, str) or not name:
            raise OptionError(f"{file}: a tier of type {kind!r} has no name")
        found.append(_checked(table, _tier_options(kind), "tiers", file))
        sources.update({f"tiers.{name}.{option}": file for option in table})
    return found


def _built(tier: Mapping[str, Any]) -> dict[str, Any]:
    from nearhit.tiers import Price, Timeouts  # noqa: PLC0415 - `import nearhit` stays quick

    given = {name: value for name, value in tier.items() if name != "type"}
    for name, made in (("price", Price), ("timeouts", Timeouts)):
        if name in given:
            try:
                given[name] = made(**given[name])
            except TypeError as error:
                raise UnknownOptionError(
                    f"tier {tier['name']!r}: {name}={given[name]!r} is not valid: {error}"
                ) from None
    return given


def _read_environment(
    environment: Mapping[str, str],
    parts: Mapping[str, dict[str, Option]],
    found: dict[str, dict[str, Any]],
    tiers: list[dict[str, Any]],
    sources: dict[str, str],
) -> None:
    known = {f"{_PREFIX}{part}_{name}".upper(): (part, name) for part, options in parts.items() for name in options}
    by_tier = {
        f"{_PREFIX}TIER_{_variable(tier['name'])}_{name.upper()}": (tier, name, option)
        for tier in tiers
        for name, option in _tier_options(tier["type"]).items()
    }
    for variable, text in sorted(environment.items()):
        if not variable.startswith(_PREFIX) or variable in _OTHERS:
            continue
        if variable in by_tier:
            tier, name, option = by_tier[variable]
            tier[name] = _value(variable, text, option)
            sources[f"tiers.{tier['name']}.{name}"] = variable
        elif variable in known:
            part, name = known[variable]
            found.setdefault(part, {})[name] = _value(variable, text, parts[part][name])
            sources[f"{part}.{name}"] = variable
        else:
            nearest = _nearest(variable, [*known, *by_tier, *_OTHERS])
            raise UnknownOptionError(f"the environment has {variable}={text!r}, which nearhit does not know: {nearest}")


def _variable(name: str) -> str:
    return re.sub(r"\W", "_", name).upper()


def _value(variable: str, text: str, option: Option) -> Any:
    """A variable's text as a value of the option's type."""
    if option.optional and text.strip().lower() == "none":
        return None
    for kind in option.kinds:
        if kind == "bool" and text.strip().lower() in _WORDS:
            return _WORDS[text.strip().lower()]
        if kind in ("int", "float"):
            try:
                return int(text) if re.fullmatch(r"\s*[-+]?\d+\s*", text) else _number(text, kind)
            except ValueError:
                continue
        if kind == "str" and (not option.choices or text in option.choices):
            return text
        if kind == "list":
            return [word.strip() for word in text.split(",") if word.strip()]
    raise OptionError(f"{variable}={text!r} is not valid: expected {option.expected}")


def _number(text: str, kind: str) -> float:
    if kind == "int":
        raise ValueError(text)
    return float(text)


def _nearest(name: str, known: Any) -> str:
    listed = sorted(known)
    nearest = difflib.get_close_matches(name, listed, n=1)
    return f"did you mean {nearest[0]}?" if nearest else f"there are {', '.join(listed)}"
