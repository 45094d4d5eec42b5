"""``pretrain shards check --decode``: what training could not use of JSON lines."""

import json

from data.write import write
from pretrain.verbs.shards import main


def test_check_decodes_every_line_of_json_lines(tmp_path, capsys):
    bodies = {
        "sound": b'{"text": "a"}\n\n"text"\r\n["a", "b"]\n3\n{"text": ""}',
        "broken": b'{"text": "a"}\n\n{"text": \n{}\nno\n',
        "bytes": b'"a"\n"\xff"\n',
        "blank": b" \n\n",
        "nothing": b'"a"\n" "',
        "half": b'"a"\n["b", "\\ud800"]',
    }
    for extension in ("jsonl", "meta.ndjson"):
        write([(key, {extension: body}) for key, body in bodies.items()], tmp_path / extension, "a")
        assert main(["check", str(tmp_path / extension), "--decode", "--json", "--workers", "0"]) == 1
        report = json.loads(capsys.readouterr().out)
        assert all(bad["member"] == extension for bad in report["bad"])
        bad = {one["key"]: one["reason"] for one in report["bad"]}
        assert bad.pop("broken").startswith("line 3: no JSON: Expecting value: ")
        assert bad == {
            "bytes": "line 2: JSON is not UTF-8 (byte 1)",
            "blank": "JSON lines are empty",
            "nothing": "line 2: text is empty",
            "half": "line 2: text holds half a character",
        }
        assert "and 1 more of 5 lines" in next(one["reason"] for one in report["bad"] if one["key"] == "broken")
