"""Look into a cache, a file or a shared server: what it holds, one entry in full, the entries near a text.

Export, import, copy and clear it.

stats, inspect and export only read the file, and work beside a process that writes it; the others need it for
themselves.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nearhit._errors import ModelNotFoundError, OptionError, StorageError, StorageWarning
from nearhit.cli import _shared

if TYPE_CHECKING:
    import argparse

    from nearhit._types import Embedder
    from nearhit.backends import BackendStats
    from nearhit.cache import Cache
    from nearhit.cli import Subparsers

_EMBEDDER = "all-MiniLM-L6-v2"
_KIB = 1024


def register(subparsers: Subparsers) -> None:
    """Adds `nearhit cache`."""
    parser = subparsers.add_parser("cache", help="look into a cache file, export, import, clear", description=__doc__)
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    stats = actions.add_parser("stats", help="what the file holds, by scope")
    inspect = actions.add_parser("inspect", help="find entries by text or similarity, or show one in full")
    export = actions.add_parser("export", help="write the entries as JSON lines (.gz too)")
    import_ = actions.add_parser("import", help="read JSON lines, CSV, a GPTCache sqlite file or a RedisVL cache")
    reembed = actions.add_parser("reembed", help="embed the entries that another embedder made the vectors of")
    clear = actions.add_parser("clear", help="remove entries")
    warm = actions.add_parser("warm", help="copy every entry of one cache, file or server, into another")

    for action in (stats, inspect, export, import_, reembed, clear):
        action.add_argument(
            "file", metavar="FILE", help="the cache's file, as given to Cache(path=...), or a redis:// URL"
        )
    warm.add_argument("source", metavar="FROM", help="file or redis:// URL to read")
    warm.add_argument("file", metavar="TO", help="file or redis:// URL to write")
    for action in (stats, inspect, export, import_, clear, warm):
        action.add_argument("--namespace", default="nearhit", help="of a server's keys; default: %(default)s")
    for action in (stats, inspect):
        action.add_argument("--json", action="store_true", help="print the result as JSON")
    for action in (inspect, import_, reembed, warm):
        action.add_argument("--embedder", default=_EMBEDDER, metavar="MODEL", help="default: %(default)s")

    inspect.add_argument("--id", metavar="ID", help="everything about the entry with this id")
    inspect.add_argument("--text", metavar="TEXT", help="entries whose prompt or answer holds TEXT")
    inspect.add_argument(
        "--similar", metavar="TEXT", help="the entries nearest to TEXT, in the shared scope or --scope"
    )
    inspect.add_argument("--limit", type=int, default=20, metavar="N", help="most entries shown; default: %(default)s")
    export.add_argument("out", metavar="OUT", help="file to write")
    export.add_argument(
        "--judgements", action="store_true", help="what feedback() said of near hits, as pairs for `nearhit tune`"
    )
    import_.add_argument("source", metavar="SOURCE", help="file to read, or redis://HOST:PORT?name=NAME")
    for action in (import_, warm):
        action.add_argument("--exact-only", action="store_true", help="embed nothing: entries only answer equals")
    clear.add_argument("--id", metavar="ID", help="the entry with this id")
    clear.add_argument("--tag", metavar="TAG", help="entries with this tag")
    clear.add_argument("--older-than", type=float, metavar="SECONDS", help="entries made more than SECONDS ago")
    clear.add_argument("--all", action="store_true", help="every entry")
    for action in (inspect, clear):
        action.add_argument("--scope", metavar="SCOPE", help="a caller's scope: a string, or JSON if it reads as JSON")


def run(args: argparse.Namespace) -> int:
    """Runs `nearhit cache`."""
    return {
        "stats": _stats,
        "inspect": _inspect,
        "export": _export,
        "import": _import,
        "reembed": _reembed,
        "clear": _clear,
        "warm": _warm,
    }[args.action](args)


def _open(
    file: str,
    embedder: Embedder | None = None,
    *,
    create: bool = False,
    look: bool = False,
    namespace: str = "nearhit",
) -> Cache:
    """Opens the file without bounds, so that nothing is evicted; to `look` is to leave it as it is."""
    from nearhit.cache import Cache
    from nearhit.cli import _output

    if _shared.is_url(file):
        return _shared.open_shared(file, embedder, namespace, look=look)
    if not create and not Path(file).is_file():
        raise StorageError(f"{file}: no such file")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", StorageWarning)
        cache = Cache(embedder, path=file, max_bytes=None, read_only=look)
    for warning in caught:
        _output.warn(str(warning.message))
    return cache


def _embedder(model: str) -> Embedder:
    from nearhit import embed

    return embed.load(model)


def _stats(args: argparse.Namespace) -> int:
    from rich.table import Table

    from nearhit.cli import _output

    with _open(args.file, look=True, namespace=args.namespace) as cache:
        stats = cache.stats()
        entries = list(cache._core.entries())  # noqa: SLF001 - same package
    size = 0 if _shared.is_url(args.file) else Path(args.file).stat().st_size
    created = [entry["created"] for entry in entries]
    tags: dict[str, int] = {}
    for entry in entries:
        for tag in entry["tags"]:
            tags[tag] = tags.get(tag, 0) + 1
    result = {
        "file": args.file,
        "file_bytes": size,
        "entries": stats.entries,
        "bytes": {
            "total": stats.bytes,
            "entries": stats.bytes_entries,
            "vectors": stats.bytes_vectors,
            "bookkeeping": stats.bytes_bookkeeping,
        },
        "oldest": min(created, default=None),
        "newest": max(created, default=None),
        "with_expiry": sum(entry["expires"] is not None for entry in entries),
        "tags": tags,
        "scopes": [{"scope": scope.scope, "entries": scope.entries, "bytes": scope.bytes} for scope in stats.scopes],
    }
    server = _shared.probe(args.file, args.namespace) if _shared.is_url(args.file) else None
    if server is not None:
        result["server"] = asdict(server)
    if args.json:
        _output.emit_json(result)
        return 0
    print(f"{args.file}: {stats.entries} entries, {_size(size)} on disk, {_size(stats.bytes)} in memory")
    if server is not None:
        print(_spoken(server))
    print(
        f"entries {_size(stats.bytes_entries)}, vectors {_size(stats.bytes_vectors)}, "
        f"bookkeeping {_size(stats.bytes_bookkeeping)}"
    )
    if created:
        print(f"made {_time(min(created))} to {_time(max(created))}; {result['with_expiry']} with an expiry")
        table = Table("scope", "entries", "bytes")
        for scope in sorted(stats.scopes, key=lambda scope: -scope.bytes):
            table.add_row(_scope(scope.scope), str(scope.entries), _size(scope.bytes))
        _output.results().print(table)
    return 0


def _spoken(server: BackendStats) -> str:
    """How a server is, in two lines."""
    waits = ", ".join(
        f"{name} {1e3 * seconds:.2f} ms"
        for name, seconds in (("p50", server.latency_p50), ("p95", server.latency_p95), ("p99", server.latency_p99))
        if seconds is not None
    )
    return (
        f"engine {server.engine}, breaker {server.breaker}, {server.position} invalidations, "
        f"failure: {server.failure or 'none'}\nasked for an entry: {waits or 'no answer'}; {server.late} too late"
    )


def _inspect(args: argparse.Namespace) -> int:
    from nearhit.cli import _output

    if sum(choice is not None for choice in (args.id, args.text, args.similar)) > 1:
        raise OptionError("inspect takes one of --id, --text and --similar")
    embedder = None if args.similar is None else _embedder(args.embedder)
    with _open(args.file, embedder, look=True, namespace=args.namespace) as cache:
        entries: dict[str, dict[str, Any]] = {entry["id"]: entry for entry in cache._core.entries()}  # noqa: SLF001
        if args.similar is not None:
            if not _shared.is_url(args.file):
                _embed_foreign(cache)
            near = cache.explain(args.similar, scope=_parse_scope(args.scope), k=args.limit).candidates
            found = [{**entries[one.entry_id], "similarity": round(one.similarity, 4)} for one in near]
        else:
            found = list(islice(_matching(entries, args), args.limit))
    for entry in found:
        if isinstance(entry["response"], bytes):
            entry["response"] = f"<{len(entry['response'])} bytes>"
    if args.id is not None and not found:
        raise OptionError(f"no entry with id {args.id!r} in {args.file}: `nearhit cache inspect` lists ids")
    if args.json:
        _output.emit_json(found)
    elif args.id is not None:
        _show(found)
    else:
        _list(found)
    return 0


def _embed_foreign(cache: Cache) -> None:
    """Embeds, in memory only, what another embedder made the vectors of."""
    from nearhit.cli import _output

    with _output.progress() as bar:
        task = bar.add_task("embedding", total=None)
        cache.reembed(progress=lambda done, total: bar.update(task, completed=done, total=total))


def _show(found: list[dict[str, Any]]) -> None:
    """Prints every field of entries."""
    for entry in found:
        for name, value in entry.items():
            shown = _time(value) if name in ("created", "expires", "last_hit") and value is not None else value
            print(f"{name}: {shown if isinstance(shown, str) else json.dumps(shown, ensure_ascii=False)}")


def _list(found: list[dict[str, Any]]) -> None:
    """Prints entries as a table."""
    from rich.table import Table

    from nearhit.cli import _output

    table = Table("id", "scope", "similarity", "made", "prompt", "response")
    for entry in found:
        similarity = f"{entry['similarity']:.4f}" if "similarity" in entry else ""
        cells = (entry["id"][:8], _scope(entry["scope"]), similarity, _time(entry["created"]))
        table.add_row(*cells, _cut(entry["prompt"]), _cut(entry["response"]))
    _output.results().print(table)


def _matching(entries: dict[str, dict[str, Any]], args: argparse.Namespace) -> Any:
    scope = _parse_scope(args.scope)
    for entry in entries.values():
        if args.id is not None and not entry["id"].startswith(args.id):
            continue
        if args.scope is not None and entry["scope"] != scope:
            continue
        if args.text is not None:
            haystack = f"{entry['prompt'] or ''}\n{entry['response']}".casefold()
            if args.text.casefold() not in haystack:
                continue
        yield entry


def _export(args: argparse.Namespace) -> int:
    from nearhit.cache import portable

    with _open(args.file, look=True, namespace=args.namespace) as cache:
        if args.judgements:
            print(f"{portable.export_judgements(cache.judgements(), args.out)} judgements written to {args.out}")
        else:
            print(f"{cache.export(args.out)} entries written to {args.out}")
    return 0


def _import(args: argparse.Namespace) -> int:
    from nearhit.cli import _output

    try:
        embedder = None if args.exact_only else _embedder(args.embedder)
    except ModelNotFoundError as error:
        raise ModelNotFoundError(f"{error}; or import with --exact-only") from error
    with _open(args.file, embedder, create=True, namespace=args.namespace) as cache, _output.progress() as bar:
        task = bar.add_task("importing", total=None)
        count = cache.import_(args.source, progress=lambda done: bar.update(task, completed=done))
    print(f"{count} entries imported into {args.file}")
    return 0


def _reembed(args: argparse.Namespace) -> int:
    from nearhit.cli import _output

    if _shared.is_url(args.file):
        raise OptionError("a server keeps entries of every embedder side by side: use `nearhit cache warm` into a file")
    with _open(args.file, _embedder(args.embedder)) as cache, _output.progress() as bar:
        task = bar.add_task("embedding", total=None)
        count = cache.reembed(progress=lambda done, total: bar.update(task, completed=done, total=total))
    print(f"{count} entries embedded with {args.embedder}")
    return 0


def _clear(args: argparse.Namespace) -> int:
    chosen = {"id": args.id, "tag": args.tag, "scope": _parse_scope(args.scope), "older_than": args.older_than}
    given = {name: value for name, value in chosen.items() if value is not None}
    if len(given) + args.all != 1:
        raise OptionError("clear takes exactly one of --id, --tag, --scope, --older-than and --all")
    with _open(args.file, namespace=args.namespace) as cache:
        count = len(cache) if cache._backend is None else len(cache._backend)  # noqa: SLF001 - same package
        if args.all:
            cache.clear()
        else:
            count = cache.invalidate(**given)
    print(f"{count} entries removed from {args.file}")
    return 0


def _warm(args: argparse.Namespace) -> int:
    from nearhit.cli import _output

    if args.source == args.file:
        raise OptionError(f"warm copies from one cache into another, got {args.file!r} twice")
    try:
        embedder = None if args.exact_only else _embedder(args.embedder)
    except ModelNotFoundError as error:
        raise ModelNotFoundError(f"{error}; or copy with --exact-only") from error
    with (
        _open(args.source, embedder, look=not _shared.is_url(args.source), namespace=args.namespace) as source,
        _open(args.file, embedder, create=True, namespace=args.namespace) as target,
        _output.progress() as bar,
    ):
        task = bar.add_task("copying", total=len(source) or None)
        count = _shared.copy(source, target, lambda done: bar.update(task, completed=done))
    print(f"{count} entries copied into {args.file}")
    return 0


def _parse_scope(text: str | None) -> Any:
    if text is None:
        return None
    try:
        return json.loads(text)
    except ValueError:
        return text


def _scope(scope: Any) -> str:
    return "(shared)" if scope is None else _cut(scope, 30)


def _cut(value: Any, width: int = 60) -> str:
    text = "" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = " ".join(text.split())
    return text if len(text) <= width else text[: width - 1] + "…"


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < _KIB:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= _KIB
    return f"{count:.2f} GiB"
