"""Plots, as small SVG files that are the same for the same figures."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

_WIDTH, _HEIGHT = 5.2, 3.8  # inches of a panel
_MARKERS = "osD^vP*Xh<>"
_STYLE = {
    "svg.hashsalt": "benchmarks",
    "svg.fonttype": "none",
    "font.size": 8,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.axisbelow": True,
}


@dataclass(frozen=True)
class Curve:
    """A line with its name, and points from left to right."""

    title: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Attributes:
        logarithmic: which of the axes are, of `x` and `y`.
    """

    title: str
    x: str
    y: str
    curves: Sequence[Curve]
    logarithmic: str = "xy"


def draw(panels: Sequence[Panel], path: Path) -> None:
    """Draws panels, two in a row."""
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    titles = list(dict.fromkeys(curve.title for panel in panels for curve in panel.curves if curve.points))
    looks = {title: (f"C{number % 10}", _MARKERS[number % len(_MARKERS)]) for number, title in enumerate(titles)}
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH * columns, (_HEIGHT + 0.2 * len(titles) / rows) * rows), layout="constrained")
        for axes, panel in zip(figure.subplots(rows, columns, squeeze=False).flat, panels, strict=False):
            _fill(axes, panel, looks)
        handles = {
            label: line for axes in figure.axes for line, label in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=1 + columns)
        figure.savefig(path, format="svg", metadata={"Date": None})


def _fill(axes: Axes, panel: Panel, looks: dict[str, tuple[str, str]]) -> None:
    for curve in panel.curves:
        if curve.points:
            colour, marker = looks[curve.title]
            axes.plot(*zip(*curve.points, strict=True), color=colour, marker=marker, markersize=3.5, label=curve.title)
    if "x" in panel.logarithmic:
        axes.set_xscale("log")
    if "y" in panel.logarithmic:
        axes.set_yscale("log")
    axes.set(title=panel.title, xlabel=panel.x, ylabel=panel.y)
