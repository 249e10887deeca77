"""The paper at one setting: what its preset takes of hard completions, and released texts that meet img2dataset's tars.

The texts are made for the figure, in the authors' layout: a CSV of image path and caption, and four text files.
"""

import csv
import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

from laclip_ray.config import Experiment, ImportJoin, RewriteConfig, parse_experiment
from laclip_ray.data.shards import list_shards, read_samples
from laclip_ray.rewriting.judging.gate import Gate
from laclip_ray.rewriting.prompting.completions import reference_completion
from laclip_ray.rewriting.prompting.prompts import ExamplePair, completion_head
from laclip_ray.rewriting.recipe import gate_fingerprint
from laclip_ray.rewriting.storing.store import RewriteSet
from laclip_ray.rewriting.transfer.import_texts import CaptionsFile, import_rewrites
from tests.figures.figure import Figure
from tests.integration.procedures import real_data
from tests.unit.conftest import picture, write_tar
from tests.unit.rewriting.paper_rule import CAPTION, kept_text, nasty_completions, shown_text

COMPLETIONS = 200
IMAGES = 120
SETS = ("chatgpt", "bard", "mscoco", "human")
IMAGES_PER_TAR = 40
REPEATED = 12
"""Images that share their caption with the image before."""


def paper(show: int) -> Iterator[Figure]:
    """Compare completions with the authors' rule, and import texts by caption and by file name.

    Args:
        show: the number of the show that the figures belong to.
    """
    equal = sum(map(_is_as_the_rule_says, nasty_completions(COMPLETIONS)))
    name = f"of {COMPLETIONS} hard completions, kept and shown as by the paper's rule"
    yield Figure(show, name, equal, "completions", at_least=COMPLETIONS)
    data = real_data()
    if data is None:
        print(f"LACLIP_TEST_DATA is not set: the import of texts (show {show}) is left out")
        return
    captions = _captions(data)
    joins: tuple[ImportJoin, ...] = ("caption", "basename")
    for join in joins:
        with tempfile.TemporaryDirectory() as directory:
            texts, ambiguous = _imported(Path(directory), captions, join)
        total = IMAGES * len(SETS)
        yield Figure(show, f"of {total} texts, on their image with --join {join}", texts, "texts", at_least=total)
        yield Figure(show, f"images that share a caption, named with --join {join}", ambiguous, "images")


def _is_as_the_rule_says(completion: str) -> bool:
    head = completion_head(tuple(ExamplePair(f"source {n}", f"target {n}") for n in range(3)), "reference")
    gate = Gate(RewriteConfig(preset="paper").gate, (head.pairs,), lambda text: len(text) + 2)
    text = reference_completion(completion)
    is_shown = gate.judge(text, CAPTION, truncated=True, head=0) is None
    kept = kept_text(head, CAPTION, completion)
    return text == kept and (text if is_shown else CAPTION) == shown_text(kept, CAPTION)


def _captions(data: Path) -> list[str]:
    """Captions of the web, some of them repeated."""
    lines = (data / "cc3m-validation.tsv").read_text(encoding="utf-8").splitlines()
    captions = list(dict.fromkeys(line.partition("\t")[0] for line in lines))[:IMAGES]
    for number in range(REPEATED):
        captions[10 * number + 1] = captions[10 * number]
    return captions


def _imported(directory: Path, captions: Sequence[str], join: ImportJoin) -> tuple[int, int]:
    """The texts that are on their image after an import, and the samples that several rows match equally."""
    experiment = _write_tars(directory, captions)
    # The authors' order is not the tars'. A path ends in the tars' key: img2dataset writes files by the same numbers.
    order = list(range(len(captions)))
    Random(0).shuffle(order)
    with (directory / "original.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows((f"train/{row:05}/{row:09}.jpg", captions[row]) for row in order)
    files = []
    for name in SETS:
        files.append(directory / f"cc12m_{name}.txt")
        lines = "".join(f"{name} of {row}: {captions[row]}\n" for row in order)
        files[-1].write_text(lines, encoding="utf-8")
    original = CaptionsFile(str(directory / "original.csv"), join)
    imported = import_rewrites(experiment, original, [str(path) for path in files], SETS)
    gate = gate_fingerprint(experiment.rewrite.gate, experiment.model.name)
    right = 0
    for name, location in imported.locations.items():
        for shard in list_shards(experiment.data):
            accepted = RewriteSet(location, gate).accepted(shard.name) or {}
            for sample in read_samples(shard, experiment.data, with_images=False):
                texts = accepted.get((sample.id, sample.caption_hash), [])
                right += len(texts) == 1 and _is_on_its_image(texts[0], name, sample.id, sample.caption, captions, join)
    return right, imported.ambiguous_samples


def _is_on_its_image(
    text: str, name: str, sample_id: str, caption: str, captions: Sequence[str], join: ImportJoin
) -> bool:
    """Whether a text was made for this image. By caption, images of one caption may have each other's texts."""
    rows = [int(sample_id)] if join == "basename" else [row for row, other in enumerate(captions) if other == caption]
    return text in [f"{name} of {row}: {captions[row]}" for row in rows]


def _write_tars(directory: Path, captions: Sequence[str]) -> Experiment:
    """img2dataset's tars: keys are numbers; beside each image its caption and a json member."""
    image = picture("JPEG")
    for start in range(0, len(captions), IMAGES_PER_TAR):
        members = [
            (f"{row:09}.{extension}", content)
            for row in range(start, min(start + IMAGES_PER_TAR, len(captions)))
            for extension, content in (
                ("jpg", image),
                ("txt", captions[row].encode()),
                ("json", json.dumps({"key": f"{row:09}", "status": "success"}).encode()),
            )
        ]
        write_tar(directory / "data" / f"{start // IMAGES_PER_TAR:05}.tar", members)
    return parse_experiment(
        {
            "name": "paper",
            "output": str(directory / "out"),
            "data": {"path": str(directory / "data")},
            "rewrite": {"preset": "paper"},
        }
    )
