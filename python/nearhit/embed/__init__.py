"""Embedders: texts in, unit vectors out.

Any object with `dim`, `id` and `embed(list[str]) -> float32[n, dim]` is one (`nearhit._types.Embedder`); this package
holds nearhit's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from nearhit._errors import OptionError

if TYPE_CHECKING:
    from pathlib import Path

    from nearhit._types import DetailedEmbedder
    from nearhit.embed.ct2 import CTranslate2Embedder

__all__ = ["CTranslate2Embedder", "load"]


def load(
    model: str | Path = "all-MiniLM-L6-v2", *, engine: Literal["auto", "native", "ctranslate2"] = "auto", **options: Any
) -> DetailedEmbedder:
    """Loads an embedder.

    Args:
        model: Name of a fetched model, a model folder, or a converted folder.
        engine: "ctranslate2" runs on CPU and GPU; "auto" picks the best engine of this build.
        **options: Passed to the engine: device, compute_type, threads...

    Raises:
        OptionError: The engine is unknown or not in this build, or an option is out of range.
        ModelNotFoundError: No such model is here; the message says how to fetch it.
        ModelFormatError: The model cannot be read.

    Example:
        >>> from nearhit import embed
        >>> embedder = embed.load("all-MiniLM-L6-v2")      # doctest: +SKIP
        >>> embedder.embed(["Hello there"]).shape          # doctest: +SKIP
        (1, 384)
    """
    if engine == "native":
        raise OptionError("engine 'native' is not in this build; use engine='auto' or 'ctranslate2'")
    if engine not in ("auto", "ctranslate2"):
        raise OptionError(f"unknown engine {engine!r}; expected 'auto', 'native' or 'ctranslate2'")
    from nearhit.embed.ct2 import CTranslate2Embedder  # noqa: PLC0415 - loads ctranslate2, tokenizers and numpy

    return CTranslate2Embedder(model, **options)


def __getattr__(name: str) -> Any:
    if name == "CTranslate2Embedder":
        from nearhit.embed.ct2 import CTranslate2Embedder  # noqa: PLC0415 - loads ctranslate2, tokenizers and numpy

        return CTranslate2Embedder
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
