"""The report: captions stay text, the page loads no resources, every number is shown, equal bytes."""

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from PIL import Image

from laclip_ray.reporting.gallery import Rewrite, RewrittenSample
from laclip_ray.reporting.report import Report, ResultRow, RewritingSummary, render_report

VOID = {"meta", "img", "br", "link", "input", "hr"}
HOSTILE = (
    "<script>alert(1)</script>",
    '" onerror="alert(1)',
    "' onload='alert(1)",
    "<svg onload=alert(1)><image href='http://example.org/x.png'/></svg>",
    "</style></title><img src=x onerror=alert(1)>",
    "{{ 7 * 7 }} {% raw %} &lt;b&gt; &amp;",
)


class Page(HTMLParser):
    """The elements, attributes and text of a page. Parsing fails at an end tag that does not match."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), (tag, attrs)
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert "svg" in self.open  # HTML elements have no such form
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append((self.open[-1] if self.open else "", data))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def cells(self) -> list[str]:
        """Texts of cells that hold numbers, and of names in tables."""
        return self.inside("bdi")

    def inside(self, tag: str) -> list[str]:
        return [text for parent, text in self.texts if parent == tag]


def encoded(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), (200, 30, 30)).save(buffer, kind)
    return buffer.getvalue()


def row(p: float, seed: int, top1: float) -> ResultRow:
    return ResultRow(
        run=f"p={p:g} seed={seed}",
        p=p,
        seed=seed,
        p_effective=p * 0.9871,
        steps=12345,
        final_loss=2.0 + top1,
        zero_shot_top1=top1,
        zero_shot_mean_per_class=top1 - 0.0123,
        retrieval={"image_to_text_r1": top1 / 2, "text_to_image_r10": top1 / 4},
    )


ONE_SEED = (row(0.0, 0, 0.3011), row(0.5, 0, 0.3533))
SEVERAL_SEEDS = (row(0.0, 0, 0.30), row(0.0, 1, 0.32), row(0.5, 0, 0.35), row(0.5, 1, 0.39), row(0.8, 0, 0.4177))
REPORT = Report(
    title="A demo",
    introduction=("First paragraph.", "Second paragraph."),
    samples=(
        RewrittenSample(
            "000001",
            encoded("png"),
            "red cup kitchen",
            (
                Rewrite("cleaned", "A red cup on a counter.", None),
                Rewrite("crowd", "red cup kitchen", "copy_of_caption"),
                Rewrite("cleaned", "Someone's red cup.", None),
            ),
        ),
        RewrittenSample("000002", encoded("jpeg"), "blue fish", ()),
    ),
    rewriting=(
        RewritingSummary("cleaned", 10240, 9001, 1239, {"too_short": 17, "looping": 42}, {"no_caption": 3}),
        RewritingSummary("crowd", 10240, 8002, 2238, {"looping": 1111}, {}),
    ),
    results=ONE_SEED,
    curves={"p=0 seed=0": [(0.0, 4.0), (1.0, 3.0)], "p=0.5 seed=0": [(0.0, 4.1), (1.0, 3.3)]},
    elapsed={"rewriting": 731.5, "training": 7300.0, "evaluation": 12.25},
    notes=("A note.",),
    versions={"ray": "2.60.0", "torch": "2.13.0+cpu"},
)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_shown_as_text(text: str) -> None:
    image = encoded("png")
    report = Report(
        title=text,
        introduction=(text,),
        samples=(RewrittenSample(text, image, text, (Rewrite(text, text, None), Rewrite(text, text, text))),),
        rewriting=(RewritingSummary(text, 1, 1, 0, {text: 1}, {text: 1}),),
        results=(replace(ONE_SEED[0], run=text, retrieval={text: 0.5, f"{text}_r1": 0.5}),
                 replace(ONE_SEED[1], run=text, retrieval={text: 0.6, f"{text}_r1": 0.5})),
        curves={text: [(0.0, 1.0), (1.0, 2.0)]},
        elapsed={text: 1.0},
        notes=(text,),
        versions={text: text},
    )  # fmt: skip
    page, harmless = Page(render_report(report)), Page(render_report(replace_text(report, text, "harmless")))
    assert [tag for tag, _ in page.elements if tag not in ("g", "path")] == [
        tag for tag, _ in harmless.elements if tag not in ("g", "path")
    ]
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    for tag in ("title", "bdi", "p", "li", "option", "text"):
        assert any(text in found for found in page.inside(tag)), tag
    assert page.all("img")[0]["alt"] == f"The picture of sample {text}"


def replace_text(report: Report, old: str, new: str) -> Report:
    """Replace every `old` in a report by `new`."""

    def walk(value: object) -> object:
        if isinstance(value, str):
            return value.replace(old, new)
        if isinstance(value, tuple | list):
            return type(value)(walk(item) for item in value)
        if isinstance(value, dict):
            return {walk(key): walk(item) for key, item in value.items()}
        if hasattr(value, "__dataclass_fields__"):
            return type(value)(**{name: walk(getattr(value, name)) for name in value.__dataclass_fields__})
        return value

    changed = walk(report)
    assert isinstance(changed, Report)
    return changed


@pytest.mark.parametrize("results", [(), ONE_SEED, SEVERAL_SEEDS])
def test_the_page_loads_nothing(results: tuple[ResultRow, ...]) -> None:
    page = Page(render_report(replace(REPORT, results=results)))
    for tag, attributes in page.elements:
        assert tag not in ("link", "iframe", "object", "embed", "base")
        assert tag != "script" or not attributes
        for name in ("src", "href", "xlink:href", "srcset", "data", "action"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/")), (tag, attributes)
    assert "default-src 'none'" in str(page.all("meta"))
    assert not re.search(r"url\((?!#)|@import", render_report(REPORT))


def test_ids_are_unique_and_links_lead_to_them() -> None:
    page = Page(render_report(replace(REPORT, results=SEVERAL_SEEDS)))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(set(ids)) == len(ids)
    links = [attributes["href"] for tag, attributes in page.elements if tag in ("a", "use")]
    assert links
    assert {link[1:] for link in links if link} <= set(ids)


def test_equal_reports_give_equal_bytes() -> None:
    assert render_report(REPORT) == render_report(replace_text(REPORT, "\0", ""))


def test_one_seed_gives_one_row_a_run_with_every_number() -> None:
    cells = Page(render_report(REPORT)).cells()
    for expected in ("0", "0.5", "30.11", "28.88", "15.05", "7.53", "35.33", "2.3011", "0.4935", "12,345"):
        assert expected in cells
    assert "±" not in render_report(REPORT)


def test_several_seeds_give_means_and_deviations_first_then_every_run() -> None:
    page = Page(render_report(replace(REPORT, results=SEVERAL_SEEDS)))
    assert page.inside("caption")[:2] == [
        "Mean ± standard deviation over seeds, by augmentation probability p; accuracies and recalls in %",
        "Every run; accuracies and recalls in %",
    ]
    cells = page.cells()
    for expected in ("31.00 ± 1.41", "37.00 ± 2.83", "2.310 ± 0.014", "0.494 ± 0.000", "30.00", "39.00"):
        assert expected in cells
    assert cells.count("41.77") == 2  # a mean over one seed has no deviation
    assert cells.index("31.00 ± 1.41") < cells.index("37.00 ± 2.83") < cells.index("30.00")


def test_a_metric_that_a_run_lacks_is_a_dash() -> None:
    lacking = replace(SEVERAL_SEEDS[1], retrieval={})
    cells = Page(render_report(Report("t", results=(SEVERAL_SEEDS[0], lacking)))).cells()
    assert cells.count("–") == 4  # two metrics, of the run and in the mean


def test_a_loss_that_is_not_a_number_is_shown() -> None:
    diverged = (replace(SEVERAL_SEEDS[0], final_loss=float("nan")), SEVERAL_SEEDS[1])
    assert Page(render_report(Report("t", results=diverged))).cells().count("nan") == 2


def test_rewriting_is_counted_by_set_and_by_reason() -> None:
    page = Page(render_report(REPORT))
    cells = page.cells()
    for expected in ("10,240", "9,001", "59", "1,239 (12.1%)", "8,002", "2,238 (21.9%)", "17", "42", "1,111", "3"):
        assert expected in cells
    rows = page.cells()
    assert rows.index("looping") < rows.index("too_short") < rows.index("no_caption")  # the most frequent first


def test_times_notes_and_versions_are_shown() -> None:
    page = Page(render_report(REPORT))
    for expected in ("731.5 s (12.2 min)", "7,300.0 s (2.0 h)", "12.2 s", "2.60.0", "2.13.0+cpu"):
        assert expected in page.cells()
    assert "A note." in page.inside("li")


def test_refused_rewrites_have_their_reason_and_accepted_ones_their_difference() -> None:
    page = Page(render_report(REPORT))
    assert "refused: copy_of_caption" in page.inside("bdi")
    assert page.inside("ins")[1:] == ["A", "on a counter", "Someone's"]
    assert page.inside("del")[1:] == ["kitchen", "kitchen"]
    assert "red cup kitchen" in page.inside("bdi")
    items = [item for item in page.all("li") if "data-set" in item]
    assert [(item["data-set"], item["data-reason"]) for item in items] == [
        ("cleaned", "accepted"),
        ("cleaned", "accepted"),
        ("crowd", "copy_of_caption"),
    ]


def test_an_image_has_the_type_of_its_bytes() -> None:
    png, jpeg = encoded("png"), encoded("jpeg")
    sources = [image["src"] for image in Page(render_report(REPORT)).all("img")]
    assert sources == [
        "data:image/png;base64," + base64.b64encode(png).decode(),
        "data:image/jpeg;base64," + base64.b64encode(jpeg).decode(),
    ]


@pytest.mark.parametrize("image", [b"", b"<svg onload='alert(1)'/>", b"\x00\x01"])
def test_an_image_of_another_type_is_named_as_not_shown(image: bytes) -> None:
    page = Page(render_report(Report("t", samples=(RewrittenSample("1", image, "c", ()),))))
    assert page.all("img") == []
    assert "not shown: neither JPEG nor PNG" in page.inside("span")


def test_captions_without_pictures_leave_no_gap_for_one() -> None:
    page = Page(render_report(replace(REPORT, samples=(replace(REPORT.samples[0], image=None),))))
    assert page.all("img") == []
    assert "not shown: neither JPEG nor PNG" not in page.inside("span")
    assert "Captions and rewrites" in page.inside("h2")
    assert "red cup kitchen" in page.inside("bdi")


def test_empty_sections_are_left_out() -> None:
    page = Page(render_report(Report("Nothing yet")))
    assert page.inside("bdi") == ["Nothing yet"]
    assert not [tag for tag, _ in page.elements if tag in ("h2", "section", "table", "svg", "a")]
    assert Page(render_report(Report("t", notes=("n",)))).inside("h2") == ["Notes"]
    assert Page(render_report(Report("t", results=ONE_SEED[:1], curves={"run": []}))).inside("h2") == ["Results"]


def test_text_that_utf8_cannot_hold_does_not_stop_the_report() -> None:
    page = render_report(Report("a\ud800b", curves={"c\ud800": [(0.0, 1.0)]}))
    assert "<title>a\\ud800b</title>" in page.encode().decode()
