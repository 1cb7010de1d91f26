"""GPTCache's `openai`: the calls of openai 0.x, with the cache in front and the openai package of today underneath.

    from nearhit.integrations.gptcache.adapter import openai

    answer = openai.ChatCompletion.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "Hello"}])
    answer["choices"][0]["message"]["content"]    # or answer.choices[0].message.content

Key, address and organisation are those of the openai package (`openai.api_key`, `openai.base_url`, OPENAI_API_KEY), of
this module (`openai.api_key`, `openai.api_base`), or of the call (`api_key=`, `api_base=`). Beside the API's own
arguments a call takes GPTCache's: `cache_obj`, `cache_skip` (do not look up, but store), `search_only`, `cache_factor`,
`session` and `hit_callback`. An answer out of the cache has "gptcache": True, no usage, and what it spared in
"saved_token".

For a client object of today (`openai.OpenAI()`), use `nearhit.openai.wrap(client, cache=cache.nearhit)`.
"""

from __future__ import annotations

import asyncio
import json
import time
import weakref
from typing import TYPE_CHECKING, Any, Final, cast

from nearhit._errors import InputError, MissingDependencyError, OptionError
from nearhit._types import Chunk
from nearhit.answers import Answer, is_complete
from nearhit.integrations.gptcache.adapter.base import BaseCacheLLM
from nearhit.integrations.gptcache.core import cache
from nearhit.openai._plan import Do, drive, drive_async
from nearhit.tiers.collect import Collector

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

    from nearhit.answers import Call
    from nearhit.integrations.gptcache.core import Cache
    from nearhit.openai._plan import Plan

api_key: str | None = None
"""Key of every call that brings none; None for that of the openai package."""

api_base: str | None = None
"""Address of every call that brings none; None for that of the openai package."""

_CONTROLS: Final = ("cache_skip", "search_only", "cache_factor", "hit_callback", "top_k", "cache_context", "cache_obj")
_CLIENT: Final = {"api_key": "api_key", "api_base": "base_url", "organization": "organization"}
_RENAMED: Final = {"request_timeout": "timeout", "headers": "extra_headers"}
_IGNORED: Final = ("api_type", "api_version")
_HOTTEST: Final = 2.0


class Reply(dict[str, Any]):
    """A JSON object whose fields are attributes as well, as those of openai 0.x were.

    Example:
        >>> Reply({"choices": [{"text": "Hi"}]}).choices[0].text
        'Hi'
    """

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    def __getitem__(self, name: str) -> Any:
        return _reply(super().__getitem__(name))


def _reply(value: Any) -> Any:
    if isinstance(value, dict) and not isinstance(value, Reply):
        return Reply(value)
    return [_reply(each) for each in value] if isinstance(value, list) else value


class _Cached(BaseCacheLLM):
    """One of the API's calls."""

    _call: Call

    @classmethod
    def create(cls, *args: Any, **kwargs: Any) -> Any:
        """The answer; with `stream=True` an iterator of its pieces.

        Raises:
            openai.OpenAIError: The API's own errors.
            OptionError: The cache is not ready.
        """
        return drive(_Course(cls, args, cls.fill_base_args(**kwargs)).run())

    @classmethod
    async def acreate(cls, *args: Any, **kwargs: Any) -> Any:
        """`create`, without holding up the event loop."""
        return await drive_async(_Course(cls, args, cls.fill_base_args(**kwargs)).run(later=True))


class ChatCompletion(_Cached):
    """Chat completions, with the cache in front.

    Example:
        >>> from nearhit.integrations.gptcache import Cache
        >>> own = Cache()
        >>> own.init()
        >>> answer = {"choices": [{"message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}]}
        >>> ChatCompletion.llm = lambda **kwargs: answer
        >>> ask = {"model": "m", "messages": [{"role": "user", "content": "Hello"}], "cache_obj": own}
        >>> first, again = ChatCompletion.create(**ask), ChatCompletion.create(**ask)
        >>> first.choices[0].message.content, again["gptcache"]
        ('Hi', True)
        >>> ChatCompletion.llm = None
    """

    _call = "chat"


class Completion(_Cached):
    """Completions of a text, with the cache in front; see `ChatCompletion`."""

    _call = "completions"


