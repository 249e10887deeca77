"""Render the HTML page of a preview: captions with accepted and refused rewrites, shares, speed, and a forecast.

Guarantees: as in `report`: one file without external resources, all values escaped, equal content gives equal bytes.
Not covered: choosing the captions, or computing the numbers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from laclip_ray.reporting.gallery import Gallery
from laclip_ray.reporting.page import Table, gallery_script
from laclip_ray.reporting.templates import render


@dataclass(frozen=True)
class ShownShare:
    """A share of accepted rewrites, drawn as a bar with its interval. Numbers from 0 to 1."""

    name: str
    share: float
    low: float
    high: float
    text: str
    """The counts behind it."""


@dataclass(frozen=True)
class PreviewPage:
    """Content of a page."""

    title: str
    introduction: Sequence[str]
    """Paragraphs."""
    advice: str | None
    """What to do about a small share of accepted rewrites. None: the share is not small."""
    shares: Sequence[ShownShare]
    refusals: Sequence[Table]
    figures: Sequence[tuple[str, str]]
    """(name, value) of the most important numbers."""
    tables: Sequence[Table]
    notes: Sequence[str]
    """The limits of the numbers."""
    gallery: Gallery
    """The captions with all draws."""
    settings: Sequence[tuple[str, str]]
    versions: Mapping[str, str]


def render_preview(page: PreviewPage) -> str:
    """Render a page as a complete HTML document. Characters that UTF-8 cannot encode become `?`."""
    script, policy = gallery_script(bool(page.gallery.cards))
    return render("preview.html.jinja", page=page, script=script, script_policy=policy)
