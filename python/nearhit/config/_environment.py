"""`NEARHIT_*` variables: which there are, and what their texts mean."""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from nearhit._errors import OptionError, UnknownOptionError
from nearhit.config._options import Made, Option, checked
from nearhit.config._words import nearest, shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

PREFIX: Final = "NEARHIT_"
OTHERS: Final = ("NEARHIT_CONFIG", "NEARHIT_DATA", "NEARHIT_HOME", "NEARHIT_ISA")
"""Variables of other parts of the library."""

_TIERS: Final = "NEARHIT_TIERS"
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


def overlay(
    environment: Mapping[str, str], options: Mapping[str, Option], values: dict[str, Any], sources: dict[str, str]
) -> None:
    """Puts what the environment says over what the file said.

    Args:
        environment: The variables.
        options: One option a part, whose table holds the part's options, and "tiers".
        values: What the file said, by part; changed.
        sources: Where each value comes from; changed.

    Raises:
        OptionError: A text that is no value of its option; `UnknownOptionError` for a variable that does not exist.
    """
    given = {name: text for name, text in environment.items() if name.startswith(PREFIX) and name not in OTHERS}
    if _TIERS in given:  # first, for their names are in the names of other variables
        values["tiers"] = _value(_TIERS, given.pop(_TIERS), options["tiers"])
        sources["tiers"] = _TIERS
    known = {_TIERS: _Place(("tiers",), options["tiers"], None), **dict(_known(options, values))}
    for variable, text in sorted(given.items()):
        if variable not in known:
            way_out = nearest(variable, [*known, *OTHERS])
            raise UnknownOptionError(f"the environment has {variable}, which nearhit does not know: {way_out}")
        place = known[variable]
        _put(values, place, _value(variable, text, place.option), variable)
        sources[_dotted(place.path, values)] = variable


class _Place(NamedTuple):
    """Where a variable's value goes.

    Attributes:
        path: Names of the tables around it, and its own; a tier's number in the place of its name.
        option: What it is a value of.
        short: The option that a text in place of the table around it stands for.
    """

    path: tuple[str | int, ...]
    option: Option
    short: str | None


def _known(options: Mapping[str, Option], values: Mapping[str, Any]) -> Iterator[tuple[str, _Place]]:
    """Every variable there is, given the names of the tiers."""
    tiers = values.get("tiers", ())
    names = [tier["name"] for tier in tiers]
    for part, option in options.items():
        if option.table is not None:
            yield from _below(f"{PREFIX}{part.upper()}", (part,), option, names)
    yield from _of_tiers(options["tiers"].items, tiers, ("tiers",), names)


def _of_tiers(
    item: Option | None, tiers: Sequence[Any], path: tuple[str | int, ...], names: Sequence[str]
) -> Iterator[tuple[str, _Place]]:
    """The variables of a list of tiers, and of the replicas that some of them are made of."""
    assert item is not None  # noqa: S101 - a list of tables
    assert item.table is not None  # noqa: S101 - likewise
    for number, tier in enumerate(tiers):
        fields = item.table.fields(tier)
        own = Option(("table",), table=Made(dict, fields))
        yield from _below(f"{PREFIX}TIER_{_variable(tier['name'])}", (*path, number), own, names)
        if "tiers" in fields:
            yield from _of_tiers(fields["tiers"].items, tier.get("tiers", ()), (*path, number, "tiers"), names)


def _below(
    prefix: str, path: tuple[str | int, ...], holder: Option, names: Sequence[str]
) -> Iterator[tuple[str, _Place]]:
    table = holder.table
    assert table is not None  # noqa: S101 - looked at by the callers
    for name, option in table.known(names).items():
        variable, here = f"{prefix}_{_variable(name)}", (*path, name)
        yield variable, _Place(here, option, table.short)
        if option.table is not None:
            yield from _below(variable, here, option, names)


def _put(values: dict[str, Any], place: _Place, value: Any, variable: str) -> None:
    held: Any = values
    for step in place.path[:-1]:
        if isinstance(held, dict) and held.get(step) is None:
            held[step] = {}
        if isinstance(held[step], str) and place.short is not None:
            held[step] = {place.short: held[step]}
        if not isinstance(held[step], dict | list):
            raise OptionError(f"{variable} is for a table, but {step}={shown(str(step), held[step])}")
        held = held[step]
    held[place.path[-1]] = value


def _dotted(path: tuple[str | int, ...], values: Mapping[str, Any]) -> str:
    """A place's name; of a tier, its own name in place of its number."""
    held: Any = values
    steps = []
    for step in path:
        held = held.get(step) if isinstance(held, dict) else held[step]
        steps.append(held["name"] if isinstance(step, int) else step)
    return ".".join(steps)


def _variable(name: str) -> str:
    return re.sub(r"\W", "_", name).upper()


def _value(variable: str, text: str, option: Option) -> Any:
    """A variable's text as a value of the option's type."""
    stripped = text.strip()
    if option.optional and stripped.lower() == "none":
        return None
    for choice in option.choices:
        if text == str(choice):
            return choice
    if stripped[:1] in ("{", "[") and {"table", "list"} & set(option.kinds):
        return checked(_inline(variable, stripped), option, variable, "the environment")
    for kind in option.kinds:
        found = _READERS[kind](stripped if kind != "str" else text)
        if found is not None:
            return found
    raise OptionError(f"{variable}={shown(variable, text)} is not valid: expected {option.expected}")


def _inline(variable: str, text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError as error:
        raise OptionError(f"{variable} is not a value as TOML has them: {error}") from None


def _whole(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[-+]?\d+", text) else None


def _number(text: str) -> float | None:
    try:
        return _whole(text) if _whole(text) is not None else float(text)
    except ValueError:
        return None


_READERS: Final[Mapping[str, Any]] = {
    "bool": lambda text: _WORDS.get(text.lower()),
    "int": _whole,
    "float": _number,
    "str": lambda text: text,
    "list": lambda text: [word.strip() for word in text.split(",") if word.strip()],
    "table": lambda _: None,
}
