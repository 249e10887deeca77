"""A loaded model that encodes images and texts into features."""

import contextlib
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa

from laclip_ray.evaluation.embeddings import TextTokenizer
from laclip_ray.evaluation.features.parts import Part
from laclip_ray.evaluation.features.rows import BACKBONE, EMBEDDING, FEATURES_SCHEMA, TEXTS_SCHEMA
from laclip_ray.models.digest import weights_digest
from laclip_ray.models.loading import LoadedModel
from laclip_ray.models.pixel_transform import split_transform

if TYPE_CHECKING:
    import torch

Precision = Literal["fp32", "bf16"]


class Encoder:
    """Encodes images and texts with one model."""

    def __init__(self, loaded: LoadedModel, device: "torch.device", batch_size: int, precision: Precision) -> None:
        """Take a loaded model.

        Args:
            loaded: the model, on `device`, with its transform and its tokeniser.
            device: the device of the model.
            batch_size: images or texts encoded together.
            precision: arithmetic; features are float32 with either.
        """
        self._model, self._device = loaded.model, device
        self._batch_size, self._precision = batch_size, precision
        self._tokenizer = TextTokenizer(loaded.tokenizer)
        self.transform = split_transform(loaded.transform)
        self.digest = weights_digest(loaded.model)
        """Of the model's weights."""

    def encode_part(self, part: Part) -> pa.Table:
        """The features of a part: `FEATURES_SCHEMA`."""
        embeddings: list[bytes | None] = [None] * part.rows.num_rows
        backbones = list(embeddings)
        pixels = part.pixels.get(self.transform.digest)
        for start in range(0, len(part.encoded_rows), self._batch_size):
            assert pixels is not None
            rows = part.encoded_rows[start : start + self._batch_size]
            of_embedding, of_backbone = self._encode_images(pixels[start : start + self._batch_size])
            for row, embedding, backbone in zip(rows, of_embedding, of_backbone, strict=True):
                embeddings[row], backbones[row] = embedding.tobytes(), backbone.tobytes()
        features = {EMBEDDING: pa.array(embeddings, pa.binary()), BACKBONE: pa.array(backbones, pa.binary())}
        columns = {**{name: part.rows.column(name) for name in part.rows.column_names}, **features}
        return pa.table(columns, schema=FEATURES_SCHEMA)

    def _encode_images(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Embeddings [B, D] and backbone features [B, E] of the arrays of B images; float32."""
        import torch

        with torch.no_grad(), self._arithmetic(), _backbone_features(self._model) as backbone:
            embedding = self._model.encode_image(self.transform.finish(pixels, self._device))
            before = backbone[0] if backbone else embedding
        return embedding.float().cpu().numpy(), before.float().cpu().numpy()

    def encode_texts(self, texts: Sequence[str]) -> pa.Table:
        """The features of texts: `TEXTS_SCHEMA`."""
        import torch

        columns: dict[str, list[Any]] = {name: [] for name in TEXTS_SCHEMA.names}
        for start in range(0, len(texts), self._batch_size):
            batch = list(texts[start : start + self._batch_size])
            tokens, is_cut = self._tokenizer(batch)
            with torch.no_grad(), self._arithmetic():
                embeddings = self._model.encode_text(tokens.to(self._device)).float().cpu().numpy()
            columns["text"] += batch
            columns["tokens"] += [blake2b(row.numpy().tobytes(), digest_size=16).digest() for row in tokens]
            columns["is_cut"] += is_cut
            columns[EMBEDDING] += [embedding.tobytes() for embedding in embeddings]
        return pa.table(columns, schema=TEXTS_SCHEMA)

    def _arithmetic(self) -> "contextlib.AbstractContextManager[Any]":
        import torch

        if self._precision == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(self._device.type, torch.bfloat16)


@contextlib.contextmanager
def _backbone_features(model: Any) -> Iterator[list["torch.Tensor"]]:
    """The image tower's output before its projection, of each call inside this context.

    The list stays empty for towers without a projection of their own, such as CLIP's ResNets, whose attention pooling
    contains it.
    """
    from laclip_ray.light_open_clip import open_clip

    kept: list[torch.Tensor] = []
    tower = model.visual
    trunk = getattr(tower, "trunk", None)
    if isinstance(tower, open_clip.transformer.VisionTransformer) and getattr(tower, "proj", None) is not None:
        pool = tower._pool

        def keep_pooled(tokens: "torch.Tensor") -> Any:
            pooled, others = pool(tokens)
            kept.append(pooled)
            return pooled, others

        tower._pool = keep_pooled
        try:
            yield kept
        finally:
            del tower._pool
    elif trunk is not None:

        def keep(_: Any, __: Any, output: "torch.Tensor") -> None:
            if output.dim() == 2:  # a map of features is pooled by the head
                kept.append(output)

        handle = trunk.register_forward_hook(keep)
        try:
            yield kept
        finally:
            handle.remove()
    else:
        yield kept
