"""LlamaIndex: an LLM with a cache in front, and nearhit's embedder as an embedding model.

Example:
    >>> from llama_index.core.llms import MockLLM
    >>> from nearhit import Cache
    >>> from nearhit.integrations.llama_index import NearhitLLM
    >>> llm = NearhitLLM(MockLLM(max_tokens=3), Cache())
    >>> llm.complete("one two three four").text
    'text text text'
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from nearhit._errors import MissingDependencyError

try:
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from llama_index.core.base.llms.types import (
        ChatMessage,
        ChatResponse,
        ChatResponseAsyncGen,
        ChatResponseGen,
        CompletionResponse,
        CompletionResponseAsyncGen,
        CompletionResponseGen,
        LLMMetadata,
    )
    from llama_index.core.bridge.pydantic import PrivateAttr
    from llama_index.core.llms import LLM
except ImportError as missing:
    raise MissingDependencyError(
        "nearhit.integrations.llama_index needs llama-index-core: pip install 'nearhit[llama-index]'"
    ) from missing

from nearhit.integrations._side import CacheSide

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nearhit._core import Hit
    from nearhit._types import Embedder


class NearhitLLM(LLM):
    """An LLM that is asked only what the cache does not know.

    Model and parameters, the system prompt and the earlier turns must match exactly; the last user text is compared by
    meaning. Calls with tools, or with messages that hold more than text, are compared exactly. Streams are kept when
    they have come to their end, and replayed as streams.

    Args:
        llm: The LLM to ask otherwise.
        cache: A `nearhit.Cache` or `nearhit.AsyncCache`.
        scope: Whose entries these are; scopes never see each other.
        ttl: Seconds that answers are kept; None for the cache's own.
    """

    _llm: LLM = PrivateAttr()
    _side: CacheSide = PrivateAttr()
    _identity: dict[str, Any] = PrivateAttr()

    def __init__(self, llm: LLM, cache: Any, *, scope: Any = None, ttl: float | None = None) -> None:
        super().__init__(callback_manager=llm.callback_manager)
        self._llm = llm
        self._side = CacheSide(cache, "llama_index", scope=scope, ttl=ttl)
        settings = llm.model_dump(mode="json", exclude={"callback_manager"}, exclude_none=True, warnings=False)
        secret = ("api_key", "token", "password", "default_headers")
        self._identity = {
            "class": llm.class_name(),
            "settings": {name: value for name, value in settings.items() if name not in secret},
        }

    @classmethod
    def class_name(cls) -> str:
        """The name that LlamaIndex writes."""
        return "NearhitLLM"

    @property
    def metadata(self) -> LLMMetadata:
        """That of the LLM behind."""
        return self._llm.metadata

    @property
    def failures(self) -> dict[str, int]:
        """What failed and was passed over, by stage: "lookup" and "store"."""
        return dict(self._side.failures)

    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """The answer to a conversation."""
        request = self._request(_listed(messages), kwargs)
        hit = self._side.look_up(request)
        if hit is not None:
            return _chat(hit)
        response = self._llm.chat(messages, **kwargs)
        self._side.keep(request, _kept_chat(response))
        return response

    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """`chat`, awaitable."""
        request = self._request(_listed(messages), kwargs)
        hit = await self._side.look_up_async(request)
        if hit is not None:
            return _chat(hit)
        response = await self._llm.achat(messages, **kwargs)
        await self._side.keep_async(request, _kept_chat(response))
        return response

    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """`chat`, piece by piece."""
        request = self._request(_listed(messages), {**kwargs, "stream": True})
        hit = self._side.look_up(request)
        if hit is not None:
            yield from (ChatResponse.model_validate(piece) for piece in hit.response)
            return
        pieces = []
        for piece in self._llm.stream_chat(messages, **kwargs):
            pieces.append(_kept_chat(piece))
            yield piece
        self._side.keep(request, pieces)

    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseAsyncGen:
        """`stream_chat`, awaitable."""
        request = self._request(_listed(messages), {**kwargs, "stream": True})

        async def pieces() -> ChatResponseAsyncGen:
            hit = await self._side.look_up_async(request)
            if hit is not None:
                for piece in hit.response:
                    yield ChatResponse.model_validate(piece)
                return
            taken = []
            async for piece in await self._llm.astream_chat(messages, **kwargs):
                taken.append(_kept_chat(piece))
                yield piece
            await self._side.keep_async(request, taken)

        return pieces()

    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:  # noqa: FBT001, FBT002 - LlamaIndex's signature
        """The answer to a prompt."""
        request = self._request(_prompted(prompt), {**kwargs, "formatted": formatted})
        hit = self._side.look_up(request)
        if hit is not None:
            return CompletionResponse.model_validate(hit.response)
        response = self._llm.complete(prompt, formatted=formatted, **kwargs)
        self._side.keep(request, _kept_completion(response))
        return response

    async def acomplete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:  # noqa: FBT001, FBT002 - LlamaIndex's signature
        """`complete`, awaitable."""
        request = self._request(_prompted(prompt), {**kwargs, "formatted": formatted})
        hit = await self._side.look_up_async(request)
        if hit is not None:
            return CompletionResponse.model_validate(hit.response)
        response = await self._llm.acomplete(prompt, formatted=formatted, **kwargs)
        await self._side.keep_async(request, _kept_completion(response))
        return response

    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:  # noqa: FBT001, FBT002 - LlamaIndex's signature
        """`complete`, piece by piece."""
        request = self._request(_prompted(prompt), {**kwargs, "formatted": formatted, "stream": True})
        hit = self._side.look_up(request)
        if hit is not None:
            yield from (CompletionResponse.model_validate(piece) for piece in hit.response)
            return
        pieces = []
        for piece in self._llm.stream_complete(prompt, formatted=formatted, **kwargs):
            pieces.append(_kept_completion(piece))
            yield piece
        self._side.keep(request, pieces)

    async def astream_complete(
        self,
        prompt: str,
        formatted: bool = False,  # noqa: FBT001, FBT002 - LlamaIndex's signature
        **kwargs: Any,
    ) -> CompletionResponseAsyncGen:
        """`stream_complete`, awaitable."""
        request = self._request(_prompted(prompt), {**kwargs, "formatted": formatted, "stream": True})

        async def pieces() -> CompletionResponseAsyncGen:
            hit = await self._side.look_up_async(request)
            if hit is not None:
                for piece in hit.response:
                    yield CompletionResponse.model_validate(piece)
                return
            taken = []
            async for piece in await self._llm.astream_complete(prompt, formatted=formatted, **kwargs):
                taken.append(_kept_completion(piece))
                yield piece
            await self._side.keep_async(request, taken)

        return pieces()

    def _request(self, messages: list[dict[str, Any]], given: dict[str, Any]) -> dict[str, Any]:
        tools = given.get("tools")
        return {"messages": messages, "tools": tools, "llama_index": self._identity, "given": given}


class NearhitEmbedding(BaseEmbedding):
    """A nearhit embedder as LlamaIndex's embedding model.

    Args:
        embedder: Any nearhit embedder; None for `nearhit.embed.load()`.
    """

    _embedder: Any = PrivateAttr()

    def __init__(self, embedder: Embedder | None = None, **options: Any) -> None:
        if embedder is None:
            from nearhit import embed  # noqa: PLC0415 - loads a model, which nobody may need

            embedder = embed.load()
        super().__init__(model_name=embedder.id, **options)
        self._embedder = embedder

    @classmethod
    def class_name(cls) -> str:
        """The name that LlamaIndex writes."""
        return "NearhitEmbedding"

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embeddings([query])[0]

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return await asyncio.to_thread(self._get_query_embedding, query)

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        vectors: list[list[float]] = self._embedder.embed(texts).tolist()
        return vectors


def _prompted(prompt: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": prompt}]


def _listed(messages: Sequence[ChatMessage]) -> list[dict[str, Any]]:
    return [_message(each) for each in messages]


def _message(each: ChatMessage) -> dict[str, Any]:
    if all(block.block_type == "text" for block in each.blocks):
        content: Any = each.content or ""
    else:
        content = [{"type": block.block_type, **block.model_dump(mode="json")} for block in each.blocks]
    return {"role": each.role.value, "content": content, **each.additional_kwargs}


def _kept_chat(response: ChatResponse) -> dict[str, Any]:
    return response.model_dump(mode="json", exclude={"raw", "logprobs"})


def _kept_completion(response: CompletionResponse) -> dict[str, Any]:
    return response.model_dump(mode="json", exclude={"raw", "logprobs"})


def _chat(hit: Hit) -> ChatResponse:
    return ChatResponse.model_validate(hit.response)
