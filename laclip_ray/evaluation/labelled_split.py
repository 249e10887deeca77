"""A split of a labelled set as features: the used images, their labels, and the skipped ones."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from laclip_ray.data.image_formats import DEFAULT_LIMITS, ImageLimits
from laclip_ray.data.records import IMAGE_MISSING, SHARD_TRUNCATED, SHARD_UNREADABLE, ShardUnreadableError
from laclip_ray.evaluation.coverage import Coverage
from laclip_ray.evaluation.features.reading import FeatureReader, until_damage
from laclip_ray.evaluation.features.rows import BACKBONE, EMBEDDING, Row
from laclip_ray.evaluation.features.store import digest_of
from laclip_ray.evaluation.protocols.features import Features
from laclip_ray.evaluation.sets.labelled_set import (
    LABEL_UNUSABLE,
    LabelChecks,
    LabelledSet,
    LabelledShard,
    read_labelled,
)


@dataclass(frozen=True)
class LabelledSource:
    """A shard of labelled images (`features.rows.Source`). Images are not turned by their EXIF orientation."""

    shard: LabelledShard
    exif: bool = False

    @property
    def name(self) -> str:
        """The shard's name."""
        return self.shard.name

    @property
    def key(self) -> str:
        """Digest of the shard's place and identity, and of how it is read."""
        return digest_of("labelled", repr(self.shard))

    @property
    def limits(self) -> ImageLimits:
        """Images of these sizes are refused."""
        return DEFAULT_LIMITS

    def rows(self) -> Iterator[Row]:
        """The rows; where the shard cannot be read further, the last one says so.

        Raises:
            OSError: the storage failed.
        """
        count = 0
        try:
            for image in read_labelled(self.shard):
                yield Row(image.id, image.image, image.problem, image.label)
                count += 1
        except (ShardUnreadableError, FileNotFoundError):
            yield self._end(count)
        except OSError:
            raise
        except Exception:  # noqa: BLE001 - the readers of damaged files raise many kinds of errors
            yield self._end(count)

    def _end(self, count: int) -> Row:
        reason = SHARD_TRUNCATED if count else SHARD_UNREADABLE
        return Row(f"{self.shard.name}#unreadable", None, reason, row_problems=(reason,))


@dataclass(frozen=True, eq=False)
class LabelledSplit:
    """The images of a split that have a usable label."""

    embeddings: Features
    """Not normalised."""
    backbones: Features
    """The same images."""
    unreadable: np.ndarray
    """int64 [M]: labels of images that cannot be decoded."""
    unreadable_ids: list[str]


def collect_split(
    labelled: LabelledSet, sources: Iterable[LabelledSource], reader: FeatureReader, coverage: Coverage
) -> LabelledSplit:
    """Gather the features of a split, and record the images that cannot be used.

    Args:
        labelled: the set.
        sources: the split's shards.
        reader: their features.
        coverage: counts the images.

    Raises:
        NoResultError: the labels are of another kind, or the storage refuses a shard.
    """
    checks = LabelChecks(labelled)
    ids: list[str] = []
    labels: list[tuple[int, ...]] = []
    columns: dict[str, list[np.ndarray]] = {EMBEDDING: [], BACKBONE: []}
    unreadable: list[int] = []
    unreadable_ids: list[str] = []
    for source in sources:
        rows = until_damage(reader.rows(source))
        for row in coverage.read_shard(source.name, rows, source.shard.row_count):
            of_row = checks.read(row.label)
            if of_row == () and not labelled.is_multilabel:
                continue  # of a class that was not chosen
            if row.embedding is None or row.backbone is None:
                coverage.skip(row.problem or IMAGE_MISSING, row.id)
                if of_row is not None and len(of_row) == 1:
                    unreadable.append(of_row[0])
                    unreadable_ids.append(row.id)
            elif of_row is None:
                coverage.skip(LABEL_UNUSABLE, row.id)
            else:
                coverage.used += 1
                ids.append(row.id)
                labels.append(of_row)
                columns[EMBEDDING].append(row.embedding)
                columns[BACKBONE].append(row.backbone)
    checks.finish()
    array = _label_array(labels, labelled)
    names = [next(filter(None, of_class), "") for of_class in labelled.class_names]
    of_embedding, of_backbone = (
        Features(ids, np.stack(values) if values else np.zeros((0, 1), np.float32), array, names)
        for values in columns.values()
    )
    return LabelledSplit(of_embedding, of_backbone, np.array(unreadable, np.int64), unreadable_ids)


def _label_array(labels: list[tuple[int, ...]], labelled: LabelledSet) -> np.ndarray:
    """int64 [N]; bool [N, C] for a set of several labels an image."""
    if not labelled.is_multilabel:
        return np.array([label for (label,) in labels], np.int64)
    array = np.zeros((len(labels), len(labelled.class_names)), bool)
    for row, of_row in enumerate(labels):
        array[row, list(of_row)] = True
    return array
