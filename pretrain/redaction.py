"""Credentials are taken out of what leaves the process: logs, error lines, run directory, checkpoints, trackers.

One function for all of them. It knows credentials by their form (keys and tokens of the common services, passwords and
signatures in URLs), by the name they are given, and by their value where the environment has them under such a name.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import traceback
from collections.abc import Mapping
from types import TracebackType
from typing import Any

MASK = "***"

_WORDS = (
    r"(?:password|passwd|passphrase|secret|credentials?|authorization|signature|"
    r"(?:api|access|secret|private|account|shared|storage|auth|license|encryption)[_-]?key(?:[_-]?id)?|"
    r"(?:access|auth|api|session|security|bearer|refresh|id|hf|hub|github|gitlab|wandb|sas)[_-]?token)"
)
_NAME = re.compile(rf"(?i)(?:^|[^a-z0-9]|[a-z0-9][_-]){_WORDS}$|^(?:token|pwd|sig)$|_pwd$")
_ENVIRONMENT = re.compile(r"(?i)key(?!board|map)|token(?!iz)|secret|passw|pwd|credential|auth(?!or)|signature")
_LEAST = 6  # characters of a value of the environment: shorter ones would blank out ordinary words
_OPAQUE = frozenset({"places"})  # numbers packed into text, see pretrain.ledger
_NOT_SECRET = re.compile(r"(?i)^(?:true|false|none|null|yes|no|auto|[0-9.]+|unix:.*)$")
# A path under a name such as SSH_AUTH_SOCK or KEY_FILE; keys in base 64 may begin with a slash as well.
_PATH = re.compile(r"^[/~](?=.*[/.])[^+=]*$")
_SURE = re.compile(r"(?i)(?:secret|passw\w*|pwd|token|_key)$")  # names of which even a number is a credential

_QUERY = (
    r"[\w.-]*(?:token|key|secret|signature|credential|password|auth)[\w.-]*|"
    r"sig|pwd|se|sp|sv|st|skoid|sktid|GoogleAccessId|Policy"
)
_REST = r"[^\s'\",;&}\])]+"
_PATTERNS = (
    (r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)", MASK),
    (r"(?i)\b([a-z][a-z0-9+.-]*://)[^\s/'\"?#]+@", rf"\1{MASK}@"),
    (rf"(?i)([?&;](?:{_QUERY})=)[^\s&;#'\"]+", rf"\1{MASK}"),
    (
        r"(?i)\b((?:proxy-)?authorization['\"]?\s*[:=]\s*['\"]?(?:(?:bearer|basic|token|digest)\s+)?)" + _REST,
        rf"\1{MASK}",
    ),
    (r"(?i)\b((?:bearer|basic|negotiate)\s+)[a-z0-9._~+/=-]{8,}", rf"\1{MASK}"),
    (r"(?i)\b((?:x-)?(?:api|auth|access|private|job|deploy)-(?:key|token)\s*:\s*)" + _REST, rf"\1{MASK}"),
    (r"((?:^|\s)(?:-u|--user|--proxy-user)[ =]['\"]?[^\s:'\"]+:)" + _REST, rf"\1{MASK}"),
    (
        r"((?:^|\s)--(?:password|passwd|token|secret|api-key|auth-token|access-token)\s+['\"]?)(?!-)" + _REST,
        rf"\1{MASK}",
    ),
    (rf"(?i)((?:\b|_){_WORDS}['\"]?\s*[=:]\s*['\"]?)(?!\$\{{|null\b|none\b|\*\*\*)" + _REST, rf"\1{MASK}"),
    (r"\b(?:AKIA|ASIA|ABIA|ACCA)[0-9A-Z]{16}\b", MASK),
    (r"\bhf_[A-Za-z0-9]{16,}\b", MASK),
    (r"\b(?:ghp|gho|ghu|ghs|ghr)_[A-Za-z0-9]{20,}\b", MASK),
    (r"\bgithub_pat_[A-Za-z0-9_]{20,}\b", MASK),
    (r"\bglpat-[A-Za-z0-9_-]{16,}", MASK),
    (r"\bsk-[A-Za-z0-9_-]{20,}", MASK),
    (r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}", MASK),
    (r"\bAIza[0-9A-Za-z_-]{35}", MASK),
    (r"\bya29\.[0-9A-Za-z_-]{20,}", MASK),
    (r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}", MASK),
)
_FORMS = [(re.compile(pattern), replacement) for pattern, replacement in _PATTERNS]


def redact(text: str) -> str:
    """``text`` without credentials; what it gives is not changed by doing it again."""
    for value in _values():
        if value in text:
            text = text.replace(value, MASK)
    for form, replacement in _FORMS:
        text = form.sub(replacement, text)
    return text


def redacted(value: Any, name: str = "") -> Any:
    """The same of plain values (mappings, lists, scalars), also what stands under the name of a credential."""
    if isinstance(value, Mapping):
        return {key: redacted(inner, str(key)) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [redacted(inner, name) for inner in value]
    if isinstance(value, int | float) and not isinstance(value, bool) and _NAME.search(name):
        return MASK
    if not isinstance(value, str) or not value or name in _OPAQUE:
        return value
    return MASK if _NAME.search(name) else redact(value)


def secret_name(name: str) -> bool:
    """Whether what stands under ``name`` is a credential."""
    return _NAME.search(name) is not None


class RedactingFormatter(logging.Formatter):
    """A formatter whose lines, tracebacks among them, hold no credentials."""

    def format(self, record: logging.LogRecord) -> str:
        """See :class:`logging.Formatter`."""
        return redact(super().format(record))


def install() -> None:
    """What ends the process unforeseen is printed without credentials as well."""
    sys.excepthook = _print_redacted


def _print_redacted(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    print(redact("".join(traceback.format_exception(kind, error, trace))), end="", file=sys.stderr)


def _is_secret(name: str, value: str) -> bool:
    if value.isdigit():
        return _SURE.search(name) is not None
    if _NOT_SECRET.match(value) or _PATH.match(value):
        return False
    # A word is none because a file here happens to be called so; what is written as a path may be one.
    return not (value[0] in "/~" and os.path.lexists(os.path.expanduser(value)))


def _values() -> list[str]:
    """The credentials that the environment holds, longest first: one may be part of another."""
    found = {
        value
        for name, value in os.environ.items()
        if _ENVIRONMENT.search(name) and len(value) >= _LEAST and _is_secret(name, value)
    }
    return sorted(found, key=lambda value: (-len(value), value))
