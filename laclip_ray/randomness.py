"""Random draws as pure functions of their keys.

No state is kept: the same keys give the same draw in every process, at every world size and after every restart. Keys
are strings and integers; `(1, "a")` and `("1", "a")` are different keys.
"""

import struct
from hashlib import blake2b

import numpy as np

Key = int | str


def hash64(*keys: Key) -> int:
    """A uniform integer in [0, 2**64), as a function of `keys`."""
    return int.from_bytes(_digest(8, keys), "big")


def uniform(*keys: Key) -> float:
    """A uniform float in [0, 1), as a function of `keys`."""
    return (hash64(*keys) >> 11) * 2.0**-53


def uniforms(count: int, *keys: Key) -> list[float]:
    """Independent uniform floats in [0, 1), as a function of `keys` and `count` (at most 8)."""
    words = struct.unpack(f">{count}Q", _digest(8 * count, keys))
    return [(word >> 11) * 2.0**-53 for word in words]


def _digest(size: int, keys: tuple[Key, ...]) -> bytes:
    parts = []
    for key in keys:
        # The tag with type and length keeps the bytes of different key lists apart.
        text = str(key).encode("utf-8", "surrogatepass")
        parts += [b"%c%d:" % (b"i" if isinstance(key, int) else b"s", len(text)), text]
    return blake2b(b"".join(parts), digest_size=size).digest()


def generator(*keys: Key) -> np.random.Generator:
    """A new numpy generator seeded by `keys`, for draws of arrays (permutations, noise)."""
    return np.random.Generator(np.random.Philox(key=hash64(*keys)))


def permutation(count: int, *keys: Key) -> list[int]:
    """The integers from 0 to `count` - 1, in an order that `keys` determine."""
    order: list[int] = generator(*keys).permutation(count).tolist()
    return order
