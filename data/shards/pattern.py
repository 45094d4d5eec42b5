"""Shard patterns: what a user writes for a set of shards, and the shards that it means."""

from __future__ import annotations

import glob
import logging
import os
import re
from collections.abc import Iterator, Sequence

import braceexpand

from data.errors import InputError
from data.shards.manifest import ShardList
from data.store import url as urls
from data.store.store import INDEX, Store

log = logging.getLogger("pretrain")

MANIFEST = ".jsonl"
_WILD = re.compile(r"[*?\[]")
_SHOWN = 5
# What we write beside shards ourselves: indexes, the reports of packings, and files in the making.
_OWN = re.compile(rf".+{re.escape(INDEX)}|.+-report\.json|\..+\.part|\..+{re.escape(INDEX)}\.\w+", re.DOTALL)


def expand(pattern: str | Sequence[str], store: Store | None = None) -> ShardList:
    """The shards that ``pattern`` names; sorted within a glob or folder, otherwise in the order written.

    A pattern is a path or ``file:`` URL, a folder (all ``*.tar`` in it), a glob (``**`` too; hidden files and what the
    framework writes beside shards itself, such as their indexes, are passed over), a brace expression such
    as ``shard-{000000..000009}.tar``, a manifest (``*.jsonl``, see :meth:`data.shards.manifest.ShardList.parse`), or
    several of these joined by ``::`` (blanks around it do not count). ``~`` is the home folder. Remote ones are
    ``s3://``, ``gs://``, ``az://`` (globs and folders, which end with a slash, too), ``http://`` and ``https://``;
    whether a remote shard that is named in full exists is found when it is opened. ``pipe:command`` must be allowed by
    ``store``. A shard named twice is taken once.

    Raises:
        InputError: a part matches nothing, or has a scheme that is unknown or not allowed.
        RunError: a remote listing or manifest cannot be had.
    """
    store = store or Store()
    parts = [part for one in ([pattern] if isinstance(pattern, str) else pattern) for part in urls.parts(one)]
    lists: list[ShardList] = []
    plain: list[str] = []  # names since the last manifest
    for part in parts:
        if not part:
            whole = pattern if isinstance(pattern, str) else ", ".join(pattern)
            raise InputError(f"empty part in the shard pattern '{whole}'")
        for name in _names(part, store):
            if urls.bare(name).endswith(MANIFEST):
                lists += [ShardList(plain)] if plain else []
                lists.append(_manifest(name, store))
                plain = []
            else:
                plain.append(name)
    lists += [ShardList(plain)] if plain else []
    if not lists:
        raise InputError("no shard pattern is given")
    return ShardList.join(lists)


def _names(part: str, store: Store) -> Iterator[str]:
    scheme = urls.scheme(part)
    if scheme == "pipe":
        store.check_pipe(part)
    elif scheme and scheme not in urls.SCHEMES:
        raise InputError(f"shards '{part}': unknown scheme '{scheme}'; choices: {', '.join(urls.SCHEMES)}, a path")
    for name in _braces(part):
        if scheme in ("", "file"):
            yield from _files(os.path.expanduser(urls.local(name)), part)
        elif scheme in urls.LISTED and (name.endswith("/") or _WILD.search(name)):
            yield from _listed(name, part, store)
        elif scheme in ("http", "https") and (urls.bare(name).endswith("/") or "*" in urls.bare(name)):
            raise InputError(
                f"shards '{urls.shown(part)}': http has no listing; name the shards with braces "
                "(shard-{000000..000009}.tar) or in a manifest (*.jsonl)"
            )
        else:
            yield name


def _manifest(name: str, store: Store) -> ShardList:
    with open(store.fetch(name), encoding="utf-8-sig", errors="replace") as lines:
        found = ShardList.parse(lines, name)
    if not found.urls:
        raise InputError(f"manifest '{urls.shown(name)}' names no shard")
    return found


def _braces(part: str) -> Iterator[str]:
    if not urls.scheme(part) and os.path.exists(os.path.expanduser(part)):  # braces may stand in a name
        return iter([part])
    try:
        return braceexpand.braceexpand(part, escape=False)
    except ValueError:
        raise InputError(f"shards '{part}': unbalanced braces; write e.g. shard-{{000000..000009}}.tar") from None


def _listed(name: str, part: str, store: Store) -> list[str]:
    """The shards of an object store that match a glob or lie in a folder."""
    fixed = name if name.endswith("/") else name[: _WILD.search(name, name.index("://")).start()]  # type: ignore[union-attr]
    folder = urls.folder(fixed)
    pattern = re.compile(_glob(name + "*.tar" if name.endswith("/") else name))
    names = store.listing(folder)
    hidden = "/." in name[len(folder) - 1 :]  # asked for
    shards = (one for one in names if hidden or "/." not in one[len(folder) - 1 :])
    found = sorted(one for one in shards if pattern.fullmatch(one) and not _own(one))
    if not found:
        raise InputError(f"shards '{part}' match nothing: '{folder}' holds {_some(sorted(names))}")
    if name.endswith("/"):
        _warn_of_packed(name, [one for one in names if "/" not in one[len(name) :]])
    return found


def _glob(text: str) -> str:
    """The regular expression of a glob: ``*`` and ``?`` stay within a folder, ``**/`` does not."""
    tokens = re.findall(r"\*\*/|\*+|\?|\[!?[^\]]+\]|.", text, flags=re.DOTALL)
    known = {"**/": "(?:.*/)?", "*": "[^/]*", "?": "[^/]", "**": "[^/]*"}
    return "".join(
        known.get(token) or (token.replace("[!", "[^") if len(token) > 1 else re.escape(token)) for token in tokens
    )


def _files(path: str, part: str) -> list[str]:
    if os.path.isfile(path):  # before the glob, so that a name with brackets is found
        return [path]
    if os.path.isdir(path):
        found = glob.glob(os.path.join(glob.escape(path), "*.tar"))
        _warn_of_packed(path, os.listdir(path) if found else [])
    else:
        found = [hit for hit in glob.glob(path, recursive=True) if _may_be_shard(hit) and not _own(hit)]
    if not found:
        asked = f"'{part}'" if path == part else f"'{part}' ('{path}')"
        raise InputError(f"shards {asked} match nothing: {_holds(path)}")
    return sorted(found)


def _may_be_shard(path: str) -> bool:
    """Whether it is a file, or a link to nowhere: one of git-annex, say, whose shard must not be missing unsaid."""
    return os.path.isfile(path) or not os.path.exists(path)


def _own(name: str) -> bool:
    return _OWN.fullmatch(name.rpartition("/")[2]) is not None


def _warn_of_packed(folder: str, names: list[str]) -> None:
    """Says so where a folder's ``*.tar`` are not all of its shards."""
    packed = sorted(urls.base(name) for name in names if urls.packed(name))
    if packed:
        log.warning(
            "shards '%s': a folder means its *.tar; %d .tar.gz or .tgz are left out (%s): name them if they are meant",
            folder,
            len(packed),
            _some(packed),
        )


def _holds(path: str) -> str:
    """What the nearest existing folder on the way to ``path`` holds, in words."""
    folder = path
    while not os.path.isdir(folder or "."):
        folder = os.path.dirname(folder)
    folder = folder or "."
    return f"'{folder}' holds {_some(sorted(name for name in os.listdir(folder) if not name.startswith('.')))}"


def _some(names: list[str]) -> str:
    shown = [name for name in names if name.endswith(".tar")] or names
    more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
    return ", ".join(shown[:_SHOWN]) + more if shown else "nothing"
