"""What has to be on this machine before the first request: two models, in the forms that the demo runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from nearhit import models

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from nearhit.models import Progress, Quantization

Model: TypeAlias = "tuple[str, Quantization]"
"""Name and quantisation."""

EMBEDDER: Model = (models.EMBEDDER, "int8")
SMALL: Model = (models.GENERATOR, "int8")
LARGE: Model = (models.GENERATOR, "float32")


@dataclass(frozen=True, slots=True)
class Missing:
    """What is not here yet.

    Attributes:
        downloads: Names of the models to download.
        download_bytes: What the downloads come to.
        conversions: Models and quantisations to convert to.
    """

    downloads: tuple[str, ...]
    download_bytes: int
    conversions: tuple[Model, ...]

    def __bool__(self) -> bool:
        return bool(self.downloads or self.conversions)

    def describe(self) -> str:
        """What is going to be done about it, in one sentence."""
        work = []
        if self.downloads:
            work.append(f"downloading {self.download_bytes / 1e6:.0f} MB ({' and '.join(self.downloads)})")
        if self.conversions:
            work.append(f"converting {' and '.join(f'{name} to {kind}' for name, kind in self.conversions)}")
        return f"first run: {', then '.join(work)}; kept in {models.home()}"


def missing(needed: Sequence[Model]) -> Missing:
    """Compares what the demo needs with what is here.

    Args:
        needed: Models and quantisations.

    Raises:
        StorageError: The model store cannot be read.
    """
    here = {row.name.casefold(): row.quantizations for row in models.installed() if row.path is not None}
    downloads = tuple(dict.fromkeys(name for name, _ in needed if name.casefold() not in here))
    return Missing(
        downloads,
        sum(models.CATALOGUE[name.casefold()].size for name in downloads),
        tuple(
            (name, quantization) for name, quantization in needed if quantization not in here.get(name.casefold(), ())
        ),
    )


def prepare(what: Missing, following: Callable[[str], AbstractContextManager[Progress]]) -> None:
    """Downloads and converts what is missing. Whatever is interrupted is taken up again by the next run.

    Args:
        what: From `missing`.
        following: Makes the display of one piece of work from its title.

    Raises:
        ModelDownloadError: A download failed.
        StorageError: No room, or no permission.
    """
    for name in what.downloads:
        with following(name) as progress:
            models.fetch(name, progress=progress)
    for name, quantization in what.conversions:
        with following(f"{name} to {quantization}") as progress:
            models.converted(name, quantization, progress=progress)
