"""The examples in docstrings are true."""

import doctest
from importlib import import_module
from pkgutil import iter_modules

import pytest

import laclip_ray.data

MODULES = [f"laclip_ray.data.{module.name}" for module in iter_modules(laclip_ray.data.__path__)]


@pytest.mark.parametrize("module", MODULES)
def test_every_example_gives_what_it_says(module: str) -> None:
    assert doctest.testmod(import_module(module)).failed == 0
