"""A rewrite is refused if and only if open_clip finds it less similar to the picture than the margin allows."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch
from PIL import Image

from laclip_ray.config import DataConfig, PictureGateConfig
from laclip_ray.data.records import hash_caption
from laclip_ray.data.shards import list_shards
from laclip_ray.data.text_choice import SampleKey
from laclip_ray.errors import UserError
from laclip_ray.models.building import create_model
from laclip_ray.models.files import save_model
from laclip_ray.models.specs import load_model_spec
from laclip_ray.rewriting import tables
from laclip_ray.rewriting.scoring.picture_gate import (
    UNLIKE_PICTURE,
    PictureScorer,
    PictureScores,
    picture_scorer_id,
    read_images,
    refuse_unlike,
    score_draws,
)
from tests.cases import case
from tests.unit.conftest import encode, picture, smooth_pixels, write_tar

MODEL = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
CAPTIONS = [f"caption number {number} of a {word}" for number, word in enumerate(("dog", "red car", "house", "lake"))]
REWRITES = [
    ["a dog runs over the grass", "puppy", "the tax form of 1998"],
    ["a car in red, parked"],
    [],
    ["water below mountains", "four boats on a lake at dawn", "a lake", "nothing of the sort", "lake " * 40],
]


def coloured(seed: int) -> Image.Image:
    """A picture of coloured blocks; each seed gives another one."""
    blocks = np.random.Generator(np.random.Philox(seed)).integers(0, 255, (4, 4, 3), np.uint8)
    return Image.fromarray(blocks).resize((48, 40), Image.Resampling.NEAREST)


PICTURES = [encode(coloured(seed)) for seed in range(4)]


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The export of a random model, for which different texts have different similarities."""
    root = tmp_path_factory.mktemp("picture_gate")
    (root / "tiny-clip.json").write_text(json.dumps(MODEL))
    spec = load_model_spec(str(root / "tiny-clip.json"))
    (root / "export").mkdir()
    save_model(root / "export", create_model(spec, seed=3), spec)
    return str(root / "export")


@pytest.fixture(scope="module")
def differences(export: str) -> list[list[float]]:
    """The similarity of each rewrite minus the caption's, computed one text at a time."""
    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{export}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{export}")
    model.eval()

    def cosine(image: Image.Image, text: str) -> float:
        with torch.no_grad():
            seen, read = model.encode_image(transform(image)[None])[0], model.encode_text(tokenizer([text]))[0]
        return float(seen @ read / seen.norm() / read.norm())

    return [
        [cosine(coloured(row), text) - cosine(coloured(row), CAPTIONS[row]) for text in rewrites]
        for row, rewrites in enumerate(REWRITES)
    ]


def draws_of(captions: Sequence[str], rewrites: Sequence[Sequence[str | None]]) -> pa.Table:
    """A draws table; sample n has the id `s<n>`. A text of None stands for a caption that was too long."""
    rows = [
        {
            "id": f"s{row}",
            "caption_hash": hash_caption(caption),
            "caption": caption,
            "problems": "",
            "draw": draw,
            "attempt": 0,
            "head": 0,
            "outcome": tables.DRAWN if text is not None else tables.CAPTION_TOO_LONG,
            "text": text,
            "truncated": False,
            **dict.fromkeys(tables.TOKENS, 1),
        }
        for row, (caption, texts) in enumerate(zip(captions, rewrites, strict=True))
        for draw, text in enumerate(texts)
    ]
    return pa.Table.from_pylist(rows, schema=tables.DRAWS_SCHEMA)


def images_of(captions: Sequence[str], images: Sequence[bytes | None]) -> list[tuple[SampleKey, bytes | None]]:
    return [
        ((f"s{row}", hash_caption(caption)), image)
        for row, (caption, image) in enumerate(zip(captions, images, strict=True))
    ]


def judge(scorer: PictureScorer, margin: float, images: Sequence[bytes | None] = PICTURES) -> list[list[bool]]:
    """Whether each rewrite of `REWRITES` is kept, and that samples without similarities keep everything."""
    scored = scorer.score(images, CAPTIONS, REWRITES)
    return [
        [True] * len(texts) if scores is None else [one >= scores.caption - margin for one in scores.rewrites]
        for scores, texts in zip(scored, REWRITES, strict=True)
    ]


