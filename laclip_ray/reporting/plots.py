"""Draw plots as SVG text for an HTML page.

Guarantees: equal input gives equal bytes with the same matplotlib. Plots neither read nor change matplotlib's global
state or the user's `matplotlibrc`. Text stays text, in the page's own colour, and a name in the data cannot add an
element. Plots of different data share no `id`, so a page can hold several.
Not covered: choosing a good scale. Infinite values and NaN leave a gap.
"""

import hashlib
import io
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import style
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

HalfWidth = Callable[[Sequence[float]], float | None]
"""Computes half the width of a mean's 95 % interval (Student's t) from the values of several seeds."""

SIZE_IN, WIDE_SIZE_IN = (5.4, 3.4), (6.0, 3.6)
"""Of a plot beside others, which a phone shows at about its natural size; and of one across the page."""
SERIES_COLOURS = ("#3478d4", "#cf6a00", "#1f8a5b", "#a855c9", "#d4447c", "#12899b", "#9a6b35", "#77808c")
"""Each has a contrast of 3 : 1 or more to a white and to a near-black page."""
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)))
"""Line styles. The next one is used when all colours are used up."""
TEXT, GRID = "#010203", "#030201"
"""Placeholders for the page's colours until the SVG is written. No series has these colours."""
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


def loss_curves(curves: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Plot the loss of each run over the epochs.

    Args:
        curves: the (epoch, loss) points of each run, by its name.

    Returns:
        An `<svg>` element.
    """
    return lines("Training loss", "epoch", curves, y_label="loss")


def lines(
    title: str,
    x_label: str,
    series: Mapping[str, Sequence[tuple[float, float]]],
    y_label: str = "",
    as_share: bool = False,
    from_zero: bool = False,
    least_top: float = 0.0,
) -> str:
    """Plot lines.

    Args:
        title: of the plot.
        x_label: of its axis.
        series: the points of each line, by its name. A single one named `value` needs no legend.
        y_label: of its axis; empty: the title says it.
        as_share: whether values are shares and shown in per cent.
        from_zero: whether the vertical axis begins at zero.
        least_top: of the vertical axis, so that small values look small.

    Returns:
        An `<svg>` element.
    """
    with style.context(["default", STYLE]):
        figure, axes = _axes(title, x_label, y_label)
        drawn = []
        for index, points in enumerate(series.values()):
            drawn += axes.plot(
                [x for x, _ in points],
                [y for _, y in points],
                color=SERIES_COLOURS[index % len(SERIES_COLOURS)],
                linestyle=DASHES[index // len(SERIES_COLOURS) % len(DASHES)],
                linewidth=1.8 if len(series) <= len(SERIES_COLOURS) else 1.2,
                marker="o" if len(points) == 1 else None,
            )
        if as_share:
            axes.yaxis.set_major_formatter(FuncFormatter(_percent))
        if from_zero:
            axes.set_ylim(bottom=0.0, top=max(least_top, axes.get_ylim()[1]))
        if [*series] != ["value"]:
            _legend(figure, drawn, list(series))
        return _svg(figure, f"{title}, by {x_label}", (series, title))


def histograms(title: str, x_label: str, values: Mapping[str, Sequence[float]]) -> str:
    """Plot how values are distributed, as shares of each group, over common bins.

    Args:
        title: of the plot.
        x_label: of its axis.
        values: by group; at least one value. Few values get few bins.

    Returns:
        An `<svg>` element.
    """
    everything = np.concatenate([np.asarray(group, np.float64) for group in values.values()])
    low, high = float(everything.min()), float(everything.max())
    bins = min(30, max(6, round(2 * min(map(len, values.values())) ** 0.5)))
    edges = np.linspace(low, high if high > low else low + 1.0, bins + 1)
    with style.context(["default", STYLE]):
        figure, axes = _axes(title, x_label, "")
        drawn = []
        for index, group in enumerate(values.values()):
            counts, _ = np.histogram(group, edges)
            colour = SERIES_COLOURS[index % len(SERIES_COLOURS)]
            drawn.append(axes.stairs(counts / max(1, len(group)), edges, color=colour, linewidth=1.6))
            axes.stairs(counts / max(1, len(group)), edges, color=colour, fill=True, alpha=0.18)
        axes.yaxis.set_major_formatter(FuncFormatter(_percent))
        _legend(figure, drawn, list(values))
        return _svg(figure, f"{title}: distribution of {x_label}", (values, title))


def _percent(value: float, _: object) -> str:
    return f"{100 * value:g} %"


def metric_against_p(
    points: Mapping[float, Sequence[float]],
    metric: str,
    half_width: HalfWidth | None = None,
    as_share: bool = True,
    marked: tuple[float, str] | None = None,
    is_wide: bool = False,
    has_legend: bool = True,
) -> str:
    """Plot a metric over the augmentation probability: each seed's value, their mean, and the mean's 95 % interval.

    Args:
        points: the value of each seed, by p.
        metric: the metric's name.
        half_width: computes the intervals. None: the plot has no intervals.
        as_share: whether values are shares and shown in per cent.
        marked: a p to mark, and its name.
        is_wide: whether the plot takes the page's width.
        has_legend: whether it explains the marks. Another plot beside it may.

    Returns:
        An `<svg>` element. A p with one seed has no interval.
    """
    with style.context(["default", STYLE]):
        figure, axes = _axes(metric, "augmentation probability p", "", WIDE_SIZE_IN if is_wide else SIZE_IN)
        shown, names = _draw_against_p(axes, points, half_width, as_share)
        if marked is not None:
            shown.append(axes.axvline(marked[0], color=SERIES_COLOURS[2], linestyle=DASHES[1], linewidth=1.4, zorder=1))
            names.append(marked[1])
        if len(names) > 2 and has_legend:
            _legend(figure, shown, names)
        described = (points, metric, as_share, marked, is_wide, has_legend)
        return _svg(figure, f"{metric} against the augmentation probability p", described)


def metrics_against_p(
    metrics: Mapping[str, Mapping[float, Sequence[float]]],
    half_width: HalfWidth | None = None,
    as_share: bool = True,
) -> str:
    """Plot several metrics as `metric_against_p` does, each in its own panel.

    Args:
        metrics: the value of each seed, by p, by the metric's name.
        half_width: computes the intervals. None: the plots have no intervals.
        as_share: whether values are shares and shown in per cent.

    Returns:
        An `<svg>` element.
    """
    columns = min(2, len(metrics))
    rows = -(-len(metrics) // columns)
    with style.context(["default", STYLE]):
        figure = Figure(figsize=(SIZE_IN[0] * (1 + columns) / 2, SIZE_IN[1] * rows * 0.9), layout="constrained")
        handles: list[Any] = []
        names: list[str] = []
        for number, (metric, points) in enumerate(metrics.items()):
            axes = _styled(figure.add_subplot(rows, columns, number + 1), metric, "augmentation probability p", "")
            drawn, drawn_names = _draw_against_p(axes, points, half_width, as_share)
            if len(drawn) > len(handles):
                handles, names = drawn, drawn_names
        if len(names) > 2:
            _legend(figure, handles, names)
        return _svg(figure, "Metrics against the augmentation probability p", (metrics, as_share))


def _draw_against_p(
    axes: Any, points: Mapping[float, Sequence[float]], half_width: HalfWidth | None, as_share: bool
) -> tuple[list[Any], list[str]]:
    """Draw a metric, and return the handles and names for a legend."""
    probabilities = sorted(p for p, values in points.items() if values)
    means = [float(np.mean(points[p])) for p in probabilities]
    repeated = [p for p in probabilities if len(points[p]) > 1]
    shown = axes.plot(probabilities, means, color=SERIES_COLOURS[0], marker="_", markersize=9)
    names = ["mean over seeds"]
    if repeated and half_width is not None:
        shown.append(
            axes.errorbar(
                repeated,
                [float(np.mean(points[p])) for p in repeated],
                yerr=[half_width(points[p]) for p in repeated],
                fmt="none",
                ecolor=SERIES_COLOURS[0],
                elinewidth=1.2,
                capsize=4,
            )
        )
        names.append("its 95% interval (Student t)")
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
        axes.yaxis.set_major_formatter(FuncFormatter(_percent))
        low, high = axes.get_ylim()
        axes.set_ylim(max(0.0, low), min(1.0, high))
    if len(probabilities) <= 8:
        axes.set_xticks(probabilities, [f"{p:.3g}" for p in probabilities])
    return shown, names


def _axes(title: str, x_label: str, y_label: str, size_in: tuple[float, float] = SIZE_IN) -> tuple[Any, Any]:
    figure = Figure(figsize=size_in, layout="constrained")
    return figure, _styled(figure.add_subplot(), title, x_label, y_label)


def _styled(axes: Any, title: str, x_label: str, y_label: str) -> Any:
    axes.set_title(_printable(title), fontsize=11)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.tick_params(length=0)
    axes.margins(x=0.04)
    for axis, bins in ((axes.xaxis, 8), (axes.yaxis, 6)):
        axis.set_major_locator(MaxNLocator(nbins=bins, steps=[1, 2, 5, 10]))
    return axes


def _legend(figure: Any, handles: list[Any], names: list[str]) -> None:
    """Put a legend below the axes, in as many columns as fit."""
    if not names:
        return
    width = round(figure.get_figwidth() * 12.8)  # characters of a line
    columns = max(1, min(len(names), width // (max(len(name) for name in names) + 7)))
    # Matplotlib skips names that start with an underscore.
    placeholders = [str(index) for index in range(len(names))]
    legend = figure.legend(handles, placeholders, loc="outside lower center", ncols=columns)
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_text(_printable(name))


def on_ground(svg: str) -> str:
    """A plot as a file of its own: on a light ground, which a dark page around it does not change."""
    colours = (("currentColor", "#1b1f26"), ("var(--plot-grid, #d5d9df)", "#d5d9df"))
    for page, own in colours:
        svg = svg.replace(page, own)
    end = svg.index(">") + 1
    return f'{svg[:end]}<rect width="100%" height="100%" fill="#ffffff" />{svg[end:]}'


def _printable(text: str) -> str:
    """Replace the characters that XML does not allow."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def _svg(figure: Any, description: str, data: object) -> str:
    """Convert a figure into an element for an HTML page. Its ids depend on `data`."""
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
            attributes.pop("id", None)  # matplotlib counts them from 1 in every plot; no reference uses them
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
    """Name of an element or attribute without its namespace."""
    return name.rpartition("}")[2]
