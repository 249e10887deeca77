"""Complete the configuration of an earlier version, for comparisons with a present one."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic_core import to_jsonable_python

from laclip_ray.config.facts import ITEM, sections_of
from laclip_ray.config.fields import Section


def with_defaults(section: type[Section], content: Mapping[str, Any]) -> dict[str, Any]:
    """A section as an earlier version wrote it, with every later key at its default.

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
    marked = list(sections_of(annotation))
    of_items = [section for mark, section in marked if mark == ITEM]
    alone = [section for mark, section in marked if not mark]
    if of_items and isinstance(value, list):
        return [_with_defaults_of_one(of_items, item) if isinstance(item, Mapping) else item for item in value]
    if of_items and isinstance(value, Mapping):
        return {key: _with_defaults_of_one(of_items, item) for key, item in value.items() if isinstance(item, Mapping)}
    if alone and isinstance(value, Mapping):
        return _with_defaults_of_one(alone, value)
    return value


def _with_defaults_of_one(sections: Sequence[type[Section]], content: Mapping[str, Any]) -> dict[str, Any]:
    """The content with the defaults of the alternative of a union that it belongs to: the first that it completes."""
    for section in sections:
        if all(name in content for name, field in section.model_fields.items() if field.is_required()):
            return with_defaults(section, content)
    return with_defaults(sections[0], content)
