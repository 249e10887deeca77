"""Lists of texts in files: a line each, or a list in a JSON file.

`FILE.json#KEY` is the list under a key, as SLIP's `templates.json` and `labels.json` have them.
"""

import json
from collections.abc import Sequence
from typing import Any

from laclip_ray import storage
from laclip_ray.data.hub_addresses import resolve_hub_address
from laclip_ray.errors import UserError
from laclip_ray.nearest import did_you_mean
from laclip_ray.tally import first_names


def read_text(url: str, where: str) -> str:
    """The text of a UTF-8 file, without a byte order mark.

    Args:
        url: the file.
        where: begins a message.

    Raises:
        UserError: the file is not UTF-8.
    """
    content = storage.read_bytes(url)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"{where}: {url} is not UTF-8 (line {line}); save it as UTF-8") from error


def read_lines(url: str, where: str) -> list[str]:
    """The stripped lines of a file, without blank ones at its end.

    Args:
        url: the file.
        where: begins a message.

    Raises:
        UserError: the file does not exist, is empty or is not UTF-8.
    """
    if not storage.exists(url):
        raise UserError(f"{where}: {url} does not exist")
    lines = [line.strip() for line in read_text(url, where).splitlines()]
    while lines and not lines[-1]:
        lines.pop()
    if not lines:
        raise UserError(f"{where}: {url} is empty")
    return lines


def read_list(spec: str, where: str, named: Sequence[str]) -> list[Any]:
    """The lines of a file, or the list in a JSON file.

    Args:
        spec: `FILE`, `FILE.json` or `FILE.json#KEY`.
        where: the setting, begins a message.
        named: the lists that have names, for messages.

    Raises:
        UserError: there is no such file, or it holds no such list.
    """
    url, key = _split_key(resolve_hub_address(spec))
    if not storage.exists(url) or storage.is_directory(url):
        near = did_you_mean(storage.name_of(url), named)
        raise UserError(
            f"{where}: there is no file {url}; give a file, or the name of a list: {', '.join(named)}{near}"
        )
    if not url.lower().endswith(".json"):
        return read_lines(url, where)
    try:
        content = json.loads(read_text(url, where))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: {url} is not JSON: {error}") from error
    if isinstance(content, dict):
        keys = first_names(map(str, content)) or "none"
        if key is None:
            raise UserError(f"{where}: {url} holds several lists ({keys}); give {url}#KEY")
        if key not in content:
            raise UserError(f"{where}: {url} has no key {key!r}; it has {keys}")
        content = content[key]
    elif key is not None:
        raise UserError(f"{where}: {url} holds no keys; leave out #{key}")
    if not isinstance(content, list):
        raise UserError(f"{where}: {url}{f'#{key}' if key else ''} is {_kind(content)}; it must be a list")
    if not content:
        raise UserError(f"{where}: {url}{f'#{key}' if key else ''} is empty")
    return content


def _split_key(spec: str) -> tuple[str, str | None]:
    """The file and the key. Only JSON files have keys: other names may hold a `#`.

    >>> _split_key("a#b/names.txt"), _split_key("labels.json#food101")
    (('a#b/names.txt', None), ('labels.json', 'food101'))
    """
    url, mark, key = spec.rpartition("#")
    return (url, key) if mark and url.lower().endswith(".json") else (spec, None)


def _kind(value: Any) -> str:
    return {dict: "an object", str: "a text", bool: "a truth value"}.get(type(value), "a number or null")
