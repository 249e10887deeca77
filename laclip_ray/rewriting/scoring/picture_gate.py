"""The picture gate: refuse a rewrite that fits its picture clearly worse than the caption does.

The first gate (`gate`) compares two texts. This gate compares both with the picture, by a CLIP model: `PictureScorer`
computes the cosine similarities of caption and rewrite with the picture, and `refuse_unlike` refuses a rewrite as
`unlike_picture` if its similarity is more than a margin below the caption's. It judges only rewrites that the first
gate accepted, and changes no other verdict.

Guarantees: a missing or undecodable picture refuses no rewrite, and its sample is counted. `score_draws` holds the
pictures of at most `batch_size` samples at a time; it reads no picture and loads no model if all scores are stored. A
rewrite equal to the caption is never refused, at any margin.

Not covered: captions that do not describe their picture, since the caption is the measure here; text beyond the model's
context, which its tokeniser cuts off. The last digits of similarities differ between devices and batch sizes, so a
rewrite within about 1e-6 of the margin may be judged either way.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from laclip_ray.config import DataConfig, PictureGateConfig
from laclip_ray.config.markers import DIRECTORY_PREFIX
from laclip_ray.data.image_formats import DEFAULT_LIMITS, ImageError, ImageLimits
from laclip_ray.data.pictures import open_rgb
from laclip_ray.data.records import Shard
from laclip_ray.data.shards import read_samples
from laclip_ray.data.text_choice import SampleKey
from laclip_ray.errors import UserError
from laclip_ray.models.loading import describe_model, load_model
from laclip_ray.rewriting.recipe import fingerprint_of, model_digest

if TYPE_CHECKING:
    import torch

UNLIKE_PICTURE = "unlike_picture"
"""The reason of a rewrite that this gate refuses."""

PICTURE_SCORES = ("picture", "caption_picture")
"""The scores that this gate stores (`tables.SCORES`)."""


class PictureScores(NamedTuple):
    """Cosine similarities with a sample's picture."""

    caption: float
    rewrites: Sequence[float]


