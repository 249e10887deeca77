"""Plots: equal bytes, every run and seed, no markup from the data, readable on light and dark pages."""

import math
import xml.etree.ElementTree as ET
from collections.abc import Sequence

import matplotlib
import pytest

from laclip_ray.reporting.plots import (
    DASHES,
    SERIES_COLOURS,
    histograms,
    lines,
    loss_curves,
    metric_against_p,
    on_ground,
)

SVG = "{http://www.w3.org/2000/svg}"
CURVES = {"p=0": [(0.0, 4.0), (1.0, 3.0), (2.0, 2.5)], "p=0.5": [(0.0, 4.1), (1.0, 3.3), (2.0, 2.9)]}
POINTS = {0.0: [0.30, 0.32, 0.31], 0.5: [0.40, 0.45, 0.41]}


def half_width(values: Sequence[float]) -> float:
    return 0.01 * len(values)


def parsed(svg: str) -> ET.Element:
    return ET.fromstring(svg)  # noqa: S314 - made by the module under test


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in parsed(svg).iter(f"{SVG}text")]


def ids(svg: str) -> set[str]:
    return {element.attrib["id"] for element in parsed(svg).iter() if "id" in element.attrib}


def dots(svg: str) -> int:
    """Markers drawn in the colour of a single seed's value, less the legend's."""
    drawn = [element.get("style", "") for element in parsed(svg).iter(f"{SVG}use")]
    return sum(f"fill: {SERIES_COLOURS[1]}" in style for style in drawn) - ("one seed" in texts(svg))


def luminance(colour: str) -> float:
    channels = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_equal_input_gives_equal_bytes() -> None:
    assert loss_curves(CURVES) == loss_curves(dict(CURVES))
    assert metric_against_p(POINTS, "top-1", half_width) == metric_against_p(dict(POINTS), "top-1", half_width)


def test_no_date_and_no_address_but_the_namespace() -> None:
    for svg in (loss_curves(CURVES), metric_against_p(POINTS, "top-1", half_width)):
        assert svg.count("http") == 1
        assert "metadata" not in svg
        assert "<style" not in svg  # it would reach the whole page


def test_ids_of_two_plots_differ() -> None:
    first, second = loss_curves(CURVES), metric_against_p(POINTS, "top-1", half_width)
    assert ids(first)
    assert not ids(first) & (ids(second) | ids(metric_against_p(POINTS, "top-5")))
    assert not ids(second) & ids(metric_against_p(POINTS, "top-5"))


def test_every_run_is_in_the_legend_as_it_is_named() -> None:
    names = ["_hidden", "<script>alert(1)</script>", 'a "b" & c', "$x^$ 5%", "x" * 90]
    svg = loss_curves({name: [(0.0, 1.0), (1.0, 0.5)] for name in names})
    assert set(names) <= set(texts(svg))
    assert "<script" not in svg


def test_names_with_control_characters_are_drawn() -> None:
    assert "a\ufffdb\ufffd" in texts(loss_curves({"a\x00b\n": [(0.0, 1.0)]}))
    assert "m\ufffd" in texts(metric_against_p(POINTS, "m\x1b"))


def test_runs_beyond_the_colours_get_another_line_style() -> None:
    assert len(texts(loss_curves({f"run {n}": [(0.0, n), (1.0, n)] for n in range(40)}))) > 40
    assert len(SERIES_COLOURS) * len(DASHES) >= 32


def test_losses_that_are_not_finite_leave_a_gap() -> None:
    svg = loss_curves({"diverged": [(0.0, 3.0), (1.0, math.nan), (2.0, math.inf), (3.0, 2.0)]})
    assert "nan" not in svg
    assert "inf" not in svg


def test_no_points_give_empty_axes() -> None:
    assert "epoch" in texts(loss_curves({}))
    assert "top-1" in texts(metric_against_p({}, "top-1"))


def test_every_seed_is_a_dot() -> None:
    assert dots(metric_against_p(POINTS, "top-1", half_width)) == 6
    assert dots(metric_against_p({0.0: [0.1], 0.5: [0.2], 1.0: [0.3]}, "top-1")) == 3


def test_the_interval_is_named_only_where_there_is_one() -> None:
    assert "its 95% interval (Student t)" in texts(metric_against_p(POINTS, "top-1", half_width))
    one_seed = metric_against_p({0.0: [0.3], 0.5: [0.4]}, "top-1", half_width)
    for svg in (one_seed, metric_against_p(POINTS, "top-1")):
        assert not any("interval" in text for text in texts(svg))


def test_ticks_are_the_probabilities_and_shares_are_per_cent() -> None:
    shown = texts(metric_against_p({0.0: [0.3], 0.35: [0.4], 1.0: [0.2]}, "top-1"))
    assert {"0", "0.35", "1"} <= set(shown)
    assert any(text.endswith(" %") for text in shown)
    assert not any(text.endswith(" %") for text in texts(metric_against_p(POINTS, "loss", as_share=False)))


@pytest.mark.parametrize("page", ["#ffffff", "#14171c"])
@pytest.mark.parametrize("colour", SERIES_COLOURS)
def test_series_stand_out_from_light_and_dark_pages(colour: str, page: str) -> None:
    low, high = sorted((luminance(colour), luminance(page)))
    assert (high + 0.05) / (low + 0.05) >= 3


def test_text_stands_in_the_colour_of_the_page() -> None:
    svg = loss_curves(CURVES)
    assert all("fill: currentColor" in text.get("style", "") for text in parsed(svg).iter(f"{SVG}text"))


def test_no_global_plotting_state() -> None:
    before = matplotlib.rcParams.copy()
    loss_curves(CURVES)
    metric_against_p(POINTS, "top-1", half_width)
    assert matplotlib.rcParams.copy() == before


def test_the_papers_p_is_marked_and_named() -> None:
    svg = metric_against_p(POINTS, "top-1", half_width, marked=(0.8, "the paper's p = 4/5"), is_wide=True)
    assert "the paper's p = 4/5" in texts(svg)


def test_a_plot_on_its_own_ground_depends_on_no_page() -> None:
    svg = on_ground(metric_against_p(POINTS, "top-1", half_width))
    assert parsed(svg)[0].attrib == {"width": "100%", "height": "100%", "fill": "#ffffff"}
    assert "currentColor" not in svg
    assert "var(" not in svg


def test_one_line_needs_no_legend_and_several_have_their_names() -> None:
    assert "value" not in texts(lines("Loss", "epoch", {"value": [(0.0, 1.0), (1.0, 0.5)]}))
    assert {"a", "b"} <= {*texts(lines("Loss", "epoch", {"a": [(0.0, 1.0)], "b": [(0.0, 2.0)]}))}


@pytest.mark.parametrize("values", [[0.5], [0.5, 0.5], [0.1, 0.9, 0.3]])
def test_a_distribution_of_any_values_is_drawn(values: list[float]) -> None:
    svg = histograms("Meaning", "meaning", {"accepted": values, "refused": [0.2]})
    assert {"accepted", "refused"} <= {*texts(svg)}
