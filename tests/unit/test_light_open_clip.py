"""open_clip without transformers, and what brings them back."""

import subprocess
import sys
from pathlib import Path

from transformers import BertConfig

from tests.structure import importers_of

BUILD_A_TRANSFORMERS_TOWER = """
import sys, torch
from laclip_ray.light_open_clip import open_clip
was_light = "transformers" not in sys.modules
text = {"hf_model_name": sys.argv[1], "hf_model_pretrained": False, "hf_pooler_type": "mean_pooler"}
vision = {"image_size": 16, "layers": 1, "width": 16, "head_width": 8, "patch_size": 8}
model = open_clip.CustomTextCLIP(8, vision, text)
print(was_light, *model.encode_text(torch.ones(3, 4, dtype=torch.int64)).shape, "transformers" in sys.modules)
"""


def test_transformers_are_loaded_with_their_first_text_tower(tmp_path: Path) -> None:
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    BertConfig(vocab_size=16, max_position_embeddings=8, **sizes).save_pretrained(tmp_path)
    run = [sys.executable, "-c", BUILD_A_TRANSFORMERS_TOWER, str(tmp_path)]
    assert subprocess.run(run, capture_output=True, text=True, check=True).stdout.split() == ["True", "3", "8", "True"]


def test_all_modules_take_open_clip_from_here() -> None:
    assert "models.paper_models" in importers_of("timm")  # the search finds what there is
    assert importers_of("open_clip") == []
