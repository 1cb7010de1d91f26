"""Answer LLM requests from a semantic cache when that is safe, and route the rest."""

from __future__ import annotations

from nearhit._core import __version__

__all__ = ["__version__"]
