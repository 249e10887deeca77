"""Hostile captions in a gallery: none can leave its element, run, reorder its neighbours, or grow the page."""

import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.reporting.gallery import MOST_BYTES, Gallery, Rewrite, RewrittenSample
from laclip_ray.reporting.page import Page, Section, render_page
from laclip_ray.reporting.templates import source
from tests.unit.run_report.stored_runs import HOSTILE, SCRIPT

VOID = {"meta", "img", "input"}
REORDERING = re.compile("[\u202a-\u202e\u2066-\u2069\u200e\u200f]")
FRAGMENTS = ("<", ">", "&", "'", '"', "</bdi>", "<!--", "-->", "]]>", "</script>", "{{", "}}", "{%", "\0", "\x1b")
TEXTS = st.lists(
    st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=6), st.sampled_from("\u202e\u2066\u2069\u05e9\ud800")),
    max_size=12,
).map("".join)


class Elements(HTMLParser):
    """The elements of a page, and the texts inside `bdi`."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.shape: list[tuple[str, tuple[str, ...]]] = []
        self.isolated: list[str] = []
        self.bare: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.shape.append((tag, tuple(name for name, _ in attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        (self.isolated if "bdi" in self.open else self.bare).append(data)


def page_of(caption: str, text: str, reason: str | None, sample_id: str = "7", prompt_set: str = "cleaned") -> str:
    sample = RewrittenSample(sample_id, None, caption, (Rewrite(prompt_set, text, reason),))
    return render_page(Page("t", sections=[Section("pictures", "Captions", gallery=Gallery.of([sample]))]))


@given(TEXTS, TEXTS, st.one_of(st.none(), TEXTS))
def test_no_text_can_leave_its_element_or_reorder_others(caption: str, text: str, reason: str | None) -> None:
    page = page_of(caption, text, reason)
    elements, harmless = Elements(page), Elements(page_of("a", "b", None if reason is None else "c"))
    ignored = ("bdi", "ins", "del", "span", "details", "summary")
    assert [each for each in elements.shape if each[0] not in ignored] == [
        each for each in harmless.shape if each[0] not in ignored
    ]
    assert not REORDERING.search(page)
    assert not re.search("[\0-\x08\x0b-\x1f\x7f]", page)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_captions_rewrites_ids_and_sets_are_only_text(text: str) -> None:
    elements = Elements(page_of(text, text, text[:50], text, text[:50]))
    assert [tag for tag, _ in elements.shape].count("script") == 1  # the filter
    assert "img" not in [tag for tag, _ in elements.shape]
    assert not any(name.startswith("on") for _, names in elements.shape for name in names)


@given(st.text(alphabet="xyzq \u05e9", min_size=5, max_size=30))
def test_captions_and_rewrites_stand_in_isolated_elements(text: str) -> None:
    marked = f"qq{text}qq"
    elements = Elements(page_of(marked, marked, "too_short", marked))
    assert not any("qq" in bare for bare in elements.bare)
    assert sum(marked in isolated for isolated in elements.isolated) == 3


def test_only_the_filter_may_run_by_its_hash() -> None:
    page = page_of(SCRIPT, SCRIPT, None)
    (script,) = re.findall("<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert script == source("gallery.js")
    assert f"script-src 'sha256-{digest}'" in page
    assert "script-src 'none'" in render_page(Page("no gallery"))


def test_a_long_text_is_folded_and_whole() -> None:
    text = "start " + "word " * 2_000 + "end"
    page = page_of(text, text, "too_long")
    assert page.count('<details class="long">') == 2
    assert page.count(text) == 2
    assert "all 10,009 characters" in page


def test_a_gallery_has_a_bounded_size_and_says_what_it_leaves_out() -> None:
    samples = [RewrittenSample(str(n), b"", "&" * 60_000, (Rewrite("s", "<" * 60_000, None),)) for n in range(400)]
    gallery = Gallery.of(samples)
    page = render_page(Page("t", sections=[Section("pictures", "Captions", gallery=gallery)]))
    assert len(gallery.cards) + gallery.left_out == 400
    assert gallery.left_out > 0
    assert len(page.encode()) < 1.2 * MOST_BYTES
    assert "10,000 more characters are not on this page" in page


def test_the_filter_offers_the_sets_and_the_outcomes() -> None:
    rewrites = (Rewrite("crowd", "a", None), Rewrite("cleaned", "b", "too_short"), Rewrite("cleaned", "c", "looping"))
    gallery = Gallery.of([RewrittenSample("1", None, "caption", rewrites)])
    assert list(gallery.sets) == ["crowd", "cleaned"]
    assert list(gallery.reasons) == ["accepted", "looping", "too_short"]
