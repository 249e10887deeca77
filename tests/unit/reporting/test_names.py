"""Names of metrics that a person can read."""

import pytest

from laclip_ray.evaluation.tasks import RECALLS
from laclip_ray.reporting.names import full_name, metric_name


@pytest.mark.parametrize("metric", ["top1", "mean_per_class", "flip_rate", "preferred_to_all", *RECALLS])
def test_no_name_has_an_underscore(metric: str) -> None:
    assert "_" not in metric_name(metric)


def test_a_full_name_has_the_task_the_metric_and_the_set() -> None:
    assert full_name("retrieval/my/set/image_to_text_r1") == "retrieval: image to text R@1, my/set"
    assert full_name("linear-probe/cars/top1") == "linear probe top-1, cars"
