"""`make figures AREA=...`: measure every figure of an area and append it to `build/figures.jsonl`.

A missed bar is reported, not an error; a measurement that breaks is one.
"""

import json
import sys
from importlib import import_module
from pathlib import Path

from laclip_ray.versions import package_versions
from tests.figures.figure import Figure

AREAS = (
    "path",
    "rewriting",
    "training",
    "onejob",
    "tuning",
    "house",
    "right",
    "rewrites",
    "evaluation",
    "clusters",
    "people",
)
OUTPUT = Path(__file__).parents[2] / "build" / "figures.jsonl"


def main() -> None:
    """Measure the area named on the command line, or only some of its shows: `AREA SHOW ...`."""
    if len(sys.argv) < 2 or sys.argv[1] not in AREAS:
        raise SystemExit(f"usage: make figures AREA={'|'.join(AREAS)} [SHOWS='3 4']")
    area, *shows = sys.argv[1:]
    OUTPUT.parent.mkdir(exist_ok=True)
    versions = package_versions()
    for figure in import_module(f"tests.figures.{area}").figures({int(show) for show in shows}):
        assert isinstance(figure, Figure)
        row = {"area": area, **figure.to_json(), "versions": versions}
        with OUTPUT.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(figure, flush=True)


if __name__ == "__main__":
    main()
