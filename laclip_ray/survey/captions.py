"""Counts over captions: words, scripts, duplicates. Pure."""

from collections import Counter
from dataclasses import dataclass, field
from functools import lru_cache
from statistics import median
from typing import Any
from unicodedata import name as character_name

from laclip_ray.data.records import hash_caption
from laclip_ray.rewriting.judging.text import words_of

SHORT_WORDS = 3
"""A caption of fewer words says little."""
MOST_COMPARED = 2_000_000
"""Upper bound on remembered captions: each takes about 150 bytes."""
_NO_SCRIPT = "none"
"""Of a caption without letters."""


@dataclass
class CaptionCounts:
    """Captions as they come. The first `MOST_COMPARED` different ones are looked for again."""

    words: Counter[int] = field(default_factory=Counter)
    """Captions by number of words."""
    scripts: Counter[str] = field(default_factory=Counter)
    """Captions by the script of most of their letters."""
    _seen: Counter[str] = field(default_factory=Counter)
    """By hash."""

    def add(self, caption: str) -> None:
        """Count a caption."""
        self.words[len(words_of(caption))] += 1
        self.scripts[main_script(caption)] += 1
        self._remember(hash_caption(caption), 1)

    def _remember(self, key: str, count: int) -> None:
        if key in self._seen or len(self._seen) < MOST_COMPARED:
            self._seen[key] += count

    def merge(self, other: "CaptionCounts") -> None:
        """Add the captions of another part."""
        self.words.update(other.words)
        self.scripts.update(other.scripts)
        for key, count in other._seen.items():
            self._remember(key, count)

    @property
    def captions(self) -> int:
        """All captions."""
        return self.words.total()

    @property
    def median_words(self) -> float:
        """Of a caption; 0 without captions."""
        return self.quantile(0.5)

    def quantile(self, share: float) -> float:
        """The number of words that this share of the captions does not exceed; 0 without captions."""
        below = 0
        for words, count in sorted(self.words.items()):
            below += count
            if below >= share * self.captions:
                return words
        return 0

    @property
    def short_share(self) -> float:
        """The share of captions with fewer than `SHORT_WORDS` words."""
        return self._share(sum(count for words, count in self.words.items() if words < SHORT_WORDS))

    @property
    def repeated_share(self) -> float:
        """The share of remembered captions that another sample has too."""
        remembered = self._seen.total()
        return sum(count for count in self._seen.values() if count > 1) / remembered if remembered else 0.0

    def _share(self, count: int) -> float:
        return count / self.captions if self.captions else 0.0

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {
            "captions": self.captions,
            "words": {f"{share:.0%}": self.quantile(share) for share in (0.1, 0.5, 0.9, 1.0)},
            "share_under_3_words": self.short_share,
            "repeated_share": self.repeated_share,
            "scripts": dict(self.scripts.most_common()),
        }


@dataclass
class PictureSizes:
    """Widths and heights of pictures, in pixels."""

    sizes: list[tuple[int, int]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """A JSON object; empty without pictures."""
        if not self.sizes:
            return {}
        shorter = sorted(min(size) for size in self.sizes)
        return {
            "pictures": len(self.sizes),
            "median_width": int(median(width for width, _ in self.sizes)),
            "median_height": int(median(height for _, height in self.sizes)),
            "smallest_side": shorter[0],
            "share_under_224": sum(side < 224 for side in shorter) / len(shorter),
        }


def main_script(text: str) -> str:
    """The script of most of a text's letters, by the first word of their Unicode names; `none` without letters.

    >>> main_script("a red fox"), main_script("\u043a\u043e\u0442 cat\u044b\u044b"), main_script("12.5")
    ('LATIN', 'CYRILLIC', 'none')
    """
    counts = Counter(_script(character) for character in text if character.isalpha())
    return counts.most_common(1)[0][0] if counts else _NO_SCRIPT


@lru_cache(maxsize=4_096)
def _script(letter: str) -> str:
    return character_name(letter, "UNNAMED").partition(" ")[0]
