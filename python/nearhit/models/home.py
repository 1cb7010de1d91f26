"""Where models live on this machine.

NEARHIT_HOME (else the user cache folder)/
    models/<name>/        the files of a fetched model, and nearhit-model.json saying where they came from
    converted/<key>/      CTranslate2 models made from them, keyed by content, converter version and quantisation
    partial/  locks/      downloads and conversions under way
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def home() -> Path:
    """Returns the folder for everything nearhit keeps: `NEARHIT_HOME`, else the platform's user cache folder."""
    configured = os.environ.get("NEARHIT_HOME")
    return Path(configured).expanduser() if configured else _user_cache() / "nearhit"


def _user_cache() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def models_folder() -> Path:
    """Returns the folder that holds fetched models."""
    return home() / "models"


def converted_folder() -> Path:
    """Returns the folder that holds converted models."""
    return home() / "converted"
