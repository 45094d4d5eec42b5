"""Where documents are cut."""

import pytest

from data.pack.documents import pieces


@pytest.mark.parametrize("limit", [1, 7, 40, 200])
def test_pieces_lose_no_word_and_keep_the_limit(limit):
    text = (
        "CHAPTER I.\n\nIt was late. He said: “Go!” And so she went,\nslowly.\n\n"
        + "verylongword " * 9
        + "再见。你好！" * 9
    )
    found = pieces(text, limit)
    assert all(0 < len(piece) <= limit for piece in found)
    assert "".join("".join(found).split()) == "".join(text.split())


def test_pieces_end_where_a_reader_pauses():
    assert pieces("One two.\n\nThree four. Five six.", 24) == ["One two.", "Three four. Five six."]
    assert pieces("Three four. Five six seven.", 20) == ["Three four.", "Five six seven."]
    assert pieces("alpha beta gamma", 11) == ["alpha beta", "gamma"]
    assert pieces("  \n", 5) == []
    assert pieces("a b", 0) == ["a b"]
