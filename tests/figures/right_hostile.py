"""Peak memory over hostile image files: of a reading task of the training stream, and of evaluation.

Each is a process that reads a tar of all files, then a table that names images on a server with bodies without an end.
The files are small ones that claim much (`tests.unit.data.hostile`), and pictures of each format at the limit.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from laclip_ray.config import DataConfig
from laclip_ray.data.image_formats import DEFAULT_LIMITS
from tests.figures.figure import Figure
from tests.structure import REPOSITORY
from tests.unit.conftest import encode, write_tar
from tests.unit.data.hostile import hostile_files
from tests.unit.data.servers import Answer, http_server

AT_MOST_GIB = 1.5
BODIES = 36
BODY_BYTES = 128 * 2**20
_READING_TASK = """
import json, sys
from collections import Counter
import ray.data  # a reading task runs in a process that has Ray
from laclip_ray.config import DataConfig, StreamConfig
from laclip_ray.data.entries import StreamSpec, read_entry
from laclip_ray.data.images import ImageSpec
from laclip_ray.data.schedule import Schedule
from laclip_ray.data.shards import list_shards
from laclip_ray.data.text_choice import TextPolicy
from laclip_ray.data.tokens import TokenizerSpec
usable, reasons = 0, Counter()
for content in sys.argv[1:]:
    data = DataConfig(**json.loads(content))
    shards = tuple(list_shards(data))
    spec = StreamSpec(
        data, StreamConfig(), shards, Schedule(len(shards), 1, 0), None, TextPolicy("sample", 1, 0.0, 0.0, 1), 0,
        ImageSpec(224, "bicubic", (0.5,) * 3, (0.5,) * 3), TokenizerSpec(None, 16, None), 1,
    )
    for index in range(len(shards)):
        for block in read_entry(spec, index, set()):
            usable += len(block["row"])
            reasons.update(reason for rows in block["skipped"] if rows for _, _, reason in json.loads(rows))
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
peak_bytes = int(status["VmHWM"].split()[0]) * 1024  # `ru_maxrss` of a child begins at its parent's
print(json.dumps({"peak_bytes": peak_bytes, "usable": usable, "reasons": reasons}))
"""
_EVALUATION = """
import json, sys
from collections import Counter
from open_clip.transform import image_transform
from laclip_ray.config import RetrievalDataConfig
from laclip_ray.evaluation.captioned import captioned_sources
from laclip_ray.evaluation.features.parts import read_parts
from laclip_ray.models.pixel_transform import split_transform
usable, reasons, transform = 0, Counter(), split_transform(image_transform(224, is_train=False))
for content in sys.argv[1:]:
    for source in captioned_sources(RetrievalDataConfig(**json.loads(content)), "data"):
        for part in read_parts(source, [transform], ()):
            usable += len(part.encoded_rows)
            reasons.update(filter(None, part.rows.column("problem").to_pylist()))
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
peak_bytes = int(status["VmHWM"].split()[0]) * 1024  # `ru_maxrss` of a child begins at its parent's
print(json.dumps({"peak_bytes": peak_bytes, "usable": usable, "reasons": reasons}))
"""


def hostile_sizes(show: int) -> Iterator[Figure]:
    """Peak memory of both processes, and that each file was used or counted."""
    hostile = {name: content for name, (content, _) in hostile_files().items()}
    limit = largest_pictures()
    endless = Answer(body=bytes(BODY_BYTES), is_chunked=True)
    with tempfile.TemporaryDirectory() as scratch, http_server(lambda _: endless) as (url, _):
        members = [
            (f"{number}.{kind}", content)
            for number, picture in enumerate([*hostile.values(), *limit.values()])
            for kind, content in (("jpg", picture), ("txt", b"a caption"))
        ]
        tar = write_tar(Path(scratch) / "hostile.tar", members)
        table = Path(scratch) / "bodies.jsonl"
        good = encode(Image.new("RGB", (64, 64)), "PNG")
        (Path(scratch) / "good.png").write_bytes(good)
        rows = [
            {"caption": "a caption", "image": image} for image in [*[f"{url}/{n}" for n in range(BODIES)], "good.png"]
        ]
        table.write_text("".join(json.dumps(row) + "\n" for row in rows))
        configs: list[dict[str, Any]] = [
            {"path": str(tar)},
            {"path": str(table), "image_column": "image", "private_hosts": True},
        ]
        for name, program in (("reading task", _READING_TASK), ("evaluation", _EVALUATION)):
            result = _run(program, configs)
            print(f"{name}: {result['usable']} used; {result['reasons']}")
            counted = result["usable"] + sum(result["reasons"].values())
            yield Figure(show, f"peak memory, {name}", result["peak_bytes"] / 2**30, "GiB", at_most=AT_MOST_GIB)
            expected = len(hostile) + len(limit) + len(rows)
            yield Figure(show, f"files used or counted, {name}", counted, "", at_least=expected, at_most=expected)
            yield Figure(show, f"pictures at the limit used, {name}", result["usable"], "", at_least=len(limit) + 1)


def largest_pictures() -> dict[str, bytes]:
    """A picture of each kind with as many pixels as the default limit allows."""
    pictures: dict[str, bytes] = {}
    for weight in (1, 2):
        side = int((DEFAULT_LIMITS.max_pixels / weight) ** 0.5)
        ramp = np.arange(side) * 255 // side
        pixels = np.zeros((side, side, 3), np.uint8)
        pixels[:, :, 0], pixels[:, :, 1] = ramp[None, :], ramp[:, None]
        rgb = Image.fromarray(pixels)
        grey = rgb.convert("L")
        kinds: dict[str, tuple[Image.Image, str, dict[str, Any]]]
        if weight == 1:
            kinds = {
                "JPEG": (rgb, "JPEG", {"quality": 30}),
                "progressive JPEG": (rgb, "JPEG", {"quality": 30, "progressive": True, "subsampling": 0}),
                "CMYK JPEG": (rgb.convert("CMYK"), "JPEG", {"quality": 30}),
                "PNG": (rgb, "PNG", {"compress_level": 1}),
                "transparent PNG": (_transparent(rgb), "PNG", {"compress_level": 1}),
                "16-bit PNG": (Image.fromarray(pixels[:, :, 0].astype(np.uint16) << 8), "PNG", {"compress_level": 1}),
                "GIF": (grey.convert("P"), "GIF", {"transparency": 3}),
                "BMP": (grey, "BMP", {}),
            }  # fmt: skip
        else:
            strip = {"compression": "tiff_adobe_deflate", "tiffinfo": {278: side}}
            other = _transparent(rgb.transpose(Image.Transpose.ROTATE_90))
            kinds = {
                "WebP": (_transparent(rgb), "WEBP", {"lossless": True, "method": 0, "quality": 0}),
                "animated WebP": (_transparent(rgb), "WEBP", {"save_all": True, "append_images": [other], "method": 0}),
                "AVIF": (_transparent(rgb), "AVIF", {"speed": 10, "subsampling": "4:4:4"}),
                "TIFF": (_transparent(rgb), "TIFF", strip),
                "TIFF of floats": (Image.fromarray(pixels[:, :, 0].astype(np.float32)), "TIFF", strip),
            }
        pictures |= {name: encode(image, kind, **options) for name, (image, kind, options) in kinds.items()}
    return pictures


def _transparent(image: Image.Image) -> Image.Image:
    image = image.copy()
    image.putalpha(200)
    return image


def _run(program: str, configs: list[dict[str, Any]]) -> dict[str, Any]:
    arguments = [json.dumps(DataConfig(**config).model_dump(exclude_unset=True)) for config in configs]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], check=True, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY
    )
    result: dict[str, Any] = json.loads(done.stdout)
    return result
