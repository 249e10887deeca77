"""The id by which a resumed run finds its run in each tracker: `trackers.json` in the run's output."""

import re
import uuid
from collections.abc import Mapping
from typing import Any

from laclip_ray import storage

IDENTITY_FILE = "trackers.json"
_ID = re.compile(r"[a-z0-9]{8,32}")


def run_id(output: str) -> str:
    """The id of the run in `output`, made at its first start.

    Raises:
        UserError: the file is damaged.
    """
    url = storage.join(output, IDENTITY_FILE)
    if storage.exists(url):
        remedy = "Remove it, and trackers begin a new run."
        return storage.read_state(url, "the id of this run in trackers", remedy, _parse)
    found = new_id()
    storage.write_json(url, {"id": found})
    return found


def new_id() -> str:
    """An id that no other run has."""
    return uuid.uuid4().hex[:12]


def _parse(content: Mapping[str, Any]) -> str:
    found = content["id"]
    if not _ID.fullmatch(found):
        raise ValueError(f"{found!r} is no id")
    return str(found)
