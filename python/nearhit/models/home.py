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

from nearhit._errors import StorageError


def home() -> Path:
    """Returns the folder for everything nearhit keeps: `NEARHIT_HOME`, else the platform's user cache folder.

    Raises:
        StorageError: This user has no home folder, and `NEARHIT_HOME` is not set.
    """
    configured = os.environ.get("NEARHIT_HOME")
    try:
        return Path(configured).expanduser().absolute() if configured else _user_cache() / "nearhit"
    except RuntimeError as error:
        raise StorageError("this user has no home folder; set NEARHIT_HOME to a folder of yours") from error


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
