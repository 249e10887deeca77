"""Plots as SVG text, to be put into an HTML page.

Guarantees: equal input gives equal bytes with the same matplotlib; no global plotting state and no reader's
`matplotlibrc` enters; text stays text, and stands in the page's own colour; no name in the data can add an element.
An `id` in one plot is not found in a plot of other data, so that a page can hold several.
Not covered: finding a good scale. Values that are not finite leave a gap.
"""

import hashlib
import io
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
from matplotlib import style
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

SIZE_IN = (6.4, 3.8)
SERIES_COLOURS = ("#3478d4", "#cf6a00", "#1f8a5b", "#a855c9", "#d4447c", "#12899b", "#9a6b35", "#77808c")
"""Each stands out (3 : 1 or more) from a white and from a near-black page."""
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)))
"""Line styles, one for each time that the colours have been used up."""
TEXT, GRID = "#010203", "#030201"
"""Stand for colours of the page until the SVG is written; no series has them."""
PAGE_STYLES = (
    (TEXT, "currentColor"),
    (GRID, "var(--plot-grid, #d5d9df)"),
    ("'DejaVu Sans'", "system-ui, sans-serif"),
)
STYLE = {
    "axes.axisbelow": True,
    "axes.edgecolor": GRID,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.labelcolor": TEXT,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "figure.facecolor": "none",
    "font.family": ["DejaVu Sans"],
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "legend.labelcolor": TEXT,
    "lines.linewidth": 1.8,
    "svg.fonttype": "none",
    "text.color": TEXT,
    "text.parse_math": False,
    "xtick.color": GRID,
    "xtick.labelcolor": TEXT,
    "ytick.color": GRID,
    "ytick.labelcolor": TEXT,
}

CONFIDENCE = 0.95
T_QUANTILES = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)
"""Student's t below which 97.5 % lies, for 1, 2, 3, ... degrees of freedom."""


def t_quantile(degrees: int) -> float:
    """Student's t below which 97.5 % lies: the table's value, or for more degrees Cornish and Fisher's expansion."""
    if degrees <= len(T_QUANTILES):
        return T_QUANTILES[degrees - 1]
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    return z + (z**3 + z) / (4 * degrees) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)


def interval_half_width(values: Sequence[float]) -> float:
    """Half of the 95 % Student-t interval of the mean of two or more values."""
    return t_quantile(len(values) - 1) * float(np.std(values, ddof=1)) / float(np.sqrt(len(values)))


def loss_curves(curves: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """The loss of each run over the epochs.

    Args:
        curves: by the run's name, its (epoch, loss) points.

    Returns:
        An `<svg>` element.
    """
    with style.context(["default", STYLE]):
        figure, axes = _axes("Training loss", "epoch", "loss")
        lines = []
        for index, points in enumerate(curves.values()):
            lines += axes.plot(
                [epoch for epoch, _ in points],
                [loss for _, loss in points],
                color=SERIES_COLOURS[index % len(SERIES_COLOURS)],
                linestyle=DASHES[index // len(SERIES_COLOURS) % len(DASHES)],
                linewidth=1.8 if len(curves) <= len(SERIES_COLOURS) else 1.2,
                marker="o" if len(points) == 1 else None,
            )
        _legend(figure, lines, list(curves))
        return _svg(figure, "Training loss of each run over the epochs", curves)


def metric_against_p(points: Mapping[float, Sequence[float]], metric: str, as_share: bool = True) -> str:
    """A metric over the augmentation probability: each seed's value, their mean, and the mean's 95 % interval.

    Args:
        points: by p, the value of each seed.
        metric: the metric's name.
        as_share: whether values are shares, shown in per cent; else they are shown as they are.

    Returns:
        An `<svg>` element. A p with one seed has no interval.
    """
    probabilities = sorted(p for p, values in points.items() if values)
    means = [float(np.mean(points[p])) for p in probabilities]
    repeated = [p for p in probabilities if len(points[p]) > 1]
    with style.context(["default", STYLE]):
        figure, axes = _axes(metric, "augmentation probability p", "")
        shown = axes.plot(probabilities, means, color=SERIES_COLOURS[0], marker="_", markersize=9)
        names = ["mean over seeds"]
        if repeated:
            shown.append(
                axes.errorbar(
                    repeated,
                    [float(np.mean(points[p])) for p in repeated],
                    yerr=[interval_half_width(points[p]) for p in repeated],
                    fmt="none",
                    ecolor=SERIES_COLOURS[0],
                    elinewidth=1.2,
                    capsize=4,
                )
            )
            names.append(f"its {CONFIDENCE:.0%} interval (Student t)")
        shown += axes.plot(
            [p for p in probabilities for _ in points[p]],
            [value for p in probabilities for value in points[p]],
            color=SERIES_COLOURS[1],
            linestyle="none",
            marker="o",
            markersize=5.5,
            alpha=0.8,
            clip_on=False,
        )
        names.append("one seed")
        if as_share:
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
            low, high = axes.get_ylim()
            axes.set_ylim(max(0.0, low), min(1.0, high))
        if len(probabilities) <= 8:
            axes.set_xticks(probabilities, [f"{p:g}" for p in probabilities])
        if repeated:
            _legend(figure, shown, names)
        return _svg(figure, f"{metric} against the augmentation probability p", (points, metric, as_share))


def _axes(title: str, x_label: str, y_label: str) -> tuple[Any, Any]:
    figure = Figure(figsize=SIZE_IN, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(_printable(title), fontsize=11)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.tick_params(length=0)
    axes.margins(x=0.04)
    for axis, bins in ((axes.xaxis, 8), (axes.yaxis, 6)):
        axis.set_major_locator(MaxNLocator(nbins=bins, steps=[1, 2, 5, 10]))
    return figure, axes


def _legend(figure: Any, handles: list[Any], names: list[str]) -> None:
    """The names below the axes, in as many columns as fit."""
    if not names:
        return
    columns = max(1, min(len(names), 78 // (max(len(name) for name in names) + 7)))
    # A name that starts with an underscore would be left out.
    placeholders = [str(index) for index in range(len(names))]
    legend = figure.legend(handles, placeholders, loc="outside lower center", ncols=columns)
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_text(_printable(name))


def _printable(text: str) -> str:
    """`text` without the characters that XML cannot hold."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def _svg(figure: Any, description: str, data: object) -> str:
    """The figure as an element for an HTML page, with ids that depend on `data`."""
    salt = hashlib.sha256(repr((description, data)).encode("utf-8", "replace")).hexdigest()
    buffer = io.BytesIO()
    with style.context({"svg.hashsalt": salt}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    root = ET.fromstring(buffer.getvalue())  # noqa: S314 - written on the line above
    for parent in list(root.iter()):
        for child in list(parent):
            if _local(child.tag) in ("metadata", "style"):
                parent.remove(child)
    for element in root.iter():
        element.tag = _local(element.tag)
        attributes = {_local(name): value for name, value in element.attrib.items()}
        if element.tag == "g":
            attributes.pop("id", None)  # counted from 1 in every plot, and nothing refers to them
        if "style" in attributes:
            for ours, page in PAGE_STYLES:
                attributes["style"] = attributes["style"].replace(ours, page)
        element.attrib.clear()
        element.attrib.update(attributes)
    root.set("xmlns", "http://www.w3.org/2000/svg")
    root.set("role", "img")
    root.set("aria-label", _printable(description))
    root.set("style", "stroke-linejoin: round; stroke-linecap: butt")
    return ET.tostring(root, encoding="unicode")


def _local(name: str) -> str:
    """An element's or attribute's name without its namespace."""
    return name.rpartition("}")[2]