def refine(
    draws: pa.Table,
    reasons: pa.Array,
    images: Iterable[tuple[SampleKey, bytes | None]],
    scorer: PictureScorer,
    margin: float = 0.0,
) -> tuple[pa.Array, int]:
    """The reasons after the picture gate, and the number of samples without a readable picture."""
    scores, unjudged = score_draws(draws, reasons, lambda: images, lambda: scorer)
    return refuse_unlike(reasons, scores, margin), unjudged


def accepted(draws: pa.Table) -> pa.Array:
    return pa.nulls(draws.num_rows, pa.string())


def test_any_rewrite_is_kept_by_a_margin_beyond_all_cosines(export: str) -> None:
    kept = judge(PictureScorer(export, None, 8), 2.0)
    assert kept == [[True] * len(texts) for texts in REWRITES]


def test_decisions_are_those_of_cosines_computed_by_open_clip_alone(
    export: str, differences: list[list[float]]
) -> None:
    # Margins between neighbouring losses, below all and above all: every decision flips once.
    losses = sorted({-difference for row in differences for difference in row if difference < 0})
    assert len(losses) >= 3, "the model tells too few of the texts apart for this test to mean something"
    between = [(low + high) / 2 for low, high in zip([0.0, *losses], [*losses, 2.0], strict=True)]
    margins = [margin for margin in between if all(abs(margin - loss) > 1e-5 for loss in losses)]
    assert len(margins) >= 3
    scorer = PictureScorer(export, None, 8)
    for margin in margins:
        kept = judge(scorer, margin)
        assert kept == [[difference >= -margin for difference in row] for row in differences]


def test_without_a_margin_the_caption_itself_is_kept(export: str) -> None:
    for scores in PictureScorer(export, None, 3).score(PICTURES, CAPTIONS, [[caption] for caption in CAPTIONS]):
        assert scores is not None
        assert scores.rewrites == [scores.caption]


@pytest.mark.parametrize("batch_size", [1, 2, 3, 4])
def test_the_batch_size_does_not_matter(export: str, differences: list[list[float]], batch_size: int) -> None:
    kept = judge(PictureScorer(export, None, batch_size), 1e-4)
    assert kept == [[difference >= -1e-4 for difference in row] for row in differences]
    assert not all(map(all, kept))


@pytest.mark.parametrize(
    "image",
    [
        None,
        b"",
        b"<html>not found</html>",
        picture("JPEG")[:300],
        picture("PNG")[:-60],
        picture("DDS")[:80] + bytes(4) + picture("DDS")[84:],  # Pillow raises NotImplementedError
        encode(Image.fromarray(smooth_pixels(4_000, 2))),
    ],
    ids=["missing", "empty", "no_image", "cut_jpeg", "cut_png", "unknown_kind_of_pixels", "a_line"],
)
def test_without_a_readable_picture_a_sample_has_no_scores_and_the_others_do(
    export: str, differences: list[list[float]], image: bytes | None
) -> None:
    scorer, images = PictureScorer(export, None, 8), [PICTURES[0], image, image, PICTURES[3]]
    assert [scores is None for scores in scorer.score(images, CAPTIONS, REWRITES)] == [False, True, True, False]
    kept = judge(scorer, 0.0, images)
    first, last = ([difference >= 0 for difference in differences[row]] for row in (0, 3))
    assert kept == [first, [True], [], last]


