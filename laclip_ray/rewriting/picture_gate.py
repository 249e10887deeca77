"""The picture gate: a rewrite that fits the picture clearly worse than its caption does is refused.

The first gate (`gate`) compares two texts. This one shows both to a CLIP model together with the picture: a rewrite
is refused as `unlike_picture` if its cosine similarity with the picture is more than a margin below the caption's. It
is meant for what the first gate accepted, and changes no other verdict.

Guarantees: a picture that is missing or cannot be decoded refuses nothing, and is counted. `refine` holds the pictures
of at most `batch_size` samples at a time. A rewrite that is the caption is never refused, whatever the margin.

Not covered: whether a caption is true of its picture (it is the measure here); what lies beyond the model's text
context, which its tokeniser cuts off. Similarities differ in their last digits between devices and batch sizes, so a
rewrite that lies at the margin to six digits may be judged either way.
"""

import difflib
import io
import posixpath
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from PIL import Image

from laclip_ray import storage
from laclip_ray.config import DataConfig
from laclip_ray.data.records import Shard
from laclip_ray.data.shards import read_samples
from laclip_ray.errors import UserError

if TYPE_CHECKING:
    import torch

UNLIKE_PICTURE = "unlike_picture"
"""The reason of a rewrite that this gate refuses."""

SampleKey = tuple[str, str]
"""(id, caption hash): what joins draws and samples of a shard."""

_HUB_PREFIX = "hf-hub:"
_DIRECTORY_PREFIX = "local-dir:"
_CONFIG_FILE = "open_clip_config.json"
_WEIGHTS = (".safetensors", ".bin", ".pth")
_MAX_ASPECT_RATIO = 100
"""Models enlarge a picture until its shorter side has their size: a thinner one would grow to gigabytes."""


