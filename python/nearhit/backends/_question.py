"""What one lookup asks the servers, on the shortest way that is free."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from nearhit.backends._mail import Awaited
from nearhit.backends._wire import LostError, ServerError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from nearhit._core import Request
    from nearhit.backends._session import Session
    from nearhit.backends._wire import Reply


class Question(Awaited["list[Reply]"]):
    """What one lookup asks, all of which goes to one server as a rule; its replies are waited for a bounded time.

    A caller asks over a connection for lookups alone if there is one and it is free. Otherwise, and where several
    servers have to be asked or one redirects, the I/O thread does it.

    Args:
        session: Whose servers they are.
        request: What is looked up.
        asked: The vector asked about, of unit length; None if the very entry alone is asked for.
        least: Cosine below which nothing is wanted.
        dim: Length of the embedder's vectors, for where there is none.
        seconds: How long the caller waits.
    """

    __slots__ = ("_link", "_lone", "_session", "_what", "asked", "dim")

    def __init__(
        self,
        session: Session,
        request: Request,
        asked: NDArray[np.float32] | None,
        least: float,
        *,
        dim: int,
        seconds: float,
    ) -> None:
        self._session = session
        self._what = (request.scope, request.fingerprint, asked, least)
        self._link, self._lone = session.fleet.first, True
        if session.fleet.is_cluster:
            links = {session.fleet.link(key) for key, _ in session.questions(*self._what)}
            self._link, self._lone = links.pop(), not links
        self.asked = asked
        self.dim = dim if asked is None else len(asked)
        super().__init__(session.box, seconds, self._link.late)

    @property
    def is_useful(self) -> bool:
        """Whether there is a server to ask that is not known to be late."""
        return self._link.usable

    def _start(self) -> None:
        self._session.ask(self, self._session.questions(*self._what), self.dim, self._link)

    def wait(self) -> list[Reply] | None:
        """Waits in place; None if the time was over first."""
        direct = self._link.lanes.direct() if self._lone else None
        if direct is not None and direct.claim():
            try:
                replies = direct.ask(*self._session.packed(*self._what))
            except TimeoutError:
                return self._give_up()
            except LostError:
                pass
            else:
                if self._are_final(replies):
                    return replies
        return super().wait()

    async def wait_async(self) -> list[Reply] | None:
        """Waits on the caller's own loop; None if the time was over first."""
        lane = self._link.lanes.of(asyncio.get_running_loop()) if self._lone else None
        if lane is not None:
            try:
                replies = await lane.ask(*self._session.packed(*self._what))
            except LostError:
                pass
            else:
                if replies is None:
                    return self._give_up()
                if self._are_final(replies):
                    return replies
        return await super().wait_async()

    def _are_final(self, replies: list[Reply]) -> bool:
        """Whether no server sent us elsewhere."""
        self._link.punctual()
        for reply in replies:
            if isinstance(reply, ServerError):
                if str(reply).startswith(("MOVED ", "ASK ", "TRYAGAIN ")):
                    return False
                self._session.refused(reply, self.dim)
        return True
