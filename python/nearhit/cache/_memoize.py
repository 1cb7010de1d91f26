"""`memoize`: a cache in front of a function, whatever its kind."""

from __future__ import annotations

import asyncio
import functools
import inspect
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

from nearhit._core import Hit, Request
from nearhit._errors import OptionError
from nearhit.cache._base import CacheBase, store_options
from nearhit.cache._embedding import embed
from nearhit.cache._flight import Flights

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator

    from nearhit.cache._base import Plan
    from nearhit.cache._records import Lookup

F = TypeVar("F", bound="Callable[..., Any]")
T = TypeVar("T")


class MemoizeMixin(CacheBase):
    """Adds `memoize` to a cache, and the two drivers of its plans."""

    @overload
    def memoize(
        self,
        function: F,
        *,
        prompt: str | None = None,
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
        scope: Any = None,
        threshold: float | None = None,
        ttl: float | None = None,
        tags: Iterable[str] = (),
        cost: float | None = None,
        patience: float = 60.0,
    ) -> Any:
        """Puts the cache in front of a function: plain, `async`, a generator or an async generator.

        The prompt is compared exactly, then by meaning; every other argument, and the function's name, must match
        exactly. Of concurrent calls with equal arguments one runs, and the others wait for its answer; if it fails,
        one of them runs next. A generator's items are stored when it has come to its end, and played back as a stream.

        Args:
            function: The function, when used as a bare decorator.
            prompt: Name of the parameter that holds the prompt or the messages; None for the first one.
            scope: Caller's scope, or a function of the call's arguments (a dict by name) that returns it.
            threshold: As in `lookup`.
            ttl: As in `store`.
            tags: As in `store`.
            cost: As in `store`.
            patience: Most seconds a call waits for another one's answer before it makes its own.

        Raises:
            OptionError: The function has no such parameter.

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

        def decorate(function: F) -> F:
            call = _Call(
                self,
                function,
                prompt=prompt,
                scope=scope,
                threshold=threshold,
                options=options,
                flights=Flights(patience),
            )
            if inspect.isasyncgenfunction(function):
                wrapper: Any = call.async_stream
            elif inspect.iscoroutinefunction(function):
                wrapper = call.async_value
            elif inspect.isgeneratorfunction(function):
                wrapper = call.stream
            else:
                wrapper = call.value
            return cast("F", functools.wraps(function)(wrapper()))

        return decorate if function is None else decorate(function)

    def _run_plan(self, plan: Plan[T]) -> T:
        """Drives a plan, embedding in place."""
        try:
            texts = next(plan)
            while True:
                assert self._embedder is not None  # noqa: S101 - a plan asks for vectors only if there is an embedder
                texts = plan.send(embed(self._embedder, texts))
        except StopIteration as done:
            value: T = done.value
            return value

    async def _await_plan(self, plan: Plan[T]) -> T:
        """Drives a plan, embedding in a worker thread."""
        try:
            texts = next(plan)
            while True:
                assert self._embedder is not None  # noqa: S101 - a plan asks for vectors only if there is an embedder
                texts = plan.send(await asyncio.to_thread(embed, self._embedder, texts))
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
        scope: Any,
        threshold: float | None,
        options: dict[str, Any],
        flights: Flights,
    ) -> None:
        self._signature = inspect.signature(function)
        names = [name for name in self._signature.parameters if name not in ("self", "cls")]
        if not names or (prompt is not None and prompt not in names):
            raise OptionError(f"{function!r} has no parameter {prompt or 'for the prompt'}; it has {names}")
        self._cache = cache
        self._function = function
        self._name = f"{function.__module__}.{function.__qualname__}"
        self._prompt = names[0] if prompt is None else prompt
        self._scope = scope
        self._threshold = threshold
        self._options = options
        self._flights = flights

    def _request(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        """The request as an OpenAI-like body, and the caller's scope."""
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        arguments = {name: value for name, value in bound.arguments.items() if name not in ("self", "cls")}
        scope = self._scope(arguments) if callable(self._scope) else self._scope
        prompt = arguments.pop(self._prompt)
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        return {"messages": messages, "memoize": {"function": self._name, "arguments": arguments}}, scope

    def _seek(self, body: Any, scope: Any) -> Plan[Lookup]:
        return self._cache._lookup(body, scope, self._threshold, None)  # noqa: SLF001 - same package

    def _keep(self, lookup: Lookup, value: Any) -> Plan[str]:
        return self._cache._store(lookup, value, None, None, self._options)  # noqa: SLF001 - same package

    def _exact(self, body: Any, scope: Any) -> Hit | None:
        found = self._cache._find(body, scope)  # noqa: SLF001 - same package
        return found if isinstance(found, Hit) else None

    def value(self) -> Callable[..., Any]:
        run = self._cache._run_plan  # noqa: SLF001 - same package

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            body, scope = self._request(args, kwargs)
            hit = self._exact(body, scope)
            if hit is not None:
                return hit.response

            def call() -> Any:
                lookup = run(self._seek(body, scope))
                if lookup.hit is not None:
                    return lookup.hit.response
                value = self._function(*args, **kwargs)
                run(self._keep(lookup, value))
                return value

            return self._flights.run(Request(body, scope).fingerprint, call)

        return wrapper

    def async_value(self) -> Callable[..., Any]:
        run = self._cache._await_plan  # noqa: SLF001 - same package

        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            body, scope = self._request(args, kwargs)
            hit = self._exact(body, scope)
            if hit is not None:
                return hit.response

            async def call() -> Any:
                lookup = await run(self._seek(body, scope))
                if lookup.hit is not None:
                    return lookup.hit.response
                value = await self._function(*args, **kwargs)
                await run(self._keep(lookup, value))
                return value

            return await self._flights.run_async(Request(body, scope).fingerprint, call)

        return wrapper

    def stream(self) -> Callable[..., Any]:
        run = self._cache._run_plan  # noqa: SLF001 - same package

        def wrapper(*args: Any, **kwargs: Any) -> Iterator[Any]:
            body, scope = self._request(args, kwargs)
            lookup = run(self._seek(body, scope))
            if lookup.hit is not None:
                yield from lookup.hit.response
                return
            items = []
            for item in self._function(*args, **kwargs):
                items.append(item)
                yield item
            run(self._keep(lookup, items))

        return wrapper

    def async_stream(self) -> Callable[..., Any]:
        run = self._cache._await_plan  # noqa: SLF001 - same package

        async def wrapper(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
            body, scope = self._request(args, kwargs)
            lookup = await run(self._seek(body, scope))
            if lookup.hit is not None:
                for item in lookup.hit.response:
                    yield item
                return
            items = []
            async for item in self._function(*args, **kwargs):
                items.append(item)
                yield item
            await run(self._keep(lookup, items))

        return wrapper
