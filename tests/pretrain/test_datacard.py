"""What a run writes down of its data."""

import json

from data.stream import Stream
from data.write import write
from modalities.prepare import Sides
from modalities.text.prepare import TextPrepare
from pretrain import datacard
from tests.conftest import wav


def test_sources_are_measured_once(tmp_path, tokenizer_path):
    fields = json.dumps({"lang": "de", "license": "CC0"}).encode()
    samples = ((f"{n:03d}", {"txt": b"twelve chars", "wav": wav(n), "json": fields}) for n in range(100))
    write(samples, tmp_path, "own")
    streams = {"mlm": Stream("mlm", {"own": f"{tmp_path}/own-*.tar"}, 0)}
    prepares = {"mlm": Sides(x=TextPrepare(str(tokenizer_path), 16))}
    assert datacard.read(tmp_path) == []
    datacard.keep(tmp_path, streams, prepares)
    (found,) = datacard.read(tmp_path)
    assert found["name"] == "mlm.own"
    assert found["samples"] == 100
    assert found["measured"] == 48
    assert found["characters"] == 1200
    assert found["tokens"] > 100
    assert found["languages"] == {"de": 48}
    assert found["licences"] == {"CC0": 48}
    assert "seconds" not in found  # the task does not read them
    before = (tmp_path / "card.json").stat()
    datacard.keep(tmp_path, streams, prepares)
    after = (tmp_path / "card.json").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    (tmp_path / "card.json").write_text("[")
    assert datacard.read(tmp_path) == []
