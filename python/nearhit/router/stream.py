"""Streamed answers of the router, for asynchronous and for synchronous callers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from nearhit._errors import TierError
from nearhit._portal import PortalIterator
from nearhit._types import Chunk

if TYPE_CHECKING:
    from nearhit._portal import Portal
    from nearhit._types import Completion
    from nearhit.router.pipeline import Pipeline
    from nearhit.trace import Trace


class AsyncRouterStream:
    """The pieces of one answer, as they arrive; an asynchronous iterator of `Chunk`.

    Nothing is sent before the first piece is asked for. Closing the stream ends the work below at once.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._pieces = pipeline.pieces()
        self._ended = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Chunk:
        try:
            return await self._pieces.__anext__()
        except StopAsyncIteration:
            self._ended = True
            raise

    async def aclose(self) -> None:
        """Ends the work below; a stream that has ended is left as it is."""
        await self._pieces.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.aclose()

    @property
    def trace(self) -> Trace:
        """The request's trace, so far or in full."""
        return self._pipeline.trace

    def completion(self) -> Completion:
        """Returns the whole answer, once every piece was taken.

        Raises:
            TierError: The stream has not ended, was closed early or failed: there is no whole answer.
        """
        if not self._ended:
            raise TierError("the answer is not complete: take every piece of the stream first", tier=self.trace.tier)
        return self._pipeline.completion()


class RouterStream(PortalIterator[Chunk]):
    """`AsyncRouterStream` for callers that are not asynchronous: an iterator of `Chunk`, to be closed or exhausted."""

    def __init__(self, portal: Portal, stream: AsyncRouterStream) -> None:
        super().__init__(portal, lambda: stream)
        self._stream = stream

    @property
    def trace(self) -> Trace:
        """The request's trace, so far or in full."""
        return self._stream.trace

    def completion(self) -> Completion:
        """Returns the whole answer, once every piece was taken.

        Raises:
            TierError: The stream has not ended, was closed early or failed.
        """
        return self._stream.completion()