class PictureGate:
    """Judges rewrites by their pictures; holds a CLIP model, on a GPU where there is one.

    Nothing changes after it is made: a verdict is a function of `judge`'s arguments.
    """

    def __init__(
        self,
        model: str,
        pretrained: str | None,
        margin: float,
        batch_size: int,
        device: str | None = None,
        setting: str = "rewrite.gate.picture",
    ) -> None:
        """Load the model, its transform and its tokeniser.

        Args:
            model: an open_clip name (`ViT-B-32`), `hf-hub:ORGANISATION/NAME`, or a directory or URL in open_clip's
                layout, such as training exports (`local-dir:` before it is allowed).
            pretrained: open_clip's tag of the weights, or a local checkpoint file; only for an open_clip name.
            margin: how far below the caption's a rewrite's cosine similarity may be.
            batch_size: how many samples are judged, and how many texts the model is given, at a time.
            device: where to compute. None: a GPU where there is one.
            setting: the config key of these, for messages.

        Raises:
            UserError: there is no such model, or it cannot be loaded or used.
        """
        # Imported here: torch takes seconds to load, and the name of the reason is of use without it.
        import torch

        check_model(model, pretrained, setting)
        self.margin = margin
        self.batch_size = batch_size
        self._device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        # Decoding releases the interpreter's lock. Ray gives torch as many threads as the process has CPUs.
        self._decoders = ThreadPoolExecutor(torch.get_num_threads(), "decode")
        try:
            self._model, self._transform, self._tokenizer = _load(model, pretrained, self._device)
            grey = self._transform(Image.new("RGB", (64, 64), (128, 128, 128)))
            probe = self._similarities([grey], ["a picture"])[0][0]
        except Exception as error:  # open_clip raises whatever its readers of files raise
            raise UserError(f"{setting}.model: {_shown(model, pretrained)} cannot be loaded: {error}") from error
        if not -1.01 < probe < 1.01:
            raise UserError(f"{setting}.model: {_shown(model, pretrained)} gives a similarity of {probe}")

    def judge(
        self, images: Sequence[bytes | None], captions: Sequence[str], rewrites: Sequence[Sequence[str]]
    ) -> tuple[list[list[bool]], int]:
        """Whether each rewrite is about as similar to its sample's picture as the caption is.

        Args:
            images: N encoded pictures; None where there is none.
            captions: N captions.
            rewrites: the rewrites of each of the N captions.

        Returns:
            For each sample, for each of its rewrites: whether it is kept. And the number of samples that have rewrites
            and a picture that is missing or cannot be decoded; theirs are all kept.
        """
        kept = [[True] * len(each) for each in rewrites]
        unjudged = 0
        asked = [row for row, each in enumerate(rewrites) if each]
        for start in range(0, len(asked), self.batch_size):
            rows = asked[start : start + self.batch_size]
            decoded = self._decoders.map(self._decode, [images[row] for row in rows])
            pixels_of = {row: pixels for row, pixels in zip(rows, decoded, strict=True) if pixels is not None}
            unjudged += len(rows) - len(pixels_of)
            if not pixels_of:
                continue
            # A text is embedded once however often it occurs, so that equal texts have equal similarities.
            number_of: dict[str, int] = {}
            for row in pixels_of:
                for text in (captions[row], *rewrites[row]):
                    number_of.setdefault(text, len(number_of))
            similarities = self._similarities(list(pixels_of.values()), list(number_of))
            for row, similarity in zip(pixels_of, similarities, strict=True):
                least = similarity[number_of[captions[row]]] - self.margin
                kept[row] = [similarity[number_of[text]] >= least for text in rewrites[row]]
        return kept, unjudged

    def _decode(self, image: bytes | None) -> "torch.Tensor | None":
        """Pixels [3, H, W] as the model wants them; None if these bytes are no whole picture."""
        if not image:
            return None
        try:
            with Image.open(io.BytesIO(image)) as opened:
                if max(opened.size) >= _MAX_ASPECT_RATIO * min(opened.size):
                    return None
                picture = opened.convert("RGB")
        except Exception:  # noqa: BLE001 - Pillow's readers raise what they like (AVIF: RuntimeError)
            return None
        pixels: torch.Tensor = self._transform(picture)
        return pixels

    def _similarities(self, pixels: Sequence["torch.Tensor"], texts: Sequence[str]) -> list[list[float]]:
        """The cosine similarity of each of N pictures with each of T texts: N lists of T."""
        import torch

        with torch.inference_mode():
            pictures = self._model.encode_image(torch.stack(list(pixels)).to(self._device), normalize=True)
            parts = []
            for start in range(0, len(texts), self.batch_size):
                tokens = self._tokenizer(list(texts[start : start + self.batch_size])).to(self._device)
                parts.append(self._model.encode_text(tokens, normalize=True))
            found: list[list[float]] = (pictures.float() @ torch.cat(parts).float().T).tolist()
        return found


def check_model(model: str, pretrained: str | None, setting: str = "rewrite.gate.picture") -> None:
    """Refuse a model that cannot be loaded as far as that can be told without loading or downloading it.

    Raises:
        UserError: open_clip does not know the name or the tag, no weights are named, or a directory is not a model's.
    """
    import open_clip

    if model in open_clip.list_models():
        tags = open_clip.list_pretrained_tags_by_model(model)
        known = f"a checkpoint file, or one of {', '.join(tags)}" if tags else "a checkpoint file"
        if pretrained is None:
            raise UserError(f"{setting}.pretrained: {model} has no weights without it; give {known}")
        if not open_clip.is_pretrained_cfg(model, pretrained) and not Path(pretrained).is_file():
            raise UserError(
                f"{setting}.pretrained: {pretrained!r} is neither a file nor a tag of open_clip's {model}; give {known}"
            )
        return
    if pretrained is not None:
        raise UserError(
            f"{setting}.pretrained: is for open_clip's own names, and {model!r} is none{_similar_names(model)}; "
            f"directories and {_HUB_PREFIX} models bring their weights"
        )
    if model.startswith(_HUB_PREFIX):
        return
    directory = model.removeprefix(_DIRECTORY_PREFIX)
    if not storage.exists(storage.join(directory, _CONFIG_FILE)):
        raise UserError(
            f"{setting}.model: open_clip knows no model {model!r}, and there is no {_CONFIG_FILE} in a directory of "
            f"that name{_similar_names(model)}"
        )
    if not any(url.endswith(_WEIGHTS) for url in _files_in(directory)):
        raise UserError(f"{setting}.model: {directory} has no weights ({', '.join(f'*{each}' for each in _WEIGHTS)})")


