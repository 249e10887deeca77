"""Random draws as pure functions of their keys.

There is no generator and no state: the same keys give the same draw in every process, at every world size and
after every restart. Keys are strings and integers; `(1, "a")` and `("1", "a")` are different keys.
"""

import struct
from hashlib import blake2b

import numpy as np

Key = int | str


def hash64(*keys: Key) -> int:
    """A uniform integer in [0, 2**64) that is a function of `keys`."""
    return int.from_bytes(_digest(8, keys), "big")


def uniform(*keys: Key) -> float:
    """A uniform float in [0, 1) that is a function of `keys`."""
    return (hash64(*keys) >> 11) * 2.0**-53


def uniforms(count: int, *keys: Key) -> list[float]:
    """Independent uniform floats in [0, 1), at most 8, that are a function of `keys` and their number."""
    words = struct.unpack(f">{count}Q", _digest(8 * count, keys))
    return [(word >> 11) * 2.0**-53 for word in words]


def _digest(size: int, keys: tuple[Key, ...]) -> bytes:
    parts = []
    for key in keys:
        # Each key is tagged with its type and length, so that no two key lists give the same bytes.
        text = str(key).encode("utf-8", "surrogatepass")
        parts += [b"%c%d:" % (b"i" if isinstance(key, int) else b"s", len(text)), text]
    return blake2b(b"".join(parts), digest_size=size).digest()


def generator(*keys: Key) -> np.random.Generator:
    """A fresh numpy generator seeded by `keys`, for draws of arrays (permutations, noise)."""
    return np.random.Generator(np.random.Philox(key=hash64(*keys)))


def permutation(count: int, *keys: Key) -> list[int]:
    """The integers 0 to `count` - 1 in an order that is a function of `keys`."""
    order: list[int] = generator(*keys).permutation(count).tolist()
    return order
