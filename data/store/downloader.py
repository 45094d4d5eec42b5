"""The helper process that speaks to object stores; started by :mod:`data.store.remote`, by exec and never by fork.

It reads one JSON request a line from its standard input and writes JSON replies, one a line. It ends when its input
closes or its parent is gone. obstore's runtime does not survive a fork, and loader workers are forked: so it is here.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import obstore
from obstore import exceptions

from data.store.endpoints import Endpoints
from data.store.retry import Failure, Hiccup, Patience, attempt, judge
from data.store.transfer import Transfer, checksum, token

_NAMES = 10_000
_TRIES_OF_SUM = 3


class Downloader:
    """The requests: head, list, get."""

    def __init__(self) -> None:
        self.endpoints = Endpoints()
        self._not_md5: set[str] = set()
        """Buckets and hosts whose etags look like an MD5 and are none (encrypted objects)."""

    def head(self, request: dict, patience: Patience, _: Callable[[dict], None]) -> dict:
        """Size and version of an object."""
        url = request["url"]
        store, key = self.endpoints.open(url, patience.deadline_s)

        def ask() -> Any:
            try:
                return obstore.head(store, key)
            except (exceptions.BaseError, FileNotFoundError) as error:
                verdict = judge(error)
                if not url.startswith("http") or isinstance(verdict, Hiccup) or verdict.kind == "missing":
                    raise
                # A signed URL is for GET alone, and some servers know no HEAD.
                return obstore.get(store, key, options={"range": (0, 1)}).meta

        meta = attempt(ask, patience)
        return {"bytes": meta["size"], "token": token(meta)}

    def list(self, request: dict, patience: Patience, reply: Callable[[dict], None]) -> dict:
        """The keys below a folder, in parts."""
        store, key = self.endpoints.open(request["url"], patience.deadline_s, retries=10)
        prefix = key.rstrip("/") or None
        names = attempt(lambda: [one["path"] for part in obstore.list(store, prefix) for one in part], patience)
        for at in range(0, len(names), _NAMES):
            reply({"names": names[at : at + _NAMES], "more": True})
        return {"names": []}

    def get(self, request: dict, patience: Patience, _: Callable[[dict], None]) -> dict:
        """Writes an object into the file at ``path``; it must be the version ``token`` of ``bytes`` bytes."""
        url, version = request["url"], request["token"]
        store, key = self.endpoints.open(url, patience.deadline_s)
        bucket = url.split("/")[2]
        seen: list[str] = []
        for _try in range(_TRIES_OF_SUM):
            try:
                # The parent made it; if it is gone, nobody wants it. noqa: the open alone can fail so.
                file = open(request["path"], "r+b", buffering=0)  # noqa: SIM115
                file.truncate()
            except OSError as error:
                raise Failure("disk", error.strerror or str(error)) from None
            wanted = "" if bucket in self._not_md5 else checksum(version)
            with file:
                found = Transfer(store, key, request["bytes"], version, file, patience, bool(wanted)).run()
            if wanted in ("", found):
                return {}
            if found in seen:  # the same bytes again: what looks like a checksum is none
                self._not_md5.add(bucket)
                return {}
            seen.append(found)
        raise Failure("network", f"each of {_TRIES_OF_SUM} transfers gave other bytes, and none those of its checksum")


def main() -> None:
    """Serves requests until the input closes."""
    parent = os.getppid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)  # a cluster signals every process; the parent decides
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    downloader, lock = Downloader(), threading.Lock()
    running: dict[int, threading.Event] = {}

    def serve(request: dict, cancelled: threading.Event) -> None:
        def reply(answer: dict) -> None:
            with lock:
                os.write(1, json.dumps(answer | {"id": request["id"]}).encode() + b"\n")

        try:
            patience = Patience(request["deadline_s"], cancelled, lambda text: reply({"waiting": text, "more": True}))
            reply(getattr(downloader, request["do"])(request, patience, reply))
        except Failure as failure:
            reply({"error": failure.kind, "text": str(failure)})
        except ValueError as error:
            reply({"error": "name", "text": str(error).partition("\n")[0]})
        except Exception as error:  # noqa: BLE001 -- whatever it is, the parent must not wait for an answer for ever
            reply({"error": "wrong", "text": f"{type(error).__name__}: {error}".partition("\n")[0]})
        finally:
            running.pop(request["id"], None)

    for line in sys.stdin.buffer:
        request = json.loads(line)
        if request["do"] == "cancel":
            if request["id"] in running:
                running[request["id"]].set()
            continue
        running[request["id"]] = event = threading.Event()
        threading.Thread(target=serve, args=(request, event), daemon=True).start()
    os._exit(0)


def _watch(parent: int) -> None:
    """Ends the process when the parent is gone, also if a child of the parent still holds the input open."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(0)
