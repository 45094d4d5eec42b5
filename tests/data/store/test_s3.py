"""A real S3 API: names, listings, uploads in parts, credentials, manifests and indexes beside shards."""

from __future__ import annotations

import json
import os
from pathlib import Path

import boto3
import pytest

from data.errors import InputError
from data.shards import index
from data.shards.indexfile import restamped
from data.shards.pattern import expand
from data.shards.summary import Summary
from data.write import write
from tests.data.store.conftest import read


@pytest.fixture
def box(moto, monkeypatch, fresh):
    """An empty bucket, and the environment that points there."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "some")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "one")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    bucket = boto3.resource("s3", region_name="us-east-1").Bucket("box")
    bucket.create()
    yield bucket
    bucket.objects.all().delete()


def test_names_and_listings(box, store):
    names = ["a/s-1.tar", "a/s-2.tar", "a/s-10.tar", "a/sub/s-3.tar", "a/note.txt", "b c/d+e=f%20[1].tar", "top.tar"]
    for name in names:
        box.put_object(Key=name, Body=name.encode())
    assert expand("s3://box/a/s-*.tar", store).urls == [
        "s3://box/a/s-1.tar",
        "s3://box/a/s-10.tar",
        "s3://box/a/s-2.tar",
    ]
    assert expand("s3://box/a/s-?.tar::s3://box/*.tar", store).urls[-1] == "s3://box/top.tar"
    assert expand("s3://box/a/**/*.tar", store).urls[-1] == "s3://box/a/sub/s-3.tar"
    assert expand("s3://box/a/s-[12].tar", store).urls == ["s3://box/a/s-1.tar", "s3://box/a/s-2.tar"]
    assert len(expand("s3://box/a/", store)) == 3
    for name in ("s-1.tar.idx", ".s-9.tar.part", ".own.packing/s-8.tar", "own-report.json"):  # uploaded with them
        box.put_object(Key=f"a/{name}", Body=b"")
    assert len(expand("s3://box/a/s*", store)) == len(expand("s3://box/a/", store)) == 3
    assert expand("s3://box/a/**/*s-*", store).urls == expand("s3://box/a/**/*.tar", store).urls
    assert expand("s3://box/a/.own.packing/*", store).urls == ["s3://box/a/.own.packing/s-8.tar"]
    assert read(store.fetch("s3://box/b c/d+e=f%20[1].tar")) == names[5].encode()
    with pytest.raises(InputError, match=r"'s3://box/a/x-\*.tar' match nothing: 's3://box/a/' holds .*s-1.tar"):
        expand("s3://box/a/x-*.tar", store)
    with pytest.raises(InputError, match=r"match nothing: 's3://box/none/' holds nothing"):
        expand("s3://box/none/", store)


@pytest.mark.slow
def test_long_listings(box, store):
    for n in range(1100):  # more than one page
        box.put_object(Key=f"l/{n:04d}.tar", Body=b"")
    assert len(expand("s3://box/l/*.tar", store)) == 1100


def test_objects(box, store, content):
    box.put_object(Key="whole.tar", Body=content)
    box.put_object(Key="empty.tar", Body=b"")
    upload = box.Object("parts.tar").initiate_multipart_upload()
    big = content * 4
    tags = []
    for number, part in enumerate((big[: 5 << 20], big[5 << 20 :]), 1):
        tags.append({"PartNumber": number, "ETag": upload.Part(number).upload(Body=part)["ETag"]})
    upload.complete(MultipartUpload={"Parts": tags})
    assert read(store.fetch("s3://box/whole.tar")) == content
    assert read(store.fetch("s3://box/empty.tar")) == b""
    assert store.stamp("s3://box/parts.tar").token.endswith('-2"')  # no checksum
    assert read(store.fetch("s3://box/parts.tar")) == big
    with pytest.raises(InputError, match=r"'s3://box/none.tar' does not exist"):
        store.fetch("s3://box/none.tar")
    with pytest.raises(InputError, match=r"'s3://nobox/none.tar' does not exist"):
        store.fetch("s3://nobox/none.tar")


def test_a_new_version_is_another_entry(box, store, content):
    box.put_object(Key="v.tar", Body=content)
    assert read(store.fetch("s3://box/v.tar")) == content
    box.put_object(Key="v.tar", Body=content[::-1])
    other = type(store)(store.cache)
    assert not other.holds("s3://box/v.tar")
    assert read(other.fetch("s3://box/v.tar")) == content[::-1]


def test_where_credentials_come_from(box, store, monkeypatch, moto):
    box.put_object(Key="a.tar", Body=b"a")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    folder = Path(os.environ["HOME"]) / ".aws"
    folder.mkdir(parents=True)
    (folder / "credentials").write_text("[mine]\naws_access_key_id = some\naws_secret_access_key = one\n")
    (folder / "config").write_text("[profile mine]\nregion = us-east-1\n")
    monkeypatch.setenv("AWS_PROFILE", "mine")
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", moto)
    assert store.stamp("s3://box/a.tar").bytes == 1


def test_no_credentials(box, store, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(InputError, match=r"set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION"):
        store.stamp("s3://box/a.tar")


def test_a_manifest_in_the_bucket(box, store):
    rows = [{"shard": f"s-{n}.tar", "samples": n, "bytes": 10, "members": {"txt": n}} for n in range(3)]
    box.put_object(Key="set/all.jsonl", Body="\n".join(map(json.dumps, rows)).encode())
    found = expand("s3://box/set/all.jsonl", store)
    assert found.urls == [f"s3://box/set/s-{n}.tar" for n in range(3)]
    assert found.known(2) == Summary(2, 10, {"txt": 2})


def test_an_index_beside_a_shard_is_used(box, store, tmp_path):
    write(((f"{n:02d}", {"txt": b"%d" % n}) for n in range(20)), tmp_path / "own", prefix="x")
    (path,) = tmp_path.glob("own/*.tar")
    made = index.load(path)
    box.upload_file(str(path), "i/x.tar")
    box.upload_file(f"{path}.idx", "i/x.tar.idx")
    stamp = store.stamp("s3://box/i/x.tar")
    (place,) = store.index_places("s3://box/i/x.tar")
    assert place.is_relative_to(store.cache.folder)
    assert index.summary(stamp, [place]) == made.summary
    assert not store.holds("s3://box/i/x.tar")  # it was enough
    content = Path(f"{path}.idx").read_bytes()
    assert restamped(content, stamp.bytes + 1, "other") is None
    assert restamped(content[:-1], stamp.bytes, "other") is None
    box.upload_file(str(path), "j/x.tar")
    (place,) = store.index_places("s3://box/j/x.tar")
    assert not place.exists()
