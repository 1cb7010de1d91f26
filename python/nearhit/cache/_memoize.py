"""`memoize`: a cache in front of a function, whatever its kind."""

from __future__ import annotations

import functools
import inspect
import math
from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast, overload

from nearhit._config import parse_seconds
from nearhit._core import Hit
from nearhit._errors import EmbeddingError, OptionError, RequestError
from nearhit.cache._base import CacheBase, store_options
from nearhit.cache._flight import Flights
from nearhit.cache._stream import AsyncStreams, Streams

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterable, Iterator

    from nearhit._core import Request
    from nearhit.cache._base import Plan
    from nearhit.cache._records import Lookup

F = TypeVar("F", bound="Callable[..., Any]")
T = TypeVar("T")

_RECEIVERS: Final = ("self", "cls")
_LONGEST: Final = 3600.0  # seconds that a call waits for another replica, whatever its patience


class MemoizeMixin(CacheBase):
    """Adds `memoize` to a cache, and the two drivers of its plans."""

    @overload
    def memoize(
        self,
        function: F,
        *,
        prompt: str | None = None,
        key: Iterable[str] | None = None,
        scope: Any = None,
        threshold: float | None = None,
        ttl: float | None = None,
        tags: Iterable[str] = (),
        cost: float | None = None,
        patience: float = 60.0,
    ) -> F: ...

    @overload
    def memoize(
        self,
        function: None = None,
        *,
        prompt: str | None = None,
        key: Iterable[str] | None = None,
        scope: Any = None,
        threshold: float | None = None,
        ttl: float | None = None,
        tags: Iterable[str] = (),
        cost: float | None = None,
        patience: float = 60.0,
    ) -> Callable[[F], F]: ...

    def memoize(
        self,
        function: F | None = None,
        *,
        prompt: str | None = None,
        key: Iterable[str] | None = None,
        scope: Any = None,
        threshold: float | None = None,
        ttl: float | None = None,
        tags: Iterable[str] = (),
        cost: float | None = None,
        patience: float = 60.0,
    ) -> Any:
        """Puts the cache in front of a function: plain, `async`, a generator or an async generator.

        The prompt is compared exactly, then by meaning; the function's name and the other arguments must match exactly
        (but for `self` and `cls`). Of concurrent calls with equal arguments one runs, and the others wait for its
        answer; if it fails, one of them runs next. A generator's items are stored when it has come to its end, and
        played back as a stream; concurrent callers all read what one call yields, while it does.

        Args:
            function: The function, when used as a bare decorator.
            prompt: Name of the parameter that holds the prompt or the messages; None for the first one.
            key: Names of the other parameters that must match; None for all. Leave out what is no JSON value (a
                client, a session) and what does not bear on the answer (a timeout).
            scope: Caller's scope, or a function of the call's arguments (a dict by name) that returns it.
            threshold: As in `lookup`.
            ttl: As in `store`.
            tags: As in `store`.
            cost: As in `store`.
            patience: Most seconds a call waits for another one's answer before it makes its own.

        Raises:
            OptionError: The function has no such parameter; when it is called: an argument that must match is no JSON
                value.

        Example:
            >>> from nearhit.cache import Cache
            >>> cache = Cache()
            >>> @cache.memoize
            ... def answer(prompt: str) -> str:
            ...     return prompt.upper()
            >>> answer("hello"), answer("hello"), cache.stats().exact_hits
            ('HELLO', 'HELLO', 1)
        """
        options = store_options(ttl=ttl, tags=tags, cost=cost)
        self._core.threshold(threshold)
        waits = parse_seconds("patience", patience) or math.inf
        if isinstance(key, str):
            raise OptionError(f"option key={key!r} is not valid: expected names of parameters such as [{key!r}]")
        names = None if key is None else frozenset(key)

        def decorate(function: F) -> F:
            if isinstance(function, classmethod | staticmethod):
                return cast("F", type(function)(decorate(cast("F", function.__func__))))
            call = _Call(
                self,
                function,
                prompt=prompt,
                key=names,
                scope=scope,
                threshold=threshold,
                options=options,
                patience=waits,
            )
            return cast("F", functools.wraps(function)(call.wrapper()))

        return decorate if function is None else decorate(function)

    def _run_plan(self, plan: Plan[T]) -> T:
        """Drives a plan, embedding and waiting in place."""
        try:
            step = next(plan)
            while True:
                try:
                    made = self._vectors.now(step) if isinstance(step, list) else step.wait()
                except EmbeddingError as error:
                    step = plan.throw(error)
                else:
                    step = plan.send(made)
        except StopIteration as done:
            value: T = done.value
            return value

    async def _await_plan(self, plan: Plan[T]) -> T:
        """Drives a plan, embedding in a worker thread and waiting on the loop."""
        try:
            step = next(plan)
            while True:
                try:
                    made = await (self._vectors.soon(step) if isinstance(step, list) else step.wait_async())
                except EmbeddingError as error:
                    step = plan.throw(error)
                else:
                    step = plan.send(made)
        except StopIteration as done:
            value: T = done.value
            return value


