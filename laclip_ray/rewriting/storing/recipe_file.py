"""The recipe file of a rewrite set, which says whose rewrites a directory holds."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from laclip_ray import storage
from laclip_ray.ownership import changed_keys, check_owner
from laclip_ray.rewriting.recipe import HEAD_PAIRS, fingerprint_of
from laclip_ray.versions import package_versions

T = TypeVar("T")

RECIPE_FILE = "recipe.json"
_REMEDY = "Restore it from a copy, or choose another directory: it says which model wrote these rewrites."


def claim(location: str, recipe: Mapping[str, Any], setting: str) -> None:
    """Write the recipe file of a new rewrite set; arguments and errors as in `check_location`."""
    if not check_location(location, recipe, setting):
        content = {"fingerprint": fingerprint_of(recipe), "recipe": recipe, "written_with": package_versions()}
        storage.write_json(storage.join(location, RECIPE_FILE), content)


def read_recipe(location: str, parse: Callable[[Any], T]) -> T:
    """Read the recipe file of a rewrite set.

    Raises:
        UserError: the file is damaged.
    """
    url = storage.join(location, RECIPE_FILE)
    return storage.read_state(url, "the record of this rewrite set", _REMEDY, parse)


def check_location(location: str, recipe: Mapping[str, Any], setting: str) -> bool:
    """Check that `location` is empty or holds the rewrites of `recipe`. Writes no file.

    Returns:
        Whether it holds the recipe already.

    Raises:
        UserError: the directory holds another recipe's rewrites, or other files.
    """

    def changed(record: Mapping[str, Any]) -> list[str]:
        if record["fingerprint"] == fingerprint_of(recipe):
            return []
        keys = changed_keys(record["recipe"], dict(recipe))
        # Other pairs of the heads mostly follow from another change.
        return [key for key in keys if key != HEAD_PAIRS] or keys or ["fingerprint"]

    return check_owner(location, RECIPE_FILE, changed, setting=setting, content="rewrite set", remedy=_REMEDY)
