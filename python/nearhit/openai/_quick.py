"""The short way of `create`: an equal request that was answered before is answered without building a new one."""

from __future__ import annotations

from functools import cache as remember
from typing import TYPE_CHECKING, Any, Final

from nearhit.openai._info import attach
from nearhit.openai._responses import RAW, place_of, types_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_OPTIONS: Final = frozenset({"extra_headers", "extra_query", "extra_body", "timeout"})


def hasten(resource: Any, path: str, needed: tuple[str, ...]) -> None:
    """Makes a resource's `create` look for an equal request before it builds one."""
    kind: Any = type(resource)
    resource.__class__ = _hastened_class(kind, path, needed)


@remember
def _hastened_class(base: Any, path: str, needed: tuple[str, ...]) -> type[Any]:
    def quick(self: Any, given: dict[str, Any]) -> Any:
        return _quick(self, path, needed, given)

    if base.__name__.startswith("Async"):

        async def create_async(self: Any, *args: Any, **given: Any) -> Any:
            found = None if args else quick(self, given)
            return await base.create(self, *args, **given) if found is None else found

        create: Callable[..., Any] = create_async
    else:

        def create_sync(self: Any, *args: Any, **given: Any) -> Any:
            found = None if args else quick(self, given)
            return base.create(self, *args, **given) if found is None else found

        create = create_sync
    create.__name__, create.__qualname__, create.__doc__ = "create", f"{base.__qualname__}.create", base.create.__doc__
    namespace = {"__module__": base.__module__, "__doc__": base.__doc__, "__qualname__": base.__qualname__}
    return type(base.__name__, (base,), {**namespace, "create": create})


def _quick(resource: Any, path: str, needed: tuple[str, ...], given: Mapping[str, Any]) -> Any:
    """The object or stream that an equal, earlier request was answered with; None if the long way has to be taken.

    Looks at the arguments as they are. The long way turns some of them into others first (objects into dicts, iterators
    into lists), and then looks again.
    """
    client = resource._client  # noqa: SLF001 - the package's own name for it
    state = client._nearhit_state  # noqa: SLF001 - ours
    types = types_of(client, path)
    headers = given.get("extra_headers")
    extra = given.get("extra_body")
    if any(given.get(name) is None for name in needed) or (headers and RAW in headers):
        return None
    if extra is not None and not isinstance(extra, dict):
        return None
    body = {
        name: value for name, value in given.items() if name not in _OPTIONS and not isinstance(value, types.omitted)
    }
    stream = bool(body.get("stream"))
    asked = state.engine.ask(
        body,
        path=path,
        base_url=place_of(client),
        extra=extra,
        headers=headers or None,
        query=given.get("extra_query") or None,
        stream=stream,
    )
    answer = state.engine.exact(asked)
    if answer is None:
        return None
    if stream:
        response = types.response(answer.sse(usage=asked.usage))
        result = types.stream(cast_to=types.event, response=response, client=client)
    else:
        try:
            result = types.whole.model_validate(answer.body())
        except ValueError:  # a server of another kind: the package itself is less strict
            return None
    state.engine.count(asked.info.outcome)
    attach(result, asked.info)
    return result
