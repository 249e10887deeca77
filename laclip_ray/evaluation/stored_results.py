"""Read the results of finished evaluations, and compare two of them."""

from typing import Any

from laclip_ray import storage
from laclip_ray.errors import UserError
from laclip_ray.evaluation.comparison import Row, SetKey, compare
from laclip_ray.evaluation.per_image import PerImage, read_per_image
from laclip_ray.evaluation.results import RESULTS_FILE, per_image_url

_REMEDY = "Run `laclip evaluate` again."


def read_results(output: str) -> tuple[dict[str, Any], dict[SetKey, PerImage]]:
    """The results of an evaluation, and the values of the images or episodes of each set that has them.

    Args:
        output: the directory or URL that holds `results.json`.

    Raises:
        UserError: there are no results, or a file is damaged.
    """
    url = storage.join(output, RESULTS_FILE)
    if not storage.exists(url):
        raise UserError(f"{url} does not exist; give the output of a `laclip evaluate`, such as RUN/evaluate")
    results = storage.read_state(url, "the results of an evaluation", _REMEDY, _parsed)
    images = {}
    for entry in results["results"]:
        key = (entry["task"], entry["dataset"])
        if "intervals" in entry:
            images[key] = read_per_image(per_image_url(output, *key))
    return results, images


def _parsed(content: Any) -> dict[str, Any]:
    for entry in content["results"]:
        if not (isinstance(entry["task"], str) and isinstance(entry["dataset"], str)):
            raise TypeError("a task or a dataset is no text")
    return dict(content)


def compare_outputs(first: str, second: str, seed: int = 0) -> list[Row]:
    """Compare two evaluations set by set, on the same images.

    Args:
        first: output of an evaluation.
        second: output of another one; differences are second minus first.
        seed: of the resamples.

    Raises:
        UserError: see `read_results`.
    """
    (results_a, images_a), (results_b, images_b) = read_results(first), read_results(second)
    return compare(results_a, results_b, images_a, images_b, seed=seed)
