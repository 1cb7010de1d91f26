"""Redis behind a cache: what one replica has learned, all of them know."""

from __future__ import annotations

import atexit
import json
import threading
import time
import warnings
import weakref
from collections import deque
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, Literal

from nearhit._config import parse_bytes, parse_count, parse_seconds
from nearhit._core import Request
from nearhit._errors import BackendWarning, Error, OptionError, StorageError
from nearhit._portal import portal
from nearhit.backends._address import parse_address
from nearhit.backends._engines import Shape
from nearhit.backends._entry import Entry, decode, vector_of
from nearhit.backends._keys import Keys, space_of
from nearhit.backends._mail import Errand
from nearhit.backends._question import Question
from nearhit.backends._session import Session
from nearhit.backends._sketch import unit
from nearhit.backends._wire import LostError, ServerError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from nearhit._core import CacheCore, Hit
    from nearhit._portal import Portal
    from nearhit._types import Embedder
    from nearhit.backends._engines import EngineName
    from nearhit.backends._log import Kind
    from nearhit.backends._wire import Reply

_QUANTISATIONS: Final = {"f32": "NOQUANT", "q8": "Q8", "bin": "BIN"}
_FIRST_CONTACT: Final = 1.0  # seconds that a new cache waits for its server
_WAITS: Final = 1024  # lookups whose waiting is remembered
_ANSWER: Final = 2.0  # seconds that an invalidation waits for the servers to have carried it out


@dataclass(frozen=True, slots=True)
class BackendStats:
    """What a backend has done since its cache was made, and how it is.

    Attributes:
        engine: "search", "vectorset" or "exact"; None before the first contact.
        connected: Whether lookups ask it at present.
        failure: Why not, or what the last write failed of; None if all is well.
        exact_hits: Lookups that found the very request there.
        near_hits: Lookups that found one there that means the same.
        misses: Lookups that found nothing.
        late: Lookups that had no answer within the deadline, and went on as misses.
        skipped: Lookups that did not ask, for there was no usable connection.
        stale: Entries found there and refused, for they had been invalidated, or could not be proven fresh.
        written: Entries written.
        waiting: Entries that wait to be written.
        waiting_bytes: Their bytes, about.
        dropped: Entries given up because the queue was full.
        refused: Entries that the server would not take.
        drops: How often the local cache was emptied because it could not be proven fresh.
        position: Number of the last invalidation applied.
        lag: Seconds that the entry which has waited longest to be written has waited.
        breaker: "open" while a server is not asked because its last answers came late.
        latency_p50: Median of the seconds that the last 1,024 lookups waited for an answer; None before the first.
        latency_p95: 95 % of them waited at most this.
        latency_p99: 99 % of them waited at most this.

    Example:
        >>> import warnings
        >>> from nearhit import BackendWarning, Cache
        >>> backend = RedisBackend("redis://127.0.0.1:1")
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("ignore", BackendWarning)  # nobody is there
        ...     with Cache(backend=backend) as cache:
        ...         _ = cache.lookup("What is 2 + 2?")
        ...         stats = backend.stats()
        >>> stats.connected, stats.skipped
        (False, 1)
    """

    engine: str | None
    connected: bool
    failure: str | None
    exact_hits: int
    near_hits: int
    misses: int
    late: int
    skipped: int
    stale: int
    written: int
    waiting: int
    waiting_bytes: int
    dropped: int
    refused: int
    drops: int
    position: int
    lag: float = 0.0
    breaker: Literal["closed", "open"] = "closed"
    latency_p50: float | None = None
    latency_p95: float | None = None
    latency_p99: float | None = None


