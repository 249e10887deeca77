"""Read the state files of a run. Name damaged ones, and continue without them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from laclip_ray import storage
from laclip_ray.endings.causes import describe
from laclip_ray.errors import UserError

T = TypeVar("T")


@dataclass
class Damage:
    """The files that could not be read."""

    found: list[str] = field(default_factory=list)
    """A sentence for each: the file, the damage, the remedy."""

    def read_json(self, url: str, what: str, remedy: str, parse: Callable[[Any], T]) -> T | None:
        """Read a JSON file; arguments as in `storage.read_state`.

        Returns:
            None if there is no such file, or if it is damaged.
        """
        return self._read(url, what, lambda: storage.read_state(url, what, remedy, parse))

    def read_bytes(self, url: str, what: str) -> bytes | None:
        """Read a file; None if it does not exist, or may not be read."""
        return self._read(url, what, lambda: storage.read_bytes(url))

    def _read(self, url: str, what: str, read: Callable[[], T]) -> T | None:
        try:
            return read()
        except FileNotFoundError:
            return None
        except UserError as error:
            self.found.append(str(error))
        except (PermissionError, IsADirectoryError, NotADirectoryError) as error:
            self.found.append(f"{url}: {what} cannot be read ({describe(error)}). Give this user access to it")
        return None