class PictureScorer:
    """Computes similarities of texts and pictures, with a CLIP model on a GPU if there is one.

    It does not change after construction: a score is a function of `score`'s arguments.
    """

    def __init__(
        self,
        model: str,
        pretrained: str | None,
        batch_size: int,
        device: str | None = None,
        setting: str = "rewrite.gate.picture",
        limits: ImageLimits = DEFAULT_LIMITS,
        exif: bool = True,
    ) -> None:
        """Load the model, its transform and its tokeniser.

        Args:
            model: a model as `models.loading` takes it.
            pretrained: the weights of an open_clip name; None for all other models.
            batch_size: samples scored at a time, and texts encoded at a time.
            device: where to compute. None: a GPU if there is one.
            setting: the config section of these values, for messages.
            limits: sizes above which a picture counts as unreadable.
            exif: whether to turn pictures by their EXIF orientation.

        Raises:
            UserError: the model does not exist, cannot be loaded, or gives no similarities.
        """
        # Imported here because torch takes seconds to load, and other modules need only the reason's name.
        import torch

        self._limits, self._exif = limits, exif
        self.batch_size = batch_size
        self._device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        # Pillow decodes without the interpreter's lock. Ray gives torch as many threads as the actor has CPUs.
        self._decoders = ThreadPoolExecutor(torch.get_num_threads(), "decode")
        self._loaded = load_model(model, pretrained, self._device, f"{setting}.model")
        name = describe_model(model, pretrained)
        try:
            grey = self._loaded.transform(Image.new("RGB", (64, 64), (128, 128, 128)))
            similarity = self._similarities([grey], ["a picture"])[0][0]
        except Exception as error:  # the model's code may raise any error
            raise UserError(f"{setting}.model: {name} cannot be used: {error}") from error
        if not -1.01 < similarity < 1.01:
            raise UserError(f"{setting}.model: {name} gives a similarity of {similarity}")

    def score(
        self, images: Sequence[bytes | None], captions: Sequence[str], rewrites: Sequence[Sequence[str]]
    ) -> list[PictureScores | None]:
        """Compare captions and rewrites with their pictures.

        Args:
            images: N encoded pictures; None if a sample has no picture.
            captions: N captions.
            rewrites: the rewrites of each of the N captions.

        Returns:
            For each sample, its similarities. None: it has no rewrites, or no picture that can be decoded.
        """
        scores: list[PictureScores | None] = [None] * len(images)
        with_rewrites = [row for row, texts in enumerate(rewrites) if texts]
        for start in range(0, len(with_rewrites), self.batch_size):
            rows = with_rewrites[start : start + self.batch_size]
            decoded = self._decoders.map(self._decode, [images[row] for row in rows])
            pixels_of = {row: pixels for row, pixels in zip(rows, decoded, strict=True) if pixels is not None}
            if not pixels_of:
                continue
            # Each distinct text is embedded once, so equal texts have equal similarities.
            number_of: dict[str, int] = {}
            for row in pixels_of:
                for text in (captions[row], *rewrites[row]):
                    number_of.setdefault(text, len(number_of))
            similarities = self._similarities(list(pixels_of.values()), list(number_of))
            for row, similarity in zip(pixels_of, similarities, strict=True):
                of_rewrites = [similarity[number_of[text]] for text in rewrites[row]]
                scores[row] = PictureScores(similarity[number_of[captions[row]]], of_rewrites)
        return scores

    def _decode(self, image: bytes | None) -> "torch.Tensor | None":
        """Pixels [3, H, W] of an encoded picture, for the model; None if it cannot be decoded whole."""
        if not image:
            return None
        try:
            picture = open_rgb(image, self._limits, self._exif)
        except ImageError:
            return None
        return self._loaded.transform(picture)

    def _similarities(self, pixels: Sequence["torch.Tensor"], texts: Sequence[str]) -> list[list[float]]:
        """The cosine similarity of each of N pictures with each of T texts: N lists of T."""
        import torch

        model = self._loaded.model
        with torch.inference_mode():
            pictures = model.encode_image(torch.stack(list(pixels)).to(self._device), normalize=True)
            parts = []
            for start in range(0, len(texts), self.batch_size):
                tokens = self._loaded.tokenizer(list(texts[start : start + self.batch_size])).to(self._device)
                parts.append(model.encode_text(tokens, normalize=True))
            similarities: list[list[float]] = (pictures.float() @ torch.cat(parts).float().T).tolist()
        return similarities


def read_images(shard: Shard, data: DataConfig) -> Iterator[tuple[SampleKey, bytes | None]]:
    """Yield ((id, caption hash), encoded picture or None) of each sample of a shard, in the shard's order.

    Raises:
        OSError: the storage failed.
    """
    for sample in read_samples(shard, data, with_images=True):
        yield (sample.id, sample.caption_hash), sample.image


def picture_scorer_id(picture: PictureGateConfig, data: DataConfig) -> str:
    """A fingerprint of everything that decides a similarity: the model, and how pictures are decoded."""
    return fingerprint_of(
        {
            "model": picture.model,
            "pretrained": picture.pretrained,
            "weights": model_digest(picture.model.removeprefix(DIRECTORY_PREFIX)),
            "limits": asdict(ImageLimits.of(data)),
            "exif": data.exif,
        }
    )


