"""Features as the protocols read them: rows of a shard, and tables of texts."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from laclip_ray.data.records import SHARD_TRUNCATED, SHARD_UNREADABLE, ShardUnreadableError
from laclip_ray.evaluation.coverage import NoResultError
from laclip_ray.evaluation.features.encoding import TextWork
from laclip_ray.evaluation.features.rows import BACKBONE, EMBEDDING, Source
from laclip_ray.evaluation.features.store import FeatureStore, is_complete


@dataclass(frozen=True)
class FeatureRow:
    """A row of a shard, as in `rows.Row`, with the features of its image."""

    id: str
    problem: str
    label: str
    caption: str
    row_problems: tuple[str, ...]
    place: str
    picture: bytes | None
    """Digest of the encoded image; None without one. Rows of the same picture have the same features."""
    embedding: np.ndarray | None
    """float32 [D], not normalised. None: the image cannot be used, or the row has none."""
    backbone: np.ndarray | None
    """float32 [E]."""


@dataclass
class FeatureReader:
    """Reads what one model's store holds, and knows which shards could not be read."""

    store: FeatureStore
    errors: Mapping[str, str]
    """By unit, why it could not be encoded."""
    _parts: dict[str, dict[int, bool]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """List the store once."""
        self._parts = self.store.images_done()

    def rows(self, source: Source) -> Iterator[FeatureRow]:
        """The rows of a shard, in order. Rows of the same picture have the features that its first row was given.

        Raises:
            NoResultError: the storage did not give the shard when it was encoded.
        """
        parts = self._parts.get(source.key, {})
        if not is_complete(parts):
            raise NoResultError(self.errors.get(source.key) or f"{source.name} was not encoded; run the command again")
        firsts: dict[bytes, FeatureRow] = {}
        for table in self.store.read_parts(source.key, parts):
            for columns in table.to_pylist():
                columns["row_problems"] = tuple(columns["row_problems"])
                columns[EMBEDDING], columns[BACKBONE] = _vector(columns[EMBEDDING]), _vector(columns[BACKBONE])
                row = FeatureRow(**columns)
                yield row if row.picture is None else _with_features_of(firsts.setdefault(row.picture, row), row)

    def texts(self, units: Sequence[TextWork]) -> "TextFeatures":
        """The features of texts, all of which are encoded."""
        texts: list[str] = []
        tokens: list[bytes] = []
        is_cut: list[bool] = []
        embeddings = np.empty((0, 0), np.float32)
        # One matrix, filled unit by unit: the texts of a large set take half a gigabyte, and copies as much again.
        for table in self.store.read_texts([unit.unit for unit in units]):
            content = b"".join(table.column(EMBEDDING).to_pylist())
            part = normalised(np.frombuffer(content, np.float32).reshape(table.num_rows, -1))
            if not texts:
                embeddings = np.empty((sum(len(unit.texts) for unit in units), part.shape[1]), np.float32)
            embeddings[len(texts) : len(texts) + len(part)] = part
            texts += table.column("text").to_pylist()
            tokens += table.column("tokens").to_pylist()
            is_cut += table.column("is_cut").to_pylist()
        assert len(texts) == len(embeddings)
        return TextFeatures(
            {text: number for number, text in enumerate(texts)}, embeddings, tokens, np.array(is_cut, bool)
        )


def until_damage(rows: Iterable[FeatureRow]) -> Iterator[FeatureRow]:
    """The rows of a shard.

    Raises:
        ShardUnreadableError: where the shard reports that the other rows cannot be read.
    """
    for row in rows:
        if lost := {SHARD_TRUNCATED, SHARD_UNREADABLE}.intersection(row.row_problems):
            raise ShardUnreadableError(min(lost))
        yield row


def _with_features_of(first: FeatureRow, row: FeatureRow) -> FeatureRow:
    """A row with the features of the first row of its picture, or the reason why it has no features."""
    problem = first.problem or row.problem
    return replace(row, problem=problem, embedding=first.embedding, backbone=first.backbone)


def _vector(content: bytes | None) -> np.ndarray | None:
    return None if content is None else np.frombuffer(content, np.float32)


@dataclass(frozen=True)
class TextFeatures:
    """The features of T texts."""

    number_of: Mapping[str, int]
    """The row of each text."""
    embeddings: np.ndarray
    """float32 [T, D], normalised."""
    tokens: Sequence[bytes]
    """A digest of each text's tokens. Texts of the same tokens are the same to the model."""
    is_cut: np.ndarray
    """bool [T]: longer than the model's context."""

    def of(self, texts: Sequence[str]) -> np.ndarray:
        """The embeddings of some of the texts, normalised: float32 [N, D]."""
        chosen: np.ndarray = self.embeddings[[self.number_of[text] for text in texts]]
        return chosen

    def count_cut(self, texts: Sequence[str]) -> int:
        """How many of the texts are cut at the model's context."""
        return int(self.is_cut[[self.number_of[text] for text in texts]].sum())


def normalised(values: np.ndarray) -> np.ndarray:
    """Rows of unit length, as torch's `normalize` makes them: float32 [N, D]."""
    with np.errstate(invalid="ignore"):  # a model that diverged; `SpreadCheck` refuses it
        unit: np.ndarray = values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
    return unit
