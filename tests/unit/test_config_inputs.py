"""The inputs that tasks and actors read are found in the config; names and files for the driver are not among them."""

from typing import Any

from laclip_ray.config import inputs_on_nodes, parse_experiment

CONTENT: dict[str, Any] = {
    "name": "test",
    "output": "/out",
    "data": {"path": ["/data/a.tar", "s3://bucket/b.tar"], "image_root": None},
    "rewrite": {
        "model": "Qwen/Qwen3-8B-Base",
        "prompt_sets": ["crowd", "/prompts/mine.yaml"],
        "prices": "/prices.yaml",
        "gate": {"picture": {"model": "ViT-B-32", "pretrained": "/weights/clip.pt"}},
    },
    "text": {"rewrites": ["/rewrites/crowd"]},
    "model": {"name": "/models/clip.json"},
    "evaluate": {
        "checkpoint": "local-dir:/models/clip",
        "labelled": [
            {"name": "a", "path": "/sets/a", "class_names": "imagenet", "templates": "openai"},
            {
                "name": "b",
                "path": "s3://bucket/b",
                "class_names": "/sets/names.txt",
                "templates": "/sets/templates.txt",
            },
        ],
    },
    "ray": {"shared_paths": ["/shared"]},
}


def test_paths_and_urls_of_the_sections_are_found() -> None:
    experiment = parse_experiment(CONTENT)
    assert inputs_on_nodes(experiment, "data", "model") == [
        ("data.path", "/data/a.tar"),
        ("data.path", "s3://bucket/b.tar"),
        ("model.name", "/models/clip.json"),
    ]
    assert inputs_on_nodes(experiment, "text") == [("text.rewrites", "/rewrites/crowd")]
    assert sorted(inputs_on_nodes(experiment, "evaluate")) == [
        ("evaluate.checkpoint", "local-dir:/models/clip"),
        ("evaluate.labelled[].class_names", "/sets/names.txt"),
        ("evaluate.labelled[].path", "/sets/a"),
        ("evaluate.labelled[].path", "s3://bucket/b"),
        ("evaluate.labelled[].templates", "/sets/templates.txt"),
    ]


def test_files_that_only_the_driver_reads_and_names_are_left_out() -> None:
    experiment = parse_experiment(CONTENT)
    assert inputs_on_nodes(experiment, "rewrite", "ray") == [("rewrite.gate.picture.pretrained", "/weights/clip.pt")]
