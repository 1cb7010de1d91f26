"""How the demo looks in a terminal. Everything here turns records and summaries into rich renderables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.cells import cell_len, set_cell_size
from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from nearhit.demo.record import Record
    from nearhit.demo.summary import Anatomy, Summary

_OUTCOME_STYLES = {"exact": "bold green", "near": "bold cyan", "miss": "yellow"}
_MARKS = {"right": ("✓", "green"), "false hit": ("✗", "bold red"), "missed hit": ("○", "yellow"), None: (" ", "")}
_LEFT = 40  # columns before the prompt: number, outcome, similarity, tier, time, mark
_BAR = 44


def heading(title: str) -> Text:
    """The title of a part of the screen."""
    return Text(title, style="bold")


def opening(facts: Sequence[tuple[str, str]]) -> RenderableType:
    """What is going to be played, with what.

    Args:
        facts: Pairs of a name and what there is to say about it.
    """
    return Group(heading("nearhit demo"), _indented(_pairs(facts)))


def columns() -> Text:
    """The line above the records."""
    return Text(f"{'#':>3}  {'result':<6} {'cosine':>6}  {'from':<6}{'time':>8}    prompt", style="dim")


def line(record: Record, *, width: int) -> Text:
    """One record on one line; a refused candidate adds a second one, with the reason.

    Args:
        record: What happened.
        width: Columns of the terminal; the prompt is cut to fit.
    """
    mark, mark_style = _MARKS[record.verdict]
    similarity = "" if record.similarity is None else f"{record.similarity:.3f}"
    source = record.tier or ("cache" if record.source is None else f"#{record.source}")
    context = f"[{record.request.turns} earlier] " if record.request.turns else ""
    text = Text.assemble(
        (f"{record.number:>3}  ", "dim"),
        (f"{record.outcome:<6}", _OUTCOME_STYLES[record.outcome]),
        f" {similarity:>6}  {source:<6}{duration(record.seconds):>8}  ",
        (mark, mark_style),
        " ",
        (context, "dim"),
        elide(record.request.text, max(20, width - _LEFT - len(context))),
        no_wrap=True,
        overflow="ellipsis",
    )
    if record.verdict == "false hit":
        text.append(f"\n{'':>5}└ wrong: this is the answer to request {record.source}", style="bold red")
    if record.refusal is not None:
        reason = elide(f"{'':>5}└ refused {record.refusal.similarity:.3f}: {record.refusal.reason}", width)
        text.append(f"\n{reason}", style="dim")
        room = width - len(reason) - 4
        if room >= 20:  # noqa: PLR2004 - less than that of a prompt tells nothing
            text.append(f"  “{elide(record.refusal.prompt, room)}”", style="dim italic")
    return text


def answer(record: Record) -> RenderableType:
    """The answer to a request, below its line."""
    return Padding(Text(record.answer.strip(), style="italic"), (0, 0, 0, 5), expand=False)


def legend() -> Text:
    """What the marks mean."""
    return Text.assemble(
        ("✓", "green"),
        (" as its answer class asks   ", "dim"),
        ("✗", "bold red"),
        (" false hit: another question's answer   ", "dim"),
        ("○", "yellow"),
        (" missed hit: the answer was there", "dim"),
    )


def closing(summary: Summary) -> RenderableType:
    """The last screen: where the time went, what it came to."""
    parts: list[RenderableType] = [Text(), heading("Where the time went (medians)")]
    parts += [_indented(_waterfall(anatomy)) for anatomy in summary.anatomies]
    parts += [
        heading("Latency by outcome"),
        _indented(_latencies(summary)),
        heading("What it came to"),
        _indented(_pairs(_facts(summary))),
    ]
    return Group(*parts)


def next_steps(steps: Sequence[tuple[str, str]]) -> RenderableType:
    """What to try next.

    Args:
        steps: Pairs of a command and what it does.
    """
    table = Table.grid(padding=(0, 3))
    for command, effect in steps:
        table.add_row(Text(command, style="cyan"), Text(effect, style="dim"))
    return Group(heading("Next"), _indented(table, below=0))


def duration(seconds: float) -> str:
    """A time with three significant digits and the unit that suits it."""
    for factor, unit in ((1.0, "s"), (1e3, "ms"), (1e6, "µs")):
        value = seconds * factor
        if value >= 0.9995 or unit == "µs":  # noqa: PLR2004 - what would be shown as 1.00 of this unit
            digits = 2 if value < 9.995 else 1 if value < 99.95 else 0  # noqa: PLR2004 - three significant digits
            return f"{value:.{digits}f} {unit}"
    raise AssertionError  # the loop's last unit takes everything


def elide(text: str, room: int) -> str:
    """Text on one line of at most `room` columns; what is not printable becomes a blank."""
    flat = "".join(c if c.isprintable() else " " for c in text[: room + 1])
    return flat if cell_len(flat) <= room else set_cell_size(flat, max(0, room - 1)).rstrip() + "…"


def bar(start: float, length: float, total: float, *, width: int = _BAR) -> str:
    """A bar of a waterfall, exact to an eighth of a column; anything that took time shows at least a sliver.

    Args:
        start: Where it begins, in the unit of `total`.
        length: How long it is.
        total: What the whole width stands for.
        width: Columns.
    """
    if total <= 0:
        return ""
    begin = min(int(start / total * width), width - 1)
    eighths = max(1, min(round(length / total * width * 8), (width - begin) * 8))
    full, part = divmod(eighths, 8)
    return " " * begin + "█" * full + (" ▏▎▍▌▋▊▉"[part] if part else "")


def _waterfall(anatomy: Anatomy) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    table.add_column(min_width=9)
    table.add_column(width=_BAR)
    table.add_column(justify="right")
    table.add_column(justify="right")
    title = Text.assemble(
        (anatomy.label, "cyan"), f"  {duration(anatomy.total)}", (f"  {_count(anatomy.n, 'request')}", "dim")
    )
    for stage in anatomy.stages:
        if stage.name == "ttfb":  # the first part of "ttft"
            continue
        share = stage.seconds / anatomy.total if anatomy.total > 0 else 0.0
        table.add_row(
            stage.name,
            Text(bar(stage.start, stage.seconds, anatomy.total), style="cyan"),
            duration(stage.seconds),
            Text(f"{share:.1%}", style="dim"),
        )
    table.add_row("the rest", "", duration(anatomy.rest), Text(f"{anatomy.rest / anatomy.total:.1%}", style="dim"))
    return Group(title, _indented(table, below=0))


def _latencies(summary: Summary) -> RenderableType:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("")
    for name in ("n", "p50", "p95", "p99"):
        table.add_column(name, justify="right", min_width=8 if name != "n" else 4)
    for row in summary.latencies:
        table.add_row(row.label, str(row.n), duration(row.p50), duration(row.p95), duration(row.p99))
    return table


def _facts(summary: Summary) -> list[tuple[str, str]]:
    share = summary.hits / summary.requests if summary.requests else 0.0
    facts = [
        (
            "hits",
            (
                f"{summary.hits} of {_count(summary.requests, 'request')} ({share:.0%}): "
                f"{summary.exact} exact, {summary.near} near"
            ),
        )
    ]
    if summary.judged:
        facts += [
            ("false hits", f"{summary.false_hits} of {summary.hits}"),
            ("missed hits", f"{summary.missed_hits} of {summary.answerable} whose answer was there"),
        ]
    if summary.hard or summary.easy:
        facts.append(
            (
                "routing",
                (
                    f"{summary.hard_to_large} of {summary.hard} hard prompts to the large tier, "
                    f"{summary.easy_to_small} of {summary.easy} easy ones to the small tier"
                ),
            )
        )
    facts.append(
        (
            "saved",
            (
                f"{duration(summary.saved_seconds)} and {summary.saved_tokens:,} tokens; "
                f"{summary.spent_tokens:,} tokens were spent in {duration(summary.seconds)}"
            ),
        )
    )
    micro = summary.micro
    alone = [
        f"{name} {duration(value)}"
        for name, value in (
            ("an exact hit", micro.exact_lookup),
            ("a routing decision", micro.decide),
            ("a near hit", micro.near_lookup),
        )
        if value is not None
    ]
    if alone:
        facts.append(("in a loop", ", ".join(alone)))
    if micro.near_shares:
        shares = ", ".join(f"{name} {share:.1%}" for name, share in micro.near_shares.items())
        facts.append(("", f"the near hit's time: {shares}"))
    return facts


def _pairs(pairs: Sequence[tuple[str, str]]) -> Table:
    table = Table.grid(padding=(0, 3))
    for name, value in pairs:
        table.add_row(Text(name, style="dim"), Text(value))
    return table


def _indented(renderable: RenderableType, *, below: int = 1) -> Padding:
    return Padding(renderable, (0, 0, below, 2), expand=False)


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"
