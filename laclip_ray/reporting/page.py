"""Render an HTML page of sections: results, plots, tables, a gallery, settings.

Guarantees: the page is a single file without external resources, and its content policy forbids loading any. The only
script that may run is the gallery's filter, by its hash; the page works without it. All values are escaped and shown as
text, because captions come from strangers; control characters become escape sequences. Equal pages give equal bytes.
Empty sections are omitted.
Not covered: choosing the content, or checking the numbers.
"""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from laclip_ray.reporting.gallery import Gallery
from laclip_ray.reporting.templates import render, source

MISSING = "–"


@dataclass(frozen=True)
class Table:
    """A table of text. The first column names the row; the others are numbers."""

    caption: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Pairs:
    """Names with values."""

    caption: str
    headings: tuple[str, str]
    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Plot:
    """An SVG from `reporting.plots`."""

    svg: str
    is_wide: bool = False
    """Whether it takes the page's width."""

    @property
    def markup(self) -> Markup:
        """The element. `reporting.plots` escapes texts from data."""
        return Markup(self.svg)  # noqa: S704 - as above


@dataclass(frozen=True)
class Details:
    """A long text under a line that opens it."""

    summary: str
    text: str


@dataclass(frozen=True)
class Section:
    """A part of a page. Its content is shown in the order of the fields."""

    id: str
    """In links to it; letters and hyphens."""
    title: str
    paragraphs: Sequence[str] = ()
    figures: Sequence[tuple[str, str]] = ()
    """(name, value) of the most important numbers."""
    plots: Sequence[Plot] = ()
    tables: Sequence[Table] = ()
    pairs: Sequence[Pairs] = ()
    gallery: Gallery | None = None
    notes: Sequence[str] = ()
    details: Sequence[Details] = ()

    @property
    def is_empty(self) -> bool:
        """Whether the page is empty."""
        has_cards = self.gallery is not None and bool(self.gallery.cards)
        parts = (self.paragraphs, self.figures, self.plots, self.tables, self.pairs, self.notes, self.details)
        return not has_cards and not any(parts)


@dataclass(frozen=True)
class Page:
    """Content of a page."""

    title: str
    result: str = ""
    """The most important result, in the heading."""
    introduction: Sequence[str] = ()
    """Paragraphs."""
    warnings: Sequence[str] = ()
    """At the top."""
    sections: Sequence[Section] = ()


def render_page(page: Page) -> str:
    """Render a page as a complete HTML document."""
    sections = [section for section in page.sections if not section.is_empty]
    script, policy = gallery_script(any(section.gallery is not None for section in sections))
    return render("page.html.jinja", page=page, sections=sections, script=script, script_policy=policy)


def gallery_script(is_needed: bool) -> tuple[Markup, Markup]:
    """The script of a gallery's filter, and what the content policy lets run: the script, by its hash.

    Args:
        is_needed: whether the page has a gallery. If not, there is no script, and nothing may run.
    """
    if not is_needed:
        return Markup(""), Markup("'none'")
    text = source("gallery.js")
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return Markup(text), Markup(f"'sha256-{digest}'")  # noqa: S704 - a file of this package
