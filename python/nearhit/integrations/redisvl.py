"""RedisVL's `SemanticCache`, answered by nearhit: an import line is all that changes.

    from redisvl.extensions.cache.llm import SemanticCache        # before
    from nearhit.integrations.redisvl import SemanticCache        # after

Names, arguments and units are RedisVL's. Its distance is 1 - cosine, from 0 (the same) to 2 (the opposite), so that a
`distance_threshold` of 0.1 asks for a cosine of at least 0.9. Entries live in this process, in a file with `path=`, or
in any `cache=` you have; what says how to reach a Redis is taken and not used. `update` changes responses and metadata;
what says which requests an entry answers is changed by storing it anew.

Two things are safer here. Candidates are checked by nearhit's guards and verifier (`policy="static"` does without, as
RedisVL does), and an entry stored with `filters` is found by a filter expression that names the very same ones.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from nearhit._errors import InputError, OptionError
from nearhit._types import Embedder
from nearhit.cache import AsyncCache, Cache, Lookup
from nearhit.cache._base import CacheBase

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike

    from numpy.typing import NDArray

    from nearhit._core import Hit
    from nearhit.cache import Candidate

_RESERVED: Final = frozenset(
    {
        "key",
        "entry_id",
        "prompt",
        "response",
        "prompt_vector",
        "vector_distance",
        "inserted_at",
        "updated_at",
        "metadata",
    }
)
_TAG: Final = re.compile(r"@(\w+):\{((?:[^}\\]|\\.)*)\}")
_FAR: Final = 2.0


class VectorizerEmbedder:
    """A RedisVL vectorizer as a nearhit embedder.

    Args:
        vectorizer: Anything with `dims` and `embed_many` (RedisVL's vectorizers have them).
    """

    def __init__(self, vectorizer: Any) -> None:
        self._vectorizer = vectorizer
        self.dim = int(vectorizer.dims)
        self.id = f"{type(vectorizer).__name__}/{getattr(vectorizer, 'model', '')}"

    def embed(self, texts: list[str]) -> NDArray[np.float32]:
        """Unit vectors, float32 of shape [len(texts), dim]."""
        vectors = np.asarray(self._vectorizer.embed_many(texts), dtype=np.float32)
        return _unit(vectors)


class SemanticCache:
    """RedisVL's semantic cache; see the module for what differs.

    Args:
        name: Name of the cache: the beginning of every key, and the scope that its entries are in.
        distance_threshold: Largest distance of a hit, 1 - cosine, from 0 to 2.
        ttl: Seconds that entries are kept; None for ever.
        vectorizer: A RedisVL vectorizer or a nearhit embedder; None for `nearhit.embed.load()`.
        filterable_fields: Fields that `filters` may name, as dicts with a "name".
        redis_client: Not used.
        redis_url: Not used.
        connection_kwargs: Not used.
        overwrite: Whether to begin by removing what is there.
        create_index: Whether the cache may be deleted through this object.
        cache: A `nearhit.Cache` or `nearhit.AsyncCache` to keep the entries in, in place of one of its own.
        path: File that the entries are kept in; None for memory.
        policy: "guarded" (checked candidates) or "static" (the distance alone).

    Raises:
        TypeError: A vectorizer that is none.
        ValueError: A distance outside [0, 2], or a reserved field's name.

    Example:
        >>> from nearhit import Cache
        >>> cache = SemanticCache("faq", cache=Cache())
        >>> cache.store("What is 2 + 2?", "4")[:4]
        'faq:'
        >>> cache.check("What is 2 + 2?")[0]["response"]
        '4'
    """

    def __init__(
        self,
        name: str = "llmcache",
        distance_threshold: float = 0.1,
        ttl: int | None = None,
        vectorizer: Any = None,
        filterable_fields: list[dict[str, Any]] | None = None,
        redis_client: Any = None,  # noqa: ARG002 - RedisVL's signature
        redis_url: str = "redis://localhost:6379",  # noqa: ARG002 - RedisVL's signature
        connection_kwargs: dict[str, Any] | None = None,  # noqa: ARG002 - RedisVL's signature
        overwrite: bool = False,  # noqa: FBT001, FBT002 - RedisVL's signature
        create_index: bool = True,  # noqa: FBT001, FBT002 - RedisVL's signature
        *,
        cache: Any = None,
        path: str | PathLike[str] | None = None,
        policy: Any = "guarded",
    ) -> None:
        if overwrite and not create_index:
            raise ValueError("overwrite=True needs create_index=True: what is not ours to create is not ours to remove")
        self.name = name
        self.overwrite = overwrite
        self._create_index = create_index
        self._fields = tuple(field["name"] for field in filterable_fields or ())
        for field in self._fields:
            if field in _RESERVED:
                raise ValueError(f"{field} is a reserved field name of the semantic cache")
        self.set_threshold(distance_threshold)
        self.set_ttl(ttl)
        if cache is None:
            # Every lookup states its own threshold, which may be looser or stricter than the one before.
            cache = Cache(_embedder(vectorizer), threshold=-1.0, policy=policy, path=path)
        elif not isinstance(cache, CacheBase):
            raise OptionError(f"option cache={cache!r} is not valid: expected a nearhit.Cache or nearhit.AsyncCache")
        self._cache = Cache.sharing(cache)
        self._acache = AsyncCache.sharing(cache)
        if overwrite:
            self.clear()

    def __repr__(self) -> str:
        return f"SemanticCache(name={self.name!r}, distance_threshold={self.distance_threshold}, ttl={self.ttl})"

    @property
    def distance_threshold(self) -> float:
        """Largest distance of a hit, 1 - cosine."""
        return self._distance_threshold

    def set_threshold(self, distance_threshold: float) -> None:
        """Sets the largest distance of a hit.

        Raises:
            ValueError: Outside [0, 2].
        """
        self._distance_threshold = _checked(distance_threshold)

    @property
    def ttl(self) -> int | None:
        """Seconds that entries are kept unless they say otherwise."""
        return self._ttl

    def set_ttl(self, ttl: int | None = None) -> None:
        """Sets how many seconds entries are kept unless they say otherwise; None for ever.

        Raises:
            TypeError: Not a whole number.
        """
        if ttl is not None and not isinstance(ttl, int):
            raise TypeError(f"TTL must be an integer value, got {ttl!r}")
        self._ttl = ttl

    def check(
        self,
        prompt: str | None = None,
        vector: list[float] | None = None,
        num_results: int = 1,
        return_fields: list[str] | None = None,
        filter_expression: Any = None,
        distance_threshold: float | None = None,
    ) -> list[dict[str, Any]]:
        """The nearest entries within the distance, best first.

        Args:
            prompt: The prompt; or
            vector: its vector.
            num_results: Most entries returned.
            return_fields: Fields of each entry; None for all.
            filter_expression: A RedisVL filter made of tags that must be equal, joined by &.
            distance_threshold: Largest distance for this call; None for the cache's.

        Returns:
            Dicts with "key", "entry_id", "prompt", "response", "vector_distance", "inserted_at", "updated_at", and
            "metadata" and filters where there are any.

        Raises:
            ValueError: Neither a prompt nor a vector.
            TypeError: `return_fields` that are no list.
        """
        given = self._asked(prompt, vector, return_fields, filter_expression, distance_threshold)
        if num_results == 1:
            hit = self._cache.lookup(**given)
            return self._told([hit] if hit is not None else [], return_fields)
        found = self._cache.explain(**given, k=num_results)
        return self._told(_accepted(found.hit, found.candidates, num_results), return_fields)

    async def acheck(
        self,
        prompt: str | None = None,
        vector: list[float] | None = None,
        num_results: int = 1,
        return_fields: list[str] | None = None,
        filter_expression: Any = None,
        distance_threshold: float | None = None,
    ) -> list[dict[str, Any]]:
        """`check`, awaitable."""
        given = self._asked(prompt, vector, return_fields, filter_expression, distance_threshold)
        if num_results == 1:
            hit = await self._acache.lookup(**given)
            return self._told([hit] if hit is not None else [], return_fields)
        found = await self._acache.explain(**given, k=num_results)
        return self._told(_accepted(found.hit, found.candidates, num_results), return_fields)

    def store(
        self,
        prompt: str,
        response: str,
        vector: list[float] | None = None,
        metadata: dict[str, Any] | None = None,
        filters: dict[str, Any] | None = None,
        ttl: int | None = None,
    ) -> str:
        """Stores a response, in place of an earlier one to the same prompt and filters.

        Args:
            prompt: The prompt.
            response: The response.
            vector: The prompt's vector, if there is one already.
            metadata: Anything that JSON can hold; comes back with the entry.
            filters: Values of filterable fields; the entry is found by these alone.
            ttl: Seconds that this entry is kept.

        Returns:
            The entry's key.
        """
        return self._key(self._cache.store(**self._kept(prompt, response, vector, metadata, filters, ttl)))

    async def astore(
        self,
        prompt: str,
        response: str,
        vector: list[float] | None = None,
        metadata: dict[str, Any] | None = None,
        filters: dict[str, Any] | None = None,
        ttl: int | None = None,
    ) -> str:
        """`store`, awaitable."""
        return self._key(await self._acache.store(**self._kept(prompt, response, vector, metadata, filters, ttl)))

    def drop(self, ids: list[str] | None = None, keys: list[str] | None = None) -> None:
        """Removes entries by their ids, or by the keys that `store` returned."""
        for entry_id in self._ids(ids, keys):
            self._cache.invalidate(id=entry_id)

    async def adrop(self, ids: list[str] | None = None, keys: list[str] | None = None) -> None:
        """`drop`, awaitable."""
        for entry_id in self._ids(ids, keys):
            await self._acache.invalidate(id=entry_id)

    def update(self, key: str, **changes: Any) -> None:
        """Changes the response or the metadata of an entry; its time to live begins anew.

        Args:
            key: The key that `store` returned.
            **changes: `response` or `metadata`.

        Raises:
            KeyError: No entry has this key.
            OptionError: Another field.
        """
        self._cache.store(**self._changed(key, changes, self._ttl))

    async def aupdate(self, key: str, **changes: Any) -> None:
        """`update`, awaitable."""
        await self._acache.store(**self._changed(key, changes, self._ttl))

    def expire(self, key: str, ttl: int | None = None) -> None:
        """Sets how many seconds an entry is kept from now on; None for the cache's own time.

        Raises:
            KeyError: No entry has this key.
        """
        self._cache.store(**self._changed(key, {}, self._ttl if ttl is None else ttl))

    async def aexpire(self, key: str, ttl: int | None = None) -> None:
        """`expire`, awaitable."""
        await self._acache.store(**self._changed(key, {}, self._ttl if ttl is None else ttl))

    def clear(self) -> None:
        """Removes every entry of this name."""
        self._cache.invalidate(tag=self._tag)

    async def aclear(self) -> None:
        """`clear`, awaitable."""
        await self._acache.invalidate(tag=self._tag)

    def delete(self) -> None:
        """Removes every entry of this name.

        Raises:
            ValueError: The cache was made with `create_index=False`.
        """
        self._refuse_foreign()
        self.clear()

    async def adelete(self) -> None:
        """`delete`, awaitable."""
        self._refuse_foreign()
        await self.aclear()

    def disconnect(self) -> None:
        """Writes what is left to the file, if there is one."""
        self._cache.close()

    async def adisconnect(self) -> None:
        """`disconnect`, awaitable."""
        await self._acache.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.disconnect()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.adisconnect()

    @property
    def _tag(self) -> str:
        return f"redisvl:{self.name}"

    def _key(self, entry_id: str) -> str:
        return f"{self.name}:{entry_id}"

    def _ids(self, ids: Sequence[str] | None, keys: Sequence[str] | None) -> list[str]:
        return [*(ids or ()), *(key.removeprefix(f"{self.name}:") for key in keys or ())]

    def _scope(self, filters: Mapping[str, Any] | None) -> dict[str, Any]:
        chosen = {name: str(value) for name, value in (filters or {}).items()}
        return {"redisvl": self.name, "filters": chosen}

    def _refuse_foreign(self) -> None:
        if not self._create_index:
            raise ValueError(
                "the cache was made with create_index=False, so it is not ours to delete: clear() empties it"
            )

    def _asked(
        self, prompt: str | None, vector: Any, return_fields: Any, expression: Any, distance: float | None
    ) -> dict[str, Any]:
        if not prompt and vector is None:
            raise ValueError("either prompt or vector must be given")
        if return_fields is not None and not isinstance(return_fields, list):
            raise TypeError(f"return_fields must be a list of names, got {return_fields!r}")
        return {
            # A vector alone is looked up by a text that nobody stores.
            "prompt": prompt or "\N{REPLACEMENT CHARACTER}",
            "scope": self._scope(_tags(expression)),
            "threshold": 1.0 - _checked(self._distance_threshold if distance is None else distance),
            "vector": None if vector is None else _unit(np.asarray(vector, dtype=np.float32)),
        }

    def _kept(
        self,
        prompt: str,
        response: str,
        vector: Any,
        metadata: dict[str, Any] | None,
        filters: dict[str, Any] | None,
        ttl: int | None,
    ) -> dict[str, Any]:
        if metadata is not None and not isinstance(metadata, Mapping):
            raise InputError(f"metadata={metadata!r} is not a dict")
        for name in filters or ():
            if name not in self._fields:
                raise OptionError(
                    f"filters names {name!r}, which is no filterable field: there are {list(self._fields)}"
                )
        now = time.time()
        value = {"response": response, "metadata": metadata, "filters": filters, "inserted_at": now, "updated_at": now}
        return {
            "prompt": prompt,
            "response": {**value, "prompt": prompt},
            "scope": self._scope(filters),
            "vector": None if vector is None else _unit(np.asarray(vector, dtype=np.float32)),
            "ttl": self._ttl if ttl is None else ttl,
            "tags": [self._tag],
        }

    def _changed(self, key: str, changes: Mapping[str, Any], ttl: int | None) -> dict[str, Any]:
        """What stores an entry once more, with changes."""
        for name in changes:
            if name not in ("response", "metadata"):
                raise OptionError(f"update changes response and metadata, not {name}: drop the entry and store it anew")
        (entry_id,) = self._ids(None, [key])
        request = self._cache._core.request_of(entry_id)  # noqa: SLF001 - a part of the same package
        held = None if request is None else self._cache._core.peek(request)  # noqa: SLF001
        if request is None or held is None:
            raise KeyError(f"no entry has the key {key!r}: it was dropped, it ended, or it is of another cache")
        now = {"updated_at": time.time()} if changes else {}
        return {
            "prompt": Lookup(None, request),
            "response": {**held.response, **changes, **now},
            "ttl": ttl,
            "tags": [self._tag],
        }

    def _told(self, hits: Sequence[Hit | Candidate], fields: list[str] | None) -> list[dict[str, Any]]:
        found = []
        for hit in hits:
            value = hit.response
            entry = {
                "entry_id": hit.entry_id,
                "prompt": value["prompt"],
                "response": value["response"],
                "vector_distance": max(0.0, 1.0 - hit.similarity),
                "inserted_at": value["inserted_at"],
                "updated_at": value["updated_at"],
                **({"metadata": value["metadata"]} if value["metadata"] is not None else {}),
                **(value["filters"] or {}),
            }
            chosen = entry if fields is None else {name: entry[name] for name in fields if name in entry}
            found.append({**chosen, "key": self._key(hit.entry_id)})
        return found


def _embedder(vectorizer: Any) -> Embedder:
    if vectorizer is None:
        from nearhit import embed  # noqa: PLC0415 - loads a model, which nobody may need

        return embed.load()
    if isinstance(vectorizer, Embedder):
        return vectorizer
    if hasattr(vectorizer, "dims") and hasattr(vectorizer, "embed_many"):
        return VectorizerEmbedder(vectorizer)
    raise TypeError(f"{vectorizer!r} is neither a RedisVL vectorizer nor a nearhit embedder")


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return (vectors / np.maximum(lengths, np.finfo(np.float32).tiny)).astype(np.float32)


def _checked(distance: float) -> float:
    if not 0 <= float(distance) <= _FAR:
        raise ValueError(f"distance must be between 0 and 2, got {distance}")
    return float(distance)


def _accepted(hit: Hit | None, candidates: Sequence[Candidate], most: int) -> list[Hit | Candidate]:
    first: list[Hit | Candidate] = [hit] if hit is not None else []
    others = [each for each in candidates if each.accepted and (hit is None or each.entry_id != hit.entry_id)]
    return [*first, *others][:most]


def _tags(expression: Any) -> dict[str, str]:
    """The tags that a filter expression asks for.

    Raises:
        OptionError: It asks for more than equal tags.
    """
    text = "*" if expression is None else str(expression)
    if text.strip() == "*":
        return {}
    if _TAG.sub("", text).strip(" ()"):
        raise OptionError(f"filter_expression={text!r} is not available: tags that must be equal, joined by &, are")
    return {name: re.sub(r"\\(.)", r"\1", value) for name, value in _TAG.findall(text)}
