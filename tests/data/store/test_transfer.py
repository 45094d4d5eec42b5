"""Every fault gives the exact bytes, or one line that names the shard and the cause, in bounded time."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from data.errors import InputError, RunError
from data.store.cache import Cache
from data.store.store import Store
from tests.data.store.conftest import SIZE, files, read


@pytest.fixture(params=["http", "s3"])
def address(request, faulty, monkeypatch, fresh):
    """(fault, name) -> URL."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", faulty.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "some")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "one")
    return lambda fault, name="a.tar": (
        f"s3://{fault}/{name}" if request.param == "s3" else f"{faulty.url}/{fault}/{name}"
    )


def test_every_mendable_fault_gives_the_exact_bytes(address, faulty, content, tmp_path):
    faults = ["okay", "reset", "plain", "rot", "flaky", "noise"]
    if address("okay").startswith("s3:"):  # what differs between clients is above
        faults += ["busy", "short", "stall", "mute"]
    for fault in faults:
        store = Store(Cache(tmp_path / fault, "4MB"), deadline_s=4)
        begin = time.monotonic()
        assert read(store.fetch(address(fault))) == content, fault
        assert time.monotonic() - begin < 60, fault
        assert list(files(tmp_path / fault)) == ["shards"], fault  # no part, no lock
        assert store.holds(address(fault))


def test_a_broken_transfer_is_continued(address, faulty, store, content):
    assert read(store.fetch(address("reset"))) == content
    ranges = [span for method, _, span in faulty.requests if method == "GET"]
    assert len(ranges) == 3
    begins = [int(span.removeprefix("bytes=").partition("-")[0] or 0) for span in ranges]
    assert 0 == begins[0] < begins[1] < begins[2] < SIZE


def test_a_shard_that_is_replaced_meanwhile_is_not_spliced(address, store, content):
    got = read(store.fetch(address("swap")))
    assert got == bytes(b ^ 255 for b in content)


def test_a_shard_that_is_replaced_in_a_run_is_an_error(address, store, served, content):
    store.stamp(address("okay"))
    (served / "a.tar").write_bytes(content[::-1])
    with pytest.raises(RunError, match=r"okay/a.tar' was replaced since.*need.* to stay"):
        store.fetch(address("okay"))


@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        ("gone", InputError, "gone/a.tar' does not exist: the server answered 404"),
        ("denied", InputError, "denied/a.tar' may not be read: the server answered 403"),
        ("down", RunError, r"down/a.tar' cannot be had: no progress for \d+ s, \d+ attempts: .* 503"),
        ("dead", RunError, r"dead/a.tar' cannot be had: no progress for \d+ s, \d+ attempts: the server fell silent"),
    ],
)
def test_every_other_fault_is_one_line(address, tmp_path, fault, error, message):
    store = Store(Cache(tmp_path / "cache", "4MB"), deadline_s=2)
    begin = time.monotonic()
    with pytest.raises(error, match=message) as raised:
        store.fetch(address(fault))
    assert "\n" not in str(raised.value)
    assert time.monotonic() - begin < (15 if error is InputError else 60)
    assert not (tmp_path / "cache").exists() or files(tmp_path / "cache") == {}


def test_slow_is_no_fault(faulty, tmp_path, content, fresh):
    store = Store(Cache(tmp_path / "cache", "4MB"), deadline_s=1)  # the transfer takes longer, and makes progress
    assert read(store.fetch(f"{faulty.url}/slow/a.tar")) == content


def test_nobody_listens(store, fresh):
    store.deadline_s = 2
    with pytest.raises(RunError, match=r"127.0.0.1:9/a.tar' cannot be had: .* the connection is refused"):
        store.stamp("http://127.0.0.1:9/a.tar")


def test_google_and_azure(faulty, store, content, monkeypatch, fresh):
    key = {"gcs_base_url": faulty.url, "disable_oauth": True, "client_email": "", "private_key": ""}
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT_KEY", json.dumps(key | {"private_key_id": ""}))
    monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", faulty.url)
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "some")
    monkeypatch.setenv("AZURE_SKIP_SIGNATURE", "true")
    assert read(store.fetch("gs://reset/a.tar")) == content
    assert read(store.fetch("az://short/a.tar")) == content


def test_missing_settings_are_named(store, fresh):
    with pytest.raises(InputError, match=r"AZURE_STORAGE_ACCOUNT_NAME"):
        store.stamp("az://box/a.tar")


def test_a_signed_url(faulty, store, served, content, fresh):
    (served / "b c%.tar").write_bytes(content)
    url = f"{faulty.url}/nohead/b%20c%25.tar?X-Signature=secret/../&a=b"
    assert read(store.fetch(url)) == content
    with pytest.raises(InputError, match=r"denied/a.tar' may not be read") as raised:
        store.fetch(f"{faulty.url}/denied/a.tar?X-Signature=secret")
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("fault", ["nohead405", "nohead501"])
def test_a_server_that_knows_no_head(faulty, store, content, fault, fresh):
    begin = time.monotonic()
    assert read(store.fetch(f"{faulty.url}/{fault}/a.tar")) == content
    assert time.monotonic() - begin < 6  # no attempt was waited for


def test_what_breaks_off_behind_the_last_byte_is_whole(store, content, fresh):
    asked = []

    class Endless(BaseHTTPRequestHandler):
        """Says how long the body is, and sends it in chunks of which the last, an empty one, never comes."""

        protocol_version = "HTTP/1.1"

        def do_GET(self):
            asked.append((self.command, self.headers.get("Range")))
            behind = self.headers.get("Range") == f"bytes={SIZE}-"
            self.send_response(416 if behind else 200)
            self.send_header("ETag", '"one"')
            self.send_header("Content-Length", "0" if behind else str(SIZE))
            if self.command == "GET" and not behind:
                self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            if self.command == "GET" and not behind:
                self.wfile.write(f"{SIZE:x}\r\n".encode() + content + b"\r\n")
                self.wfile.flush()
                self.close_connection = True

        do_HEAD = do_GET

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Endless) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert read(store.fetch(f"http://127.0.0.1:{server.server_port}/a.tar")) == content
        server.shutdown()
    assert [method for method, _ in asked] == ["HEAD", "GET"]


def test_a_slash_in_a_name_stays_one(store, content, fresh):
    asked = []

    class Objects(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            right = self.path == "/o/folder%2Fa%20b.tar?alt=media"
            self.send_response(200 if right else 404)
            self.send_header("Content-Length", str(len(content) if right else 0))
            self.end_headers()
            if right and self.command == "GET":
                self.wfile.write(content)

        do_HEAD = do_GET

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Objects) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/o/folder%2Fa%20b.tar?alt=media"
        assert read(store.fetch(url)) == content
        server.shutdown()
    assert len(set(asked)) == 1
