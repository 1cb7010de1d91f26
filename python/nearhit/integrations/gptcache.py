"""GPTCache's names, answered by nearhit: import lines are all that changes.

    from gptcache import cache, Config                            # before
    from gptcache.adapter.api import get, init_similar_cache, put

    from nearhit.integrations.gptcache import Config, cache, get, init_similar_cache, put   # after

Names, arguments and units are GPTCache's. Its `similarity_threshold` t, from 0 to 1, is a share of the greatest score,
and its default score is 4 minus the squared distance of two unit vectors, so that t asks for a cosine of at least
2 t - 1: the default of 0.8 is a cosine of 0.6. That is looser than nearhit would be, which is why candidates are
checked by nearhit's guards and verifier (`policy="static"` does without, as GPTCache does). Data managers, evaluations
and post-processing are taken and not used: storage is nearhit's, in this process, or in a file with
`init_similar_cache(data_dir)`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from nearhit._errors import OptionError
from nearhit.cache import Cache as NearhitCache
from nearhit.cache._base import CacheBase

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from nearhit._types import Embedder

_FILE: Final = "nearhit.sqlite"


class Config:
    """GPTCache's configuration.

    Args:
        log_time_func: Not used.
        similarity_threshold: From 0 to 1; a hit needs a cosine of at least 2 * similarity_threshold - 1.
        prompts: Not used.
        template: Not used.
        auto_flush: Not used: nearhit writes by itself.
        enable_token_counter: Not used.
        input_summary_len: Not used.
        context_len: Not used.
        skip_list: Not used.
        data_check: Not used.
        disable_report: Not used.

    Raises:
        OptionError: A threshold outside [0, 1].

    Example:
        >>> Config(similarity_threshold=0.95).cosine
        0.9
    """

    def __init__(
        self,
        log_time_func: Callable[[str, float], None] | None = None,
        similarity_threshold: float = 0.8,
        prompts: list[str] | None = None,
        template: str | None = None,
        auto_flush: int = 20,
        enable_token_counter: bool = True,  # noqa: FBT001, FBT002 - GPTCache's signature
        input_summary_len: int | None = None,
        context_len: int | None = None,
        skip_list: list[str] | None = None,
        data_check: bool = False,  # noqa: FBT001, FBT002 - GPTCache's signature
        disable_report: bool = False,  # noqa: FBT001, FBT002 - GPTCache's signature
    ) -> None:
        if not 0 <= similarity_threshold <= 1:
            raise OptionError(f"option similarity_threshold={similarity_threshold!r} is not valid: expected 0 to 1")
        self.log_time_func = log_time_func
        self.similarity_threshold = similarity_threshold
        self.prompts = prompts
        self.template = template
        self.auto_flush = auto_flush
        self.enable_token_counter = enable_token_counter
        self.input_summary_len = input_summary_len
        self.context_len = context_len
        self.skip_list = ["system", "assistant"] if skip_list is None else skip_list
        self.data_check = data_check
        self.disable_report = disable_report

    @property
    def cosine(self) -> float:
        """Least cosine similarity of a hit."""
        return round(2 * self.similarity_threshold - 1, 9)


class FunctionEmbedder:
    """A function that turns one text into a vector, as GPTCache has them, as a nearhit embedder.

    Args:
        function: Called as function(text) or function(text, extra_param=None).
        id: Name and version of the model; vectors of different ids are never compared.
        dim: Length of the vectors; None asks the function.
    """

    def __init__(self, function: Callable[..., Any], *, id: str | None = None, dim: int | None = None) -> None:  # noqa: A002 - Embedder.id
        self._function = function
        self.id = id or f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', function)}"
        self.dim = len(np.ravel(function("dimension"))) if dim is None else dim

    def embed(self, texts: list[str]) -> NDArray[np.float32]:
        """Unit vectors, float32 of shape [len(texts), dim]."""
        vectors = np.stack([np.ravel(np.asarray(self._function(text), dtype=np.float32)) for text in texts])
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return (vectors / np.maximum(lengths, np.finfo(np.float32).tiny)).astype(np.float32)


class Cache:
    """GPTCache's cache object: made empty, and useful after `init`.

    Example:
        >>> cache = Cache()
        >>> cache.init()
        >>> put("What is 2 + 2?", "4", cache_obj=cache)
        >>> get("What is 2 + 2?", cache_obj=cache)
        '4'
    """

    def __init__(self) -> None:
        self.has_init = False
        self.config = Config()
        self.next_cache: Cache | None = None
        self._cache: NearhitCache | None = None

    def init(
        self,
        cache_enable_func: Any = None,
        pre_embedding_func: Any = None,
        pre_func: Any = None,
        embedding_func: Callable[..., Any] | None = None,
        data_manager: Any = None,  # noqa: ARG002 - GPTCache's signature
        similarity_evaluation: Any = None,  # noqa: ARG002 - GPTCache's signature
        post_process_messages_func: Any = None,  # noqa: ARG002 - GPTCache's signature
        post_func: Any = None,  # noqa: ARG002 - GPTCache's signature
        config: Config | None = None,
        next_cache: Cache | None = None,
        *,
        embedder: Embedder | None = None,
        cache: Any = None,
        path: str | Path | None = None,
        policy: Any = "guarded",
    ) -> None:
        """Makes the cache ready.

        Args:
            cache_enable_func: Called as function(**kwargs); where it says no, the cache is left out.
            pre_embedding_func: Called as function({"prompt": ..., **kwargs}); gives the text that is compared.
            pre_func: The same, and stronger.
            embedding_func: Turns one text into a vector; None compares exactly, as GPTCache's own default does.
            data_manager: Not used.
            similarity_evaluation: Not used.
            post_process_messages_func: Not used.
            post_func: Not used.
            config: The threshold.
            next_cache: Asked where this one has nothing.
            embedder: A nearhit embedder, in place of `embedding_func`.
            cache: A nearhit cache to keep the entries in, in place of one of its own.
            path: File that the entries are kept in.
            policy: "guarded" (checked candidates) or "static" (the threshold alone).
        """
        self.config = config or Config()
        self.next_cache = next_cache
        self._enabled = cache_enable_func
        self._text = pre_func or pre_embedding_func
        if cache is None:
            if embedder is None and embedding_func is not None:
                embedder = FunctionEmbedder(embedding_func)
            cache = NearhitCache(embedder, threshold=self.config.cosine, policy=policy, path=path)
        elif not isinstance(cache, CacheBase):
            raise OptionError(f"option cache={cache!r} is not valid: expected a nearhit.Cache or nearhit.AsyncCache")
        self._cache = NearhitCache.sharing(cache)
        self.has_init = True

    def import_data(
        self, questions: Sequence[Any], answers: Sequence[Any], session_ids: Sequence[str | None] | None = None
    ) -> None:
        """Stores answers to questions.

        Args:
            questions: The questions.
            answers: Their answers, in the same order.
            session_ids: Not used: nearhit has scopes.
        """
        del session_ids
        store = self._ready()
        for question, answer in zip(questions, answers, strict=True):
            store.store(question, answer)

    def flush(self) -> None:
        """Waits until everything is in the file, if there is one."""
        self._ready().flush()
        if self.next_cache is not None:
            self.next_cache.flush()

    def put(self, prompt: str, data: Any, **kwargs: Any) -> None:
        """Stores an answer."""
        store = self._ready()
        if self._asks(prompt, kwargs):
            store.store(self._read(prompt, kwargs), data)

    def get(self, prompt: str, **kwargs: Any) -> Any:
        """The answer to a prompt or to one that means the same, or None."""
        store = self._ready()
        if not self._asks(prompt, kwargs):
            return None
        hit = store.lookup(self._read(prompt, kwargs))
        if hit is None and self.next_cache is not None:
            return self.next_cache.get(prompt, **kwargs)
        return None if hit is None else hit.response

    def _asks(self, prompt: str, kwargs: dict[str, Any]) -> bool:
        return self._enabled is None or bool(self._enabled(prompt=prompt, **kwargs))

    def _read(self, prompt: str, kwargs: dict[str, Any]) -> str:
        return prompt if self._text is None else str(self._text({"prompt": prompt, **kwargs}))

    def _ready(self) -> NearhitCache:
        if self._cache is None:
            raise OptionError("the cache is not ready: call init() or init_similar_cache() first")
        return self._cache


cache: Final = Cache()
"""The process's own cache, as GPTCache has one."""


