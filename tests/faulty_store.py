"""An object store on loopback that misbehaves on demand; ``python -m tests.faulty_store FOLDER`` runs one alone.

GET or HEAD ``/<fault>/<path in the folder>`` with Range and If-Match, unsigned. As the first part of the path is also
an S3 bucket, a Google bucket or an Azure container, any of their clients can be pointed at it: the bucket is the fault.
Counts are for each fault and path, so that a fresh path meets fresh faults.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import random
import re
import socket
import struct
import threading
import time
from collections import Counter
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

FAULTS = {
    "okay": "none",
    "busy": "the first 2 GETs answer 503",
    "down": "every request answers 503",
    "reset": "the first 2 GETs break off after 30 % with a TCP reset",
    "short": "the first 2 GETs break off after 30 % with an orderly end",
    "flaky": "every third GET breaks off as reset does",
    "stall": "the first GET goes silent after 30 %",
    "dead": "every GET goes silent after 30 %",
    "mute": "the first GET is never answered",
    "slow": "1 MB/s",
    "swap": "the first GET breaks off after 30 %, then there is another object of the same size",
    "noise": "a share of all requests fails, each in one of five ways, by seed",
    "rot": "the first GET has one wrong byte",
    "plain": "neither Range nor ETag; the first GET breaks off",
    "nohead": "HEAD answers 403, as for a signed URL",
    "nohead405": "HEAD answers 405",
    "nohead501": "HEAD answers 501",
    "denied": "403",
    "gone": "404",
}


class FaultyStore:
    """Serves ``folder`` at ``url`` until closed.

    Args:
        folder: what is served.
        seed: decides which requests of ``noise`` fail.
        share: how many of them, 0 to 1.
        port: 0 for any.
    """

    def __init__(self, folder: Path, seed: int = 0, share: float = 0.2, port: int = 0) -> None:
        self.folder = Path(folder).resolve()
        self.share = share
        self.counts: Counter[tuple[str, str]] = Counter()
        self.requests: list[tuple[str, str, str]] = []
        """(method, path, range) of each request."""
        self.chance = random.Random(seed)
        self.lock = threading.Lock()
        self.ended = threading.Event()
        self.server = _Server(("127.0.0.1", port), type("Handler", (_Handler,), {"store": self}))
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def __enter__(self) -> FaultyStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.server.shutdown()
        self.server.server_close()

    def gets(self, path: str) -> int:
        """How many GETs there were of ``/fault/path``."""
        return sum(method == "GET" and asked == path for method, asked, _ in self.requests)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store: FaultyStore

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        store = self.store
        fault, _, name = self.path.partition("?")[0].lstrip("/").partition("/")
        path = (store.folder / unquote(name)).resolve()
        with store.lock:
            store.requests.append((self.command, f"/{fault}/{name}", self.headers.get("Range", "")))
            store.counts[fault, name] += self.command == "GET"
            k = store.counts[fault, name]
            if fault == "noise":
                failing = store.chance.random() < store.share
                fault = store.chance.choice(["down", "reset", "short", "hiccup", "drop"]) if failing else "okay"
                k = 1
        if fault in ("busy", "down") and (fault == "down" or (self.command == "GET" and k <= 2)):
            return self.refuse(503, "SlowDown")
        if fault == "hiccup":
            return self.refuse(500, "InternalError")
        if fault == "drop":
            self.close_connection = True
            return None
        if fault == "denied" or (fault == "nohead" and self.command == "HEAD"):
            return self.refuse(403, "AccessDenied")
        if fault.startswith("nohead") and self.command == "HEAD":
            return self.refuse(int(fault.removeprefix("nohead")), "MethodNotAllowed")
        if fault == "gone" or not path.is_relative_to(store.folder) or not path.is_file():
            return self.refuse(404, "NoSuchKey")
        if fault == "mute" and k == 1 and self.command == "GET":
            self.close_connection = True
            store.ended.wait()
            return None
        return self.serve(path, fault, k)

    do_HEAD = do_GET

    def refuse(self, code: int, word: str) -> None:
        body = f'<?xml version="1.0"?><Error><Code>{word}</Code><Message>{word}</Message></Error>'.encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def serve(self, path: Path, fault: str, k: int) -> None:
        data = path.read_bytes()
        if fault == "swap" and k > 1:
            data = bytes(b ^ 255 for b in data)
        etag = f'"{hashlib.md5(data).hexdigest()}"'
        if self.headers.get("If-Match", etag) != etag:
            return self.refuse(412, "PreconditionFailed")
        span = re.match(r"bytes=(\d+)-(\d*)$", self.headers.get("Range", "")) if fault != "plain" else None
        size, first, last = len(data), 0, len(data) - 1
        if span:
            first, last = int(span[1]), min(last, int(span[2] or last))
        if fault == "rot" and k == 1:
            data = data[:1000] + bytes([data[1000] ^ 1]) + data[1001:]
        body = memoryview(data)[first : last + 1]
        self.send_response(206 if span else 200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Last-Modified", formatdate(path.stat().st_mtime, usegmt=True))
        if fault != "plain":
            self.send_header("ETag", etag)
        if span:
            self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        self.end_headers()
        if self.command == "HEAD":
            return None
        broken = (
            (fault in ("reset", "short") and k <= 2)
            or (fault in ("stall", "swap", "plain") and k == 1)
            or (fault == "flaky" and k % 3 == 0)
            or fault == "dead"
        )
        piece = 1 << 17
        sent = body[: int(len(body) * 0.3)] if broken else body
        if fault == "dead":
            sent = body[: max(0, int(size * 0.3) - first)]
        for at in range(0, len(sent), piece):
            self.wfile.write(sent[at : at + piece])
            if fault == "slow":
                time.sleep(piece / 1e6)
        if broken:
            self.wfile.flush()
            self.close_connection = True
            if fault in ("stall", "dead"):
                self.store.ended.wait()
            elif fault == "reset":
                time.sleep(0.05)  # let the client have what was sent
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
        return None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def shutdown_request(self, request: socket.socket) -> None:  # type: ignore[override]
        with contextlib.suppress(OSError):
            request.close()  # an orderly end; a shutdown would turn the reset into one

    def handle_error(self, *_: object) -> None:  # the client went away
        pass


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--port", type=int, default=0)
    args = parser.parse_args()
    with FaultyStore(args.folder, port=args.port) as served:
        print(served.url, flush=True)
        threading.Event().wait()