def test_a_directory_may_have_open_clips_prefix_or_be_a_url_or_relative(
    export: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = PictureScorer(export, None, 8).score(PICTURES, CAPTIONS, REWRITES)
    monkeypatch.chdir(Path(export).parent)
    for model in (f"local-dir:{export}", "export", f"file://{export}"):
        assert PictureScorer(model, None, 8).score(PICTURES, CAPTIONS, REWRITES) == expected


def test_a_directory_on_an_object_store_is_copied(export: str) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.put(f"{export}/", "/picture_gate/export", recursive=True)
    try:
        scorer = PictureScorer("memory://picture_gate/export", None, 8)
    finally:
        memory.rm("/picture_gate", recursive=True)
    expected = PictureScorer(export, None, 8)
    assert scorer.score(PICTURES, CAPTIONS, REWRITES) == expected.score(PICTURES, CAPTIONS, REWRITES)


def test_a_name_of_open_clip_takes_a_checkpoint_file(
    export: str, tmp_path: Path, differences: list[list[float]]
) -> None:
    # open_clip has no small model, so this one is registered under a name.
    open_clip.add_model_config(Path(export).parent / "tiny-clip.json")
    torch.save(open_clip.create_model(f"local-dir:{export}").state_dict(), tmp_path / "weights.pt")
    kept = judge(PictureScorer("tiny-clip", str(tmp_path / "weights.pt"), 8), 0.0)
    assert kept == [[difference >= 0 for difference in row] for row in differences]


class _Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.path,)


