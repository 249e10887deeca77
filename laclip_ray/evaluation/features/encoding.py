"""The work of encoding: which parts of which shards, and which texts, are not committed yet; and doing it here.

One process does the work part by part, with the next part read beside. `pool` does the same work on a Ray cluster.
"""

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NoReturn, TypeVar

from laclip_ray import progress
from laclip_ray.evaluation.features.encoder import Encoder
from laclip_ray.evaluation.features.parts import Part, read_parts
from laclip_ray.evaluation.features.rows import Source
from laclip_ray.evaluation.features.store import FeatureStore, digest_of, is_complete
from laclip_ray.models.pixel_transform import PixelTransform
from laclip_ray.progress.messages import Count

logger = logging.getLogger(__name__)

TEXTS_OF_UNIT = 4_096
"""Texts of one commit."""

_LOG_EVERY_S = 30.0

T = TypeVar("T")


@dataclass(frozen=True)
class ImageWork:
    """A shard with parts that some model has not encoded."""

    unit: str
    source: Source
    done: frozenset[int]
    """Parts that every model has."""


@dataclass(frozen=True)
class TextWork:
    """Texts that some model has not encoded."""

    unit: str
    texts: tuple[str, ...]


Work = ImageWork | TextWork


@dataclass(frozen=True)
class Read:
    """The input of an encoder: a part or texts; or the reason why the storage gave neither."""

    unit: str
    content: Part | TextWork | str


@dataclass(frozen=True)
class Done:
    """The outcome of one `Read`."""

    unit: str
    images: int = 0
    texts: int = 0
    is_last: bool = True
    error: str = ""
    """Why the unit cannot be read now."""


@dataclass
class EncodingModel:
    """A model that encodes, and the store of its features."""

    encoder: Encoder
    store: FeatureStore


def image_work(sources: Iterable[Source], stores: Sequence[FeatureStore]) -> list[ImageWork]:
    """The shards with parts that a store lacks. One listing a store."""
    done = [store.images_done() for store in stores]
    work: dict[str, ImageWork] = {}
    for source in sources:
        parts = [of_store.get(source.key, {}) for of_store in done]
        if source.key not in work and not all(map(is_complete, parts)):
            work[source.key] = ImageWork(source.key, source, frozenset.intersection(*map(frozenset, parts)))
    return list(work.values())


def text_units(texts: Iterable[str]) -> list[TextWork]:
    """Texts in units, each text once, in the order of their first appearance."""
    unique = list(dict.fromkeys(texts))
    chunks = [tuple(unique[start : start + TEXTS_OF_UNIT]) for start in range(0, len(unique), TEXTS_OF_UNIT)]
    return [TextWork(digest_of(*chunk), chunk) for chunk in chunks]


def text_work(units: Sequence[TextWork], stores: Sequence[FeatureStore]) -> list[TextWork]:
    """The units that a store lacks. One listing a store."""
    done = [store.texts_done() for store in stores]
    return [unit for unit in units if not all(unit.unit in of_store for of_store in done)]


def read_work(work: Work, transforms: Sequence[PixelTransform]) -> Iterator[Read]:
    """Read and decode the images of some work. A failure of the storage comes last, and ends no other work."""
    if isinstance(work, TextWork):
        yield Read(work.unit, work)
        return
    try:
        for part in read_parts(work.source, transforms, work.done):
            yield Read(work.unit, part)
    except OSError as error:
        yield Read(work.unit, f"the storage refuses {work.source.name}: {type(error).__name__}: {error}")


def encode_read(read: Read, models: Sequence[EncodingModel]) -> Done:
    """Encode a part or texts with every model, and commit the features."""
    content = read.content
    if isinstance(content, str):
        return Done(read.unit, error=content)
    for model in models:
        if isinstance(content, Part):
            features = model.encoder.encode_part(content)
            model.store.commit_part(read.unit, content.number, content.is_last, features)
        else:
            model.store.commit_texts(read.unit, model.encoder.encode_texts(content.texts))
    if isinstance(content, Part):
        return Done(read.unit, images=len(content.encoded_rows), is_last=content.is_last)
    return Done(read.unit, texts=len(content.texts))


def encode_here(work: Sequence[Work], models: Sequence[EncodingModel]) -> Iterator[Done]:
    """Do the work in this process: a thread reads and decodes the next part while the models encode one."""
    transforms = list({model.encoder.transform.digest: model.encoder.transform for model in models}.values())
    reads = (read for each in work for read in read_work(each, transforms))
    for read in _ahead(reads):
        yield encode_read(read, models)


def _ahead(items: Iterator[T]) -> Iterator[T]:
    """The items, each made by a thread while the one before is used."""
    waiting: queue.Queue[Callable[[], T] | None] = queue.Queue(maxsize=1)
    is_left = threading.Event()

    def put(entry: Callable[[], T] | None) -> None:
        is_waiting = True
        while is_waiting and not is_left.is_set():
            with contextlib.suppress(queue.Full):
                waiting.put(entry, timeout=0.2)
                is_waiting = False

    def fill() -> None:
        try:
            for item in items:
                put(lambda item=item: item)  # type: ignore[misc]
                if is_left.is_set():
                    return
            put(None)
        except BaseException as error:  # noqa: BLE001 - raised again where the items are used
            put(partial(_fail, error))

    thread = threading.Thread(target=fill, name="read evaluation images", daemon=True)
    thread.start()
    try:
        while (entry := waiting.get()) is not None:
            yield entry()
    finally:
        is_left.set()
        thread.join()


def _fail(error: BaseException) -> NoReturn:
    raise error


@dataclass
class EncodingProgress:
    """Counts encoded images and texts, and logs the counts every half minute with the time left."""

    units: int
    """Shards and units of texts to encode."""
    images: int = 0
    texts: int = 0
    errors: dict[str, str] = field(default_factory=dict)
    """By unit, why it could not be read."""
    _units_done: int = 0
    _started_s: float = field(default_factory=time.monotonic)
    _logged_s: float = field(default_factory=time.monotonic)

    def add(self, done: Done) -> None:
        """Count an outcome."""
        self.images += done.images
        self.texts += done.texts
        self._units_done += done.is_last
        if done.error:
            self.errors[done.unit] = done.error
        self._show()

    def _show(self) -> None:
        """Show the counts to who watches; without anyone, log them now and then."""
        now_s = time.monotonic()
        if progress.is_watched():
            note = f"{self.images:,} images" if self.images else f"{self.texts:,} texts"
            is_over = self._units_done >= self.units
            progress.tell(Count("encoding", "encoding shards", self._units_done, self.units, note, is_over))
        elif now_s - self._logged_s >= _LOG_EVERY_S:
            self._logged_s = now_s
            logger.info("%s", self.line())

    def line(self) -> str:
        """How far the work is, in one line."""
        elapsed_s = time.monotonic() - self._started_s
        parts = [f"encoded {self._units_done:,} of {self.units:,} shards"]
        if self.images:
            parts.append(f"{self.images:,} images, {self.images / max(elapsed_s, 1e-9):,.0f}/s")
        if self.texts:
            parts.append(f"{self.texts:,} texts")
        if self._units_done < self.units and self._units_done:
            left_s = elapsed_s / self._units_done * (self.units - self._units_done)
            parts.append(f"about {left_s / 60:,.0f} min left" if left_s >= 90 else f"about {left_s:,.0f} s left")
        return "; ".join(parts)
