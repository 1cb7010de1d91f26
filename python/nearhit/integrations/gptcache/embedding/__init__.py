"""GPTCache's embedders, answered by nearhit's own: `Onnx()`, `SBERT(model)`, `Huggingface(model)`.

Each has GPTCache's `to_embeddings` and `dimension`, and is a nearhit embedder as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

__all__ = ["SBERT", "FunctionEmbedder", "Huggingface", "Onnx"]


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


class TextEmbedding:
    """A model of nearhit's with GPTCache's names.

    Args:
        model: As for `nearhit.embed.load`.
    """

    def __init__(self, model: str) -> None:
        from nearhit import embed  # noqa: PLC0415 - loads a model, which nobody may need

        self._embedder = embed.load(model)
        self.id = self._embedder.id
        self.dim = self.dimension = self._embedder.dim

    def to_embeddings(self, data: str, **_: Any) -> NDArray[np.float32]:
        """The vector of one text."""
        return self.embed([data])[0]

    def embed(self, texts: Sequence[str], /) -> NDArray[np.float32]:
        """Unit vectors, float32 of shape [len(texts), dim]."""
        return self._embedder.embed(list(texts))

    def encode(self, texts: Sequence[str], /) -> Any:
        """As nearhit's own embedders: tells which texts were cut."""
        return self._embedder.encode(list(texts))


def Onnx(model: str = "all-MiniLM-L6-v2") -> TextEmbedding:  # noqa: N802 - GPTCache's name
    """Nearhit's default embedder; GPTCache's own is another model, whose vectors are of no use here."""
    return TextEmbedding("all-MiniLM-L6-v2" if model.startswith("GPTCache/") else model)


def SBERT(model: str = "all-MiniLM-L6-v2") -> TextEmbedding:  # noqa: N802 - GPTCache's name
    """A sentence-transformers model, by its name or folder."""
    return TextEmbedding(model.removeprefix("sentence-transformers/"))


def Huggingface(model: str = "all-MiniLM-L6-v2") -> TextEmbedding:  # noqa: N802 - GPTCache's name
    """A model of the hub that nearhit can run, by its name or folder."""
    return TextEmbedding(model)
