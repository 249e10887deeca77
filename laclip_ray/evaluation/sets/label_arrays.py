"""Labels as NumPy arrays (`.npy`), as CLIP_benchmark writes them for images with several labels (VOC2007).

An array of a class's presence (0 or 1) for each class, or of the numbers of the classes.
"""

import io
import json
from typing import Any

import numpy as np

UNREADABLE = "[null]"
"""In place of an array that cannot be read: a list, but of no classes."""

_MAX_ITEMS = 100_000


def label_of_array(content: bytes) -> str:
    """The values of a one-dimensional array as a JSON list; `UNREADABLE` if it is none.

    Never allocates what a header claims, and never unpickles.

    >>> label_of_array(b"no array")
    '[null]'
    """
    file = io.BytesIO(content)
    read: Any = np.lib.format  # without annotations
    try:
        major, _ = read.read_magic(file)
        shape, _, dtype = (read.read_array_header_1_0 if major == 1 else read.read_array_header_2_0)(file)
    except Exception:  # noqa: BLE001 - NumPy evaluates the header as Python text, which fails in many ways
        return UNREADABLE
    count = shape[0] if len(shape) == 1 else -1
    is_number = dtype.kind in "biuf" and dtype.fields is None
    if not is_number or not 0 <= count <= _MAX_ITEMS or count * dtype.itemsize > len(content) - file.tell():
        return UNREADABLE
    values = np.frombuffer(content, dtype, count, file.tell()).astype(np.float64)
    is_whole = np.isfinite(values).all() and (values == np.floor(values)).all() and (np.abs(values) < 2**31).all()
    return json.dumps(values.astype(np.int64).tolist()) if is_whole else UNREADABLE
