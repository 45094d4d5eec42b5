"""docs/config.md says what conf/ and the code say, all of it, and its links lead somewhere."""

import re
import shlex
import sys
from pathlib import Path

import pytest
import yaml

from pretrain import composition, config

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs/config.md"


@pytest.fixture(scope="module")
def scripts():
    sys.path.insert(0, str(ROOT / "scripts"))
    import config_reference
    from config_docs import docstrings, files

    sys.path.remove(str(ROOT / "scripts"))
    return config_reference, docstrings, files


def test_the_committed_reference_is_up_to_date(scripts, capsys):
    assert scripts[0].main(["--check"]) == 0, capsys.readouterr().out


def test_what_differs_is_shown(scripts, tmp_path, capsys):
    old = tmp_path / "config.md"
    old.write_text(DOCUMENT.read_text().replace("| `seed` | `0` |", "| `seed` | `1` |"))
    assert scripts[0].main(["--check", "--out", str(old)]) == 1
    shown = capsys.readouterr().out
    assert "config.md is out of date" in shown
    assert "-| `seed` | `1` |" in shown
    assert "+| `seed` | `0` |" in shown
    assert scripts[0].main(["--check", "--out", str(tmp_path / "none.md")]) == 1
    assert scripts[0].main(["--out", str(old)]) == 0
    assert old.read_text() == DOCUMENT.read_text()


def keys(node, prefix=""):
    """Dotted places of all keys; of a mapping in one line (as a value) the mapping's alone."""
    for name, value in node.value:
        yield prefix + name.value
        if isinstance(value, yaml.MappingNode) and not value.flow_style:
            yield from keys(value, f"{prefix}{name.value}.")


def test_every_key_of_every_option_is_there():
    parts = re.split(r"^#### ", DOCUMENT.read_text(), flags=re.MULTILINE)
    shown = {part.partition("\n")[0]: part for part in parts[1:]} | {"train": parts[0]}
    expected = {
        f"{group}: {o}": ROOT / f"conf/{group}/{o}.yaml" for group, found in composition.groups().items() for o in found
    }
    assert expected.keys() | {"train"} == shown.keys()
    for name, path in (expected | {"train": ROOT / "conf/train.yaml"}).items():
        root = yaml.compose(path.read_text())
        there = [key for key in keys(root) if key != "defaults"] if root.value else []
        missing = [key for key in there if f"\n| `{key}` |" not in shown[name] and f"\n### {key}\n" not in shown[name]]
        assert not missing, name


def test_links_lead_to_headings_and_files():
    text = DOCUMENT.read_text()
    headings = [line.lstrip("# ").replace("`", "") for line in text.splitlines() if line.startswith("#")]
    anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert len(links) > 100
    for link in links:
        assert link[1:] in anchors if link.startswith("#") else (DOCUMENT.parent / link).exists(), link
    assert str(Path.home()) not in text


def test_what_it_says_about_overriding_can_be_written():
    table = DOCUMENT.read_text().partition("## conf/train.yaml")[0]
    said = [
        shlex.split(one)[0] for row in re.findall(r"^\| (`.*`) \|", table, re.MULTILINE) for one in row.split("`")[1::2]
    ]
    overrides = [one for one in said if one != "-m"]
    assert len(overrides) >= 9
    for override in overrides:
        config.compose_raw([override])


def test_comments_beside_and_above_keys_are_theirs(scripts, tmp_path):
    path = tmp_path / "option.yaml"
    path.write_text(
        "# @package _global_\n# What it is.\ndefaults:\n  - other\n\nname: 'a # b'   # no | yes\n"
        "# said above\ninner:   # of the part\n  list: [1, 2]  # of the list\n  _target_: some.thing\n"
    )
    found = scripts[2].read(path)
    assert (found.about, found.everywhere, found.defaults) == (["What it is."], True, ["other"])
    assert [(e.key, e.value, e.comment) for e in found.entries] == [
        ("name", "'a # b'", "no | yes"),
        ("inner", None, "said above of the part"),
        ("inner.list", "[1, 2]", "of the list"),
        ("inner._target_", "some.thing", ""),
    ]
    assert found.targets == {"inner": "some.thing"}
    path.write_text("name: a\n# of nothing\n")
    with pytest.raises(ValueError, match="no key has the comment 'of nothing'"):
        scripts[2].read(path)


def test_arguments_say_what_the_classes_say_that_they_refer_to(scripts):
    from modalities.text.encoder import TextEncoder

    found = {one.name: one for one in scripts[1].arguments(TextEncoder)}
    assert found["vocab_size"].default is None
    assert (found["mlp_ratio"].default, found["trunk"].default) == ("4.0", "null")
    assert found["heads"].text.startswith("H; divides")  # said by the trunk
    assert "last" in found["pool"].text  # said by the base of all encoders


def test_limits_of_the_schema_are_shown():
    text = DOCUMENT.read_text()
    assert "| `checkpoint.keep_best.mode` | `min` | min, max |" in text
    assert "| `sick.window` | `128` | integer, at least 8 |" in text
    assert re.search(r"\| `time` \| `null` \| text, null \| limit of a job", text)
