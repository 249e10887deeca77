"""The demo's scenes: the content of a picture, as data.

Guarantees: a scene is a pure function of its keys. Kind, colour and place are independent and uniform, so one gives no
hint of another. One main object is twice as likely as any other number.
Not covered: drawing (`pictures`) and texts (`language`).
"""

from dataclasses import dataclass
from typing import TypeVar

from laclip_ray.randomness import Key, hash64, uniform

KINDS = (
    "cup",
    "fish",
    "tree",
    "house",
    "car",
    "cat",
    "boat",
    "umbrella",
    "bird",
    "flower",
    "bicycle",
    "mushroom",
)
COLOURS = ("red", "blue", "green", "yellow", "purple", "orange", "black", "white")
PLACES = ("beach", "meadow", "kitchen", "street", "snow", "desert")
COUNT_MAX = 4
CLUTTER_MAX = 3

Item = TypeVar("Item")


@dataclass(frozen=True)
class Scene:
    """Content of one picture. Equal scenes give equal pixels."""

    kind: str
    """Kind of the main objects; one of `KINDS`."""
    colour: str
    """Colour of the main objects; one of `COLOURS`."""
    count: int
    """Number of main objects, from 1 to `COUNT_MAX`."""
    size: float
    """Size of the main objects, from 0 (smallest) to 1 (largest that fits their number)."""
    place: str
    """Background; one of `PLACES`."""
    clutter: tuple[tuple[str, str], ...]
    """(kind, colour) of small objects of other kinds. Texts never mention them."""
    noise_seed: int
    """Decides poses, textures, brightness and pixel noise."""


def choose(items: tuple[Item, ...], *keys: Key) -> Item:
    """Choose one of `items` uniformly, as a function of `keys`."""
    return items[hash64(*keys) % len(items)]


def draw_scene(*keys: Key) -> Scene:
    """Draw a scene, as a function of `keys`."""
    kind = choose(KINDS, "kind", *keys)
    others = tuple(other for other in KINDS if other != kind)
    clutter = tuple(
        (choose(others, "clutter kind", index, *keys), choose(COLOURS, "clutter colour", index, *keys))
        for index in range(choose((0, 0, 1, 1, 2, CLUTTER_MAX), "clutter count", *keys))
    )
    return Scene(
        kind=kind,
        colour=choose(COLOURS, "colour", *keys),
        count=choose((1, 1, 2, 3, 4), "count", *keys),
        size=uniform("size", *keys),
        place=choose(PLACES, "place", *keys),
        clutter=clutter,
        noise_seed=hash64("noise", *keys) % 2**32,
    )
