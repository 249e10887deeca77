"""Figures of the paper's models: their exports in the picture gate and in evaluation, against the models themselves.

A model is drawn, its verdicts and recalls are computed in memory, and it is saved as training saves it. Then a new
process loads it by each form of its name. A new process, because an import of `laclip_ray.models.paper_models` stays
in effect: timm knows the image towers from then on.

usage of that process: python -m tests.figures.house_exports (gate|evaluation) DIRECTORY
"""

import io
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.figures.figure import Figure
from tests.structure import REPOSITORY

CAPTIONS = [f"caption number {number} of a {noun}" for number, noun in enumerate(("dog", "red car", "house", "lake"))]
REWRITES = [
    f"a {noun}, {place}" for noun in ("dog", "car", "house", "lake") for place in ("outside", "seen from above")
]
FORMS = {"directory": "{}", "local-dir": "local-dir:{}", "URL": "local://{}"}
"""A model's name for the loader. fsspec reads `local://` from disk; this package treats it as any other URL."""
CLOSE = 1e-5
"""Differences of cosine similarity below which a verdict may depend on rounding."""


def paper_exports(show: int) -> Iterator[Figure]:
    """For each of the paper's models and each form of its name: verdicts and recalls that differ."""
    from laclip_ray.models import paper_models

    for name in paper_models.NAMES:
        with tempfile.TemporaryDirectory() as scratch:
            expected = prepare(name, Path(scratch))
            for part in ("gate", "evaluation"):
                command = [sys.executable, "-m", "tests.figures.house_exports", part, scratch]
                done = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, check=True)
                results = json.loads(done.stdout.splitlines()[-1])
                for form in FORMS:
                    label = f"{name} by {form}: wrong results of {len(expected[part])} of the {part}"
                    wrong = sum(results[form].get(key) != value for key, value in expected[part].items())
                    yield Figure(show, label, wrong, "results", 0, 0)


def prepare(name: str, directory: Path) -> dict[str, dict[str, Any]]:
    """Save a model and a dataset, and compute the results of the picture gate and of evaluation in memory."""
    import open_clip
    import torch
    from open_clip.transform import PreprocessCfg, image_transform_v2

    from laclip_ray.evaluation.retrieval import Pairs, retrieval_metrics
    from laclip_ray.models.building import create_model
    from laclip_ray.models.files import save_model
    from laclip_ray.models.specs import load_model_spec
    from tests.unit.conftest import write_tar

    spec = load_model_spec(name)
    model: Any = create_model(spec, seed=0).eval()
    (directory / "export").mkdir()
    save_model(directory / "export", model, spec)
    members = []
    for number, (image, caption) in enumerate(zip(pictures(), CAPTIONS, strict=True)):
        members += [(f"k{number}.png", image), (f"k{number}.txt", caption.encode())]
    write_tar(directory / "data" / "0.tar", members)

    transform = image_transform_v2(PreprocessCfg(**spec.preprocess_cfg), is_train=False)
    tokenizer = open_clip.SimpleTokenizer(context_length=77)
    pixels = torch.stack([transform(Image.open(io.BytesIO(image))) for image in pictures()])
    with torch.inference_mode():
        images = model.encode_image(pixels, normalize=True)
        texts = model.encode_text(tokenizer([*CAPTIONS, *REWRITES]), normalize=True)
        similarities = (images @ texts.T).tolist()
        numbers = torch.arange(len(CAPTIONS))
        pairs = Pairs(images, numbers, texts[: len(CAPTIONS)], numbers, numbers, CAPTIONS)
        recalls = retrieval_metrics(pairs, torch.device("cpu")).metrics
    verdicts = {}
    for row, similarity in enumerate(similarities):
        for number, of_rewrite in enumerate(similarity[len(CAPTIONS) :]):
            if abs(of_rewrite - similarity[row]) > CLOSE:
                verdicts[f"{row}/{number}"] = of_rewrite > similarity[row]
    return {"gate": verdicts, "evaluation": recalls}


def pictures() -> list[bytes]:
    """Encoded pictures of coloured blocks, one for each caption."""
    encoded = []
    for seed in range(len(CAPTIONS)):
        blocks = np.random.Generator(np.random.Philox(seed)).integers(0, 255, (4, 4, 3), np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(blocks).resize((240, 230), Image.Resampling.NEAREST).save(buffer, "PNG")
        encoded.append(buffer.getvalue())
    return encoded


def verdicts_of_gate(model: str, directory: Path) -> dict[str, Any]:
    """Whether the picture gate keeps each rewrite, by `picture/rewrite`."""
    from laclip_ray.rewriting.scoring.picture_gate import PictureScorer

    scored = PictureScorer(model, None, 8).score(pictures(), CAPTIONS, [REWRITES] * len(CAPTIONS))
    return {
        f"{row}/{number}": similarity >= scores.caption
        for row, scores in enumerate(scored)
        if scores is not None
        for number, similarity in enumerate(scores.rewrites)
    }


def recalls_of_evaluation(model: str, directory: Path) -> dict[str, Any]:
    """Metrics of image-text retrieval."""
    from laclip_ray.config import parse_experiment
    from laclip_ray.evaluation.run import run_evaluation

    data = {"path": str(directory / "data")}
    evaluate = {"checkpoint": model, "retrieval": [{"name": "blocks", "data": data}]}
    experiment = parse_experiment(
        {"name": "exports", "output": str(directory / "out"), "data": data, "evaluate": evaluate}
    )
    (result,) = run_evaluation(experiment)["results"]
    return dict(result)


def main() -> None:
    """Print a JSON object on one line: for each form of the model's name, the results; empty after an error."""
    part, directory = sys.argv[1], Path(sys.argv[2])
    measure = {"gate": verdicts_of_gate, "evaluation": recalls_of_evaluation}[part]
    results: dict[str, dict[str, Any]] = {}
    for form, pattern in FORMS.items():
        try:
            results[form] = measure(pattern.format(directory / "export"), directory)
        except Exception as error:  # noqa: BLE001 - an error is a wrong result, and the other forms are still measured
            print(f"{part}, {form}: {error}", file=sys.stderr)
            results[form] = {}
    print(json.dumps(results))


if __name__ == "__main__":
    main()
