"""What wandb's client needs of its server, on loopback: the answers to its questions, and the history that it is sent.

The real server runs in a container of its makers. This one keeps what the real client posts, by line as it says.
"""

from __future__ import annotations

import gzip
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any


class WandbServer:
    """A context in which it answers.

    Args:
        runs: id -> history rows; filled by what is sent.
        port: 0 takes a free one.
    """

    def __init__(self, runs: dict[str, list[dict[str, Any]]], port: int = 0) -> None:
        self.runs = runs
        self._server = ThreadingHTTPServer(("127.0.0.1", port), type("Handler", (_Handler,), {"runs": runs}))
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]

    def __enter__(self) -> WandbServer:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    runs: dict[str, list[dict[str, Any]]]

    def log_message(self, *arguments: object) -> None:
        pass

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        answer: dict[str, Any] = {}
        if self.path.endswith("/graphql"):
            asked = json.loads(body)
            answer = {"data": self._data(str(asked.get("operationName")), asked.get("variables") or {})}
        elif self.path.endswith("/file_stream"):
            sent = json.loads(body).get("files", {}).get("wandb-history.jsonl")
            if sent is not None:
                rows = self.runs.setdefault(self.path.split("/")[-2], [])
                rows[sent["offset"] :] = [json.loads(line) for line in sent["content"]]
        content = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _data(self, operation: str, variables: dict[str, Any]) -> dict[str, Any]:
        project = {"id": "p", "name": "p", "entity": {"id": "e", "name": "me"}}
        rows = self.runs.get(variables.get("name") or "", [])
        bucket = {"id": "b", "name": variables.get("name"), "displayName": "", "config": "{}"}
        if operation == "UpsertBucket":
            return {"upsertBucket": {"bucket": {**bucket, "project": project}, "inserted": not rows}}
        if operation == "RunResumeStatus":
            known = {
                **bucket,
                "summaryMetrics": json.dumps(rows[-1]) if rows else "{}",
                "historyLineCount": len(rows),
                "historyTail": json.dumps([json.dumps(row) for row in rows[-1:]]),
                "eventsTail": "[]",
                **dict.fromkeys(("logLineCount", "eventsLineCount"), 0),
                "tags": [],
                "wandbConfig": json.dumps({"t": 1}),
            }
            return {"model": {**project, "bucket": known if rows else None}}
        if operation == "CreateRunFiles":
            return {"createRunFiles": {"runID": "b", "uploadHeaders": [], "files": []}}
        return {}
