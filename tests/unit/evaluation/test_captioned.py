"""Captioned images: each image once, with all its captions, whatever the layout."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from laclip_ray import storage
from laclip_ray.config import RetrievalConfig, RetrievalDataConfig
from laclip_ray.data.image_formats import IMAGE_TOO_LARGE, IMAGE_TOO_THIN, IMAGE_UNREADABLE
from laclip_ray.data.image_sources import ImageSource
from laclip_ray.data.records import CAPTION_EMPTY, CAPTION_MISSING, IMAGE_MISSING, SHARD_TRUNCATED, SHARD_UNREADABLE
from laclip_ray.errors import UserError
from laclip_ray.evaluation.captioned import CaptionedImage, is_benchmark_set
from laclip_ray.evaluation.coverage import Coverage, NoResultError
from laclip_ray.evaluation.pairs import collect_captioned, embed_pairs
from laclip_ray.evaluation.retrieval import retrieval_metrics
from laclip_ray.evaluation.tasks import RECALLS as METRICS
from tests.cases import case
from tests.unit.conftest import encode, picture, smooth_pixels, tar_bytes, write_tar
from tests.unit.data.hub import PAGE, hub
from tests.unit.evaluation.encoded import TestModel, captioned_rows, encoding, read_texts

Captions = dict[int, list[str]]
"""Captions by an image's width less 10."""

CAPTIONS: Captions = {
    0: ["a red fox", "the fox", "a fox in snow"],
    1: ["an owl", "a snow owl"],
    2: ["a hare", "the hare sits", "a grey hare", "hare"],
}


def width_of(image: Image.Image) -> torch.Tensor:
    """Pixels that identify the image by its width."""
    assert image.mode == "RGB"
    return torch.full((3, 1, 1), image.width)


def image_of(number: int) -> bytes:
    return picture(width=10 + number)


def with_data(config: RetrievalConfig, changed: dict[str, Any]) -> RetrievalConfig:
    assert config.data is not None
    return config.model_copy(update={"data": config.data.model_copy(update=changed)})


def config_of(path: Path | str | list[str], max_samples: int | None = None, **data: Any) -> RetrievalConfig:
    path = str(path) if isinstance(path, Path) else path
    return RetrievalConfig(name="set", data=RetrievalDataConfig(path=path, **data), max_samples=max_samples)


def rows(config: RetrievalConfig, coverage: Coverage | None = None, is_benchmark: bool = False) -> list[CaptionedImage]:
    return captioned_rows(config, width_of, coverage, is_benchmark)


def images(config: RetrievalConfig, coverage: Coverage | None = None, is_benchmark: bool = False) -> list[list[str]]:
    """The captions of each image, in the images' order; checks that each has its embedding once, at first."""
    found: list[list[str]] = []
    for row in rows(config, coverage, is_benchmark):
        assert (row.embedding is not None) == (row.image == len(found))
        if row.embedding is not None:
            found.append([])
        found[row.image].extend(row.captions)
    return found


# --- layouts


def lines_of_txt(root: Path, captions: Captions) -> RetrievalConfig:
    members = []
    for number, texts in captions.items():
        members += [(f"s{number:07}.png", image_of(number)), (f"s{number:07}.txt", "\n".join(texts).encode())]
    write_tar(root / "0.tar", members)
    return config_of(root)


def json_lists(root: Path, captions: Captions) -> RetrievalConfig:
    members = []
    for number, texts in captions.items():
        fields = json.dumps({"caption": texts}).encode()
        members += [(f"s{number}.png", image_of(number)), (f"s{number}.json", fields)]
    write_tar(root / "0.tar", members)
    return config_of(root)


def write_images(root: Path, captions: Captions) -> None:
    (root / "images").mkdir()
    for number in captions:
        (root / "images" / f"{number}.png").write_bytes(image_of(number))


def caption_rows(root: Path, captions: Captions, order: Callable[[list[Any]], list[Any]] = list) -> RetrievalConfig:
    """Flickr30k's `captions.txt`: a row a caption."""
    write_images(root, captions)
    table = [(f"images/{number}.png", n, text) for number, texts in captions.items() for n, text in enumerate(texts)]
    buffer = io.StringIO()
    csv.writer(buffer).writerows([("image", "comment_number", "comment"), *order(table)])
    (root / "captions.txt").write_text(buffer.getvalue())
    return config_of(root / "captions.txt", format="csv", image_column="image", caption_column="comment")


def mixed_caption_rows(root: Path, captions: Captions) -> RetrievalConfig:
    """COCO's annotations: rows of one image lie apart."""
    return caption_rows(root, captions, lambda table: sorted(table, key=lambda row: row[1]))


