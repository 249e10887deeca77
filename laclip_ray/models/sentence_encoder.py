"""A sentence encoder of sentence-transformers: texts to unit vectors.

Guarantees: no code of a model's repository runs (`trust_remote_code` is off). Weights are read from safetensors where
the model has them, and from other files with `weights_only`.

Not covered: models that need an instruction before each text.
"""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from laclip_ray.errors import UserError


class SentenceEncoder:
    """Encodes texts with one model, on a GPU if there is one."""

    def __init__(
        self, model: str, revision: str | None, batch_size: int, setting: str, device: str | None = None
    ) -> None:
        """Load the model.

        Args:
            model: a Hugging Face name, or a directory in the layout of sentence-transformers.
            revision: a branch, tag or commit on the Hub. None: the default branch.
            batch_size: texts in a forward pass.
            setting: the config section of these values, for messages.
            device: where to compute. None: a GPU if this process has one, else the CPU.

        Raises:
            UserError: the model cannot be loaded, or gives no vectors. The cause has the details.
        """
        # Imported here because both take seconds to load.
        import torch
        from sentence_transformers import SentenceTransformer

        _quiet_loading()
        self._batch_size = batch_size
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        try:
            self._model: Any = SentenceTransformer(model, revision=revision, device=device, trust_remote_code=False)
            vectors = self.encode(["a picture"])
        except Exception as error:  # the libraries raise many types
            raise UserError(f"{setting}.model: {model!r} cannot be loaded as a sentence encoder: {error}") from error
        if not np.isfinite(vectors).all():
            raise UserError(f"{setting}.model: {model!r} gives vectors that are not numbers; choose another model")

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Encode N texts as unit vectors [N, D]. Text beyond the model's context is cut off."""
        vectors: NDArray[np.float32] = self._model.encode(
            list(texts),
            batch_size=self._batch_size,
            normalize_embeddings=True,
            convert_to_numpy=True,
            show_progress_bar=False,
        )
        return vectors


def _quiet_loading() -> None:
    """Keep the libraries from printing a progress bar for each file of the model."""
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    logging.getLogger("sentence_transformers").setLevel(logging.WARNING)
