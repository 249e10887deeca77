"""Fill the templates of HTML pages. All values are escaped, except markup that the caller marks as such."""

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


def render(template: str, **values: Any) -> str:
    """Fill a template of this package. Characters that UTF-8 cannot encode become `?`.

    Args:
        template: its file name.
        values: by name in the template. Only `Markup` is not escaped.
    """
    environment = Environment(
        loader=PackageLoader("laclip_ray", "reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(template).render(**values).encode("utf-8", "replace").decode()
