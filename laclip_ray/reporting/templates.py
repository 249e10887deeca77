"""Fill the templates of HTML pages. All values are escaped, except markup that the caller marks as such."""

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from laclip_ray.printable import printable


def render(template: str, **values: Any) -> str:
    """Fill a template of this package. Control characters, also those that reorder text, become escape sequences.

    Args:
        template: its file name.
        values: by name in the template. Only `Markup` is not escaped.
    """
    return _environment().get_template(template).render(**values).encode("utf-8", "replace").decode()


@cache
def _environment() -> Environment:
    """Keeps the templates that it has compiled."""
    return Environment(
        loader=PackageLoader("laclip_ray", "reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_shown,
    )


def source(name: str) -> str:
    """The text of a file of this package."""
    return (Path(__file__).parent / name).read_text()


def _shown(value: Any) -> Any:
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value
