"""Keep secrets out of everything written: files, logs, messages.

A secret is the value of a key or an environment variable with a telling name (`hf_token`, `AWS_SECRET_ACCESS_KEY`), the
password of a URL, or a URL's parameter with a telling name (`X-Amz-Signature`, `sig`). A process registers the secrets
of its config and environment; `redact` replaces them, and such parts of URLs, in any text.

Not covered: secrets in ordinary values (`train.output: my-password`), and secrets of fewer than 6 characters.
"""

import os
import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

MARK = "***"
"""Stands for a secret."""

_SHORTEST = 6
"""Shorter values are not registered: they would be replaced inside ordinary words."""

_WORDS = frozenset(
    {
        "token",
        "secret",
        "password",
        "passwd",
        "pwd",
        "passphrase",
        "apikey",
        "credential",
        "credentials",
        "signature",
        "sig",
        "authorization",
        "bearer",
        "sas",
    }
)
_PAIRS = frozenset({("api", "key"), ("access", "key"), ("secret", "key"), ("private", "key"), ("account", "key")})
_URL_WORDS = frozenset({"key", "googleaccessid", "awsaccesskeyid", "accesskeyid"})
"""Secret as names of a URL's parameters only."""

_USER = re.compile(r"(?P<scheme>\b[a-zA-Z][a-zA-Z0-9+.-]*://)(?P<user>[^/\s@?#'\"]+)@")
_PARAMETER = re.compile(r"(?P<start>[?&;])(?P<name>[A-Za-z0-9_.~%-]+)=(?P<value>[^&;#\s'\"<>)\]}]*)")

_REFERENCE = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}")
"""The name of an environment variable, which is no secret."""

_known: set[str] = set()


def is_secret_name(name: str) -> bool:
    """Whether a key, variable or parameter of this name holds a secret.

    >>> is_secret_name("hf_token"), is_secret_name("max_tokens")
    (True, False)
    """
    words = [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)]
    return bool(_WORDS.intersection(words)) or bool(_PAIRS.intersection(pairwise(words)))


def register_secrets(content: Any, name: str = "") -> None:
    """Register the secrets of a config, or of any nested value, for this process.

    Args:
        content: a value; of mappings and lists, every value below.
        name: the key of `content`.
    """
    if isinstance(content, Mapping):
        for key, value in content.items():
            register_secrets(value, f"{key}")
    elif isinstance(content, list | tuple):
        for value in content:
            register_secrets(value, name)
    elif isinstance(content, str):
        if is_secret_name(name):
            _register(content)
        for match in _USER.finditer(content):
            _register(match["user"].partition(":")[2] or (match["user"] if _is_http(match) else ""))
        for match in _PARAMETER.finditer(content):
            if _is_secret_parameter(match["name"]):
                _register(match["value"])


def register_environment() -> None:
    """Register the secrets of this process's environment. A shell's PWD is its directory, not a password."""
    register_secrets({name: value for name, value in os.environ.items() if name not in ("PWD", "OLDPWD")})


def _register(secret: str) -> None:
    if len(secret) >= _SHORTEST:
        _known.add(secret)


def _is_secret_parameter(name: str) -> bool:
    return is_secret_name(name) or name.lower().replace("-", "").replace("_", "") in _URL_WORDS


def redact(text: str) -> str:
    """The text with `***` for each registered secret, password of a URL and secret parameter of a URL.

    >>> redact("https://me:pass@host/a?sig=1&part=2")
    'https://***@host/a?sig=***&part=2'
    """
    for secret in sorted(_known, key=len, reverse=True):
        if secret in text:
            text = text.replace(secret, MARK)
    if "://" in text:
        text = _USER.sub(_redact_user, text)
        text = _PARAMETER.sub(_redact_parameter, text)
    return text


def holds_secret(text: str, name: str = "") -> bool:
    """Whether a text, as the value of a key of this name, holds a secret by value. `${NAME}` is none.

    >>> holds_secret("hf_abc", "hf_token"), holds_secret("${HF_TOKEN}", "hf_token")
    (True, False)
    """
    text = _REFERENCE.sub("\0", text)  # stands for what is no secret
    secrets = [text] if is_secret_name(name) else [secret for secret in _known if secret in text]
    secrets += [
        match["user"].partition(":")[2] or (match["user"] if _is_http(match) else "") for match in _USER.finditer(text)
    ]
    secrets += [match["value"] for match in _PARAMETER.finditer(text) if _is_secret_parameter(match["name"])]
    return any(secret.replace("\0", "") for secret in secrets)


def _is_http(match: re.Match[str]) -> bool:
    return match["scheme"].lower() in ("http://", "https://")


def _redact_user(match: re.Match[str]) -> str:
    # `abfs://container@account/...` holds no secret.
    return f"{match['scheme']}{MARK}@" if ":" in match["user"] or _is_http(match) else match[0]


def _redact_parameter(match: re.Match[str]) -> str:
    if not _is_secret_parameter(match["name"]):
        return match[0]
    return f"{match['start']}{match['name']}={MARK}"


def redacted(content: Any, name: str = "") -> Any:
    """A copy of a nested value with every secret replaced, by key, by URL and by registration."""
    if isinstance(content, Mapping):
        return {key: redacted(value, f"{key}") for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [redacted(value, name) for value in content]
    if not isinstance(content, str):
        return content
    if content and is_secret_name(name) and not _REFERENCE.fullmatch(content):
        return MARK
    return redact(content)
