"""A model is found by its name or its config file, or refused before anything starts."""

import pytest

from laclip_ray.errors import UserError
from laclip_ray.models.specs import load_model_spec


def test_a_model_that_also_writes_captions_is_refused() -> None:
    with pytest.raises(UserError, match=r"coca_ViT-B-32.*two towers"):
        load_model_spec("coca_ViT-B-32")