def test_a_checkpoint_that_would_run_code_is_refused_unrun(export: str, tmp_path: Path) -> None:
    open_clip.add_model_config(Path(export).parent / "tiny-clip.json")
    torch.save({"state_dict": _Payload(tmp_path / "ran")}, tmp_path / "weights.pt")
    with pytest.raises(UserError, match="nothing of it was run"):
        PictureScorer("tiny-clip", str(tmp_path / "weights.pt"), 8)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("model", "pretrained", "message"),
    [
        ("ViT-B-23", None, r"here\.model: open_clip knows no model 'ViT-B-23'.*similar: .*ViT-B-32"),
        ("ViT-B-23", "openai", r"here\.pretrained: .*similar: .*ViT-B-32"),
        ("ViT-B-32", None, r"here\.pretrained: ViT-B-32 has no weights without it.*laion2b_s34b_b79k"),
        ("ViT-B-32", "laion_of_2031", r"here\.pretrained: 'laion_of_2031' is neither.*laion2b_s34b_b79k"),
        ("/no/such/directory", None, r"here\.model: .*no open_clip_config\.json"),
        ("local-dir:/no/such/directory", None, r"here\.model: .*no open_clip_config\.json"),
    ],
)
def test_an_unknown_model_is_refused(model: str, pretrained: str | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        PictureScorer(model, pretrained, 8, setting="here")


def test_a_directory_without_weights_or_with_damaged_ones_is_refused(export: str, tmp_path: Path) -> None:
    (tmp_path / "open_clip_config.json").write_bytes((Path(export) / "open_clip_config.json").read_bytes())
    with pytest.raises(UserError, match="has no weights"):
        PictureScorer(str(tmp_path), None, 8)
    weights = (Path(export) / "open_clip_model.safetensors").read_bytes()
    (tmp_path / "open_clip_model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(UserError, match="cannot be loaded"):
        PictureScorer(str(tmp_path), None, 8)


def test_a_directory_takes_no_other_weights(export: str) -> None:
    with pytest.raises(UserError, match="bring their weights"):
        PictureScorer(export, "openai", 8)


def test_a_model_that_diverged_is_refused(export: str, tmp_path: Path) -> None:
    spec = load_model_spec(str(Path(export).parent / "tiny-clip.json"))
    model = create_model(spec, seed=0)
    with torch.no_grad():
        model.get_parameter("text_projection").fill_(float("nan"))
    save_model(tmp_path, model, spec)
    with pytest.raises(UserError, match="similarity of nan"):
        PictureScorer(str(tmp_path), None, 8)


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_refining_refuses_what_is_judged_unlike(export: str, differences: list[list[float]], batch_size: int) -> None:
    draws = draws_of(CAPTIONS, REWRITES)
    reasons, unjudged = refine(
        draws, accepted(draws), images_of(CAPTIONS, PICTURES), PictureScorer(export, None, batch_size)
    )
    expected = [None if difference >= 0 else UNLIKE_PICTURE for row in differences for difference in row]
    assert reasons.type == pa.string()
    assert reasons.to_pylist() == expected
    assert {None, UNLIKE_PICTURE} == set(expected)
    assert unjudged == 0


def test_refining_leaves_draws_that_were_refused_as_they_are(export: str, differences: list[list[float]]) -> None:
    draws = draws_of([*CAPTIONS, "too long"], [*REWRITES, [None]])
    before = pa.array(
        ["truncated", None, "looping", "empty", *[None] * 4, "unrelated", tables.CAPTION_TOO_LONG], pa.string()
    )
    images = images_of([*CAPTIONS, "too long"], [*PICTURES, None])
    reasons, unjudged = refine(draws, before, images, PictureScorer(export, None, 2))
    flat = [difference for row in differences for difference in row] + [0.0]
    assert reasons.to_pylist() == [
        reason or (None if difference >= 0 else UNLIKE_PICTURE)
        for reason, difference in zip(before.to_pylist(), flat, strict=True)
    ]
    assert unjudged == 0


@case(
    "Identity",
    "a picture gate and `data.image_column`, both set after a captions-only rewriting",
    "each rewrite is judged by the picture of its row",
)
def test_pictures_of_samples_with_new_ids_are_found_by_row_and_caption(export: str) -> None:
    rewrites = [texts or ["a house"] for texts in REWRITES]  # real draws have a row for each sample
    draws = draws_of(CAPTIONS, rewrites)
    images = images_of(CAPTIONS, PICTURES)
    renamed = [((f"new-{row}.png", key[1]), image) for row, (key, image) in enumerate(images)]
    scorer = PictureScorer(export, None, 2)
    reasons, unjudged = refine(draws, accepted(draws), renamed, scorer)
    assert unjudged == 0
    assert reasons.to_pylist() == refine(draws, accepted(draws), images, scorer)[0].to_pylist()


def test_refining_counts_samples_without_a_readable_picture(export: str, differences: list[list[float]]) -> None:
    draws = draws_of(CAPTIONS, REWRITES)
    scorer = PictureScorer(export, None, 2)
    # The first picture is damaged, the second caption was edited, the third sample has no draws, the last is intact.
    images = images_of([CAPTIONS[0], "edited", *CAPTIONS[2:]], [b"damaged", PICTURES[1], None, PICTURES[3]])
    reasons, unjudged = refine(draws, accepted(draws), images, scorer)
    assert unjudged == 2
    last = [None if difference >= 0 else UNLIKE_PICTURE for difference in differences[3]]
    assert reasons.to_pylist() == [None] * 4 + last


def test_refining_reads_a_batch_of_pictures_ahead_and_none_in_vain(export: str) -> None:
    read: list[int] = []
    judged: list[tuple[int, int]] = []

    class Watched(PictureScorer):
        """Notes how many pictures it gets, and how many were read before."""

        def score(
            self, images: Sequence[bytes | None], captions: Sequence[str], rewrites: Sequence[Sequence[str]]
        ) -> list[PictureScores | None]:
            judged.append((len(images), len(read)))
            return super().score(images, captions, rewrites)

    captions = [f"caption {number}" for number in range(20)]
    # Every second one of the first ten samples has a draw.
    draws = draws_of(captions, [["a rewrite"] if number < 10 and number % 2 == 0 else [] for number in range(20)])

    def images() -> Iterator[tuple[SampleKey, bytes | None]]:
        for number, key_and_image in enumerate(images_of(captions, [PICTURES[0]] * 20)):
            read.append(number)
            yield key_and_image

    refine(draws, accepted(draws), images(), Watched(export, None, 2))
    assert judged == [(2, 3), (2, 7), (1, 9)]
    assert read == list(range(9))


def test_a_shards_pictures_come_by_id_and_caption_hash_as_its_draws_are_known(export: str, tmp_path: Path) -> None:
    members = [
        ("s0.png", PICTURES[0]),
        ("s0.txt", CAPTIONS[0].encode()),
        ("s1.txt", CAPTIONS[1].encode()),
        ("s0.png", PICTURES[2]),
        ("s0.txt", CAPTIONS[0].encode()),
    ]
    write_tar(tmp_path / "data" / "0.tar", members)
    data = DataConfig(path=str(tmp_path / "data"))
    (shard,) = list_shards(data)
    images = list(read_images(shard, data))
    assert images == [
        (("s0", hash_caption(CAPTIONS[0])), PICTURES[0]),
        (("s1", hash_caption(CAPTIONS[1])), None),
        (("s0#2", hash_caption(CAPTIONS[0])), PICTURES[2]),
    ]
    draws = draws_of(CAPTIONS[:2], REWRITES[:2])
    _, unjudged = refine(draws, accepted(draws), read_images(shard, data), PictureScorer(export, None, 8))
    assert unjudged == 1


# --- stored scores


def unused() -> Any:
    raise AssertionError("not needed")


def stored_of(draws: pa.Table, scorer: PictureScorer) -> Mapping[str, pa.Array]:
    scores, _ = score_draws(draws, accepted(draws), lambda: images_of(CAPTIONS, PICTURES), lambda: scorer)
    return scores


def test_scores_are_the_cosines_of_rewrite_and_caption_with_the_picture(export: str) -> None:
    scorer, draws = PictureScorer(export, None, 3), draws_of(CAPTIONS, REWRITES)
    scores = stored_of(draws, scorer)
    by_sample = [each for each in scorer.score(PICTURES, CAPTIONS, REWRITES) if each is not None]
    expected = [similarity for each in by_sample for similarity in each.rewrites]
    assert scores["picture"].to_pylist() == pytest.approx(expected)
    expected = [each.caption for each in by_sample for _ in each.rewrites]
    assert scores["caption_picture"].to_pylist() == pytest.approx(expected)


def test_stored_scores_need_neither_pictures_nor_a_model(export: str, differences: list[list[float]]) -> None:
    draws = draws_of(CAPTIONS, REWRITES)
    stored = stored_of(draws, PictureScorer(export, None, 8))
    scores, unjudged = score_draws(draws, accepted(draws), unused, unused, stored)
    assert (scores, unjudged) == (dict(stored), 0)
    expected = [None if difference >= 0 else UNLIKE_PICTURE for row in differences for difference in row]
    assert refuse_unlike(accepted(draws), scores, 0.0).to_pylist() == expected


def test_only_draws_without_a_stored_score_are_scored(export: str) -> None:
    scorer, draws = PictureScorer(export, None, 8), draws_of(CAPTIONS, REWRITES)
    whole = stored_of(draws, scorer)
    kept = pa.array([row < 3 for row in range(draws.num_rows)])  # of the first sample
    partly = {name: pc.if_else(kept, column, None) for name, column in whole.items()}
    images = images_of(CAPTIONS, [None, *PICTURES[1:]])
    scores, unjudged = score_draws(draws, accepted(draws), lambda: images, lambda: scorer, partly)
    assert unjudged == 0
    for name, column in scores.items():
        assert column.to_pylist() == pytest.approx(whole[name].to_pylist())


def test_a_refused_draw_has_no_score(export: str) -> None:
    draws = draws_of(CAPTIONS, REWRITES)
    reasons = pa.array(["looping"] * draws.num_rows, pa.string())
    scores, unjudged = score_draws(draws, reasons, unused, unused)
    assert unjudged == 0
    assert all(column.null_count == draws.num_rows for column in scores.values())
    assert refuse_unlike(reasons, scores, 0.0).equals(reasons)


def test_the_scorer_is_known_by_its_model_and_the_decoding_of_pictures() -> None:
    data, picture = DataConfig(path="data"), PictureGateConfig(model="ViT-B-32", pretrained="openai")
    first = picture_scorer_id(picture, data)
    assert picture_scorer_id(picture.model_copy(update={"margin": 0.5, "batch_size": 1}), data) == first
    assert picture_scorer_id(picture.model_copy(update={"pretrained": "laion2b"}), data) != first
    assert picture_scorer_id(picture, data.model_copy(update={"exif": False})) != first


def test_a_model_whose_tokens_are_not_its_tokenisers_is_refused(tmp_path: Path) -> None:
    few = {**MODEL, "text_cfg": {**MODEL["text_cfg"], "vocab_size": 64}}  # type: ignore[dict-item]
    (tmp_path / "few-words.json").write_text(json.dumps(few))
    spec = load_model_spec(str(tmp_path / "few-words.json"))
    (tmp_path / "export").mkdir()
    save_model(tmp_path / "export", create_model(spec, seed=3), spec)
    with pytest.raises(UserError, match=rf"^a\.model: {tmp_path}/export cannot be used: index out of range"):
        PictureScorer(str(tmp_path / "export"), None, 2, "cpu", setting="a")
