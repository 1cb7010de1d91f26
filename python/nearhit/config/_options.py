"""What an option takes, read from the signature of the class or function that has it."""

from __future__ import annotations

import builtins
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from types import MappingProxyType, NoneType, UnionType
from typing import Any, Final, Literal, Protocol, TypeVar, Union, get_args, get_origin, get_type_hints

from nearhit._errors import OptionError, UnknownOptionError
from nearhit.config._words import nearest, shown

_SIMPLE: Final = (bool, int, float, str)
_PATHS: Final = (Path, PathLike)
_LISTS: Final = tuple(get_origin(kind[Any]) for kind in (Iterable, Sequence, list, tuple))
_TABLES: Final = tuple(get_origin(kind[Any, Any]) for kind in (Mapping, dict))
_TYPING: Final = {
    "Any": Any, "Callable": Callable, "Iterable": Iterable, "Mapping": Mapping, "PathLike": PathLike, "Path": Path,
    "Sequence": Sequence, "TypeVar": TypeVar, "Literal": Literal,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Option:
    """One option that can be written in the file or the environment.

    Attributes:
        kinds: Names of the types it takes: of "bool", "int", "float", "str", "list", "table".
        optional: Whether it may be none.
        choices: The values it takes beside those of `kinds`.
        table: What a table may hold; None for anything.
        items: What a list may hold; None for anything.
        word: Makes what code is given of a word from the file; None gives the word itself.
    """

    kinds: tuple[str, ...] = ()
    optional: bool = False
    choices: tuple[Any, ...] = ()
    table: Table | None = None
    items: Option | None = None
    word: Callable[[str], Any] | None = None

    @property
    def writable(self) -> bool:
        """Whether there is a way to write it down."""
        return bool(self.kinds or self.choices)

    @property
    def expected(self) -> str:
        """What it takes, in words."""
        words = [*map(repr, self.choices), *self.kinds]
        return " or ".join([*words, "none"] if self.optional else words)


class Table(Protocol):
    """What a table may hold, and what code is given in its place."""

    @property
    def short(self) -> str | None:
        """The option that a text in place of the table stands for."""
        ...

    def fields(self, given: Mapping[str, Any]) -> Mapping[str, Option]:
        """The options that it may hold, given what it holds.

        Raises:
            OptionError: It does not say what it is.
        """
        ...

    def known(self, names: Iterable[str]) -> Mapping[str, Option]:
        """Every option that it may ever hold, for names that somebody chose."""
        ...

    def make(self, given: Mapping[str, Any], where: str) -> Any:
        """The object that code is given.

        Raises:
            OptionError: Something that it needs is missing.
        """
        ...


@dataclass(frozen=True, slots=True)
class Made:
    """A table of the options of one class."""

    maker: Callable[..., Any]
    options: Mapping[str, Option]
    short: str | None = None

    def fields(self, given: Mapping[str, Any]) -> Mapping[str, Option]:  # noqa: ARG002 - the protocol's signature
        """The class's options."""
        return self.options

    def known(self, names: Iterable[str]) -> Mapping[str, Option]:  # noqa: ARG002 - the protocol's signature
        """The class's options."""
        return self.options

    def make(self, given: Mapping[str, Any], where: str) -> Any:
        """An object of the class."""
        return call(self.maker, given, where)


@dataclass(frozen=True, slots=True)
class Named:
    """A table whose names are the user's own."""

    item: Option
    short: str | None = None

    def fields(self, given: Mapping[str, Any]) -> Mapping[str, Option]:
        """The same for every name."""
        return dict.fromkeys(given, self.item)

    def known(self, names: Iterable[str]) -> Mapping[str, Option]:
        """The same for every name."""
        return dict.fromkeys(names, self.item) if self.item.table is not None else {}

    def make(self, given: Mapping[str, Any], where: str) -> Any:  # noqa: ARG002 - the protocol's signature
        """The table as it is."""
        return dict(given)


@dataclass(frozen=True, slots=True)
class Chosen:
    """A table whose "type" says which class it is for."""

    kinds: Mapping[str, Made]
    wrap: Callable[[Any], Any] | None = None
    named: bool = True
    short: str | None = None

    def fields(self, given: Mapping[str, Any]) -> Mapping[str, Option]:
        """The options of the class that it names."""
        kind = str(given.get("type"))
        if kind not in self.kinds:
            expected = " or ".join(f'"{each}"' for each in self.kinds)
            raise OptionError(f"type={given.get('type')!r} is not valid: expected {expected}")
        if self.named and (not isinstance(given.get("name"), str) or not given["name"]):
            raise OptionError(f"name={given.get('name')!r} is not valid: a tier of type {kind!r} has no name")
        return {"type": Option(choices=tuple(self.kinds)), **self.kinds[kind].options}

    def known(self, names: Iterable[str]) -> Mapping[str, Option]:  # noqa: ARG002 - the protocol's signature
        """The options of all classes."""
        found = {"type": Option(choices=tuple(self.kinds))}
        for made in self.kinds.values():
            found.update(made.options)
        return found

    def make(self, given: Mapping[str, Any], where: str) -> Any:
        """An object of the class that it names."""
        options = {name: value for name, value in given.items() if name != "type"}
        made = self.kinds[given["type"]].make(options, where)
        return made if self.wrap is None else self.wrap(made)


def call(maker: Callable[..., Any], given: Mapping[str, Any], where: str) -> Any:
    """Calls with options out of the file; one that is missing is named with its place."""
    try:
        inspect.signature(maker).bind(**given)
    except TypeError as error:
        raise OptionError(f"[{where}]: {error}") from None
    return maker(**given)


def built(value: Any, option: Option, where: str) -> Any:
    """What code is given for a checked value: the objects that its tables and words stand for."""
    if isinstance(value, dict) and option.table is not None:
        fields = _fields(option.table, value, where, "the environment")  # the file's tables have been checked
        _refuse_unknown(value, fields, where, "the environment")
        return option.table.make(built_all(value, fields, where), where)
    if isinstance(value, list) and option.items is not None:
        return [built(each, option.items, where) for each in value]
    return option.word(value) if isinstance(value, str) and option.word is not None else value


def built_all(values: Mapping[str, Any], options: Mapping[str, Option], part: str) -> dict[str, Any]:
    """`built` for every option of a part."""
    return {name: built(value, options[name], f"{part}.{name}") for name, value in values.items()}


def checked(value: Any, option: Option, place: str, source: str) -> Any:
    """A value of the file or of an inline table, if the option takes it.

    Args:
        value: The value, as TOML has it.
        option: What it has to fit.
        place: The option's name, with its part.
        source: The file or variable that it comes from.

    Raises:
        OptionError: It does not fit; `UnknownOptionError` for an option of a table that does not exist.
    """
    if value == "none" and option.optional:
        return None  # TOML and environment have no null
    if isinstance(value, dict) and "table" in option.kinds:
        fields = None if option.table is None else _fields(option.table, value, place, source)
        return dict(value) if fields is None else checked_all(value, fields, place, source)
    if isinstance(value, list) and "list" in option.kinds:
        return value if option.items is None else [checked(each, option.items, place, source) for each in value]
    if not _fits(value, option):
        raise OptionError(f"{source}: {place}={shown(place, value)} is not valid: expected {option.expected}")
    return value


def checked_all(values: Mapping[str, Any], options: Mapping[str, Option], part: str, source: str) -> dict[str, Any]:
    """`checked` for every option of a part."""
    _refuse_unknown(values, options, part, source)
    return {name: checked(value, options[name], f"{part}.{name}", source) for name, value in values.items()}


def _refuse_unknown(values: Mapping[str, Any], options: Mapping[str, Option], part: str, source: str) -> None:
    for name, value in values.items():
        if name not in options:
            way_out = nearest(name, options)
            seen = shown(name, value) if shown(way_out.strip("?"), value) == repr(value) else "'***'"
            raise UnknownOptionError(f"{source}: [{part}] has no option {name}={seen}: {way_out}")


def _fields(table: Table, value: Mapping[str, Any], place: str, source: str) -> Mapping[str, Option]:
    try:
        return table.fields(value)
    except OptionError as error:
        raise OptionError(f"{source}: {place}.{error}") from None


def _fits(value: Any, option: Option) -> bool:
    if isinstance(value, bool):
        return "bool" in option.kinds
    if value in option.choices or (isinstance(value, int) and "float" in option.kinds):
        return True
    return any(kind.__name__ in option.kinds and isinstance(value, kind) for kind in _SIMPLE)


def options_of(taker: Callable[..., Any], tables: Mapping[type, Table] = MappingProxyType({})) -> dict[str, Option]:
    """What a class or function takes; options that nobody can write down come without kinds.

    Args:
        taker: The class or function. What a class leaves to `**options` is its base's.
        tables: How objects of some classes are written.
    """
    found: dict[str, Option] = {}
    takers = (
        [
            each.__dict__["__init__"]
            for each in reversed(taker.__mro__)
            if "__init__" in vars(each) and each is not object
        ]
        if isinstance(taker, type)
        else [taker]
    )
    for each in takers:
        names = _Names(each)
        for parameter in inspect.signature(each).parameters.values():
            if parameter.name != "self" and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
                found[parameter.name] = _option(names.hint(parameter.annotation), tables)
    return found


def options_in(keys: type) -> dict[str, Option]:
    """The options that a `TypedDict` is made of."""
    return {name: _option(hint, _NO_TABLES) for name, hint in get_type_hints(keys).items()}


_NO_TABLES: Final[Mapping[type, Table]] = MappingProxyType({})


class _Anything(type):
    def __getattr__(cls, _: str) -> Any:
        return cls

    def __getitem__(cls, _: Any) -> Any:
        return cls


class _Unwritable(metaclass=_Anything):
    """Stands for every type that can only come from code, for what is in its module, and for what it is made of."""


class _Names(dict[str, Any]):
    """The names in annotations: a module's own, those it imports for typing alone, and a stand-in for the rest."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self._globals = getattr(function, "__globals__", {})

    def __missing__(self, name: str) -> Any:
        for place in (self._globals, vars(builtins), _TYPING, _imported()):
            if name in place:
                found = place[name]
                return self.hint(found) if isinstance(found, str) else found  # an alias written as a text
        return _Unwritable

    def hint(self, annotation: Any) -> Any:
        """The type that an annotation of ours stands for."""
        if not isinstance(annotation, str):
            return annotation
        return eval(annotation, {"__builtins__": {}}, self)  # noqa: S307 - our own source


def _imported() -> dict[str, Any]:
    """Types of ours that annotations name and their modules import for the type checker alone."""
    found: dict[str, Any] = {}
    for module, names in (
        ("nearhit.router.profile", ("TierProfile",)),
        ("nearhit.router.rules", ("Rule",)),
        ("nearhit.router.shadow", ("Shadow",)),
        ("nearhit.tiers", ("Price", "Tier", "Timeouts")),
        ("nearhit.openai", ("Controls",)),
        ("nearhit.cache._judge", ("Judge", "JudgeOption")),
        ("nearhit.backends.redis", ("RedisBackend",)),
        ("nearhit.backends._engines", ("EngineName",)),
    ):
        if module in sys.modules:
            found.update({name: getattr(sys.modules[module], name) for name in names})
    return found


def _option(hint: Any, tables: Mapping[type, Table]) -> Option:
    """Reads a type; one that only code can give adds nothing."""
    kinds: list[str] = []
    choices: list[Any] = []
    optional, items = False, None
    table: Table | None = None
    for part in _parts(hint):
        origin = get_origin(part) or part
        if part is NoneType:
            optional = True
        elif origin is Literal:
            choices += [value for value in get_args(part) if value is not None]
            optional = optional or None in get_args(part)
        elif part in _SIMPLE:
            kinds.append(part.__name__)
        elif origin in _PATHS:
            kinds.append("str")
        elif origin in _LISTS:
            kinds.append("list")
            items = _items(get_args(part), tables)
        elif origin in _TABLES:
            kinds.append("table")
            held = _items(get_args(part)[1:], tables)
            table = None if held is None else Named(held)
        elif isinstance(part, type) and part in tables:
            kinds.append("table")
            table = tables[part]
    ordered = [kind.__name__ for kind in _SIMPLE if kind.__name__ in kinds]
    ordered += [kind for kind in ("list", "table") if kind in kinds]
    return Option(tuple(ordered), optional, tuple(choices), table, items)


def _parts(hint: Any) -> tuple[Any, ...]:
    if get_origin(hint) in (Union, UnionType):
        return tuple(part for each in get_args(hint) for part in _parts(each))
    return (NoneType,) if hint is None else (hint,)


def _items(arguments: tuple[Any, ...], tables: Mapping[type, Table]) -> Option | None:
    if not arguments or arguments[0] is Any:
        return None
    return _option(arguments[0], tables)
