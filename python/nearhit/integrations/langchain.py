"""LangChain: `set_llm_cache(NearhitCache(cache))`, and embeddings both ways.

Example:
    >>> from langchain_core.globals import set_llm_cache
    >>> from nearhit import Cache
    >>> from nearhit.integrations.langchain import NearhitCache
    >>> set_llm_cache(NearhitCache(Cache()))
    >>> set_llm_cache(None)
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from nearhit._errors import MissingDependencyError

try:
    from langchain_core.caches import RETURN_VAL_TYPE, BaseCache
    from langchain_core.embeddings import Embeddings
    from langchain_core.messages import message_to_dict, messages_from_dict
    from langchain_core.outputs import ChatGeneration, Generation
except ImportError as missing:
    raise MissingDependencyError(
        "nearhit.integrations.langchain needs langchain-core: pip install 'nearhit[langchain]'"
    ) from missing

from nearhit.integrations._side import CacheSide

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from nearhit._core import Hit
    from nearhit._types import Embedder

_ROLES: Final = {"human": "user", "ai": "assistant", "system": "system", "tool": "tool", "function": "function"}
_CUT: Final = frozenset({"length", "max_tokens", "content_filter", "error"})


class NearhitCache(BaseCache):
    """A LangChain cache that also answers prompts which mean the same.

    The `llm_string` that LangChain gives (model and every parameter), the system prompt and the earlier turns must
    match exactly; the last user text is compared by meaning. Answers with tool calls, answers that were cut, and
    failures of the cache never reach anybody.

    Args:
        cache: A `nearhit.Cache` or `nearhit.AsyncCache`.
        scope: Whose entries these are, for instance a tenant; scopes never see each other.
        ttl: Seconds that answers are kept; None for the cache's own.

    Example:
        >>> from langchain_core.outputs import Generation
        >>> from nearhit import Cache
        >>> cache = NearhitCache(Cache())
        >>> cache.update("What is 2 + 2?", "model", [Generation(text="4")])
        >>> cache.lookup("What is 2 + 2?", "model")[0].text
        '4'
        >>> cache.lookup("What is 2 + 2?", "another model")
    """

    def __init__(self, cache: Any, *, scope: Any = None, ttl: float | None = None) -> None:
        self._side = CacheSide(cache, "langchain", scope=scope, ttl=ttl)

    @property
    def failures(self) -> dict[str, int]:
        """What failed and was passed over, by stage: "lookup" and "store"."""
        return dict(self._side.failures)

    def lookup(self, prompt: str, llm_string: str) -> RETURN_VAL_TYPE | None:
        """The generations of an equal prompt, or of one that means the same; else None."""
        return _revived(self._side.look_up(_request(prompt, llm_string)))

    def update(self, prompt: str, llm_string: str, return_val: RETURN_VAL_TYPE) -> None:
        """Keeps generations, if they are whole."""
        if _whole(return_val):
            self._side.keep(_request(prompt, llm_string), _packed(return_val))

    def clear(self, **_: Any) -> None:
        """Removes what came through LangChain."""
        self._side.clear()

    async def alookup(self, prompt: str, llm_string: str) -> RETURN_VAL_TYPE | None:
        """`lookup`, without holding up the event loop."""
        return _revived(await self._side.look_up_async(_request(prompt, llm_string)))

    async def aupdate(self, prompt: str, llm_string: str, return_val: RETURN_VAL_TYPE) -> None:
        """`update`, without holding up the event loop."""
        if _whole(return_val):
            await self._side.keep_async(_request(prompt, llm_string), _packed(return_val))

    async def aclear(self, **_: Any) -> None:
        """`clear`, without holding up the event loop."""
        await self._side.clear_async()


class NearhitEmbeddings(Embeddings):
    """A nearhit embedder as LangChain embeddings.

    Args:
        embedder: Any nearhit embedder; None for `nearhit.embed.load()`.
    """

    def __init__(self, embedder: Embedder | None = None) -> None:
        if embedder is None:
            from nearhit import embed  # noqa: PLC0415 - loads a model, which nobody may need

            embedder = embed.load()
        self._embedder = embedder

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """One vector for each text."""
        return self._embedder.embed(texts).tolist() if texts else []

    def embed_query(self, text: str) -> list[float]:
        """The vector of one text."""
        return self.embed_documents([text])[0]

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        """`embed_documents`, in a worker thread."""
        return await asyncio.to_thread(self.embed_documents, texts)

    async def aembed_query(self, text: str) -> list[float]:
        """`embed_query`, in a worker thread."""
        return await asyncio.to_thread(self.embed_query, text)


class LangChainEmbedder:
    """LangChain embeddings as a nearhit embedder, for `Cache(LangChainEmbedder(embeddings, id="..."))`.

    Args:
        embeddings: Any LangChain embeddings.
        id: Name and version of the model; vectors of different ids are never compared.
        dim: Length of the vectors; None asks the model by embedding one word.
    """

    def __init__(self, embeddings: Embeddings, *, id: str, dim: int | None = None) -> None:  # noqa: A002 - Embedder.id
        self._embeddings = embeddings
        self.id = id
        self.dim = len(embeddings.embed_query("dimension")) if dim is None else dim

    def embed(self, texts: list[str]) -> NDArray[np.float32]:
        """Unit vectors, float32 of shape [len(texts), dim]."""
        vectors = np.asarray(self._embeddings.embed_documents(texts), dtype=np.float32)
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float32).tiny)
        return vectors


def _request(prompt: str, llm_string: str) -> dict[str, Any]:
    """What LangChain gives as a request: chat prompts come as the JSON of their messages."""
    try:
        listed = json.loads(prompt)
        messages = [_message(each) for each in listed]
    except (ValueError, KeyError, TypeError):
        messages = [{"role": "user", "content": prompt}]
    return {"messages": messages, "langchain": llm_string}


def _message(each: Any) -> dict[str, Any]:
    fields = each["kwargs"]
    # What has no say in the answer: ids are made anew for every message.
    rest = {key: value for key, value in fields.items() if key not in ("content", "type", "id") and value}
    return {"role": _ROLES.get(fields["type"], fields["type"]), "content": fields["content"], **rest}


def _whole(generations: Sequence[Generation]) -> bool:
    return bool(generations) and all(_ended(each) for each in generations)


def _ended(generation: Generation) -> bool:
    told = dict(generation.generation_info or {})
    message = getattr(generation, "message", None)
    if message is not None:
        told = {**message.response_metadata, **told}
        if not message.content or getattr(message, "tool_calls", None) or getattr(message, "invalid_tool_calls", None):
            return False
    elif not generation.text:
        return False
    return told.get("finish_reason", told.get("stop_reason")) not in _CUT


def _packed(generations: Sequence[Generation]) -> list[dict[str, Any]]:
    """Generations as JSON, without LangChain's own loader: an entry can only turn into generations and messages."""
    return [
        {
            "text": each.text,
            "info": each.generation_info,
            "message": message_to_dict(each.message) if isinstance(each, ChatGeneration) else None,
        }
        for each in generations
    ]


def _revived(hit: Hit | None) -> list[Generation] | None:
    if hit is None:
        return None
    try:
        return [_generation(each) for each in hit.response]
    except (KeyError, TypeError, ValueError):
        return None  # not an entry of ours


def _generation(each: dict[str, Any]) -> Generation:
    if each["message"] is None:
        return Generation(text=each["text"], generation_info=each["info"])
    return ChatGeneration(message=messages_from_dict([each["message"]])[0], generation_info=each["info"])
