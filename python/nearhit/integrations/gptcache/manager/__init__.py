"""GPTCache's data managers: where the entries are kept, as far as nearhit has such a place (a file, or this process).

    get_data_manager(CacheBase("sqlite"), VectorBase("faiss", dimension=384))   # a file beside ./sqlite.db
    manager_factory("sqlite,faiss", data_dir="./workspace")                     # a file in ./workspace

The files are nearhit's own; `nearhit cache import` takes over what is in GPTCache's. Vectors need no store of their
own.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from nearhit._errors import OptionError

__all__ = ["CacheBase", "DataManager", "ObjectBase", "VectorBase", "get_data_manager", "manager_factory"]

FILE: Final = "nearhit.sqlite"
_LOCAL: Final = ("sqlite", "duckdb")


@dataclass(frozen=True, slots=True)
class DataManager:
    """Where a cache keeps its entries.

    Attributes:
        path: The file.
        max_size: Most entries.

    Example:
        >>> manager_factory("sqlite,faiss", data_dir=".", max_size=10).path.name
        'nearhit.sqlite'
    """

    path: Path
    max_size: int = 1000


def CacheBase(name: str, **kwargs: Any) -> Path:  # noqa: N802 - GPTCache's name
    """The file of a scalar store.

    Args:
        name: "sqlite" or "duckdb".
        **kwargs: GPTCache's; of `sql_url` the folder and name are taken.

    Raises:
        OptionError: A store that is a server.
    """
    if name not in _LOCAL:
        raise OptionError(
            f'a scalar store {name!r} has no counterpart in nearhit: use "sqlite", or init(cache=nearhit.Cache('
            'backend="redis://...")) for one that machines share'
        )
    url = str(kwargs.get("sql_url") or f"{name}:///./{name}.db")
    return Path(url.partition(":///")[2]).with_suffix(".nearhit.sqlite")


def VectorBase(name: str, **kwargs: Any) -> None:  # noqa: N802 - GPTCache's name
    """Nothing: vectors are kept with their entries, and found by an exact scan."""
    del name, kwargs


def ObjectBase(name: str, **kwargs: Any) -> None:  # noqa: N802 - GPTCache's name
    """Nothing: answers are texts."""
    del name, kwargs


def get_data_manager(
    cache_base: Path | str | None = None,
    vector_base: Any = None,
    object_base: Any = None,
    eviction_base: Any = None,
    max_size: int = 1000,
    clean_size: int | None = None,
    eviction: str = "LRU",
    data_path: str = "data_map.txt",
    get_data_container: Any = None,
) -> DataManager:
    """A file for the entries.

    Args:
        cache_base: What `CacheBase` gives, or the name of a store.
        vector_base: Not used.
        object_base: Not used.
        eviction_base: Not used: nearhit has an eviction of its own.
        max_size: Most entries.
        clean_size: Not used.
        eviction: Not used.
        data_path: The file, where there is no `cache_base`; nearhit's stands beside it.
        get_data_container: Not used.
    """
    del vector_base, object_base, eviction_base, clean_size, eviction, get_data_container
    if cache_base is None:
        return DataManager(Path(data_path).with_suffix(".nearhit.sqlite"), max_size)
    return DataManager(CacheBase(cache_base) if isinstance(cache_base, str) else cache_base, max_size)


def manager_factory(
    manager: str = "map",
    data_dir: str = "./",
    max_size: int = 1000,
    eviction_manager: str = "memory",
    get_data_container: Any = None,
    scalar_params: dict[str, Any] | None = None,
    vector_params: dict[str, Any] | None = None,
    object_params: dict[str, Any] | None = None,
    eviction_params: dict[str, Any] | None = None,
) -> DataManager:
    """A file for the entries, in a folder.

    Args:
        manager: "map", or the names of stores with commas between them; the first must be a local one.
        data_dir: The folder.
        max_size: Most entries.
        eviction_manager: Not used.
        get_data_container: Not used.
        scalar_params: Not used.
        vector_params: Not used.
        object_params: Not used.
        eviction_params: Not used.

    Raises:
        OptionError: A store that is a server.
    """
    del eviction_manager, get_data_container, scalar_params, vector_params, object_params, eviction_params
    first = manager.lower().partition(",")[0]
    if first != "map":
        CacheBase(first)
    folder = Path(data_dir)
    folder.mkdir(parents=True, exist_ok=True)
    return DataManager(folder / FILE, max_size)
