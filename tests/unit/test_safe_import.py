"""A cancelled task leaves a usable process."""

import subprocess
import sys

import pytest

from laclip_ray.safe_import import import_safely

_INTERRUPTED = """
import _thread, signal, sys
from laclip_ray.data.tokens import TokenizerSpec, load_clip_tokenizer

signal.signal(signal.SIGINT, signal.default_int_handler)  # programs in the background ignore it

class Interrupter:
    def find_spec(self, name, path=None, target=None):
        if name == "torch._prims":  # in the middle of loading torch
            _thread.interrupt_main()

sys.meta_path.insert(0, Interrupter())
spec = TokenizerSpec(None, 77)
try:
    load_clip_tokenizer(spec)
except KeyboardInterrupt:
    print("interrupted")
print(load_clip_tokenizer(spec)(["a photo of a dog"]).shape)
"""


def test_a_process_can_tokenise_after_an_interrupted_import_of_torch() -> None:
    command = [sys.executable, "-c", _INTERRUPTED]
    process = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert process.stdout.splitlines() == ["interrupted", "torch.Size([1, 77])"], process.stderr[-2000:]


def test_errors_reach_the_caller() -> None:
    with pytest.raises(ZeroDivisionError):
        import_safely(lambda: 1 // 0)