class _Call:
    """One memoised function: how its arguments become a request, and its wrappers."""

    def __init__(
        self,
        cache: MemoizeMixin,
        function: Callable[..., Any],
        *,
        prompt: str | None,
        key: frozenset[str] | None,
        scope: Any,
        threshold: float | None,
        options: dict[str, Any],
        patience: float,
    ) -> None:
        self._signature = inspect.signature(function)
        names = [name for name in self._signature.parameters if name not in _RECEIVERS]
        for wanted in (prompt, *sorted(key or ())):
            if wanted is not None and wanted not in names:
                raise OptionError(f"{function!r} has no parameter {wanted!r}; it has {names}")
        if not names:
            raise OptionError(f"{function!r} has no parameter for the prompt")
        self._cache = cache
        self._function = function
        plain = function.func if isinstance(function, functools.partial) else function
        named = plain if hasattr(plain, "__qualname__") else type(plain)
        self._name = f"{named.__module__}.{named.__qualname__}"
        self._prompt = names[0] if prompt is None else prompt
        self._key = key
        self._scope = scope
        self._threshold = threshold
        self._options = options
        self._patience = patience

    def wrapper(self) -> Callable[..., Any]:
        """The function with the cache in front, of the same kind."""
        function = self._function
        if not inspect.isroutine(function) and not isinstance(function, functools.partial):
            function = type(function).__call__  # of an object that can be called, its method tells the kind
        if inspect.isasyncgenfunction(function):
            return self._async_stream(AsyncStreams(self._patience))
        if inspect.iscoroutinefunction(function):
            return self._async_value(Flights(self._patience))
        if inspect.isgeneratorfunction(function):
            return self._stream(Streams(self._patience))
        return self._value(Flights(self._patience))

    def _find(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Hit | Request, Any, Any]:
        """The exact hit or the request of a call, the request as an OpenAI-like body, and the caller's scope."""
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        arguments = {name: value for name, value in bound.arguments.items() if name not in _RECEIVERS}
        scope = self._scope(arguments) if callable(self._scope) else self._scope
        prompt = arguments.pop(self._prompt)
        if self._key is not None:
            arguments = {name: value for name, value in arguments.items() if name in self._key}
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        body: Any = {"messages": messages, "memoize": {"function": self._name, "arguments": arguments}}
        try:
            return self._cache._find(body, scope), body, scope  # noqa: SLF001 - same package
        except RequestError as error:
            if self._key is not None and not arguments:
                raise
            listed = ", ".join(f"{name}={type(value).__name__}" for name, value in arguments.items())
            error.add_note(f"arguments of {self._name} that must match: {listed}; name fewer with memoize(key=[...])")
            raise

    def _seek(self, body: Any, scope: Any) -> Plan[Lookup]:
        cache = self._cache
        lookup = yield from cache._lookup(body, scope, self._threshold, None)  # noqa: SLF001 - same package
        return (yield from cache._lead(lookup, min(self._patience, _LONGEST)))  # noqa: SLF001 - likewise

    def _keep(self, lookup: Lookup, value: Any) -> Plan[str]:
        return self._cache._store(lookup, value, None, None, self._options)  # noqa: SLF001 - same package

    @contextmanager
    def _leading(self, lookup: Lookup) -> Iterator[None]:
        """While an answer is made that other replicas may wait for."""
        try:
            yield
        except BaseException:
            self._cache._give_up(lookup)  # noqa: SLF001 - same package
            raise

    def _value(self, flights: Flights) -> Callable[..., Any]:
        run = self._cache._run_plan  # noqa: SLF001 - same package

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            found, body, scope = self._find(args, kwargs)
            if isinstance(found, Hit):
                return found.response

            def call() -> Any:
                lookup = run(self._seek(body, scope))
                if lookup.hit is not None:
                    return lookup.hit.response
                with self._leading(lookup):
                    value = self._function(*args, **kwargs)
                run(self._keep(lookup, value))
                return value

            return flights.run(found.fingerprint, call)

        return wrapper

    def _async_value(self, flights: Flights) -> Callable[..., Any]:
        run = self._cache._await_plan  # noqa: SLF001 - same package

        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            found, body, scope = self._find(args, kwargs)
            if isinstance(found, Hit):
                return found.response

            async def call() -> Any:
                lookup = await run(self._seek(body, scope))
                if lookup.hit is not None:
                    return lookup.hit.response
                with self._leading(lookup):
                    value = await self._function(*args, **kwargs)
                await run(self._keep(lookup, value))
                return value

            return await flights.run_async(found.fingerprint, call)

        return wrapper

    def _stream(self, streams: Streams) -> Callable[..., Any]:
        run = self._cache._run_plan  # noqa: SLF001 - same package

        def wrapper(*args: Any, **kwargs: Any) -> Iterator[Any]:
            found, body, scope = self._find(args, kwargs)
            if isinstance(found, Hit):
                yield from found.response
                return

            def call() -> Generator[Any, None, None]:
                lookup = run(self._seek(body, scope))
                if lookup.hit is not None:
                    yield from lookup.hit.response
                    return
                items = []
                with self._leading(lookup):
                    for item in self._function(*args, **kwargs):
                        items.append(item)
                        yield item
                run(self._keep(lookup, items))

            yield from streams.follow(found.fingerprint, call)

        return wrapper

    def _async_stream(self, streams: AsyncStreams) -> Callable[..., Any]:
        run = self._cache._await_plan  # noqa: SLF001 - same package

        async def wrapper(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
            found, body, scope = self._find(args, kwargs)
            if isinstance(found, Hit):
                for item in found.response:
                    yield item
                return

            async def call() -> AsyncGenerator[Any, None]:
                lookup = await run(self._seek(body, scope))
                if lookup.hit is not None:
                    for item in lookup.hit.response:
                        yield item
                    return
                items = []
                with self._leading(lookup):
                    async with aclosing(self._function(*args, **kwargs)) as made:
                        async for item in made:
                            items.append(item)
                            yield item
                await run(self._keep(lookup, items))

            async with aclosing(streams.follow(found.fingerprint, call)) as followed:
                async for item in followed:
                    yield item

        return wrapper
