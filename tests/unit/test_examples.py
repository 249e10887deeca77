"""The examples in docstrings are true."""

import doctest
from importlib import import_module

import pytest

from tests import structure

MODULES = [name for name, module in structure.modules().items() if ">>> " in module.path.read_text()]


@pytest.mark.parametrize("name", MODULES)
def test_every_example_gives_what_it_says(name: str) -> None:
    results = doctest.testmod(import_module(f"{structure.PACKAGE}.{name}"))
    assert results.attempted
    assert not results.failed
