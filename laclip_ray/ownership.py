"""Does a directory belong to this run? A run writes a record, a JSON file, before its other files."""

from collections.abc import Callable, Sequence
from typing import Any

from laclip_ray import storage
from laclip_ray.errors import UserError
from laclip_ray.lease import LEASE_FILE


def check_owner(
    location: str, record: str, changed: Callable[[Any], Sequence[str]], *, setting: str, content: str, remedy: str
) -> bool:
    """Refuse a directory that holds other files or another run. Writes nothing.

    Args:
        location: a directory or URL.
        record: the name of the record file in it.
        changed: names the differences between a record's content and this run. No difference: the directory is this
            run's.
        setting: the config key of `location`, for messages.
        content: the kind of run, for messages: `training run`.
        remedy: the user's way out of a damaged record.

    Returns:
        True if the directory holds this run, False if it is empty or missing.

    Raises:
        UserError: the directory holds other files, another run's record, or a damaged one.
    """
    url = storage.join(location, record)
    if not storage.exists(url):
        # The lease is this run's, or that of another one which has not written its record yet.
        if storage.exists(location) and any(
            storage.name_of(file) != LEASE_FILE for file in storage.list_files(location)
        ):
            raise UserError(f"{setting}: {location} holds files, but no {content}; choose another directory")
        return False
    if differences := storage.read_state(url, f"the record of this {content}", remedy, changed):
        raise UserError(
            f"{setting}: {location} holds another {content} ({', '.join(differences)} differ); choose another "
            "directory, or set these back"
        )
    return True


def changed_keys(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """The keys with different values, and the keys that only one side has, sorted."""
    return sorted(key for key in {*before, *now} if before.get(key) != now.get(key))


def check_empty(location: str) -> None:
    """Refuse a target that exists and is not an empty directory.

    Raises:
        UserError: with the target.
    """
    if storage.exists(location) and (not storage.is_directory(location) or storage.list_files(location)):
        raise UserError(f"{location} already exists and is not an empty directory; choose another")
