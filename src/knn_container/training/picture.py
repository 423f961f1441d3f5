"""Draws the report on the test channel, with matplotlib's objects and none of its global state."""

import logging
from collections.abc import Callable
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from knn_container.batch import Float64Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BLUE, _ORANGE, _GREY = "#2b6a99", "#d9771e", "#80868b"
_NUMBERED = 20  # classes; of more, the cells have no room for numbers
_TICKS = 25  # classes with a tick each
_LINEAR = 100  # neighbours; more are on a log scale
_DPI = 120

Panel = Callable[["Axes"], None]


def load() -> type["Figure"]:
    """Imports matplotlib, which takes half a second: servers and jobs without a test channel do without."""
    logging.getLogger("matplotlib").setLevel(logging.WARNING)  # it tells of its list of fonts
    import matplotlib.backends.backend_agg  # noqa: F401, PLC0415 (what `savefig` would import)
    from matplotlib.figure import Figure  # noqa: PLC0415

    return Figure


def draw(facts: dict[str, Any], sample: Float64Array | None) -> bytes:
    """Draws a PNG.

    Args:
        facts: what `report.document` gives.
        sample: of a regressor, (2, n) labels and predictions.
    """
    figure_class = load()
    from matplotlib.layout_engine import ConstrainedLayoutEngine  # noqa: PLC0415

    panels = _panels(facts, sample)
    figure = figure_class(figsize=(5.6 * len(panels), 5.2), dpi=_DPI)
    layout = ConstrainedLayoutEngine(w_pad=0.15, h_pad=0.12)
    figure.set_layout_engine(layout)
    figure.suptitle(_title(facts), fontsize=11)
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        axes.spines[["top", "right"]].set_visible(False)
        panel(axes)
    layout.execute(figure)
    figure.set_layout_engine(None)  # or saving would draw twice: once to lay out
    png = BytesIO()
    figure.savefig(png, format="png")
    return png.getvalue()


def _title(facts: dict[str, Any]) -> str:
    names = {"accuracy": "accuracy", "macro_f1": "macro F1", "mse": "mse", "mae": "mae", "r2": "R²"}
    known = {name: value for name, value in facts["scores"].items() if value is not None}
    scores = [f"{names[name]} {value:.4g}" for name, value in known.items() if name in names]
    model = f"{facts['index_type']}, {facts['metric']}, k = {facts['k']}"
    return "   ·   ".join([f"{facts['rows']:,} test rows", *scores, model])


def _panels(facts: dict[str, Any], sample: Float64Array | None) -> list[Panel]:
    """What can be told of these facts."""
    panels: list[Panel] = []
    if "confusion_matrix" in facts:
        panels.append(lambda axes: _confusion(axes, facts))
    elif "classes" in facts:
        panels.append(lambda axes: _classes(axes, facts))
    if sample is not None:
        actual, predicted = sample
        panels.append(lambda axes: _predicted(axes, actual, predicted, facts["rows"]))
        panels.append(lambda axes: _residuals(axes, predicted - actual))
    return [*panels, lambda axes: _per_k(axes, facts)]


def _confusion(axes: "Axes", facts: dict[str, Any]) -> None:
    """Each class's share of what it was predicted to be, and the counts."""
    from matplotlib.colors import PowerNorm  # noqa: PLC0415

    counts = np.array(facts["confusion_matrix"])
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    labels = [_name(entry["label"]) for entry in facts["classes"]]
    norm = PowerNorm(0.5, 0, 1)  # few mistakes are to be seen too
    image = axes.imshow(shares, cmap="Blues", norm=norm)
    axes.spines[:].set_visible(False)
    every = -(-len(labels) // _TICKS)
    crowded = max(map(len, labels)) * len(labels) > 50
    axes.set_xticks(range(0, len(labels), every), labels[::every], rotation=90 if crowded else 0)
    axes.set_yticks(range(0, len(labels), every), labels[::every])
    axes.tick_params(length=0)
    axes.set(title="Confusion matrix", xlabel="predicted", ylabel="actual")
    axes.figure.colorbar(image, ax=axes, shrink=0.8, label="share of the actual class").outline.set_visible(False)
    if len(labels) > _NUMBERED:
        return
    size = np.clip(400 / len(labels) / len(f"{counts.max()}"), 4, 11)
    for (row, column), count in np.ndenumerate(counts):
        if count:
            color = "white" if norm(shares[row, column]) > 0.6 else "black"
            axes.text(column, row, f"{count}", ha="center", va="center", color=color, fontsize=size)


def _name(label: float) -> str:
    return str(label) if isinstance(label, int) else f"{label:.8g}"


def _classes(axes: "Axes", facts: dict[str, Any]) -> None:
    """How many of many classes are predicted well."""
    axes.hist([entry["f1"] for entry in facts["classes"]], bins=20, range=(0, 1), color=_BLUE, edgecolor="white")
    axes.set(title=f"F1 of {len(facts['classes']):,} classes", xlabel="F1", ylabel="classes", xlim=(0, 1))


def _predicted(axes: "Axes", actual: Float64Array, predicted: Float64Array, rows: int) -> None:
    """Labels and predictions, which would lie on the line if they were right."""
    opaque = float(np.clip(300 / len(actual), 0.12, 0.7))
    axes.scatter(actual, predicted, s=14, color=_BLUE, alpha=opaque, linewidths=0)
    ends = [min(actual.min(), predicted.min()), max(actual.max(), predicted.max())]
    axes.plot(ends, ends, color=_GREY, linewidth=1, linestyle="--", zorder=0)
    axes.set_aspect("equal", "datalim")
    which = "" if len(actual) == rows else f" ({len(actual):,} rows of {rows:,})"
    axes.set(title=f"Predicted against actual{which}", xlabel="actual", ylabel="predicted")


def _residuals(axes: "Axes", residuals: Float64Array) -> None:
    """How far off predictions are, and to which side."""
    axes.hist(residuals, bins=int(np.clip(np.sqrt(len(residuals)), 5, 50)), color=_BLUE, edgecolor="white")
    axes.axvline(0, color=_GREY, linewidth=1, linestyle="--")
    axes.set(title="Residuals", xlabel="predicted - actual", ylabel="rows")


def _per_k(axes: "Axes", facts: dict[str, Any]) -> None:
    """The score by number of neighbours, with the best and the model's own."""
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415

    name = list(facts["best_k"])[1]
    numbers = [entry["k"] for entry in facts["score_per_k"]]
    scores = [entry[name] for entry in facts["score_per_k"]]
    axes.plot(numbers, scores, color=_BLUE, marker="o" if len(numbers) <= 50 else "", markersize=4, clip_on=False)
    own, best = (facts["k"], scores[-1]), tuple(facts["best_k"].values())
    axes.plot(*own, "s", color=_GREY, markersize=8, zorder=3, label=f"the model: k = {own[0]}, {own[1]:.4g}")
    axes.plot(*best, "o", color=_ORANGE, markersize=8, zorder=4, label=f"the best: k = {best[0]}, {best[1]:.4g}")
    if numbers[-1] > _LINEAR:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
    else:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(visible=True, axis="y", color="#e3e5e8", linewidth=0.8)
    axes.set_axisbelow(True)
    if name == "accuracy":
        axes.set_ylim(top=min(axes.get_ylim()[1], 1))
    axes.legend(edgecolor="none", framealpha=0.8)
    axes.set(title=f"{name.capitalize() if name != 'mse' else name} by number of neighbours", xlabel="k", ylabel=name)
