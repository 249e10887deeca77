"""Complete the configuration of an earlier version, for comparisons with a present one."""

from collections.abc import Mapping
from typing import Any

from pydantic_core import to_jsonable_python

from laclip_ray.config.facts import ITEM, sections_of
from laclip_ray.config.fields import Section


def with_defaults(section: type[Section], content: Mapping[str, Any]) -> dict[str, Any]:
    """A section as an earlier version wrote it, with every key that was added since at its default.

    A new key's default is what earlier versions did. Keys that no longer exist stay.

    Args:
        section: the section's type.
        content: its content as JSON.
    """
    complete = dict(content)
    for name, field in section.model_fields.items():
        if name in content:
            complete[name] = _complete(field.annotation, content[name])
        elif not field.is_required():
            complete[name] = to_jsonable_python(field.get_default(call_default_factory=True))
    return complete


def _complete(annotation: Any, value: Any) -> Any:
    for mark, section in sections_of(annotation):
        if mark == ITEM and isinstance(value, list):
            return [with_defaults(section, item) if isinstance(item, Mapping) else item for item in value]
        if mark == ITEM and isinstance(value, Mapping):
            return {key: with_defaults(section, item) for key, item in value.items() if isinstance(item, Mapping)}
        if not mark and isinstance(value, Mapping):
            return with_defaults(section, value)
    return value
