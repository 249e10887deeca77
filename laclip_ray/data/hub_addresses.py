"""Addresses of data sets on the Hugging Face Hub.

fsspec reads `hf://datasets/ORGANISATION/NAME@REVISION/PATH` by huggingface_hub's file system. The address of a page in
a browser becomes such a URL. So files have one URL, and one identity, whichever way their data set is named.
"""

import re
from urllib.parse import unquote

_PAGE = re.compile(
    r"https?://(?:www\.)?(?:huggingface\.co|hf\.co)/datasets/(?P<name>[^/?#]+/[^/?#]+)"
    r"(?:/(?:tree|blob|resolve|raw)/(?P<revision>[^/?#]+)(?P<path>/(?:[^?#]|\?(?![\w-]+=|$))*)?)?/?(?:[?#].*)?"
)
"""A page of a data set, of one of its directories, or of one of its files. In a path, `?` is a wildcard unless the rest
has the form of a query."""


def resolve_hub_address(path: str) -> str:
    """The `hf://` URL of a Hub page; any other path unchanged.

    Braces and wildcards stay. Joined paths (`A::B`) must be split before.

    >>> resolve_hub_address("https://huggingface.co/datasets/clip-benchmark/wds_cars/tree/main/test")
    'hf://datasets/clip-benchmark/wds_cars@main/test'
    >>> resolve_hub_address("https://huggingface.co/datasets/ethz/food101"), resolve_hub_address("/data/food101")
    ('hf://datasets/ethz/food101', '/data/food101')
    """
    match = _PAGE.fullmatch(path)
    if match is None:
        return path
    # The revision stays as it is: huggingface_hub reads `refs%2Fconvert%2Fparquet`.
    revision = f"@{match['revision']}" if match["revision"] else ""
    return f"hf://datasets/{match['name']}{revision}{unquote(match['path'] or '')}".rstrip("/")