def score_draws(
    draws: pa.Table,
    reasons: pa.Array,
    read: Callable[[], Iterable[tuple[SampleKey, bytes | None]]],
    load: Callable[[], PictureScorer],
    stored: Mapping[str, pa.Array] | None = None,
) -> tuple[dict[str, pa.Array], int]:
    """The `PICTURE_SCORES` of accepted draws.

    Args:
        draws: a table of `tables.DRAWS_SCHEMA`.
        reasons: the first gate's reason for each draw; null: accepted.
        read: begins to read the shard's pictures, such as `read_images`. They are read once, at most a batch ahead, and
            no further than the last sample with a draw to score.
        load: loads the scorer. It is called only if an accepted draw has no stored score.
        stored: scores that the same scorer computed before (`RewriteSet.stored_scores`). None: there are none.

    Returns:
        Each score, by draw; null: refused, or without a readable picture. And the number of samples with accepted draws
        whose picture is missing or cannot be decoded.
    """
    values = {
        name: np.full(draws.num_rows, np.nan, np.float32)
        if stored is None
        else stored[name].to_numpy(zero_copy_only=False).copy()
        for name in PICTURE_SCORES
    }
    is_scored = ~np.isnan(values["picture"] + values["caption_picture"])
    keys = list(zip(draws.column("id").to_pylist(), draws.column("caption_hash").to_pylist(), strict=True))
    rows_of: dict[SampleKey, list[int]] = {}
    for row in np.flatnonzero(reasons.is_null().to_numpy(zero_copy_only=False) & ~is_scored).tolist():
        rows_of.setdefault(keys[row], []).append(row)
    unjudged = 0
    if rows_of:
        unjudged = _score_rows(draws, rows_of, _under_stored_ids(read(), list(dict.fromkeys(keys))), load(), values)
    return {name: pa.array(column, pa.float32(), from_pandas=True) for name, column in values.items()}, unjudged


def _score_rows(
    draws: pa.Table,
    rows_of: dict[SampleKey, list[int]],
    images: Iterable[tuple[SampleKey, bytes | None]],
    scorer: PictureScorer,
    values: Mapping[str, np.ndarray],
) -> int:
    """Write the scores of samples' rows into `values`; returns the number of samples without a readable picture."""
    captions, texts = draws.column("caption"), draws.column("text")
    unjudged = 0
    for batch in _batches(images, rows_of, scorer.batch_size):
        scored = scorer.score(
            [image for image, _ in batch],
            [captions[rows[0]].as_py() for _, rows in batch],
            [[texts[row].as_py() for row in rows] for _, rows in batch],
        )
        for (_, rows), scores in zip(batch, scored, strict=True):
            if scores is None:
                unjudged += 1
                continue
            values["picture"][rows] = scores.rewrites
            values["caption_picture"][rows] = scores.caption
    return unjudged + len(rows_of)


def refuse_unlike(reasons: pa.Array, scores: Mapping[str, pa.Array], margin: float) -> pa.Array:
    """Refuse accepted draws that do not fit their picture.

    Args:
        reasons: the reason to refuse each draw; null: accepted.
        scores: the `PICTURE_SCORES` of the draws. A draw without them is not refused.
        margin: how far a rewrite's similarity may be below the caption's.

    Returns:
        The reasons, with `UNLIKE_PICTURE` for accepted draws that this gate refuses.
    """
    picture, caption = (scores[name].cast(pa.float64()) for name in PICTURE_SCORES)
    is_unlike = pc.fill_null(pc.less(picture, pc.subtract(caption, margin)), False)
    return pc.if_else(pc.and_(pc.is_null(reasons), is_unlike), UNLIKE_PICTURE, reasons)


def _under_stored_ids(
    images: Iterable[tuple[SampleKey, bytes | None]], stored: Sequence[SampleKey]
) -> Iterator[tuple[SampleKey, bytes | None]]:
    """Pictures under the ids that the draws have: a sample with a new id is found by its row and caption."""
    known = {*stored}
    for row, (key, image) in enumerate(images):
        is_renamed = key not in known and row < len(stored) and stored[row][1] == key[1]
        yield stored[row] if is_renamed else key, image


def _batches(
    images: Iterable[tuple[SampleKey, bytes | None]], rows_of: dict[SampleKey, list[int]], size: int
) -> Iterator[list[tuple[bytes | None, list[int]]]]:
    """Yield batches of at most `size` (picture, rows) of samples with rows; removes yielded samples from `rows_of`."""
    batch: list[tuple[bytes | None, list[int]]] = []
    if rows_of:
        for key, image in images:
            if key not in rows_of:
                continue
            batch.append((image, rows_of.pop(key)))
            if len(batch) == size:
                yield batch
                batch = []
            if not rows_of:
                break
    if batch:
        yield batch
