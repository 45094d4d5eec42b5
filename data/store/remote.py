"""Requests to the helper process of this process; see :mod:`data.store.downloader`."""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
import queue
import subprocess
import sys
import threading
from pathlib import Path
from typing import ClassVar, NoReturn

from data.errors import InputError, RunError, check_files
from data.store import url as urls

log = logging.getLogger("pretrain")

_STARTS = 3
_ROOT = Path(__file__).resolve().parents[2]
_SETTINGS = ("AWS_", "GOOGLE_", "SERVICE_ACCOUNT", "AZURE_", "IDENTITY_", "MSI_", "SSL_CERT_")
_CODE = "import sys; sys.path.insert(0, sys.argv[1]); from data.store.downloader import main; main()"


class Changed(RunError):
    """The object is not the version that was asked for."""


class Cancelled(Exception):
    """Nobody wants the result any more."""


class _Died(Exception):
    """The helper process ended before it answered."""


def _environment() -> dict[str, str]:
    """The environment, of which other threads may take away some meanwhile."""
    return {name: value for name in list(os.environ) if (value := os.environ.get(name)) is not None}


def _settings(environment: dict[str, str]) -> dict[str, str]:
    """What a helper process reads of it when it starts: addresses, keys, proxies."""
    return {
        name: value
        for name, value in environment.items()
        if name.startswith(_SETTINGS) or name == "HOME" or name.lower().endswith("_proxy")
    }


class _Helper:
    """The process, a thread that reads its replies, and who waits for which.

    Plain descriptors instead of file objects: a forked child closes its copies of them, and only that.
    """

    def __init__(self, environment: dict[str, str]) -> None:
        self.settings = _settings(environment)
        self.retired = False
        theirs_in, self.input = os.pipe()
        self.output, theirs_out = os.pipe()
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-c", _CODE, str(_ROOT)],
                stdin=theirs_in,
                stdout=theirs_out,
                env=environment,
            )
        finally:
            os.close(theirs_in)
            os.close(theirs_out)
        self.waiting: dict[int, queue.SimpleQueue] = {}
        self.numbers = itertools.count()
        self.lock = threading.Lock()
        self.dead = False
        threading.Thread(target=self._read, daemon=True, name="store replies").start()

    def _read(self) -> None:
        rest = b""
        while part := os.read(self.output, 1 << 16):
            *lines, rest = (rest + part).split(b"\n")
            for line in lines:
                answer = json.loads(line)
                if (asker := self.waiting.get(answer["id"])) is not None:
                    asker.put(answer)
        self.end()
        os.close(self.output)
        for asker in list(self.waiting.values()):
            asker.put(None)
        self.process.wait()  # or it stays a zombie

    def retire(self) -> None:
        """No more requests: it ends when those that it has are answered."""
        self.retired = True
        if not self.waiting:
            self.end()

    def end(self) -> None:
        """Closes its input, upon which it ends."""
        with self.lock:
            if not self.dead:
                self.dead = True
                os.close(self.input)

    def _send(self, request: dict) -> None:
        data = json.dumps(request).encode() + b"\n"
        with self.lock:
            if self.dead:
                raise _Died
            try:
                while data:
                    data = data[os.write(self.input, data) :]
            except BrokenPipeError:
                self.dead = True
                os.close(self.input)
                raise _Died from None

    def call(self, request: dict, cancelled: threading.Event | None) -> dict:
        number, answers, names = next(self.numbers), queue.SimpleQueue[dict | None](), []
        self.waiting[number] = answers
        answer: dict | None = {"more": True}
        try:
            self._send(request | {"id": number})
            while answer is not None and answer.get("more"):
                try:
                    answer = answers.get(timeout=0.1 if cancelled else None)
                except queue.Empty:
                    if cancelled and cancelled.is_set():
                        raise Cancelled from None
                    continue
                if answer is None:
                    raise _Died
                names += answer.get("names", [])
                if "waiting" in answer:
                    log.warning("'%s': %s", urls.shown(request["url"]), answer["waiting"])
            assert answer is not None
            return answer | {"names": names}
        finally:
            del self.waiting[number]
            if answer and answer.get("more") and not self.dead:  # left early, by an interrupt too
                with contextlib.suppress(_Died):
                    self._send({"id": number, "do": "cancel"})
            if self.retired and not self.waiting:
                self.end()


