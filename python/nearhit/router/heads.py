"""Heads fitted on outcomes of the user's own tiers."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nearhit._core import feature_names
from nearhit._errors import CorruptFileError, OptionError, StorageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike

    from nearhit._types import Embedder
    from nearhit.evaluate.outcomes import Outcomes
    from nearhit.evaluate.preferences import Preferences

_FORMAT = "nearhit routing head 2"

Weights = tuple[float, list[float], list[float], list[tuple[float, list[float]]]]
"""Bias, one weight a feature, one weight a dimension of the embedding (or none), and squares: a weight, and the
direction along which the embedding's part is squared."""


@dataclass(frozen=True, slots=True)
class RoutingHead:
    """Gives each of a router's tiers the probability that it answers a prompt well.

    Attributes:
        tiers: Names of the tiers.
        text: For each tier, the weights of its logit over the text's features.
        embedded: The same with the prompt's embedding; empty where none was fitted.
        embedder: Id of the embedder that these go with.
        features: Names of the features that it was fitted on.

    Example:
        >>> from nearhit.router import RoutingHead
        >>> head = RoutingHead.fit("outcomes.jsonl")               # doctest: +SKIP
        >>> head.save("head.json")                                 # doctest: +SKIP
        >>> router = nearhit.Router(tiers, head="head.json")       # doctest: +SKIP
    """

    tiers: tuple[str, ...]
    text: tuple[Weights, ...]
    embedded: tuple[Weights, ...]
    embedder: str
    features: tuple[str, ...]

    @classmethod
    def fit(
        cls,
        outcomes: Outcomes | str | PathLike[str],
        *,
        tiers: Sequence[str] | None = None,
        embedder: Embedder | None = None,
    ) -> RoutingHead:
        """Fits a head.

        Rows about other models than the tiers help too: they teach which prompts are hard.

        Args:
            outcomes: Rows {"prompt", "outcomes": {name: number in [0, 1]}}, read already or the file's path.
            tiers: Names in the rows that are tiers of the router; all by default.
            embedder: The cache's embedder, so that the embedding is used where the cache has made it.

        Raises:
            OptionError: A tier without rows, or fewer than 20 rows.
            StorageError: The file cannot be read.
            CorruptFileError: The file holds something else.
        """
        import numpy as np  # noqa: PLC0415 - a router that does not fit has no need of it

        from nearhit._core import prompt_features, prompt_focus  # noqa: PLC0415
        from nearhit.evaluate.outcomes import Outcomes, read_outcomes  # noqa: PLC0415
        from nearhit.evaluate.surfaces import fit_weights  # noqa: PLC0415

        rows = outcomes if isinstance(outcomes, Outcomes) else read_outcomes(outcomes)
        names = tuple(tiers) if tiers is not None else rows.models
        if unknown := [name for name in names if name not in rows.models]:
            raise OptionError(f"the rows hold no outcomes of {', '.join(unknown)}, only of {', '.join(rows.models)}")
        features = np.array([prompt_features(prompt) for prompt in rows.prompts], np.float64)
        groups = np.unique(np.array(rows.tasks), return_inverse=True)[1]

        def weights(vectors: Any) -> tuple[Weights, ...]:
            found = dict(
                zip(rows.models, fit_weights(features, vectors, rows.quality, rows.models, groups), strict=True)
            )
            return tuple(found[name] for name in names)

        text = weights(np.zeros((len(rows), 0)))
        embedded: tuple[Weights, ...] = ()
        if embedder is not None:
            vectors = np.asarray(embedder.embed([prompt_focus(prompt) for prompt in rows.prompts]), np.float64)
            embedded = weights(vectors)
        return cls(names, text, embedded, "" if embedder is None else embedder.id, tuple(feature_names()))

    @classmethod
    def fit_preferences(
        cls,
        preferences: Preferences | str | PathLike[str],
        *,
        tiers: Sequence[str] | None = None,
        embedder: Embedder | None = None,
    ) -> RoutingHead:
        """Fits a head on judged pairs of answers, such as users' votes.

        They say which tier is better on which prompts, not how good any is: the tier that wins most is taken to answer
        nine tenths of the average prompts well (what a router assumes of its strongest tier), and the others are set
        against it.

        Args:
            preferences: Rows {"prompt", "a": name, "b": name, "winner": "a" | "b" | "tie"}, read already or the file's
                path.
            tiers: Names in the rows that are tiers of the router; all by default.
            embedder: The cache's embedder, so that the embedding is used where the cache has made it.

        Raises:
            OptionError: A tier without rows, fewer than 20 rows, or tiers that no chain of comparisons connects.
            StorageError: The file cannot be read.
            CorruptFileError: The file holds something else.
        """
        from nearhit.evaluate.head_tuning import seen  # noqa: PLC0415 - a router that does not fit has no need of it
        from nearhit.evaluate.preferences import Preferences, fit_preferences, read_preferences  # noqa: PLC0415

        rows = preferences if isinstance(preferences, Preferences) else read_preferences(preferences)
        names = tuple(tiers) if tiers is not None else rows.tiers
        if unknown := [name for name in names if name not in rows.tiers]:
            raise OptionError(f"no row compares {', '.join(unknown)}, only {', '.join(rows.tiers)}")
        places = [rows.tiers.index(name) for name in names]
        features, vectors = seen(rows.prompts, embedder)
        width = features.shape[1]

        def weights(embedded: Any) -> tuple[Weights, ...]:
            model = fit_preferences(features, embedded, rows)
            return tuple((*model.linear(place, width), []) for place in places)

        text = weights(vectors[:, :0])
        embedded = () if embedder is None else weights(vectors)
        return cls(names, text, embedded, "" if embedder is None else embedder.id, tuple(feature_names()))

    def arranged(self, names: Sequence[str]) -> tuple[list[Weights], list[Weights]]:
        """Returns the weights in the order of a router's tiers.

        Raises:
            OptionError: A tier that the head was not fitted on, or features of another version.
        """
        if missing := [name for name in names if name not in self.tiers]:
            raise OptionError(
                f"the head was fitted on {', '.join(self.tiers)}, not on {', '.join(missing)}: fit it on outcomes of "
                "these tiers, under these names"
            )
        if self.features != tuple(feature_names()):
            raise OptionError("the head was fitted on the prompt features of another version: fit it again")
        places = [self.tiers.index(name) for name in names]
        return [self.text[place] for place in places], [self.embedded[place] for place in places if self.embedded]

    def save(self, path: str | PathLike[str]) -> None:
        """Writes the head as JSON.

        Raises:
            StorageError: The file cannot be written.
        """
        try:
            Path(path).write_text(json.dumps({"format": _FORMAT, **asdict(self)}), encoding="utf-8")
        except OSError as error:
            raise StorageError(f"{path} cannot be written: {error}") from error

    @classmethod
    def load(cls, path: str | PathLike[str]) -> RoutingHead:
        """Reads a head that `save` has written.

        Raises:
            StorageError: The file cannot be read.
            CorruptFileError: It holds something else.
        """
        try:
            fields = json.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise StorageError(f"{path} cannot be read: {error}") from error
        except ValueError as error:
            raise CorruptFileError(f"{path} is not JSON: {error}") from error
        try:
            if fields["format"] != _FORMAT:
                raise CorruptFileError(f"{path} is no routing head of this version: its format is {fields['format']!r}")
            return cls(
                tuple(map(str, fields["tiers"])),
                tuple(map(_weights, fields["text"])),
                tuple(map(_weights, fields["embedded"])),
                str(fields["embedder"]),
                tuple(map(str, fields["features"])),
            )
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, CorruptFileError):
                raise
            raise CorruptFileError(f"{path} is no routing head: {type(error).__name__}: {error}") from error


def _weights(fields: Any) -> Weights:
    bias, features, embedding, squares = fields
    own, more = [float(each) for each in features], [float(each) for each in embedding]
    parts = [(float(weight), [float(each) for each in direction]) for weight, direction in squares]
    every = (float(bias), *own, *more, *(each for weight, direction in parts for each in (weight, *direction)))
    if not all(map(math.isfinite, every)):
        raise ValueError("a weight is not finite")
    return float(bias), own, more, parts
