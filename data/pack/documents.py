"""Documents: long texts cut into pieces where a reader would pause."""

from __future__ import annotations

import re

_SENTENCE = r"[.!?…][\"'”’»)\]]*\s|[。！？][」』”’]?"
# Where a text may be cut, best first: blank lines, line ends that end a sentence, sentence ends, any white space.
# The line ends of hard-wrapped text fall inside sentences, hence the second.
_PAUSES = [
    re.compile(r"\n[^\S\n]*\n\s*"),
    re.compile(r"[.!?…。！？][\"'”’»)\]」』]*[^\S\n]*\n\s*"),
    re.compile(_SENTENCE),
    re.compile(r"\s"),
]
_LEAST = 4


def pieces(text: str, limit: int) -> list[str]:
    """``text`` in pieces of at most ``limit`` characters, stripped of outer white space; none if it is blank.

    A piece ends at the last paragraph end within the limit, else at a sentence end, else at white space, else at the
    limit. A pause in the first quarter does not count, so that a heading does not stand alone. 0 is no limit.
    """
    rest = text.strip()
    if limit <= 0:
        return [rest] if rest else []
    found = []
    while len(rest) > limit:
        cut = _pause(rest, limit)
        found.append(rest[:cut].rstrip())
        rest = rest[cut:].lstrip()
    if rest:
        found.append(rest)
    return found


def _pause(text: str, limit: int) -> int:
    # One character more than the limit: white space just behind a full piece ends it.
    window = text[: limit + 1]
    for pause in _PAUSES:
        last = 0
        for match in pause.finditer(window, limit // _LEAST):
            end = match.start() + len(match.group().rstrip())
            last = end if end <= limit else last
        if last:
            return last
    return limit
