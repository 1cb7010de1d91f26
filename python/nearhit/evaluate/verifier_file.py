"""The verifier file: what training writes and the core reads (`rust/core/src/verify/model.rs`)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nearhit._core import checksum
from nearhit._errors import StorageError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["Calibration", "Network", "Tree", "VerifierFile", "Words", "write_bytes"]

_MAGIC = b"NHVERIF1"


@dataclass(frozen=True, slots=True)
class Words:
    """Weights of words by bucket.

    Attributes:
        rarity: Inverse document frequency, 0 to 255; uint8 of shape [buckets].
        only: Evidence for one answer when one text alone has the word; float of shape [buckets].
        both: Evidence for one answer when both texts have it; float of shape [buckets].
    """

    rarity: NDArray[np.uint8]
    only: NDArray[np.float64]
    both: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Tree:
    """One regression tree.

    Attributes:
        nodes: (feature, threshold, left, right); left where the feature is at most the threshold, a negative child is
            leaf -1 - child, and children come after their parents.
        leaves: Values of the leaves, one more than there are nodes.
    """

    nodes: list[tuple[int, float, int, int]]
    leaves: list[float]


@dataclass(frozen=True, slots=True)
class Network:
    """One hidden layer over [|a - b|, a * b, standardised features].

    Attributes:
        mean: Of the features; shape [features].
        scale: One over the standard deviation of the features; shape [features].
        difference: Common factor of the columns of |a - b|.
        product: Common factor of the columns of a * b.
        rows: Weights, shape [hidden, 2 * dim + features].
        bias: Shape [hidden].
        out: Shape [hidden].
        out_bias: One number.
    """

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    difference: float
    product: float
    rows: NDArray[np.float64]
    bias: NDArray[np.float64]
    out: NDArray[np.float64]
    out_bias: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """Logistic regression of the outputs of trees and network, and of the trees alone."""

    trees: float
    network: float
    bias: float
    alone_trees: float
    alone_bias: float


@dataclass(frozen=True, slots=True)
class VerifierFile:
    """A fitted verifier.

    Attributes:
        embedder: Name of the embedder whose vectors the network knows.
        dim: Length of its vectors.
        threshold: Least confidence at which a near hit is served.
    """

    embedder: str
    dim: int
    threshold: float
    calibration: Calibration
    words: Words
    trees: list[Tree]
    network: Network

    def to_bytes(self) -> bytes:
        """The file's content; network rows and learned word weights become signed bytes of one step each."""
        name = self.embedder.encode()
        net, fit = self.network, self.calibration
        parts = [
            _MAGIC,
            struct.pack("<H", len(name)),
            name,
            struct.pack("<4H", self.dim, len(net.bias), len(net.mean), len(self.trees)),
            _floats([self.threshold, fit.trees, fit.network, fit.bias, fit.alone_trees, fit.alone_bias]),
            self.words.rarity.astype(np.uint8).tobytes(),
        ]
        for table in (self.words.only, self.words.both):
            step = max(float(np.abs(table).max()), 1e-9) / 127
            parts += [_floats([step]), np.rint(table / step).astype(np.int8).tobytes()]
        for tree in self.trees:
            parts.append(struct.pack("<H", len(tree.nodes)))
            parts += [struct.pack("<Bfbb", *node) for node in tree.nodes]
            parts.append(_floats(tree.leaves))
        steps = np.maximum(np.abs(net.rows).max(axis=1), 1e-9) / 127
        parts += [_floats(array) for array in (net.mean, net.scale, steps, net.bias, net.out)]
        parts.append(_floats([net.out_bias, net.difference, net.product]))
        parts.append(np.rint(net.rows / steps[:, None]).astype(np.int8).tobytes())
        body = b"".join(parts)
        return body + checksum(body)

    def write(self, path: Path) -> None:
        """Writes the file in one step: a reader sees the old one or the new one.

        Raises:
            StorageError: It cannot be written.
        """
        write_bytes(path, self.to_bytes())


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file in one step.

    Raises:
        StorageError: It cannot be written.
    """
    partial = path.with_name(path.name + ".part")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror or error}") from error


def _floats(values: NDArray[np.float64] | list[float]) -> bytes:
    return np.asarray(values, "<f4").tobytes()