class RedisBackend:
    """The second tier of a cache, shared between processes and machines.

    A lookup that finds nothing locally asks the server once, for the very request and for the nearest ones together,
    and goes on as a miss if there is no answer within the deadline. What is found is judged like a local candidate, and
    kept locally. What is stored goes out behind the caller's back. Invalidations reach every replica. While the server
    is away, everything goes on locally; see `nearhit.backends` for what is promised.

    One backend serves one cache.

    Args:
        url: Where it is: `redis://`, `rediss://` (TLS), `unix://`, `redis+cluster://` or `redis+sentinel://`; a cluster
            is recognised from any of its nodes.
        namespace: Stands before every key.
        deadline: Seconds that a lookup waits.
        engine: "search" (Redis Query Engine, RediSearch, valkey-search), "vectorset" (Redis 8) or "exact"; "auto" takes
            what the server has.
        quantisation: Of vector sets: "f32", "q8" or "bin"; all replicas must agree. Candidates are scored again from
            their own vectors.
        algorithm: Of search indexes: "hnsw" or "flat".
        shards: Parts that each scope is spread over, so that a large one uses several nodes of a cluster. All replicas
            must agree.
        max_scope_entries: Most entries of one scope; the oldest go first. None leaves it to the server's own policy.
        queue_entries: Most entries that wait to be written.
        queue_bytes: Most bytes that wait.
        max_stale: Seconds without contact to the log of invalidations after which local entries are dropped; None
            serves them for as long as the server is away.
        follow: Callers' scopes whose new entries are taken over from other replicas as they are written.
        announce: Tell others of new entries.
        single_flight: `memoize` makes one call among all replicas.
        flight_seconds: Life of the lock behind that.
        sweep: Seconds between two looks for vectors whose entry has gone, by one replica for all.
        protocol: RESP version.

    Raises:
        OptionError: A value out of its range.
        MissingDependencyError: The extra `redis` is not installed.

    Example:
        >>> from nearhit import OptionError
        >>> RedisBackend("redis://cache.internal/0", namespace="shop")
        RedisBackend('redis://cache.internal/0', namespace='shop')
    """

    def __init__(
        self,
        url: str,
        *,
        namespace: str = "nearhit",
        deadline: float = 0.020,
        engine: EngineName = "auto",
        quantisation: Literal["f32", "q8", "bin"] = "q8",
        algorithm: Literal["hnsw", "flat"] = "hnsw",
        shards: int = 1,
        max_scope_entries: int | None = None,
        queue_entries: int = 10_000,
        queue_bytes: int | str = "64MiB",
        max_stale: float | None = None,
        follow: Sequence[Any] = (),
        announce: bool = True,
        single_flight: bool = False,
        flight_seconds: float = 60.0,
        sweep: float = 60.0,
        protocol: Literal[2, 3] = 3,
    ) -> None:
        if engine not in ("auto", "search", "vectorset", "exact"):
            raise OptionError(
                f'option engine={engine!r} is not valid: expected "auto", "search", "vectorset" or "exact"'
            )
        if quantisation not in _QUANTISATIONS:
            raise OptionError(f'option quantisation={quantisation!r} is not valid: expected "f32", "q8" or "bin"')
        if algorithm not in ("hnsw", "flat"):
            raise OptionError(f'option algorithm={algorithm!r} is not valid: expected "hnsw" or "flat"')
        self._address = parse_address(url, protocol=protocol)
        self._shown = (
            url if self._address.password is None else url.replace(url.split("://")[1].rpartition("@")[0], "***")
        )
        self._namespace = namespace
        self._shards = parse_count("shards", shards) or 1
        self._keys = Keys(namespace, "none", self._shards)
        self._deadline = parse_seconds("deadline", deadline) or 0.0
        self._engine = engine
        self._shape = Shape(quantisation=_QUANTISATIONS[quantisation], algorithm=algorithm.upper())
        self._most = parse_count("max_scope_entries", max_scope_entries) or 0
        self._queue = (parse_count("queue_entries", queue_entries) or 1, parse_bytes("queue_bytes", queue_bytes) or 1)
        self._max_stale = parse_seconds("max_stale", max_stale)
        self._follow = [caller_id(scope) for scope in follow]
        self._announce = announce
        self._flight_seconds = parse_seconds("flight_seconds", flight_seconds) or 0.0
        self.single_flight = single_flight
        self._sweep = parse_seconds("sweep", sweep) or 0.0
        self._core: CacheCore | None = None
        self._dim = 0
        self._ttl: float | None = None
        self._session: Session | None = None
        self._portal: Portal | None = None
        self._starting = threading.Lock()
        self._closed = False
        self._warned = False
        self._counts = dict.fromkeys(("exact_hits", "near_hits", "misses", "late", "skipped", "stale"), 0)
        self._waits: deque[float] = deque(maxlen=_WAITS)

    def __repr__(self) -> str:
        return f"RedisBackend({self._shown!r}, namespace={self._namespace!r})"

    # -- life ------------------------------------------------------------------------------------------------------

    def bind(self, core: CacheCore, embedder: Embedder | None, ttl: float | None) -> None:
        """Takes up its work for a cache; called by the cache.

        Raises:
            OptionError: It serves another cache already.
        """
        if self._core is not None:
            raise OptionError(f"option backend={self!r} is not valid: it serves another cache; make one for each")
        self._core = core
        _at_work.add(self)
        self._ttl = ttl
        self._dim = 0 if embedder is None else embedder.dim
        self._keys = Keys(self._namespace, space_of(embedder), self._shards)
        session = self._live()
        if session is None or not self._wait_until(lambda: session.usable or session.fleet.first.failure != _NOT_YET):
            return
        self._wait_until(lambda: session.usable or session.fleet.first.failure is not None)
        self._warn(session)

    def _warn(self, session: Session) -> None:
        """Says once, clearly, what the server cannot do."""
        if self._warned:
            return
        self._warned = True
        if session.fleet.first.failure is not None:
            failure = session.fleet.first.failure
            message = f"{self!r} cannot be reached ({failure}): the cache goes on by itself, and goes on trying"
        elif self._engine != "exact" and session.engine is not None and session.engine.name == "exact":
            message = (
                f"{self!r} has no vector search that can be used (neither VSIM nor FT.SEARCH, which in a cluster must "
                'reach every node): it shares answers to equal requests only; engine="exact" says that this is meant'
            )
        else:
            return
        warnings.warn(message, BackendWarning, stacklevel=5)

    @staticmethod
    def _wait_until(condition: Callable[[], bool]) -> bool:
        until = time.monotonic() + _FIRST_CONTACT
        while not condition():
            if time.monotonic() > until:
                return False
            time.sleep(0.001)
        return True

    def _live(self) -> Session | None:
        """The session; after a fork, one of this process's own."""
        if self._closed or self._core is None:
            return None
        current = portal()
        if self._portal is not current:
            with self._starting:
                if self._portal is not current:
                    self._session = current.run(self._begin(current, self._core))
                    self._portal = current
        return self._session

    async def _begin(self, current: Portal, core: CacheCore) -> Session:
        return Session(
            current.loop,
            self._address,
            self._keys,
            core,
            self._take,
            dim=self._dim,
            deadline=self._deadline,
            engine=self._engine,
            shape=self._shape,
            queue=self._queue,
            most=self._most,
            sweep=self._sweep,
            max_stale=self._max_stale,
            follow=self._follow,
            news=self._announce,
        )

    def flush(self, seconds: float = 10.0) -> None:
        """Waits until everything stored so far is written.

        Raises:
            StorageError: It was not within `seconds`.
        """
        session = self._live()
        if session is None:
            return
        if not self._idle(session, seconds).wait():
            waiting, failure = session.writer.waiting, session.fleet.first.failure or session.writer.failure
            raise StorageError(
                f"{self!r}: {waiting} entries are not written after {seconds:g} s: {failure or 'too slow'}"
            )

    def close(self) -> None:
        """Writes what is left, if the server takes it within two seconds, and closes the connections."""
        session = self._live()
        if session is None:
            return
        if session.usable:
            try:
                self.flush(_ANSWER)
            except StorageError as error:
                warnings.warn(str(error), BackendWarning, stacklevel=3)
        self._closed = True
        portal().run(session.close())

    # -- lookups ---------------------------------------------------------------------------------------------------

    def find(self, request: Request, vector: Any, least: float) -> Question | None:
        """What to wait for to learn what the server has; None if there is no use in asking."""
        session = self._live()
        if session is None or not session.usable:
            self._counts["skipped"] += 1
            return None
        asked = None if vector is None or request.text is None else unit(vector)
        return Question(session, request, asked, least, dim=self._dim, seconds=self._deadline)

    def judge(
        self, question: Question, request: Request, threshold: float | None, least: float, replies: list[Reply] | None
    ) -> tuple[Hit | None, dict[str, Any] | None]:
        """What comes of the server's replies: the hit, now held locally, and the best candidate that was refused."""
        session, core, counts = self._session, self._core, self._counts
        if replies is None or session is None or core is None:
            counts["late"] += 1
            return None, None
        exact = decode(replies[0], question.dim) if isinstance(replies[0], list) else None
        if exact is not None and (exact.id, exact.scope) == (request.fingerprint, request.scope) and self._take(exact):
            hit = core.serve(request, exact.id)
            if hit is not None:
                counts["exact_hits"] += 1
                return hit, None
        refused = None
        for entry, similarity in self._candidates(session, request, question.asked, replies[1:], least):
            confidence, reasons = core.consider(request, question.asked, entry.prompt or "", similarity, threshold)
            if reasons:
                refused = refused or _described(entry, similarity, confidence, reasons)
            elif self._take(entry):
                hit = core.serve(request, entry.id, similarity, confidence)
                if hit is not None:
                    counts["near_hits"] += 1
                    return hit, None
        counts["misses"] += 1
        return None, refused

    def examine(
        self, question: Question, request: Request, threshold: float | None, replies: list[Reply] | None
    ) -> list[dict[str, Any]]:
        """Every candidate among the server's replies with the reasons against it, best first.

        The very entry, and what may answer, are taken into the local cache, as a lookup would.
        """
        session, core = self._session, self._core
        if replies is None or session is None or core is None:
            return []
        exact = decode(replies[0], question.dim) if isinstance(replies[0], list) else None
        if exact is not None and (exact.id, exact.scope) == (request.fingerprint, request.scope):
            self._take(exact)
        found = []
        for entry, similarity in self._candidates(session, request, question.asked, replies[1:], -1.0):
            confidence, reasons = core.consider(request, question.asked, entry.prompt or "", similarity, threshold)
            if not reasons and not self._take(entry):
                reasons = ["stale: it was invalidated, has ended or cannot be proven fresh"]
            found.append(_described(entry, similarity, confidence, reasons))
        return found

    @staticmethod
    def _candidates(
        session: Session, request: Request, asked: NDArray[np.float32] | None, replies: list[Reply], least: float
    ) -> Iterator[tuple[Entry, float]]:
        """Entries of the request's own scope, best first by the cosine of the vectors themselves, down to `least`."""
        engine = session.engine
        if asked is None or engine is None:
            return
        dim, found = len(asked), []
        for reply in replies:
            for row in () if isinstance(reply, Exception) else engine.rows(reply):
                kept = vector_of(row[1], dim)
                if kept is not None and (cosine := float(kept.dot(asked))) >= least:
                    found.append((cosine, row))
        if len(found) > 1:
            found.sort(key=itemgetter(0), reverse=True)
        for cosine, row in found:
            entry = decode(row, dim)
            if entry is None or entry.prompt is None or entry.scope != request.scope or session.log.is_demoted(entry):
                continue
            yield entry, min(1.0, cosine)

    def _take(self, entry: Entry) -> bool:
        """Takes an entry into the local cache, unless it has ended or been invalidated."""
        session, core = self._session, self._core
        if session is None or core is None or (entry.expires is not None and entry.expires <= time.time()):
            return False
        with session.log.lock:  # an invalidation comes either before, and is seen here, or after, and removes it again
            if not session.log.allows(entry):
                self._counts["stale"] += 1
                return False
            vector = None if entry.vector is None or session.log.is_demoted(entry) else entry.vector
            try:
                core.store(entry.request(), entry.answer(), vector=vector, **entry.options())
            except (Error, ValueError):
                return False  # larger than the local cache, or not readable
        return True

    # -- stores ----------------------------------------------------------------------------------------------------

    def moment(self) -> tuple[int, str]:
        """How far the log has been read: to be asked for before an answer is stored locally."""
        log = None if self._session is None else self._session.log
        return (-1, "") if log is None else (log.position, log.epoch)

    def put(
        self,
        request: Request,
        response: Any,
        vector: Any,
        options: Mapping[str, Any],
        *,
        moment: tuple[int, str],
        token: int = 0,
    ) -> None:
        """Has an answer written, soon."""
        session = self._live()
        if session is None:
            return
        form, body = _payload(response, is_json=bool(options.get("json")))
        created = options.get("created") or time.time()
        ttl = options.get("ttl") or self._ttl
        expires = options.get("expires") if "created" in options else None if ttl is None else created + ttl
        position, epoch = moment
        kept = None
        if vector is not None and request.text is not None:
            kept = unit(vector)
        entry = Entry(
            id=request.fingerprint,
            scope=request.scope,
            prompt=request.text,
            caller=request.caller,
            label=request.label,
            form=form,
            response=body,
            tags=tuple(options.get("tags", ())),
            cost=options.get("cost"),
            model=options.get("model"),
            tokens=options.get("tokens"),
            created=created,
            expires=expires,
            position=position,
            epoch=epoch,
            vector=kept,
            token=token,
        )
        if session.writer.put(entry) and session.writer.idle.is_set():
            session.box.post(session.writer.wake)

    def invalidate(self, kind: Kind, argument: str) -> int:
        """Has every replica drop entries, and removes them from the servers.

        Returns:
            How many the servers held; 0 if they could not be asked in time. It is done as soon as they can be.
        """
        session = self._live()
        if session is None:
            return 0
        session.log.expect(kind, argument)

        def begin(errand: Errand[int]) -> None:
            session.writer.tell(kind, argument)
            session.spawn(self._carry_out(session, kind, argument, errand))

        return Errand(session.box, begin, _ANSWER if session.usable else 0.0).wait() or 0

    @staticmethod
    async def _carry_out(session: Session, kind: Kind, argument: str, errand: Errand[int]) -> None:
        while True:
            await session.writer.idle.wait()  # the log first: whoever writes meanwhile will look there
            try:
                errand.finish(await session.remove(kind, argument))
            except (ServerError, LostError):
                await session.fleet.first.connected.wait()
                session.box.post(lambda: None)
            else:
                return

    # -- one call among all replicas -------------------------------------------------------------------------------

    def claim(self, request: Request, patience: float) -> Errand[tuple[int, str]] | None:
        """Waits for the right to make an answer: a fencing token, or 0 if somebody else has made it meanwhile."""
        session = self._live()
        if session is None or not session.usable:
            return None
        scope, fingerprint, life = request.scope, request.fingerprint, self._flight_seconds

        def begin(errand: Errand[tuple[int, str]]) -> None:
            async def wait() -> None:
                errand.finish(await session.claim(scope, fingerprint, life, patience))

            session.spawn(wait())

        return Errand(session.box, begin, patience + 1.0)

    def release(self, request: Request, holder: str) -> None:
        """Gives the right back as soon as the answer is written; returns at once."""
        session = self._live()
        if session is not None:
            scope, fingerprint = request.scope, request.fingerprint
            session.box.post(lambda: session.spawn(session.release(scope, fingerprint, holder)))

    # -- looking at it ---------------------------------------------------------------------------------------------

    def stats(self) -> BackendStats:
        """What it has done, and how it is."""
        session = self._live()
        if session is None:
            names = ("written", "waiting", "waiting_bytes", "dropped", "refused", "drops")
            figures: dict[str, Any] = {**self._counts, **dict.fromkeys(names, 0), **self._quantiles()}
            return BackendStats(None, connected=False, failure="closed", position=-1, **figures)
        writer, log = session.writer, session.log
        return BackendStats(
            engine=None if session.engine is None else session.engine.name,
            connected=session.usable,
            failure=session.fleet.first.failure or writer.failure,
            **self._counts,
            written=writer.written,
            waiting=writer.waiting,
            waiting_bytes=writer.waiting_bytes,
            dropped=writer.dropped,
            refused=writer.refused,
            drops=log.drops,
            position=log.position,
            lag=writer.lag,
            breaker="open" if session.fleet.is_late else "closed",
            **self._quantiles(),
        )

    def waited(self, seconds: float) -> None:
        """Notes how long a lookup has waited for its answer."""
        self._waits.append(seconds)

    def _quantiles(self) -> dict[str, Any]:
        waits = sorted(self._waits.copy())
        names = {"latency_p50": 0.5, "latency_p95": 0.95, "latency_p99": 0.99}
        return {
            name: waits[min(len(waits) - 1, int(part * len(waits)))] if waits else None for name, part in names.items()
        }

    def sweep(self) -> int:
        """Looks for vectors whose entry has gone now; returns how many were removed."""
        session = self._live()
        return 0 if session is None else portal().run(session.sweep())

    def entries(self) -> Iterator[tuple[str, Entry]]:
        """Every entry that the servers hold, with the short name of its embedder (`space`).

        Raises:
            StorageError: They cannot be reached.
        """
        session = self._live()
        if session is None:
            return
        try:
            yield from portal().iterate(session.everything)
        except (ServerError, LostError) as error:
            raise StorageError(f"{self!r} cannot be read: {error}") from error

    def __len__(self) -> int:
        """Entries that the servers hold."""
        return int(self.run(Session.count))

    @property
    def space(self) -> str:
        """Short name of the embedder whose vectors this backend reads and writes."""
        return self._keys.space

    def room(self) -> Errand[bool] | None:
        """What somebody who stores a great deal waits for, so that the queue does not overflow; None if it is fine."""
        session = self._live()
        if session is None or 2 * session.writer.waiting < self._queue[0]:
            return None
        return self._idle(session, 10.0)

    @staticmethod
    def _idle(session: Session, seconds: float) -> Errand[bool]:
        def begin(errand: Errand[bool]) -> None:
            async def wait() -> None:
                session.writer.wake()
                await session.writer.idle.wait()
                errand.finish(value=True)

            session.spawn(wait())

        return Errand(session.box, begin, seconds)

    def run(self, work: Callable[[Session], Coroutine[Any, Any, Any]]) -> Any:
        """Runs something on the I/O thread; for the commands.

        Raises:
            StorageError: The servers cannot be reached.
        """
        session = self._live()
        if session is None:
            raise StorageError(f"{self!r} is closed")
        try:
            return portal().run(work(session))
        except (ServerError, LostError) as error:
            raise StorageError(f"{self!r}: {error}") from error


_NOT_YET: Final = "not connected yet"
_at_work: weakref.WeakSet[RedisBackend] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """Writes what is left when the interpreter exits; the I/O thread, which was there first, ends after this."""
    for backend in list(_at_work):
        backend.close()


def caller_id(scope: Any) -> str:
    """Id of a caller's own scope."""
    return Request.from_parts("0" * 32, "0" * 32, None, scope).caller


def _described(entry: Entry, similarity: float, confidence: float, reasons: Sequence[str]) -> dict[str, Any]:
    """A candidate as the core describes its own."""
    return {
        "entry_id": entry.id,
        "prompt": entry.prompt,
        "similarity": similarity,
        "confidence": confidence,
        "reasons": reasons,
        "response": entry.value(),
        "age": max(0.0, time.time() - entry.created),
        "source": "remote",
    }


def _payload(response: Any, *, is_json: bool) -> tuple[Literal["text", "bytes", "json"], bytes]:
    if isinstance(response, bytes):
        return "bytes", response
    if isinstance(response, str):
        return ("json" if is_json else "text"), response.encode("utf-8", "surrogatepass")
    return "json", json.dumps(response, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
