"""What measurements print and draw: tables in Markdown, so that documents can quote them, and charts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Chart:
    """Lines through what was measured.

    Attributes:
        title: What it shows.
        x: What lies along the bottom, with its unit.
        y: What goes up, from 0, with its unit.
        lines: The points of each line, by its name.
    """

    title: str
    x: str
    y: str
    lines: Mapping[str, Sequence[tuple[float, float]]]


class Table:
    """A table in Markdown whose rows are printed as they are measured; all columns but the first hold figures."""

    def __init__(self, first: str, *others: str) -> None:
        """Print the head."""
        self._widths = [max(len(first), 24), *(max(len(name), 8) for name in others)]
        self.row(first, *others)
        rules = ["-" * self._widths[0], *("-" * (width - 1) + ":" for width in self._widths[1:])]
        print(f"| {' | '.join(rules)} |")

    def row(self, first: str, *others: str) -> None:
        """Print one row."""
        figures = (cell.rjust(width) for cell, width in zip(others, self._widths[1:], strict=True))
        print(f"| {' | '.join((first.ljust(self._widths[0]), *figures))} |", flush=True)


def check_can_draw() -> None:
    """Say at once, and not after an hour of measuring, that nothing can be drawn.

    Raises:
        SystemExit: matplotlib is missing.
    """
    _figure_module()


def draw(charts: Sequence[Chart], path: Path) -> None:
    """Write the charts below each other as one picture, of the kind that the path's suffix names."""
    # Figure without pyplot: it needs no screen.
    figure = _figure_module().Figure(figsize=(8, 4 * len(charts)), layout="constrained")
    for axes, chart in zip(figure.subplots(len(charts), squeeze=False)[:, 0], charts, strict=True):
        for name, points in chart.lines.items():
            axes.plot(*zip(*points, strict=True), marker="o", markersize=3, label=name)
        axes.set(title=chart.title, xlabel=chart.x, ylabel=chart.y)
        axes.set_ylim(0, 1.1 * max(y for points in chart.lines.values() for _, y in points))
        axes.grid(alpha=0.3)
        if len(chart.lines) > 1:
            axes.legend()
    figure.savefig(path)


def _figure_module() -> Any:
    """``matplotlib.figure``: imported by name, for the type checkers must pass where it is not installed."""
    try:
        return import_module("matplotlib.figure")
    except ModuleNotFoundError as error:
        raise SystemExit("--plot needs matplotlib: uv sync --group bench, or pip install matplotlib") from error
