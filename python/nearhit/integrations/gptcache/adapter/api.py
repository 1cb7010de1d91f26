"""GPTCache's plain interface: put and get."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from nearhit.integrations.gptcache.core import Cache, cache
from nearhit.integrations.gptcache.embedding import FunctionEmbedder
from nearhit.integrations.gptcache.manager import FILE
from nearhit.integrations.gptcache.processor.pre import get_prompt

if TYPE_CHECKING:
    from collections.abc import Callable

    from nearhit.integrations.gptcache.config import Config

__all__ = ["get", "init_similar_cache", "put"]


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
        data_manager: Of this package's `manager`, in place of `data_dir`.
        evaluation: As for `Cache.init`.
        post_func: Not used.
        config: The threshold.
        policy: "guarded" (checked candidates) or "static" (the threshold alone).
    """
    if embedding is None:
        from nearhit import embed  # noqa: PLC0415 - loads a model, which nobody may need

        embedding = embed.load()
    elif hasattr(embedding, "to_embeddings") and not hasattr(embedding, "embed"):
        embedding = FunctionEmbedder(embedding.to_embeddings, id=type(embedding).__name__, dim=embedding.dimension)
    path = None
    if data_manager is None:
        folder = Path(data_dir)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / FILE
    (cache_obj or cache).init(
        pre_func=pre_func,
        data_manager=data_manager,
        similarity_evaluation=evaluation,
        post_func=post_func,
        config=config,
        embedder=embedding,
        path=path,
        policy=policy,
    )
