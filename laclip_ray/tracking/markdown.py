"""Tables and settings as Markdown, for trackers that show texts. Captions are hostile: they cannot leave their cell."""

import html
import re
from collections.abc import Mapping
from typing import Any

from laclip_ray.printable import printable
from laclip_ray.tracking.tracker import Cell, Table

_LONGEST_CELL = 500
_MARKS = re.compile(r"([\\`*_{}\[\]()#+!|~])")


def table_text(table: Table) -> str:
    """A table without pictures.

    >>> print(table_text(Table("t", ["caption", "score"], [["a | b", 0.5]])))
    | caption | score |
    | --- | --- |
    | a \\| b | 0.5 |
    """
    shown = table.without_pictures()
    lines = [shown.columns, ["---"] * len(shown.columns), *([_cell(cell) for cell in row] for row in shown.rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def values_text(values: Mapping[str, Any]) -> str:
    """Values by name, as a table."""
    return table_text(Table("values", ["key", "value"], [[name, f"{value}"] for name, value in values.items()]))


def _cell(cell: Cell) -> str:
    if cell is None:
        return ""
    text = " ".join(printable(f"{cell:.6g}" if isinstance(cell, float) else f"{cell}").split())
    clipped = text if len(text) <= _LONGEST_CELL else f"{text[:_LONGEST_CELL]}…"
    return html.escape(_MARKS.sub(r"\\\1", clipped), quote=False)
