"""One stream that several callers read: every one of them all of it, from the first byte on, at its own pace.

Whoever needs the next part first reads it from the server, and the others wait for it. A reader that leaves takes
nothing from the others; the stream is given up when the last one has left.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, Final, Self

from nearhit._errors import StreamBrokenError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator, Mapping

    from nearhit.openai._info import Info

_ENDED: Final = object()
_LEFT: Final = object()


class _Source:
    """What both kinds have in common: the parts so far, how it ended, and who reads.

    Args:
        source: Yields the stream's parts; closing it gives the connection back.
        headers: Those of the response that the parts belong to.
        info: The record of the request that it is the answer to.
    """

    def __init__(self, source: Any, headers: Mapping[str, str], info: Info) -> None:
        self.headers = headers
        self.info = info
        self._source = source
        self._parts: list[bytes] = []
        self._outcome: object | None = None  # _ENDED, _LEFT or the error that ended it
        self._readers = 0

    def _told(self) -> BaseException | None:
        """What a reader is told at the end of the parts: None for a good end."""
        if self._outcome is _ENDED:
            return None
        if isinstance(self._outcome, Exception):
            return self._outcome
        broken = StreamBrokenError("the call that this stream came from was interrupted before its end; ask again")
        broken.__cause__ = self._outcome if isinstance(self._outcome, BaseException) else None
        return broken


class SharedStream(_Source):
    """A stream shared by threads."""

    def __init__(self, source: Generator[bytes, None, None], headers: Mapping[str, str], info: Info) -> None:
        super().__init__(source, headers, info)
        self._news = threading.Condition()
        self._reading = False

    def join(self, patience: float | None = None) -> Reader | None:
        """A reader from the beginning; None if the stream was broken or given up.

        Args:
            patience: Most seconds that it waits for a part which another one is reading; None for no bound.
        """
        with self._news:
            if self._outcome not in (None, _ENDED):
                return None
            self._readers += 1
        return Reader(self, patience)

    def part(self, at: int, patience: float | None) -> bytes | None:
        """The part at a place, or None at the end.

        Raises:
            TimeoutError: Another reader has been waiting for it for too long.
            Exception: The stream broke.
        """
        if not self._wait(at, patience):
            return self._parts[at] if at < len(self._parts) else None
        part: bytes | None = None
        outcome: object | None = None
        try:
            part = next(self._source)
        except StopIteration:
            outcome = _ENDED
        except BaseException as error:
            outcome = error
            raise
        finally:
            with self._news:
                self._reading = False
                if self._outcome is None:
                    self._outcome = outcome
                if part is not None:
                    self._parts.append(part)
                self._news.notify_all()
        return part

    def _wait(self, at: int, patience: float | None) -> bool:
        """Waits until the part is there or the stream at its end; True if the caller has to read it."""
        with self._news:
            while at >= len(self._parts):
                if self._outcome is not None:
                    if (error := self._told()) is not None:
                        raise error
                    return False
                if not self._reading:
                    self._reading = True
                    return True
                if not self._news.wait(patience):
                    raise TimeoutError
            return False

    def leave(self) -> None:
        """One reader less; after the last one the source is closed."""
        with self._news:
            self._readers -= 1
            last = self._readers == 0
            if last and self._outcome is None:
                self._outcome = _LEFT
        if last:
            self._source.close()


class Reader:
    """One reader of a `SharedStream`."""

    def __init__(self, shared: SharedStream, patience: float | None) -> None:
        self._shared: SharedStream | None = shared
        self._patience = patience
        self._at = 0

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        part = None if self._shared is None else self._shared.part(self._at, self._patience)
        if part is None:
            raise StopIteration
        self._at += 1
        return part

    def ready(self, patience: float) -> None:
        """Waits until the first part is there.

        Raises:
            Exception: It will not come.
        """
        if self._shared is not None:
            self._shared.part(0, patience)

    def close(self) -> None:
        """Leaves, the first time it is called."""
        shared, self._shared = self._shared, None
        if shared is not None:
            shared.leave()


class AsyncSharedStream(_Source):
    """A stream shared by the tasks of one event loop."""

    def __init__(self, source: AsyncGenerator[bytes, None], headers: Mapping[str, str], info: Info) -> None:
        super().__init__(source, headers, info)
        self._loop = asyncio.get_running_loop()
        self._alone = False  # the only reader is waiting for the next part, in its own task
        self._step: asyncio.Task[None] | None = None
        self._news: asyncio.Future[None] | None = None

    def join(self, patience: float | None = None) -> AsyncReader | None:
        """A reader from the beginning; None if the stream was broken or given up, or is another event loop's.

        Args:
            patience: Most seconds that it waits for a part which another one is reading; None for no bound.
        """
        if asyncio.get_running_loop() is not self._loop or self._outcome not in (None, _ENDED):
            return None
        self._readers += 1
        return AsyncReader(self, patience)

    async def part(self, at: int, patience: float | None) -> bytes | None:
        """The part at a place, or None at the end.

        Raises:
            TimeoutError: Another reader has been waiting for it for too long.
            Exception: The stream broke.
        """
        # Who came while a single reader was waiting gets nothing until that wait is over, so that it can still go its
        # own way if that reader is cancelled and takes the connection with it.
        while at >= len(self._parts) or (at == 0 and (self._alone or self._outcome not in (None, _ENDED))):
            if self._outcome is not None:
                if (error := self._told()) is not None:
                    raise error
                return None
            if self._readers == 1 and self._step is None and not self._alone:
                # Nobody else would be harmed if this task were cancelled here, so that it needs no other one: 2.8 µs a
                # part in place of 74 (loaded).
                self._alone = True
                try:
                    await self._take()
                finally:
                    self._alone = False
                continue
            if not self._alone and self._step is None:
                self._step = self._loop.create_task(self._take())
                self._step.add_done_callback(self._stepped)
            if self._news is None:
                self._news = self._loop.create_future()
            async with asyncio.timeout(patience):
                await asyncio.shield(self._news)
        return self._parts[at]

    async def _take(self) -> None:
        """Reads the next part."""
        try:
            self._parts.append(await anext(self._source))
        except StopAsyncIteration:
            self._outcome = self._outcome or _ENDED
        except BaseException as error:
            self._outcome = self._outcome or error
            raise
        finally:
            news, self._news = self._news, None
            if news is not None and not news.done():
                news.set_result(None)

    def _stepped(self, step: asyncio.Task[None]) -> None:
        self._step = None
        if not step.cancelled():
            step.exception()  # told to the readers

    async def leave(self) -> None:
        """One reader less; after the last one the source is closed."""
        self._readers -= 1
        if self._readers:
            return
        self._outcome = self._outcome or _LEFT
        if self._step is not None:
            self._step.cancel()
            await asyncio.wait({self._step})
        await self._source.aclose()


class AsyncReader:
    """One reader of an `AsyncSharedStream`."""

    def __init__(self, shared: AsyncSharedStream, patience: float | None) -> None:
        self._shared: AsyncSharedStream | None = shared
        self._patience = patience
        self._at = 0

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        part = None if self._shared is None else await self._shared.part(self._at, self._patience)
        if part is None:
            raise StopAsyncIteration
        self._at += 1
        return part

    async def ready_async(self, patience: float) -> None:
        """Waits until the first part is there.

        Raises:
            Exception: It will not come.
        """
        if self._shared is not None:
            await self._shared.part(0, patience)

    async def aclose(self) -> None:
        """Leaves, the first time it is called."""
        shared, self._shared = self._shared, None
        if shared is not None:
            await shared.leave()

    close_async = aclose
