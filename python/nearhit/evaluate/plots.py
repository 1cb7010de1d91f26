"""Curves, as PNG (extra "plot") and for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nearhit._errors import MissingDependencyError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = ["terminal", "write"]

Points = "Sequence[tuple[float, float]]"
_MARKS = "o+x*#@%"


def terminal(
    curves: Mapping[str, Sequence[tuple[float, float]]], *, x: str, y: str, width: int = 68, height: int = 16
) -> str:
    """Draws curves with letters.

    Args:
        curves: Points of each curve.
        x: Name of the horizontal axis.
        y: Name of the vertical axis.
        width: Columns.
        height: Lines.
    """
    points = [point for curve in curves.values() for point in curve]
    if not points:
        return "(no points)"
    left, right = min(p[0] for p in points), max(p[0] for p in points)
    low, high = min(p[1] for p in points), max(p[1] for p in points)
    grid = [[" "] * width for _ in range(height)]
    for mark, curve in zip(_MARKS, curves.values(), strict=False):
        for px, py in curve:
            column = round((px - left) / ((right - left) or 1) * (width - 1))
            row = round((high - py) / ((high - low) or 1) * (height - 1))
            grid[row][column] = mark
    lines = [f"{y} {high:.3f}"]
    lines += ["  |" + "".join(row).rstrip() for row in grid]
    lines.append(f"{low:.3f} +" + "-" * (width - 4))
    lines.append(f"   {x}: {left:.3f} to {right:.3f}")
    lines.append("   " + "   ".join(f"{mark} {name}" for mark, name in zip(_MARKS, curves, strict=False)))
    return "\n".join(lines)


def write(
    path: Path,
    panels: Sequence[tuple[str, str, str, Mapping[str, Sequence[tuple[float, float]]]]],
) -> None:
    """Writes a PNG with one panel for each (title, x, y, curves).

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - an extra
        from matplotlib.figure import Figure  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise MissingDependencyError("plots need matplotlib; install it with: pip install 'nearhit[plot]'") from error
    figure = Figure(figsize=(5.2 * len(panels), 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    for place, (title, x, y, curves) in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), place + 1)
        for name, points in curves.items():
            axes.plot([p[0] for p in points], [p[1] for p in points], label=name, linewidth=1.6)
        axes.set(title=title, xlabel=x, ylabel=y)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.savefig(path, dpi=130)