def caption_rows_in_ranges(root: Path, captions: Captions) -> RetrievalConfig:
    config = caption_rows(root, captions)
    return with_data(config, {"max_rows_per_shard": 2})


def rows_with_bytes(root: Path, captions: Captions) -> RetrievalConfig:
    """A row a caption, each with the image's bytes and an id of its own."""
    table = [
        {"image": image_of(number), "caption": text, "sentid": 10 * number + n}
        for number, texts in captions.items()
        for n, text in enumerate(texts)
    ]
    pq.write_table(pa.Table.from_pylist(table), root / "rows.parquet")
    return config_of(root / "rows.parquet", image_column="image", id_column="sentid")


def samples_with_bytes(root: Path, captions: Captions) -> RetrievalConfig:
    """What img2dataset makes of a row a caption: samples of different keys with equal images, over several tars."""
    for number, texts in captions.items():
        for n, text in enumerate(texts):
            name = f"{n}{number:04}"
            members = [(f"{name}.png", image_of(number)), (f"{name}.txt", text.encode())]
            write_tar(root / f"{n}-{number}.tar", members)
    return config_of(root)


def list_column(root: Path, captions: Captions) -> RetrievalConfig:
    table = [{"image": image_of(number), "caption": texts} for number, texts in captions.items()]
    pq.write_table(pa.Table.from_pylist(table), root / "lists.parquet")
    return config_of(root / "lists.parquet", image_column="image")


def list_of_hugging_face_images(root: Path, captions: Captions) -> RetrievalConfig:
    table = [
        {"image": {"bytes": image_of(number), "path": f"{number}.png"}, "sentences": texts}
        for number, texts in captions.items()
    ]
    pq.write_table(pa.Table.from_pylist(table), root / "lists.parquet")
    return config_of(root / "lists.parquet", image_column="image", caption_column="sentences")


def lists_in_json_lines(root: Path, captions: Captions) -> RetrievalConfig:
    write_images(root, captions)
    lines = [json.dumps({"file": f"{n}.png", "captions": texts}) for n, texts in captions.items()]
    (root / "set.jsonl").write_text("\n".join(lines))
    return config_of(
        root / "set.jsonl", image_column="file", caption_column="captions", image_root=str(root / "images")
    )


LAYOUTS = [
    pytest.param(lines_of_txt, marks=case("Evaluation", "a `txt` of five lines", "five captions of one image")),
    pytest.param(json_lists, marks=case("Evaluation", "a list of captions in a json member", "all are of one image")),
    pytest.param(
        caption_rows, marks=case("Evaluation", "Flickr30k's captions.txt: a row a caption", "one image, read once")
    ),
    pytest.param(
        mixed_caption_rows,
        marks=case(
            "Evaluation", "a CSV with a row a caption, where rows of an image lie apart", "one image, read once"
        ),
    ),
    pytest.param(
        caption_rows_in_ranges,
        marks=case("Evaluation", "captions of an image in two ranges of a table", "they are joined"),
    ),
    pytest.param(
        rows_with_bytes,
        marks=case("Evaluation", "a Parquet row a caption, with the same bytes and another id", "they are joined"),
    ),
    pytest.param(
        samples_with_bytes,
        marks=case("Evaluation", "a WebDataset sample a caption, with the same image", "they are joined"),
    ),
    pytest.param(list_column, marks=case("Evaluation", "a list column of captions", "all are of one image")),
    list_of_hugging_face_images,
    lists_in_json_lines,
]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_each_image_all_its_captions(
    layout: Callable[[Path, Captions], RetrievalConfig], tmp_path: Path
) -> None:
    coverage = Coverage()
    found = images(layout(tmp_path, CAPTIONS), coverage)
    assert sorted(map(sorted, found)) == sorted(map(sorted, CAPTIONS.values()))
    assert (coverage.used, coverage.skipped_units) == (9, 0)


class Perfect(TestModel):
    """A model that knows the image of every caption."""

    def __init__(self, captions: Captions) -> None:
        self.texts = {text: number for number, texts in captions.items() for text in texts}

    def tokenize(self, texts: list[str], context_length: int = 8) -> torch.Tensor:
        numbers = [[1 + list(self.texts).index(text) if text else 0] for text in texts]
        return torch.nn.functional.pad(torch.tensor(numbers), (0, context_length - 1))

    def encode_text(self, tokens: torch.Tensor) -> torch.Tensor:
        return torch.eye(8)[[list(self.texts.values())[int(token) - 1] for token in tokens[:, 0]]]


