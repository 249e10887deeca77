"""The settings of the running command that name files, stores and models, for its error messages."""

from typing import Any

settings: dict[str, str] = {}
"""Texts of the config by dotted key."""


def remember(content: Any, key: str = "") -> None:
    """Add every text of a nested value.

    Args:
        content: a config as JSON, or a part of it.
        key: of the part.
    """
    if isinstance(content, dict):
        for name, value in content.items():
            remember(value, f"{key}.{name}" if key else str(name))
    elif isinstance(content, list):
        for number, value in enumerate(content):
            remember(value, f"{key}[{number}]")
    elif isinstance(content, str) and content:
        settings[key] = content
