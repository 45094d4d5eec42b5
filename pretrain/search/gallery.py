"""What was found as one page that needs nothing else: thumbnails, sounds, excerpts, all of them in the file itself."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from PIL import Image

from data.errors import SampleError
from data.sample import Sample
from modalities.audio.prepare import EXTENSIONS as SOUNDS
from modalities.image.prepare import DAMAGE, FORMATS, pixels_of
from modalities.image.prepare import EXTENSIONS as PICTURES
from modalities.text.member import TextMember

SIDE = 192
EXCERPT = 400
SECONDS = 10.0
MAX_PIXELS = 64_000_000
_KINDS = {"flac": "audio/flac", "wav": "audio/wav", "ogg": "audio/ogg", "mp3": "audio/mpeg"}
_WHOLE = 400_000  # bytes of a recording that goes into the page as it is
_TOO_LARGE = '<p class="note">too large a picture</p>'
_STYLE = """
body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:75rem;padding:0 1rem;color:#1d1d1f;background:#fff}
section{border-top:1px solid #d0d0d5;padding:1rem 0}ol{display:flex;flex-wrap:wrap;gap:1rem;list-style:none;padding:0}
li,.query{width:13rem}img{width:12rem;display:block;border-radius:4px}
audio{width:12rem}p{margin:.3rem 0;overflow-wrap:anywhere}
.score{color:#6e6e73}.note{color:#8a4b00}
@media(prefers-color-scheme:dark){body{background:#161618;color:#eee}section{border-color:#444}.score{color:#aaa}}
"""


@dataclass
class Hit:
    """A sample that was found: its score, its name, what it is where that could be read, its number in the source."""

    score: float
    key: str
    shard: str
    sample: Sample | None
    number: int = 0


@dataclass
class Answer:
    """What was searched for, and what was found, best first."""

    title: str
    sample: Sample | None
    hits: Sequence[Hit]


def page(title: str, answers: Sequence[Answer], text: TextMember | None, note: str | None = None) -> str:
    """The page.

    Args:
        title: its heading.
        answers: a section each.
        text: where the texts of samples are; None: in the member ``txt``.
        note: what is to be said above them all.
    """
    parts = [_section(answer, text or TextMember("txt")) for answer in answers]
    said = f'<p class="note">{escape(note)}</p>' if note else ""
    # The page may hold anybody's texts and pictures: it must not be able to fetch or run anything.
    policy = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body><h1>{escape(title)}</h1>{said}"
        f"{''.join(parts)}</body></html>\n"
    )


def _section(answer: Answer, text: TextMember) -> str:
    asked = f'<div class="query">{_show(answer.sample, TextMember("txt"))}</div>' if answer.sample else ""
    hits = "".join(
        f'<li>{_show(hit.sample, text)}<p><b>{escape(hit.key)}</b> <span class="score">{hit.score:.3f}</span></p></li>'
        for hit in answer.hits
    )
    return f"<section><h2>{escape(answer.title)}</h2>{asked}<ol>{hits}</ol></section>"


def _show(sample: Sample | None, text: TextMember) -> str:
    """All of a sample that people can look at or listen to."""
    if sample is None:
        return '<p class="note">cannot be shown</p>'
    pictures = [_picture(content) for extension, content in sample.members.items() if extension in PICTURES]
    sounds = [_sound(extension, content) for extension, content in sample.members.items() if extension in SOUNDS]
    return "".join(pictures + sounds) + _text(sample, text)


def _picture(content: bytes) -> str:
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                return _TOO_LARGE
            image.draft("RGB", (SIDE, SIDE))
            small = Image.fromarray(pixels_of(image, (0, 0, *image.size)).permute(1, 2, 0).numpy())
            small.thumbnail((SIDE, SIDE))
            file = io.BytesIO()
            small.save(file, "JPEG", quality=82)
    except Image.DecompressionBombError:
        return _TOO_LARGE
    except DAMAGE:
        return '<p class="note">a damaged picture</p>'
    return f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}">'


def _sound(extension: str, content: bytes) -> str:
    kind = _KINDS[extension]
    if len(content) > _WHOLE:
        import soundfile

        try:
            with soundfile.SoundFile(io.BytesIO(content)) as recording:
                clip = recording.read(int(SECONDS * recording.samplerate), dtype="float32", always_2d=True)
                rate = recording.samplerate
        except (soundfile.SoundFileError, ValueError):
            return '<p class="note">a damaged recording</p>'
        file = io.BytesIO()
        soundfile.write(file, np.clip(clip.mean(1), -1, 1), rate, format="FLAC")
        kind, content = _KINDS["flac"], file.getvalue()
    return f'<audio controls preload="none" src="data:{kind};base64,{base64.b64encode(content).decode()}"></audio>'


def _text(sample: Sample, text: TextMember) -> str:
    if text.member not in sample.members:
        return ""
    try:
        found = text.read(sample, np.random.default_rng(0), False)
    except SampleError as error:
        return f'<p class="note">{escape(str(error))}</p>'
    return f"<p>{escape(found[:EXCERPT])}{'…' if len(found) > EXCERPT else ''}</p>"
