"""Embedders: texts in, unit vectors out.

Any object with `dim`, `id` and `embed(list[str]) -> float32[n, dim]` is one (`nearhit._types.Embedder`); this package
holds nearhit's own.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Literal

from nearhit._bound import deadline
from nearhit._errors import ModelFormatError, OptionError

if TYPE_CHECKING:
    from pathlib import Path

    from nearhit._types import DetailedEmbedder
    from nearhit.embed.ct2 import CTranslate2Embedder
    from nearhit.embed.native import NativeEmbedder

__all__ = ["CTranslate2Embedder", "NativeEmbedder", "deadline", "load"]

_NATIVE_VALUES: dict[str, tuple[Any, ...]] = {
    "device": ("auto", "cpu"),
    "compute_type": ("auto", "int8"),
    "intra_threads": (1,),
}
"""Options of CTranslate2 that the native engine also has, with the values it has."""

_WAITING = ("queue", "patience")
"""Bounds of CTranslate2's queue; the native engine keeps nobody waiting, so that it keeps to any."""

_OPTIONS = ("threads", *_NATIVE_VALUES, *_WAITING)


def load(
    model: str | Path = "all-MiniLM-L6-v2", *, engine: Literal["auto", "native", "ctranslate2"] = "auto", **options: Any
) -> DetailedEmbedder:
    """Loads an embedder, whose attribute `engine` says which engine it is.

    Args:
        model: Name of a fetched model, a model folder, or a converted folder.
        engine: "native" is nearhit's own int8 encoder for BERT-family models on the CPU; "ctranslate2" runs every
            model, on CPU and GPU; "auto" takes the native one unless the model, a failed self-test or the options ask
            for the other.
        **options: Passed to the engine: threads; for CTranslate2 also device, compute_type, intra_threads, queue and
            patience.

    Raises:
        OptionError: The engine is unknown, or an option is unknown or out of range.
        ModelNotFoundError: No such model is here; the message says how to fetch it.
        ModelFormatError: The model cannot be read.

    Example:
        >>> from nearhit import embed
        >>> embedder = embed.load("all-MiniLM-L6-v2")      # doctest: +SKIP
        >>> embedder.engine                                # doctest: +SKIP
        'native'
        >>> embedder.embed(["Hello there"]).shape          # doctest: +SKIP
        (1, 384)
    """
    if engine not in ("auto", "native", "ctranslate2"):
        raise OptionError(f"unknown engine {engine!r}; expected 'auto', 'native' or 'ctranslate2'")
    if unknown := [name for name in options if name not in _OPTIONS]:
        raise OptionError(f"unknown option {unknown[0]!r}; expected one of {', '.join(_OPTIONS)}")
    contrary = [name for name, native in _NATIVE_VALUES.items() if options.get(name, native[0]) not in native]
    if engine == "native" and contrary:
        name = contrary[0]
        raise OptionError(
            f"{name} = {options[name]!r} needs engine='ctranslate2'; the native engine has {_NATIVE_VALUES[name][-1]!r}"
        )
    if engine != "ctranslate2" and not contrary:
        from nearhit.embed.native import NativeEmbedder  # noqa: PLC0415 - loads the models package

        try:
            return NativeEmbedder(model, **{name: options[name] for name in options if name == "threads"})
        except ModelFormatError as error:
            if engine == "native":
                raise
            logging.getLogger(__name__).info("using CTranslate2 instead of the native engine: %s", error)
    from nearhit.embed.ct2 import CTranslate2Embedder  # noqa: PLC0415 - loads ctranslate2, tokenizers and numpy

    return CTranslate2Embedder(model, **options)


def __getattr__(name: str) -> Any:
    if name == "CTranslate2Embedder":
        from nearhit.embed.ct2 import CTranslate2Embedder  # noqa: PLC0415 - loads ctranslate2, tokenizers and numpy

        return CTranslate2Embedder
    if name == "NativeEmbedder":
        from nearhit.embed.native import NativeEmbedder  # noqa: PLC0415 - loads the models package

        return NativeEmbedder
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