def _similar_names(model: str) -> str:
    import open_clip

    close = difflib.get_close_matches(model, open_clip.list_models(), n=6, cutoff=0.4)
    return f" (similar: {', '.join(close)})" if close else ""


def _shown(model: str, pretrained: str | None) -> str:
    return model if pretrained is None else f"{model} with {pretrained}"


def _files_in(directory: str) -> list[str]:
    """The files directly in a directory."""
    path = storage.filesystem(directory)[1].rstrip("/")
    return [url for url in storage.list_files(directory) if posixpath.dirname(storage.filesystem(url)[1]) == path]


def _load(model: str, pretrained: str | None, device: "torch.device") -> tuple[Any, Any, Any]:
    """(model in evaluation mode, transform, tokeniser) of a model that `check_model` has passed."""
    import open_clip

    with tempfile.TemporaryDirectory() as copy:
        name = model
        if pretrained is None and not model.startswith(_HUB_PREFIX):
            directory = model.removeprefix(_DIRECTORY_PREFIX)
            if not storage.is_local(directory):
                for url in _files_in(directory):  # all of them: a tokeniser may have files of its own
                    (Path(copy) / storage.name_of(url)).write_bytes(storage.read_bytes(url))
                directory = copy
            name = f"{_DIRECTORY_PREFIX}{storage.filesystem(directory)[1]}"
        loaded, transform = open_clip.create_model_from_pretrained(name, pretrained, device=device, weights_only=True)
        return loaded.eval(), transform, open_clip.get_tokenizer(name)


def read_images(shard: Shard, data: DataConfig) -> Iterator[tuple[SampleKey, bytes | None]]:
    """((id, caption hash), encoded picture or None) of each sample of a shard, in its order, one at a time.

    Raises:
        OSError: the storage failed.
    """
    for sample in read_samples(shard, data, with_images=True):
        yield (sample.id, sample.caption_hash), sample.image


def refine(
    draws: pa.Table, reasons: pa.Array, images: Iterable[tuple[SampleKey, bytes | None]], gate: PictureGate
) -> tuple[pa.Array, int]:
    """Refuse the accepted draws of a shard that are unlike their picture.

    Args:
        draws: a table of `store.DRAWS_SCHEMA`.
        reasons: the first gate's reason for each of them; null: accepted.
        images: the shard's pictures, such as from `read_images`; read once, `gate.batch_size` ahead at most, and no
            further than to the last sample with an accepted draw.
        gate: judges.

    Returns:
        The reasons with `UNLIKE_PICTURE` for draws that were accepted and are refused now. And the number of samples
        with accepted draws that could not be judged, for `images` has no readable picture of theirs.
    """
    refined: list[str | None] = reasons.to_pylist()
    rows_of: dict[SampleKey, list[int]] = {}
    keys = zip(draws.column("id").to_pylist(), draws.column("caption_hash").to_pylist(), strict=True)
    for row, (key, reason) in enumerate(zip(keys, refined, strict=True)):
        if reason is None:
            rows_of.setdefault(key, []).append(row)
    captions, texts = draws.column("caption"), draws.column("text")
    unjudged = 0
    for batch in _batches(images, rows_of, gate.batch_size):
        kept, unreadable = gate.judge(
            [image for image, _ in batch],
            [captions[rows[0]].as_py() for _, rows in batch],
            [[texts[row].as_py() for row in rows] for _, rows in batch],
        )
        unjudged += unreadable
        for (_, rows), verdicts in zip(batch, kept, strict=True):
            for row, keep in zip(rows, verdicts, strict=True):
                if not keep:
                    refined[row] = UNLIKE_PICTURE
    return pa.array(refined, pa.string()), unjudged + len(rows_of)


def _batches(
    images: Iterable[tuple[SampleKey, bytes | None]], rows_of: dict[SampleKey, list[int]], size: int
) -> Iterator[list[tuple[bytes | None, list[int]]]]:
    """(picture, rows) of the samples that have rows, at most `size` at a time; takes from `rows_of` those it gives."""
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