class _Here:
    """What belongs to this process alone."""

    helper: _Helper | None = None
    retired: ClassVar[list[_Helper]] = []
    lock = threading.Lock()


def _forget() -> None:
    """In a forked child: the helper is the parent's. Were its input kept open here, it would outlive the parent."""
    inherited = [*_Here.retired, *([_Here.helper] if _Here.helper else [])]
    _Here.helper, _Here.retired, _Here.lock = None, [], threading.Lock()
    for helper in inherited:
        if not helper.dead:
            os.close(helper.input)
            os.close(helper.output)


def end() -> None:
    """Ends the helper process of this process, if it has one; the next request starts another."""
    with _Here.lock:
        helper, _Here.helper = _Here.helper, None
    if helper is not None:
        helper.end()
        helper.process.wait()


os.register_at_fork(after_in_child=_forget)


def _helper() -> _Helper:
    """The helper process of this process, started if there is none with the settings of now."""
    with _Here.lock:
        helper, environment = _Here.helper, _environment()
        if helper is not None and helper.settings != _settings(environment):  # a notebook sets keys after a refusal
            helper.retire()
            _Here.retired = [one for one in (*_Here.retired, helper) if not one.dead]
            helper = None
        if helper is None or helper.dead:
            helper = _Here.helper = _Helper(environment)
        return helper


def call(do: str, url: str, deadline_s: float, cancelled: threading.Event | None = None, **more: object) -> dict:
    """The answer to a request; see :class:`data.store.downloader.Downloader` for the requests.

    Raises:
        InputError: there is no such object, or it may not be read, or the settings are wrong.
        RunError: the network, the disk or the helper process failed; Changed: the object is another one now.
        Cancelled: ``cancelled`` was set.
    """
    request = {"do": do, "url": url, "deadline_s": deadline_s} | more
    for _ in range(_STARTS):
        try:
            helper = _helper()
        except OSError as error:
            check_files(error, urls.shown(url))
            raise RunError(f"the process that downloads cannot be started: {error.strerror}") from None
        try:
            answer = helper.call(request, cancelled)
        except _Died:
            continue
        if "error" in answer:
            _raise(answer["error"], answer["text"], urls.shown(url))
        return answer
    raise RunError(
        f"shard '{urls.shown(url)}': the process that downloads ended {_STARTS} times (exit code "
        f"{helper.process.poll()}); its last words are above, or the machine is out of memory"
    )


def _raise(kind: str, text: str, name: str) -> NoReturn:
    if kind == "cancelled":
        raise Cancelled
    if kind == "missing":
        raise InputError(f"'{name}' does not exist: {text}")
    if kind == "denied":
        raise InputError(f"'{name}' may not be read: {text}; {_credentials(urls.scheme(name))}")
    if kind == "name":
        raise InputError(f"'{name}' cannot be read: {text}")
    if kind == "wrong":
        raise InputError(f"'{name}' cannot be read: {text}; {_credentials(urls.scheme(name))}")
    if kind == "changed":
        raise Changed(f"'{name}' was replaced since it was first asked for: {text}")
    if kind == "disk":
        raise RunError(f"'{name}' cannot be written into the cache: {text}")
    raise RunError(f"'{name}' cannot be had: {text}")


def _credentials(scheme: str) -> str:
    known = {
        "s3": "set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION (AWS_ENDPOINT_URL for other servers than "
        "Amazon's), or AWS_SKIP_SIGNATURE=true for public data",
        "gs": "set GOOGLE_APPLICATION_CREDENTIALS to a key file, or GOOGLE_SKIP_SIGNATURE=true for public data",
        "az": "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or AZURE_SKIP_SIGNATURE=true",
    }
    return known.get(scheme, "check the address, or sign it")