def get_prompt(data: dict[str, Any], **_: Any) -> Any:
    """The prompt of a call, for `pre_func`."""
    return data.get("prompt")


def put(prompt: str, data: Any, **kwargs: Any) -> None:
    """Stores an answer in the process's cache, or in `cache_obj`."""
    chosen: Cache = kwargs.pop("cache_obj", None) or cache
    chosen.put(prompt, data, **kwargs)


def get(prompt: str, **kwargs: Any) -> Any:
    """The answer in the process's cache, or in `cache_obj`; None if there is none."""
    chosen: Cache = kwargs.pop("cache_obj", None) or cache
    return chosen.get(prompt, **kwargs)


def init_similar_cache(
    data_dir: str = "api_cache",
    cache_obj: Cache | None = None,
    pre_func: Callable[..., Any] = get_prompt,
    embedding: Any = None,
    data_manager: Any = None,
    evaluation: Any = None,
    post_func: Any = None,
    config: Config | None = None,
    *,
    policy: Any = "guarded",
) -> None:
    """Makes a cache ready that compares by meaning and is kept in a file.

    Args:
        data_dir: Folder of the file.
        cache_obj: The cache; None for the process's own.
        pre_func: Gives the text that is compared.
        embedding: A nearhit embedder, or an object with GPTCache's `to_embeddings` and `dimension`; None for
            `nearhit.embed.load()`.
        data_manager: Not used.
        evaluation: Not used.
        post_func: Not used.
        config: The threshold.
        policy: "guarded" (checked candidates) or "static" (the threshold alone).
    """
    if embedding is None:
        from nearhit import embed  # noqa: PLC0415 - loads a model, which nobody may need

        embedding = embed.load()
    elif hasattr(embedding, "to_embeddings"):
        embedding = FunctionEmbedder(embedding.to_embeddings, id=type(embedding).__name__, dim=embedding.dimension)
    folder = Path(data_dir)
    folder.mkdir(parents=True, exist_ok=True)
    (cache_obj or cache).init(
        pre_func=pre_func,
        data_manager=data_manager,
        similarity_evaluation=evaluation,
        post_func=post_func,
        config=config,
        embedder=embedding,
        path=folder / _FILE,
        policy=policy,
    )
