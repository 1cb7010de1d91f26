"""`wrap`: the client's own class with two of its steps taken over.

A wrapped client is a copy of the one given, of a subclass made for it; `_steps` says what its requests go through.
Building a request takes the package some hundred microseconds, so that `create` is asked first whether an equal request
has been answered (`_quick`): that is one look-up of its arguments, and one validation by the very class that the caller
expects.
"""

from __future__ import annotations

from functools import cache as remember
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, TypeVar

from nearhit._errors import MissingDependencyError, OptionError
from nearhit.openai._controls import Controls, checked
from nearhit.openai._engine import Engine
from nearhit.openai._routing import Routing
from nearhit.openai._steps import STATE, Async, Common, State, Sync

if TYPE_CHECKING:
    from nearhit.openai._info import Counts

C = TypeVar("C")

MAJORS: Final = (2, 3)
"""Major versions of the openai package that can be wrapped."""


def wrap(
    client: C,
    *,
    cache: Any = None,
    router: Any = None,
    embedding_deadline: float | None = 1.0,
    defaults: Controls | None = None,
    single_flight: bool = True,
) -> C:
    """Puts a cache, a router or both in front of an OpenAI client.

    The client given stays as it is; the one returned is of the same class (a subclass of it), shares its connections,
    and answers chat completions, completions and responses from the cache, whole and as streams, whichever of both the
    answer came as. Embeddings are remembered one input at a time: only those that are new are asked for. Everything
    else passes. `with_options` and `copy` give wrapped clients.

    Of equal requests that are under way at the same time one is sent, and the others get its answer, or its stream
    while it comes. If it fails, one of them is sent next; nobody waits for longer than a minute or its own timeout.
    Requests that may not be stored (`no_store`) or not be answered from the cache (`no_cache`) are always sent.

    With a router, a chat completion that the cache has no answer to is answered by the tier that the router chooses,
    so that the `model` of the answer may differ from the one asked for. If no tier can, it goes where it went before.
    So does a response (`responses.create`) that is a chat in another form: texts, images, functions, JSON schemas, and
    `store=False`, for a tier's answer has no id that its server would know later. All other calls (completions, tools
    and state of the server's own) go to the server; `info(result).unrouted` says why.

    A failure of the cache, the embedder or the router never fails a call: it is logged once (logger "nearhit.openai"),
    counted (`counts`), noted on the result (`info`), and the request goes on.

    Args:
        client: An `openai.OpenAI` or `openai.AsyncOpenAI` (or a subclass) of version 2 or 3.
        cache: A `nearhit.Cache` or `nearhit.AsyncCache`; either serves either client.
        router: A `nearhit.Router` or `nearhit.AsyncRouter`; either serves either client.
        embedding_deadline: Seconds after which a lookup that still waits for the embedder is a miss; None: no limit.
        defaults: Controls of every request that does not say otherwise; see `Controls`.
        single_flight: Whether equal requests that are under way at the same time make one call.

    Raises:
        MissingDependencyError: The openai package is not installed.
        OptionError: A client that cannot be wrapped, or an option out of its range.

    Example:
        >>> import openai
        >>> from nearhit import Cache
        >>> client = wrap(openai.OpenAI(api_key="sk-..."), cache=Cache(), defaults={"tenant": "acme"})
        >>> client.with_options(timeout=5).api_key
        'sk-...'
    """
    base = _refuse_others(client)
    engine = Engine(
        cache, embedding_deadline=embedding_deadline, defaults=checked(defaults or {}), single_flight=single_flight
    )
    routing = None if router is None else Routing(router, engine)
    copied: Any = base.copy(client)
    copied.__class__ = _wrapped_class(base)
    setattr(copied, STATE, State(engine, routing))
    return copied  # type: ignore[no-any-return]  # of a subclass of C, made at run time


def counts(client: Any) -> Counts:
    """What a wrapped client, its copies and its original wrapper have done together.

    Raises:
        OptionError: The client is not wrapped.
    """
    state = getattr(client, STATE, None)
    if not isinstance(state, State):
        raise OptionError(f"{type(client).__name__} is not wrapped: pass what nearhit.openai.wrap() returned")
    return state.engine.counts()


def _refuse_others(client: Any) -> Any:
    """The client's own class, once it is known that it can be wrapped."""
    try:
        openai = import_module("openai")
    except ImportError as error:
        raise MissingDependencyError("wrapping a client needs openai: pip install 'nearhit[openai]'") from error
    supported = " or ".join(str(major) for major in MAJORS)
    kind = type(client)
    version = str(openai.__version__)
    if not isinstance(client, openai.OpenAI | openai.AsyncOpenAI):
        raise OptionError(
            f"cannot wrap {kind.__module__}.{kind.__qualname__}: expected an openai.OpenAI or openai.AsyncOpenAI of "
            f"openai {supported} ({version} is installed)"
        )
    if int(version.split(".", 1)[0]) not in MAJORS:
        raise OptionError(f"cannot wrap a client of openai {version}: nearhit works with openai {supported}")
    base: Any = getattr(kind, "_nearhit_base", kind)
    missing = [name for name in ("request", "_process_response", "_prepare_url", "copy") if not hasattr(base, name)]
    if missing:
        raise OptionError(
            f"cannot wrap {base.__qualname__} of openai {version}: it has no {', '.join(missing)}; nearhit works with "
            f"openai {supported}"
        )
    return base


@remember
def _wrapped_class(base: Any) -> type[Any]:
    """The subclass of a client's class whose requests pass through nearhit."""
    from openai import AsyncOpenAI  # noqa: PLC0415 - there is a client, so the package is loaded

    # The steps are copied into a class with this one base: only then may a client become one of it.
    steps: dict[str, Any] = {**vars(Common), **vars(Async if issubclass(base, AsyncOpenAI) else Sync)}
    namespace = {name: value for name, value in steps.items() if name not in ("__dict__", "__weakref__")}
    named = {"__module__": base.__module__, "__doc__": base.__doc__, "__qualname__": base.__qualname__}
    return type(base.__name__, (base,), {**namespace, **named, "_nearhit_base": base})