class _Course:
    """The course of one call."""

    def __init__(self, kind: type[_Cached], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._kind = kind
        self._args = args
        session = kwargs.pop("session", None)
        self._whose = getattr(session, "name", session)
        chosen = kwargs.get("cache_obj")
        self._cache: Cache = cache if chosen is None else chosen
        self._controls = {name: kwargs.pop(name) for name in _CONTROLS if name in kwargs}
        self._kwargs = kwargs

    def run(self, *, later: bool = False) -> Plan[Any]:
        """Looks up, else calls and stores.

        Args:
            later: Whether for `acreate`.
        """
        keeps = yield from self._found()
        if isinstance(keeps, Answer):
            return self._told(keeps, later=later)
        if self._controls.get("search_only"):
            return None
        made = yield Do(self, "called")
        if self._kwargs.get("stream"):
            return self._recorded_later(made, keeps) if later else self._recorded(made, keeps)
        body = _plain(made)
        if body is not None and is_complete(self._kind._call, body, self._kwargs):  # noqa: SLF001 - of this module
            for store, request in keeps:
                yield Do(store, "keep", (request, body, self._whose))
        return made if body is None else Reply(body)

    def _found(self) -> Plan[Answer | list[tuple[Cache, Any]]]:
        """The answer in the cache or those behind it, else where the fresh one is to be kept."""
        keeps: list[tuple[Cache, Any]] = []
        store: Cache | None = self._cache
        skip = self._controls.get("cache_skip", (self._kwargs.get("temperature") or 0.0) >= _HOTTEST)
        while store is not None:
            store.nearhit  # noqa: B018 - says what to do if it is not ready
            if store.asks(self._kwargs):
                request = store.request(self._kwargs)
                try:
                    hit = None if skip else (yield Do(store, "look_up", (request, self._whose, self._least(store))))
                except InputError:
                    store = store.next_cache  # what no cache can hold is not kept either
                    continue
                if hit is not None and (answer := self._answer(hit.response)) is not None:
                    if callable(callback := self._controls.get("hit_callback")):
                        callback([(self._text(request), hit.similarity)])
                    return answer
                keeps.append((store, request))
            store = store.next_cache
        return keeps

    def _least(self, store: Cache) -> float | None:
        factor = self._controls.get("cache_factor", 1.0)
        return None if factor <= 1.0 else min(1.0, 1 - 2 * (1 - min(1.0, store.config.similarity_threshold * factor)))

    @staticmethod
    def _text(request: Any) -> Any:
        return request if isinstance(request, str) else request["messages"][-1]["content"]

    def _answer(self, stored: Any) -> Answer | None:
        """What is stored, as an answer of the API; a plain text is one that `put` stored."""
        if isinstance(stored, dict):
            return Answer(self._kind._call, stored)  # noqa: SLF001 - of this module
        if not isinstance(stored, str):
            return None
        chat = self._kind._call == "chat"  # noqa: SLF001 - of this module
        said = {"message": {"role": "assistant", "content": stored}} if chat else {"text": stored}
        body = {
            "object": "chat.completion" if chat else "text_completion",
            "choices": [{"index": 0, **said, "finish_reason": "stop"}],
        }
        return Answer(self._kind._call, body)  # noqa: SLF001 - of this module

    def _told(self, answer: Answer, *, later: bool) -> Any:
        """An answer out of the cache, in GPTCache's form."""
        usage = answer.facts.get("usage") or {}
        saved = [usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0)]
        mark = {"gptcache": True, "saved_token": saved if self._cache.config.enable_token_counter else [0, 0]}
        created = int(time.time())
        if not self._kwargs.get("stream"):
            none = {"completion_tokens": 0, "prompt_tokens": 0, "total_tokens": 0}
            return Reply({**(answer.body() or {}), **mark, "created": created, "usage": none})
        events = [Reply({**event, "created": created}) for event in answer.events() or ()]
        events[-1].update(mark)
        return _one_by_one(events) if later else iter(events)

    def called(self) -> Any:
        """The API's answer, or that of `llm`."""
        if self._kind.llm is not None:
            return self._kind.llm(*self._args, **self._kwargs)
        client, kwargs = self._addressed()
        return self._method(_sync_client(client))(*self._args, **kwargs)

    async def called_async(self) -> Any:
        """`called`, without holding up the event loop."""
        if self._kind.llm is not None:
            return await self._kind.llm(*self._args, **self._kwargs)
        client, kwargs = self._addressed()
        return await self._method(_async_client(client))(*self._args, **kwargs)

    def _method(self, owner: Any) -> Any:
        return owner.chat.completions.create if self._kind is ChatCompletion else owner.completions.create

    def _addressed(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Where a call goes, and its arguments under the names of today."""
        module = {"api_key": api_key, "api_base": api_base}
        given = {**{name: value for name, value in module.items() if value is not None}, **self._kwargs}
        client = {new: given[old] for old, new in _CLIENT.items() if old in given}
        left = {name: value for name, value in self._kwargs.items() if name not in (*_CLIENT, *_IGNORED)}
        return client, {_RENAMED.get(name, name): value for name, value in left.items()}

    def _recorded(self, made: Any, keeps: list[tuple[Cache, Any]]) -> Iterator[Reply]:
        tape = _Tape(self._kind._call, self._kwargs)  # noqa: SLF001 - of this module
        for piece in made:
            yield tape.passes(piece)
        if (body := tape.body()) is not None:
            for store, request in keeps:
                store.keep(request, body, self._whose)

    async def _recorded_later(self, made: Any, keeps: list[tuple[Cache, Any]]) -> AsyncIterator[Reply]:
        tape = _Tape(self._kind._call, self._kwargs)  # noqa: SLF001 - of this module
        async for piece in made:
            yield tape.passes(piece)
        if (body := tape.body()) is not None:
            for store, request in keeps:
                await store.keep_async(request, body, self._whose)


class _Tape:
    """The pieces of a stream, put together at its end."""

    def __init__(self, call: Call, request: Mapping[str, Any]) -> None:
        self._call = call
        self._request = request
        self._events: list[dict[str, Any]] = []

    def passes(self, piece: Any) -> Reply:
        """Takes the next piece, and gives it as it is passed on."""
        event = _plain(piece) or {}
        self._events.append(event)
        return Reply(event)

    def body(self) -> dict[str, Any] | None:
        """The whole answer, if it is one that may be kept."""
        if self._call == "completions":
            body = Answer.of_stream("completions", list(map(json.dumps, self._events)), [], counted=False).body()
        else:
            collector = Collector()
            for event in self._events:
                collector.add(Chunk(raw=event))
            body = cast("dict[str, Any] | None", collector.body())
        return body if body is not None and is_complete(self._call, body, self._request) else None


def _plain(value: Any) -> dict[str, Any] | None:
    """A JSON object, as a dict, whatever it came as."""
    if isinstance(value, dict):
        return dict(value)
    to_dict = getattr(value, "to_dict", None)
    found = to_dict(mode="json") if callable(to_dict) else None
    return found if isinstance(found, dict) else None


async def _one_by_one(events: list[Reply]) -> AsyncIterator[Reply]:
    for event in events:
        yield event


def _package() -> Any:
    try:
        import openai  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise MissingDependencyError("this adapter calls the openai package: pip install 'nearhit[openai]'") from error
    if openai.__version__.startswith("0."):
        raise OptionError(
            f"openai {openai.__version__} is installed: this adapter works with openai 1 and later, whose errors and "
            "settings it uses (pip install -U openai); or set ChatCompletion.llm = openai.ChatCompletion.create"
        )
    return openai


_here: dict[Any, Any] = {}
_clients: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Any, Any]] = weakref.WeakKeyDictionary()


def _sync_client(given: Mapping[str, Any]) -> Any:
    """The client of this process for an address."""
    return _client(_package().OpenAI, given, _here)


def _async_client(given: Mapping[str, Any]) -> Any:
    """The client of this event loop for an address; connections belong to a loop."""
    return _client(_package().AsyncOpenAI, given, _clients.setdefault(asyncio.get_running_loop(), {}))


def _client(kind: Any, given: Mapping[str, Any], known: dict[Any, Any]) -> Any:
    package = _package()
    module = {"api_key": package.api_key, "base_url": package.base_url, "organization": package.organization}
    options = {**{name: value for name, value in module.items() if value is not None}, **given}
    name = tuple(sorted((key, str(value)) for key, value in options.items()))
    if name not in known:
        known[name] = kind(**options)
    return known[name]


def __getattr__(name: str) -> Any:
    if name in ("Audio", "Image", "Moderation"):
        raise AttributeError(
            f"nearhit keeps answers of ChatCompletion and Completion: for {name} call the openai package itself"
        )
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
