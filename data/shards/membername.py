"""What the name of a file in a tar says: which sample it belongs to, and as what."""

from __future__ import annotations

import re

# Folders of other programs' notes about files: macOS, and tars that were unpacked by a tar that knew no PAX.
_NOTES = re.compile(r"(?:^|/)(?:__MACOSX|PaxHeaders?(?:\.\d+)?)/")


def split_name(name: str) -> tuple[str, str]:
    """(key, extension) of a member by WebDataset's rule: the extension begins at the first dot of the base name.

    The extension is in lower case. It is "" for what makes no sample: names without extension, dot files (``._x``,
    ``.DS_Store``), and the folders ``__MACOSX`` and ``PaxHeader``. A leading ``./`` is no part of the key.
    """
    folder, slash, base = name.rpartition("/")
    stem, _, extension = base.partition(".")
    if slash:
        if folder[:1] == "." and (folder == "." or folder[1] == "/"):
            folder, slash = folder[2:], slash if folder != "." else ""
        if ("__MACOSX" in folder or "PaxHeader" in folder) and _NOTES.search(folder + slash):
            return name, ""
    if not stem:
        return name, ""
    return folder + slash + stem, extension.lower()