@pytest.mark.parametrize("layout", [layout.values[0] if hasattr(layout, "values") else layout for layout in LAYOUTS])
def test_a_perfect_model_finds_everything_in_every_layout(
    layout: Callable[[Path, Captions], RetrievalConfig], tmp_path: Path
) -> None:
    model = Perfect(CAPTIONS)
    found = rows(layout(tmp_path, CAPTIONS))
    pairs = collect_captioned(found)
    with encoding(model, tokenizer=model.tokenize) as encoder:
        texts = read_texts(encoder, pairs.captions)
    pairs.embeddings = [np.eye(8, dtype=np.float32)[int(pixels[0]) - 10] for pixels in pairs.embeddings]
    metrics = retrieval_metrics(embed_pairs(pairs, texts), torch.device("cpu"), "auto").metrics
    assert {metrics[name] for name in METRICS} == {1.0}
    assert (metrics["images"], metrics["captions"]) == (3, 9)


@given(
    captions=st.dictionaries(
        st.integers(0, 30),
        st.lists(st.text("abc é", min_size=1, max_size=5).filter(str.strip), min_size=1, max_size=4),
        min_size=1,
        max_size=5,
    ),
    seed=st.randoms(use_true_random=False),
)
def test_rows_of_a_table_are_joined_in_any_order(
    captions: Captions, seed: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    def shuffled(table: list[Any]) -> list[Any]:
        seed.shuffle(table)
        return table

    found = images(caption_rows(tmp_path_factory.mktemp("set"), captions, shuffled))
    assert sorted(map(sorted, found)) == sorted(map(sorted, captions.values()))


@pytest.mark.parametrize("layout", [caption_rows, mixed_caption_rows])
def test_an_image_file_is_read_once_in_a_shard(
    layout: Callable[[Path, Captions], RetrievalConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = layout(tmp_path, CAPTIONS)
    read: list[str] = []
    original = ImageSource.read

    def count(source: ImageSource, image: Any, *options: Any) -> Any:
        if image is not None:
            read.append(image.url)
        return original(source, image, *options)

    monkeypatch.setattr(ImageSource, "read", count)
    assert len(images(config)) == 3
    assert sorted(read) == [f"images/{number}.png" for number in range(3)]


# --- what is joined, and what is not


@case("Evaluation", "a repeated id (`id#2`) in a shard", "rows of the same picture are one image, others are not")
@pytest.mark.parametrize("is_benchmark", [False, True])
def test_repeated_keys_are_joined_only_if_the_pictures_are_the_same(is_benchmark: bool, tmp_path: Path) -> None:
    members = []
    for number, text in ((0, b"a"), (0, b"b"), (1, b"c")):
        members += [("key.png", image_of(number)), ("key.txt", text)]
    write_tar(tmp_path / "0.tar", members)
    assert images(config_of(tmp_path), is_benchmark=is_benchmark) == [["a", "b"], ["c"]]


def test_equal_pictures_of_a_benchmark_set_stay_separate_and_are_known_to_be_equal(tmp_path: Path) -> None:
    write_tar(
        tmp_path / "0.tar",
        [("a.png", image_of(0)), ("a.txt", b"a"), ("b.png", image_of(1)), ("b.txt", b"b"), ("c.png", image_of(0)),
         ("c.txt", b"c")],
    )  # fmt: skip
    assert images(config_of(tmp_path)) == [["a", "c"], ["b"]]
    found = rows(config_of(tmp_path), is_benchmark=True)
    assert [(row.image, row.picture) for row in found] == [(0, 0), (1, 1), (2, 0)]


def test_equal_captions_of_different_pictures_stay_separate(tmp_path: Path) -> None:
    table = [{"image": image_of(number), "caption": "a fox"} for number in range(3)]
    pq.write_table(pa.Table.from_pylist(table), tmp_path / "0.parquet")  # the id is the caption's hash
    assert images(config_of(tmp_path, image_column="image")) == [["a fox"]] * 3


def test_one_relative_path_in_two_directories_is_two_images(tmp_path: Path) -> None:
    for number in range(2):
        directory = tmp_path / str(number)
        directory.mkdir()
        (directory / "image.png").write_bytes(image_of(number))
        (directory / f"t{number}.csv").write_text(f"image,caption\nimage.png,a{number}\nimage.png,b{number}\n")
    found = images(config_of([f"{tmp_path}/0/t0.csv", f"{tmp_path}/1/t1.csv"], image_column="image"))
    assert found == [["a0", "b0"], ["a1", "b1"]]


def test_only_the_first_caption_is_used_if_the_config_says_so(tmp_path: Path) -> None:
    for layout in (lines_of_txt, list_column):
        directory = tmp_path / layout.__name__
        directory.mkdir()
        config = layout(directory, CAPTIONS)
        config = with_data(config, {"captions": "first"})
        assert images(config) == [texts[:1] for texts in CAPTIONS.values()]


# --- what is skipped


def captioned(root: Path) -> RetrievalConfig:
    members = [("bad.png", b"broken"), ("bad.txt", b"of a broken image"), ("none.png", picture())]
    for number in range(5):
        members += [(f"k{number}.png", image_of(number)), (f"k{number}.txt", b"caption %d" % number)]
    write_tar(root / "0.tar", members[:9])
    write_tar(root / "1.tar", members[9:])
    return config_of(root)


@pytest.mark.parametrize("at_most", [None, 1, 3, 5, 9])
def test_captioned_images_are_the_first_usable_ones(at_most: int | None, tmp_path: Path) -> None:
    coverage = Coverage()
    config = captioned(tmp_path).model_copy(update={"max_samples": at_most})
    assert images(config, coverage) == [[f"caption {number}"] for number in range(5)][:at_most]
    assert coverage.skipped.names == {IMAGE_UNREADABLE: ["bad"], CAPTION_MISSING: ["none"]}
    assert coverage.skipped_units == 2


def test_the_first_images_have_the_captions_in_the_rows_up_to_there(tmp_path: Path) -> None:
    config = caption_rows(tmp_path, CAPTIONS).model_copy(update={"max_samples": 2})
    assert images(config) == [CAPTIONS[0], CAPTIONS[1]]


@case("Evaluation", "blank lines among the captions of an image", "they are no captions", counted_as=CAPTION_EMPTY)
def test_blank_captions_are_counted(tmp_path: Path) -> None:
    coverage = Coverage()
    captions = {0: ["a", "", "b"], 1: ["c", "  "], 2: ["", " "]}
    assert images(lines_of_txt(tmp_path, captions), coverage) == [["a", "b"], ["c"]]
    assert coverage.skipped.counts == {CAPTION_EMPTY: 3}
    assert coverage.skipped.names == {CAPTION_EMPTY: ["s0000000", "s0000001", "s0000002"]}


@case(
    "Evaluation", "an image with five captions that cannot be read", "five captions are skipped", counted_as="image_*"
)
@pytest.mark.parametrize("layout", [lines_of_txt, caption_rows, rows_with_bytes, list_column])
def test_the_captions_of_an_unreadable_image_are_counted(
    layout: Callable[[Path, Captions], RetrievalConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{__name__}.image_of", lambda number: b"broken" if number == 2 else picture(width=10 + number))
    coverage = Coverage()
    assert images(layout(tmp_path, CAPTIONS), coverage) == [CAPTIONS[0], CAPTIONS[1]]
    assert coverage.skipped.counts == {IMAGE_UNREADABLE: 4}


def test_a_missing_image_file_leaves_out_its_rows_only(tmp_path: Path) -> None:
    config = caption_rows(tmp_path, CAPTIONS)
    (tmp_path / "images" / "1.png").unlink()
    coverage = Coverage()
    assert images(config, coverage) == [CAPTIONS[0], CAPTIONS[2]]
    assert coverage.skipped.counts == {IMAGE_MISSING: 2}


def test_an_image_whose_first_row_has_no_caption_is_used_with_its_next_row(tmp_path: Path) -> None:
    write_images(tmp_path, CAPTIONS)
    (tmp_path / "t.csv").write_text("image,caption\nimages/0.png,\nimages/0.png,a fox\nimages/1.png,\n")
    coverage = Coverage()
    assert images(config_of(tmp_path / "t.csv", image_column="image"), coverage) == [["a fox"]]
    assert coverage.skipped.counts == {CAPTION_EMPTY: 2}


def test_pictures_of_hostile_sizes_are_skipped(tmp_path: Path) -> None:
    config = captioned(tmp_path)
    thin, large = encode(Image.new("L", (1, 9_000))), encode(Image.new("1", (3_000, 3_000)))
    write_tar(tmp_path / "2.tar", [("t.png", thin), ("t.txt", b"thin"), ("l.png", large), ("l.txt", b"large")])
    config = with_data(config, {"max_pixels": 8_999_999})
    coverage = Coverage()
    assert len(images(config, coverage)) == 5
    assert coverage.skipped.names[IMAGE_TOO_LARGE] == ["l"]
    assert coverage.skipped.names[IMAGE_TOO_THIN] == ["t"]


@case("Evaluation", "EXIF orientation in a retrieval set", "applied, unless `exif: false` is set")
@pytest.mark.parametrize(("exif", "width"), [(True, 40), (False, 16)])
def test_retrieval_follows_the_setting_of_exif(exif: bool, width: int, tmp_path: Path) -> None:
    tags = Image.Exif()
    tags[0x0112] = 6
    turned = encode(Image.fromarray(smooth_pixels(16, 40)), "JPEG", exif=tags)
    write_tar(tmp_path / "0.tar", [("a.jpg", turned), ("a.txt", b"a")])
    (row,) = rows(config_of(tmp_path, exif=exif))
    assert row.embedding is not None
    assert int(row.embedding[0]) == width


@case("Evaluation", "a shard of a retrieval set that is cut or no tar", "the others are measured", counted_as="shard_*")
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (tar_bytes([("x.png", picture()), ("x.txt", b"x"), ("y.png", picture())])[:2_300], SHARD_TRUNCATED),
        (b"<html>", SHARD_UNREADABLE),
    ],
)
def test_a_damaged_shard_is_counted_and_the_others_are_read(content: bytes, reason: str, tmp_path: Path) -> None:
    config = captioned(tmp_path)
    (tmp_path / "00.tar").write_bytes(content)
    coverage = Coverage()
    assert len(images(config, coverage)) >= 5
    assert coverage.skipped.names[reason] == ["00.tar"]


@case("Evaluation", "the storage refuses a shard", "the dataset has no result; the others have", exit_code=3)
def test_refused_access_ends_the_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = captioned(tmp_path)
    original = storage.filesystem("")[0].__class__.open

    def refuse(fs: Any, path: str, *arguments: Any, **options: Any) -> Any:
        if path.endswith("1.tar"):
            raise PermissionError(13, "Access Denied", path)
        return original(fs, path, *arguments, **options)

    monkeypatch.setattr(storage.filesystem("")[0].__class__, "open", refuse)
    with pytest.raises(NoResultError, match=r"the storage refuses 1\.tar: PermissionError.*Access Denied"):
        images(config)


# --- dataset_type.txt


@pytest.mark.parametrize("path", ["set", "set/test", "set/test/0.tar", "set/test/*.tar", "set/test/{0..1}.tar"])
@pytest.mark.parametrize(("content", "expected"), [("retrieval\n", True), (None, False)])
def test_a_benchmark_set_says_so(path: str, content: str | None, expected: bool, tmp_path: Path) -> None:
    (tmp_path / "set" / "test").mkdir(parents=True)
    lines_of_txt(tmp_path / "set" / "test", CAPTIONS)
    if content is not None:
        (tmp_path / "set" / "dataset_type.txt").write_text(content)
    assert is_benchmark_set(RetrievalDataConfig(path=str(tmp_path / path)), "data") is expected


def test_a_benchmark_set_says_so_on_the_hub() -> None:
    with hub({"dataset_type.txt": b"retrieval", "test/0.tar": b""}):
        assert is_benchmark_set(RetrievalDataConfig(path=f"{PAGE}/test"), "data")


@case("Evaluation", "a labelled set under retrieval (dataset_type.txt)", "refused", exit_code=2)
@pytest.mark.parametrize("kind", ["classification", "multilabel"])
def test_a_labelled_set_is_refused(kind: str, tmp_path: Path) -> None:
    (tmp_path / "test").mkdir()
    (tmp_path / "dataset_type.txt").write_text(kind)
    data = RetrievalDataConfig(path=str(tmp_path / "test"))
    with pytest.raises(UserError, match=rf"^evaluate\.x\.path: .* holds a {kind} set .*evaluate\.labelled"):
        is_benchmark_set(data, "evaluate.x")


def test_several_splits_of_a_benchmark_set_are_not_read_together(tmp_path: Path) -> None:
    (tmp_path / "dataset_type.txt").write_text("retrieval")
    for split in ("test", "train"):
        (tmp_path / split).mkdir()
        (tmp_path / split / "nshards.txt").write_text("1")
    with pytest.raises(UserError, match=r"^data\.path: .* holds several splits \(test, train\); give .*/test$"):
        is_benchmark_set(RetrievalDataConfig(path=str(tmp_path)), "data")
    assert is_benchmark_set(RetrievalDataConfig(path=str(tmp_path / "test")), "data")


def test_without_a_directory_nothing_says_so(tmp_path: Path) -> None:
    for path in ("no/such/place", "*.tar", f"{tmp_path}/missing/*.tar"):
        assert not is_benchmark_set(RetrievalDataConfig(path=path), "data")
