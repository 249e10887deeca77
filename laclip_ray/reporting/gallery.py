"""The gallery of a page: captions with their pictures, accepted rewrites and refused ones.

Guarantees: texts come from strangers, and are shown as text: escaped, without control characters, each isolated, so its
direction cannot change that of its neighbours. A long text is folded, and opens without a script. A gallery has a
bounded size.
"""

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from laclip_ray.reporting.word_difference import WordDifference, word_difference

PNG_MAGIC, JPEG_MAGIC = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
FOLDED_FROM = 240
"""Texts of more characters are folded."""
_SHOWN_OF_FOLDED = 160
_MOST_CHARACTERS = 50_000
"""Of one text; the rest is counted."""
MOST_BYTES = 6 * 2**20
"""Of all cards of a gallery, about."""
ACCEPTED = "accepted"


@dataclass(frozen=True)
class Rewrite:
    """A rewrite of one caption."""

    prompt_set: str
    text: str
    reason: str | None
    """The gate's reason to refuse it. None: accepted."""
    facts: tuple[str, ...] = ()
    """Further facts, such as its scores."""


@dataclass(frozen=True)
class RewrittenSample:
    """A caption with its rewrites, and its picture if the data has pictures."""

    sample_id: str
    image: bytes | None
    """A JPEG or PNG file. The page says that other formats are not shown. None: the sample has no picture."""
    caption: str
    rewrites: tuple[Rewrite, ...]
    run: str = ""
    """Whose rewrites they are, on a page of several runs."""


@dataclass(frozen=True)
class LongText:
    """A text that may be folded."""

    text: str
    start: str
    """What shows while it is folded; empty: it is short."""
    characters: int
    """Of the whole text, also where `text` is cut."""

    @classmethod
    def of(cls, text: str) -> "LongText":
        """Fold a text if it is long."""
        start = text[:_SHOWN_OF_FOLDED].rstrip() if len(text) > FOLDED_FROM else ""
        return cls(text[:_MOST_CHARACTERS], start, len(text))

    @property
    def left_out(self) -> int:
        """Characters missing on the page."""
        return self.characters - len(self.text)


@dataclass(frozen=True)
class ShownRewrite:
    """A rewrite as a card shows it."""

    text: LongText
    reason: str | None
    facts: tuple[str, ...]
    difference: WordDifference | None
    """From the caption; None: refused, or too long to read word by word."""


@dataclass(frozen=True)
class Card:
    """A sample as the page shows it."""

    sample_id: LongText
    run: str
    has_image: bool
    image_url: str | None
    """A data URL. None: there is no image, or it has another type than JPEG and PNG."""
    caption: LongText
    rewrites: Mapping[str, Sequence[ShownRewrite]]
    """By prompt set."""


@dataclass(frozen=True)
class Gallery:
    """Cards, and the values of their filters."""

    cards: Sequence[Card]
    sets: Sequence[str]
    reasons: Sequence[str]
    runs: Sequence[str]
    """Empty: all cards are of one run."""
    left_out: int = 0
    """Samples that would have made the page too large."""
    accepted: str = field(default=ACCEPTED, init=False)

    @property
    def has_pictures(self) -> bool:
        """Whether the data has pictures."""
        return any(card.has_image for card in self.cards)

    @classmethod
    def of(cls, samples: Iterable[RewrittenSample]) -> "Gallery":
        """Make the cards of samples."""
        chosen = list(samples)
        shown = list(islice(chosen, _fitting(chosen)))
        rewrites = [rewrite for sample in shown for rewrite in sample.rewrites]
        reasons = sorted({rewrite.reason for rewrite in rewrites if rewrite.reason is not None})
        return cls(
            [card_of(sample) for sample in shown],
            list(dict.fromkeys(rewrite.prompt_set for rewrite in rewrites)),
            ([ACCEPTED] if any(rewrite.reason is None for rewrite in rewrites) else []) + reasons,
            list(dict.fromkeys(sample.run for sample in shown if sample.run)),
            len(chosen) - len(shown),
        )


def _fitting(samples: Sequence[RewrittenSample]) -> int:
    """How many of the first samples fit."""
    size = 0
    for number, sample in enumerate(samples):
        texts = [sample.caption, sample.sample_id, *(rewrite.text for rewrite in sample.rewrites)]
        # An escaped character takes up to six bytes; a control character becomes an escape sequence.
        size += sum(6 * min(len(text), _MOST_CHARACTERS) + 300 for text in texts)
        size += 4 * len(sample.image or b"") // 3
        if size > MOST_BYTES:
            return number
    return len(samples)


def card_of(sample: RewrittenSample) -> Card:
    """The card of a sample."""
    rewrites: dict[str, list[ShownRewrite]] = {}
    for rewrite in sample.rewrites:
        text = LongText.of(rewrite.text)
        is_compared = rewrite.reason is None and not text.start
        difference = word_difference(sample.caption, rewrite.text) if is_compared else None
        rewrites.setdefault(rewrite.prompt_set, []).append(
            ShownRewrite(text, rewrite.reason, rewrite.facts, difference)
        )
    url = None if sample.image is None else image_url(sample.image)
    caption, sample_id = LongText.of(sample.caption), LongText.of(sample.sample_id)
    return Card(sample_id, sample.run, sample.image is not None, url, caption, rewrites)


def image_url(image: bytes) -> str | None:
    """The image as a data URL. None if its first bytes are neither a JPEG's nor a PNG's."""
    if image.startswith(PNG_MAGIC):
        kind = "png"
    elif image.startswith(JPEG_MAGIC):
        kind = "jpeg"
    else:
        return None
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"
