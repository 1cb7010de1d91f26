"""Measure routing quality on prompts with known outcomes: APGR, CPT, AIQ, beside random, length and the oracles.

TEST and the training files are JSON lines (also .gz): {"prompt", "outcomes": {model: number}, "cost": {model: usd}},
cost and "task" optional. APGR and CPT are computed as RouteLLM does; ties are broken by a jitter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse

    from nearhit.evaluate.outcomes import Outcomes
    from nearhit.evaluate.router import Prompts, RouterReport


def register(subparsers: Any) -> None:
    """Adds `eval router`."""
    parser = subparsers.add_parser("router", help="routing quality on known outcomes", description=__doc__)
    parser.add_argument("test", metavar="TEST", help="outcome rows to judge on")
    parser.add_argument(
        "--train", metavar="FILE", action="append", default=[], help="outcome rows to fit heads on; may be repeated"
    )
    parser.add_argument(
        "--head",
        choices=("default", "knn", "linear", "all"),
        default=None,
        help="default: as shipped; knn, linear: fitted on --train (default: all that can be)",
    )
    parser.add_argument("--weak", metavar="MODEL", help="weak model of the pair (default: the worst by mean outcome)")
    parser.add_argument("--strong", metavar="MODEL", help="strong model of the pair (default: the best)")
    parser.add_argument("--no-embedding", action="store_true", help="use the text's features alone")
    parser.add_argument("--vectors", metavar="FILE", help="keep embeddings in this .npz file between calls")
    parser.add_argument("--plot", metavar="FILE", help="write the cost-quality plot (needs matplotlib)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns the exit status."""
    from nearhit._errors import OptionError
    from nearhit.cli import _output
    from nearhit.evaluate.outcomes import read_outcomes
    from nearhit.evaluate.router import HEADS, evaluate_router

    if args.head in ("knn", "linear") and not args.train:
        raise OptionError(f"--head {args.head} is fitted on labelled rows: give some with --train FILE")
    if args.head == "knn" and args.no_embedding:
        raise OptionError("--head knn compares embeddings: leave --no-embedding out")
    test = read_outcomes(args.test)
    train = read_outcomes(args.train) if args.train else None
    test_prompts, train_prompts = _prompts(args, test, train)
    report = evaluate_router(
        test,
        test_prompts,
        train=train,
        train_prompts=train_prompts,
        heads=HEADS if args.head in (None, "all") else (args.head,),
        weak=args.weak,
        strong=args.strong,
    )
    if args.plot:
        _plot(report, args.plot)
    if args.json:
        _output.emit_json(report.to_dict())
    else:
        _print(report)
    return 0


def _prompts(args: argparse.Namespace, test: Outcomes, train: Outcomes | None) -> tuple[Prompts, Prompts | None]:
    """Embeds all prompts, each once, and computes their features."""
    from pathlib import Path

    from nearhit.cli import _output
    from nearhit.evaluate.router import embedded_text, read_prompts

    files = [rows for rows in (test, train) if rows is not None]
    if args.no_embedding:
        found = [read_prompts(rows.prompts, None) for rows in files]
    else:
        from nearhit.embed import CTranslate2Embedder
        from nearhit.evaluate.vectors import embed_all

        texts = [embedded_text(prompt) for rows in files for prompt in rows.prompts]
        with _output.progress(transient=True) as bar:
            task = bar.add_task("embedding", total=len(set(texts)))
            table = embed_all(
                texts,
                CTranslate2Embedder(),
                store=Path(args.vectors) if args.vectors else None,
                advance=lambda done, total: bar.update(task, completed=done, total=total),
            )
        found = [read_prompts(rows.prompts, table.of(embedded_text(each) for each in rows.prompts)) for rows in files]
    return found[0], found[1] if len(found) > 1 else None


def _print(report: RouterReport) -> None:
    from rich.table import Table

    from nearhit.cli import _output

    console = _output.results()
    console.print(
        f"{report.rows} prompts; weak {report.weak} {report.weak_quality:.4f}, "
        f"strong {report.strong} {report.strong_quality:.4f}"
    )
    if report.dropped:
        console.print(f"{report.dropped} training rows left out: their prompts are in the test")
    table = Table("scorer", "APGR", "95 %", "CPT50", "CPT80")
    for score in report.pair:
        bounds = "" if score.interval is None else f"{score.interval[0]:.3f}-{score.interval[1]:.3f}"
        cpt = score.curve.cpt
        table.add_row(score.name, f"{score.curve.apgr:.3f}", bounds, f"{cpt[50]:.1f}", f"{cpt[80]:.1f}")
    console.print(table)
    if report.aiq:
        table = Table("scorer", "AIQ", title=f"all models, {report.priced_rows} prompts with every cost")
        for name, value in report.aiq.items():
            table.add_row(name, f"{value:.4f}")
        console.print(table)


def _plot(report: RouterReport, path: str) -> None:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        from nearhit._errors import MissingDependencyError

        raise MissingDependencyError("--plot needs matplotlib: pip install 'nearhit[bench]'") from error
    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.subplots()
    for score in report.pair:
        axes.plot(score.curve.strong_percent, score.curve.quality, label=f"{score.name} ({score.curve.apgr:.3f})")
    axes.set_xlabel(f"calls to {report.strong} (%)")
    axes.set_ylabel("mean quality")
    axes.legend(title="APGR")
    figure.savefig(path)
