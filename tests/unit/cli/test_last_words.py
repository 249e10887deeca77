"""The end of a verb takes no time of its own: no library is imported for it, and none is searched for garbage."""

import subprocess
import sys

_GARBAGE = """
import sys
from laclip_ray.cli import main

class Part:
    def __del__(self):
        print("collected", flush=True)

part = Part()
part.itself = part
main(["--version"])
"""


def printed(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout


def test_printing_a_result_imports_no_large_library() -> None:
    program = "import sys, laclip_ray.cli.conclusions, laclip_ray.console; print(*sys.modules)"
    assert {"torch", "ray", "vllm", "matplotlib", "optuna"} & {*printed(program).split()} == set()


def test_a_process_ends_without_a_search_for_garbage() -> None:
    (_,) = printed(_GARBAGE).splitlines()
    assert "collected" in printed(_GARBAGE.replace("from laclip_ray.cli import main", "main = print"))
