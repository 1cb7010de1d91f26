"""Embedding engines side by side: nearhit's own, CTranslate2, onnxruntime, static embeddings.

Latency of one text by length, throughput of batches, and many callers at once; beside each speed its agreement with
float32, and with --data how well it ranks duplicate questions (QQP) and similar sentences (STS-B).
"""

from __future__ import annotations

import logging
import os
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse

    from nearhit.cli import Subparsers


def register(subparsers: Subparsers) -> None:
    """Adds `nearhit bench embed`."""
    parser = subparsers.add_parser("embed", help="embedding engines", description=__doc__)
    parser.add_argument("--model", default="all-MiniLM-L6-v2", help="a BERT-family embedder (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=60, help="turns of each engine (default: %(default)s)")
    parser.add_argument("--texts", type=int, default=2000, help="texts for the agreement (default: %(default)s)")
    parser.add_argument(
        "--data", type=Path, default=None, help="folder of pairs_qqp and pairs_stsb (default: NEARHIT_DATA)"
    )
    parser.add_argument(
        "--pairs", type=int, default=500, help="pairs of each set for the quality (default: %(default)s)"
    )
    parser.add_argument("--seconds", type=float, default=2.0, help="of concurrent calls (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    """Runs `nearhit bench embed`."""
    from nearhit._errors import OptionError
    from nearhit.cli import _output

    for name in ("rounds", "texts", "pairs", "seconds"):
        if not getattr(args, name) > 0:
            raise OptionError(f"--{name} {getattr(args, name)}: expected a positive number")
    data = args.data or (Path(os.environ["NEARHIT_DATA"]) if "NEARHIT_DATA" in os.environ else None)
    if data is not None and not data.is_dir():
        raise OptionError(f"--data {data} is no folder")
    with tempfile.TemporaryDirectory(prefix="nearhit-bench-") as work:
        result = _measure(args, data, Path(work))
    if args.json:
        _output.emit_json(result)
    else:
        _show(result)
    return 0


def _measure(args: argparse.Namespace, data: Path | None, work: Path) -> dict[str, Any]:
    from nearhit.bench import embed
    from nearhit.bench.embed_engines import engines
    from nearhit.cli import _output

    logging.getLogger().setLevel(logging.ERROR)  # a peer's advice on its own tools is no result
    _output.note("loading the engines")
    made, absent = engines(args.model, work)
    for name, reason in absent.items():
        _output.note(f"without {name}: {reason}")
    found: dict[str, dict[str, Any]] = {name: {} for name in made}
    with ExitStack() as stack:
        bar = stack.enter_context(_output.progress())
        task = bar.add_task("latency and throughput", total=None)

        def tell() -> None:
            bar.advance(task)

        for name, by_length in embed.latency(made, args.rounds, tell).items():
            found[name]["latency_seconds"] = by_length
        for name, rate in embed.throughput(made, args.rounds, tell).items():
            found[name]["batch_texts_per_second"] = rate
        for name in ("nearhit native int8", "nearhit CTranslate2 int8"):
            found[name]["concurrency"] = embed.concurrency(made[name], args.seconds)
            tell()
        _agreement(made, found, _texts(data, args.texts))
        if data is not None:
            _quality(made, found, data, args.pairs)
    return {"model": args.model, "rounds": args.rounds, "engines": found, "absent": absent}


def _texts(data: Path | None, most: int) -> list[str]:
    from nearhit.bench import embed

    if data is None:
        return [embed.text_of(3 + i % 250) for i in range(min(most, 250))]
    texts: dict[str, None] = {}
    for file, keys in (("prompts_mixed", ("prompt",)), ("pairs_qqp", ("a", "b"))):
        for row in embed.rows(data / f"{file}.jsonl.gz", most):
            texts.update(dict.fromkeys(row[key] for key in keys))
    mixed = list(texts)
    return mixed[:: max(1, len(mixed) // most)][:most]


def _agreement(made: dict[str, Any], found: dict[str, dict[str, Any]], texts: list[str]) -> None:
    import numpy as np

    from nearhit.bench import embed

    def vectors(name: str) -> Any:
        # One by one, as they are in use: a padded batch would change what dynamic quantisation sees.
        return np.concatenate([made[name]([text]) for text in texts])

    exact = vectors(embed.REFERENCE)
    for name in made:
        if name != "wordllama":  # another model: its vectors are not comparable
            found[name]["agreement"] = {"texts": len(texts), **embed.agreement(vectors(name), exact)}


def _quality(made: dict[str, Any], found: dict[str, dict[str, Any]], data: Path, most: int) -> None:
    from nearhit.bench import embed

    qqp = list(embed.rows(data / "pairs_qqp.jsonl.gz", most))
    sts = list(embed.rows(data / "pairs_stsb.jsonl.gz", most))
    for name, engine in made.items():
        scores, labels = embed.quality(engine, qqp, "label")
        similar, judged = embed.quality(engine, sts, "score")
        found[name]["quality"] = {
            "qqp_auc": embed.auc(scores, labels > 0),
            "stsb_spearman": embed.spearman(similar, judged),
        }


def _show(result: dict[str, Any]) -> None:
    from rich.table import Table

    from nearhit.bench import embed
    from nearhit.cli import _output

    baseline = result["engines"][embed.BASELINE]
    table = Table(title=f"{result['model']}, one thread; in brackets: against {embed.BASELINE}")
    table.add_column("engine")
    for tokens in embed.LENGTHS:
        table.add_column(f"{tokens} tokens, ms", justify="right")
    for title in ("batch texts/s", "cosine mean / min", "QQP AUC", "STS-B"):
        table.add_column(title, justify="right")
    for name, row in result["engines"].items():
        cells = [name]
        for tokens, seconds in row["latency_seconds"].items():
            cells.append(f"{seconds * 1e3:.2f} ({seconds / baseline['latency_seconds'][tokens]:.2f})")
        rate = row["batch_texts_per_second"]
        cells.append(f"{rate:.0f} ({rate / baseline['batch_texts_per_second']:.2f})")
        near = row.get("agreement")
        cells.append(f"{near['mean']:.4f} / {near['min']:.4f}" if near else "")
        quality = row.get("quality")
        cells += [f"{quality['qqp_auc']:.3f}", f"{quality['stsb_spearman']:.3f}"] if quality else ["", ""]
        table.add_row(*cells)
    _output.results().print(table)
    for name, row in result["engines"].items():
        if many := row.get("concurrency"):
            _output.results().print(
                f"{name}, {embed.CALLERS} callers at once: {many['gain']:.2f} times the throughput of one, "
                f"mean {many['mean_ms']:.1f} ms, p99 {many['p99_ms']:.1f} ms ({many['p99_over_mean']:.1f} times that)"
            )
