"""English prose that every Python brings along: the language reference and the standard library's docstrings."""

from __future__ import annotations

import ast
import hashlib
import os
import re
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path
from pydoc_data.topics import topics

# Characters of a document; it ends with the paragraph that makes it long enough.
SHORTEST, ENOUGH, LONGEST = 300, 800, 1500
VAL_PERCENT = 5

_SKIPPED = {"__pycache__", "dist-packages", "encodings", "ensurepip", "idlelib", "lib2to3", "pydoc_data"}
_SKIPPED |= {"site-packages", "test", "tests", "turtledemo"}
# Share of a source between triple quotes. Parsing takes time: sources that are hardly documented are not worth it.
_DOCUMENTED = 0.15
_UNDERLINE = re.compile(r"^\s*([=\-~*^#+_\"])\1{2,}\s*$")
_EXAMPLE = re.compile(r"^\s*(>>>|\.\.\.( |$)|\.\. )")
_NO_LETTER = re.compile(r"[\W\d_](?<! )")
_ROLE = re.compile(r":[a-z:]+:`([^`]*)`")


def documents() -> list[str]:
    """All distinct documents, each of SHORTEST to LONGEST characters, in an order that depends on the Python alone."""
    return list(dict.fromkeys(document for texts in _sources() for document in _pack(texts)))


def split(document: str) -> str:
    """The part that ``document`` belongs to, "train" or "val": by what it says and not by where it stands."""
    digest = hashlib.blake2b(document.encode("utf-8"), digest_size=8).digest()
    return "val" if int.from_bytes(digest, "little") % 100 < VAL_PERCENT else "train"


def _sources() -> Iterator[list[str]]:
    """The texts of one topic or one module at a time."""
    for name in sorted(topics):
        yield [topics[name]]
    for folder, folders, files in os.walk(sysconfig.get_path("stdlib")):
        folders[:] = sorted(set(folders) - _SKIPPED)
        for name in sorted(files):
            if name.endswith(".py"):
                yield _docstrings(Path(folder, name))


def _docstrings(path: Path) -> list[str]:
    source = path.read_bytes()
    if sum(map(len, source.split(b'"""')[1::2])) < _DOCUMENTED * len(source):
        return []
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):  # templates and files in odd encodings
        return []
    return list(_texts(tree))


def _texts(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    text = ast.get_docstring(node)
    if text:
        yield text
    if not isinstance(node, ast.Module | ast.ClassDef):  # what is inside a function is seldom documented
        return
    for child in node.body:
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _texts(child)


def _pack(texts: Iterable[str]) -> Iterator[str]:
    """Joins paragraphs into documents; what is left over and too short is dropped."""
    document = ""
    for paragraph in (p for text in texts for p in _paragraphs(text)):
        longer = f"{document}\n\n{paragraph}" if document else paragraph
        if len(longer) <= LONGEST:
            document = longer
        else:
            if len(document) >= SHORTEST:
                yield document
            document = paragraph
        if len(document) >= ENOUGH:
            yield document
            document = ""
    if len(document) >= SHORTEST:
        yield document


def _paragraphs(text: str) -> Iterator[str]:
    """Paragraphs on one line each, without examples, underlines, markup and what is mostly not letters."""
    lines = [line for line in text.splitlines() if not (_UNDERLINE.match(line) or _EXAMPLE.match(line))]
    for block in re.split(r"\n\s*\n", "\n".join(lines)):
        words = " ".join(_ROLE.sub(r"\1", block).replace("``", "").split())
        if 60 <= len(words) <= LONGEST and len(_NO_LETTER.findall(words)) <= 0.15 * len(words):
            yield words
