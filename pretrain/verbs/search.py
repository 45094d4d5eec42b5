"""``pretrain search``: what of some embeddings is most like a text, a file or a sample."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from data.errors import InputError
from pretrain.verbs import options
from pretrain.verbs.embed import changed_of

if TYPE_CHECKING:
    from data.store.store import Store
    from pretrain.embedding.table import Table
    from pretrain.search.gallery import Answer

DESCRIPTION = (
    "Compares a query with every embedding of a folder by cosine similarity, exactly, and shows the most similar ones. "
    "The query is a text, a file, or a sample by its key; with a joint space it may be of another modality."
)


def parser() -> argparse.ArgumentParser:
    """The verb's command line."""
    top = options.Parser(prog="pretrain search", description=DESCRIPTION)
    add = top.add_argument
    add("table", metavar="DIR", help="folder that pretrain embed made")
    add("--text", metavar="TEXT", action="append", default=[], help="search for this; may be repeated, as all of these")
    add("--file", metavar="FILE", type=Path, action="append", default=[], help="search for this picture, sound or text")
    add("--key", metavar="KEY", action="append", default=[], help="search for what is like this sample")
    add("--of", metavar="DIR", help="KEYs are of this folder of embeddings, made by the same checkpoint")
    add("-k", "--top", metavar="K", type=int, default=10, help="how many (default: 10)")
    add("--html", metavar="FILE", type=Path, help="also as a page that shows them, in one file")
    options.add_json(top)
    add("--run", metavar="RUN", help="where the run lies now, if not where it lay")
    add("--encoder", metavar="NAME", help="for texts and files, where several of the run would do")
    add("--prepare", metavar="KEY=VALUE", action="append", default=[], help="of a query, e.g. tokenizer=FILE")
    options.add_trust(top)
    options.add_store(top)
    return top


def main(argv: list[str]) -> int:
    """Runs the verb and returns its exit code.

    Raises:
        InputError: there is no query, it cannot be embedded, or DIR is not complete.
    """
    arguments = parser().parse_args(argv)
    if not (arguments.text or arguments.file or arguments.key):
        raise InputError("nothing to search for; give --text TEXT, --file FILE or --key KEY")
    if arguments.top < 1:
        raise InputError(f"--top {arguments.top} is not 1 or more")
    if arguments.of and not arguments.key:
        raise InputError(f"--of '{arguments.of}' says where a --key is from; give one")
    from pretrain.embedding.table import Table

    store = options.store_of(arguments)
    try:
        table = Table(arguments.table)
        answers = _answers(arguments, table, store)
        if arguments.html is not None:
            _write(arguments.html, table, answers, store)
    finally:
        store.close()
    _print(answers, arguments.json)
    return 0


def _answers(arguments: argparse.Namespace, table: Table, store: Store) -> list[Answer]:
    import numpy as np

    from pretrain.embedding.table import Table
    from pretrain.search.gallery import Answer, Hit
    from pretrain.search.nearest import nearest
    from pretrain.search.query import Asker

    changed = changed_of(arguments.prepare)
    asker = Asker(table, store, arguments.run, arguments.encoder, tuple(arguments.trust), changed)
    of = Table(arguments.of) if arguments.of else table
    queries = [asker.text(text) for text in arguments.text]
    queries += [asker.file(path) for path in arguments.file]
    queries += [asker.key(key, of) for key in arguments.key]
    scores, places = nearest(np.stack([query.vector for query in queries]), table.blocks(), arguments.top)
    answers = []
    for query, near, where in zip(queries, scores.tolist(), places.tolist(), strict=True):
        rows = [table.row(place) for place in where]
        hits = [Hit(s, row["key"], row["shard"], None, row["number"]) for s, row in zip(near, rows, strict=True)]
        answers.append(Answer(query.title, query.sample, hits))
    return answers


def _write(path: Path, table: Table, answers: list[Answer], store: Store) -> None:
    from modalities.text.member import TextMember
    from pretrain.search.gallery import page
    from pretrain.search.samples import Originals

    originals, prepare = Originals(table, store), table.recipe.prepare
    for answer in answers:
        for hit in answer.hits:
            hit.sample = originals.sample(hit.number)
    text = TextMember(prepare["member"], prepare.get("field")) if "member" in prepare else None
    note = f"The samples cannot be shown: {originals.reason}" if originals.reason else None
    recipe = table.recipe
    title = f"{table.folder.name}: {len(table):,} samples by encoder {recipe.encoder}, step {recipe.step:,}"
    try:
        path.expanduser().write_text(page(title, answers, text, note), encoding="utf-8", errors="replace")
    except OSError as error:
        raise InputError(f"--html '{path}' cannot be written: {error.strerror}") from None


def _print(answers: list[Answer], as_json: bool) -> None:
    if as_json:
        found = [
            {"query": a.title, "hits": [{"score": h.score, "key": h.key, "shard": h.shard} for h in a.hits]}
            for a in answers
        ]
        print(json.dumps(found, ensure_ascii=False))
        return
    for answer in answers:
        print(answer.title)
        for hit in answer.hits:
            print(f"  {hit.score:6.3f}  {hit.key}  ({hit.shard})")
