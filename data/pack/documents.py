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
    whole, start = text.strip(), 0
    if limit <= 0:
        return [whole] if whole else []
    found = []
    # By place: to cut off what is left anew for each piece takes minutes for a book collection in one file.
    while len(whole) - start > limit:
        window = whole[start : start + limit + 1]
        cut = _pause(window, limit)
        found.append(window[:cut].rstrip())
        start += cut
        while whole[start].isspace():  # ends, as no white space is last
            start += 1
    if whole:
        found.append(whole[start:])
    return found


def _pause(window: str, limit: int) -> int:
    # One character more than the limit: white space just behind a full piece ends it.
    for pause in _PAUSES:
        last = 0
        for match in pause.finditer(window, limit // _LEAST):
            end = match.start() + len(match.group().rstrip())
            last = end if end <= limit else last
        if last:
            return last
    return limit
