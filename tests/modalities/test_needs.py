from modalities.image.prepare import EXTENSIONS, ImagePrepare
from modalities.prepare import Sides
from modalities.text.prepare import TextPrepare


def test_two_sides_of_one_modality_need_both_members(tokenizer_path):
    texts = [TextPrepare(tokenizer_path, 24, member=member) for member in ("txt", "de.txt", "txt")]
    sides = Sides(a=texts[0], b=texts[1], c=texts[2], d=ImagePrepare(16))
    assert sides.needs == {"text": ("txt",), "b.text": ("de.txt",), "image": EXTENSIONS}
