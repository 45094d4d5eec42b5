"""Measures samples: sizes, widths and heights, durations, lengths of texts, languages, labels. Headers, no decoding."""

from __future__ import annotations

import io
import json
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from data.errors import SampleError
from data.sample import Sample
from data.survey.spread import Spread

IMAGES = ("jpg", "jpeg", "png", "webp", "gif", "bmp")
SOUNDS = ("flac", "wav", "ogg", "mp3")
TEXTS = ("txt", "text", "caption")
LANGUAGE_FIELDS = ("language", "lang")
LICENCE_FIELDS = ("licence", "license")
# Formats of Pillow that run other programs (EPS) are not opened.
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
_EXAMPLES = 5
_LABELS = 10_000


def kind(extension: str) -> str:
    """``image``, ``audio``, ``text``, ``lines`` (of JSON), ``json``, ``label`` or "" by an extension's last part."""
    last = extension.rpartition(".")[2]
    for name, extensions in (("image", IMAGES), ("audio", SOUNDS), ("text", TEXTS)):
        if last in extensions:
            return name
    return {"json": "json", "jsonl": "lines", "ndjson": "lines", "cls": "label"}.get(last, "")


@dataclass
class Picture:
    """Sizes of pictures in pixels."""

    width: Spread = field(default_factory=Spread)
    height: Spread = field(default_factory=Spread)


@dataclass
class Sound:
    """Recordings: seconds, and how many have which sampling rate (Hz) and number of channels."""

    seconds: Spread = field(default_factory=Spread)
    rates: Counter[int] = field(default_factory=Counter)
    channels: Counter[int] = field(default_factory=Counter)


@dataclass
class Text:
    """Lengths of texts; tokens only where there is a tokenizer."""

    characters: Spread = field(default_factory=Spread)
    tokens: Spread = field(default_factory=Spread)


class Stats:
    """What was measured over some samples; mergeable, so that many processes can measure.

    Args:
        tokens: number of tokens of a text.
        language_fields: of a JSON member, the first that is there counts.

    Attributes:
        samples: how many were measured.
        bytes: extension -> sizes of the members in bytes.
        pictures, sounds, texts: extension -> what its members measure.
        languages: language -> samples that are labelled so.
        licences: licence -> samples that state it so, in a JSON member.
        labels: content of ``cls`` -> samples; at most ten thousand different ones are told apart.
        more_labels: samples whose label was one too many.
        unreadable: reason -> (how many, the first few as "shard: key").
    """

    def __init__(
        self, tokens: Callable[[str], int] | None = None, language_fields: tuple[str, ...] = LANGUAGE_FIELDS
    ) -> None:
        self._tokens, self._language_fields = tokens, language_fields
        self.samples = 0
        self.bytes: dict[str, Spread] = {}
        self.pictures: dict[str, Picture] = {}
        self.sounds: dict[str, Sound] = {}
        self.texts: dict[str, Text] = {}
        self.languages: Counter[str] = Counter()
        self.licences: Counter[str] = Counter()
        self.labels: Counter[str] = Counter()
        self.more_labels = 0
        self.unreadable: dict[str, tuple[int, list[str]]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_tokens": None}  # the tokenizer belongs to the process that measures

    def add(self, sample: Sample) -> None:
        """Measures ``sample``; what cannot be read is counted."""
        self.samples += 1
        for extension, raw in sample.members.items():
            self.bytes.setdefault(extension, Spread()).add(len(raw))
            try:
                self._measure(extension, raw)
            except SampleError as error:
                self.leave(f"{extension}: {error}", sample.shard, sample.key)

    def leave(self, reason: str, shard: str, key: str) -> None:
        """Counts something that cannot be read."""
        count, examples = self.unreadable.get(reason, (0, []))
        self.unreadable[reason] = count + 1, [*examples, f"{shard}: {key}"][:_EXAMPLES]

    def _measure(self, extension: str, raw: bytes) -> None:
        what = kind(extension)
        if what == "image":
            width, height = picture_size(raw)
            picture = self.pictures.setdefault(extension, Picture())
            picture.width.add(width)
            picture.height.add(height)
        elif what == "audio":
            seconds, rate, channels = sound_size(raw)
            sound = self.sounds.setdefault(extension, Sound())
            sound.seconds.add(seconds)
            sound.rates[rate] += 1
            sound.channels[channels] += 1
        elif what == "text":
            content = _decoded(raw)
            text = self.texts.setdefault(extension, Text())
            text.characters.add(len(content))
            if self._tokens is not None:
                text.tokens.add(self._tokens(content))
        elif what == "label":
            self._label(_decoded(raw).strip())
        elif what == "json":
            self._fields(_decoded(raw))

    def _label(self, label: str, times: int = 1) -> None:
        if label in self.labels or len(self.labels) < _LABELS:
            self.labels[label] += times
        else:
            self.more_labels += times

    def _fields(self, text: str) -> None:
        try:
            fields = json.loads(text)
        except (ValueError, RecursionError):
            raise SampleError("no JSON") from None
        if isinstance(fields, dict):
            for held, names in ((self.languages, self._language_fields), (self.licences, LICENCE_FIELDS)):
                found = next((fields[name] for name in names if name in fields), None)
                if isinstance(found, str):
                    held[found] += 1

    def merge(self, other: Stats) -> None:
        """Takes in what ``other`` measured."""
        self.samples += other.samples
        for extension, sizes in other.bytes.items():
            self.bytes.setdefault(extension, Spread()).merge(sizes)
        for extension, picture in other.pictures.items():
            own = self.pictures.setdefault(extension, Picture())
            own.width.merge(picture.width)
            own.height.merge(picture.height)
        for extension, sound in other.sounds.items():
            mine = self.sounds.setdefault(extension, Sound())
            mine.seconds.merge(sound.seconds)
            mine.rates.update(sound.rates)
            mine.channels.update(sound.channels)
        for extension, text in other.texts.items():
            here = self.texts.setdefault(extension, Text())
            here.characters.merge(text.characters)
            here.tokens.merge(text.tokens)
        self.languages.update(other.languages)
        self.licences.update(other.licences)
        for label, times in other.labels.items():
            self._label(label, times)
        self.more_labels += other.more_labels
        for reason, (count, examples) in other.unreadable.items():
            before, shown = self.unreadable.get(reason, (0, []))
            self.unreadable[reason] = before + count, [*shown, *examples][:_EXAMPLES]

    def as_json(self) -> dict[str, Any]:
        """Everything as plain values."""
        return {
            "measured": self.samples,
            "members": {extension: sizes.as_json() for extension, sizes in sorted(self.bytes.items())},
            "images": {
                extension: {"width": picture.width.as_json(), "height": picture.height.as_json()}
                for extension, picture in sorted(self.pictures.items())
            },
            "audio": {
                extension: {
                    "seconds": sound.seconds.as_json(),
                    "sampling_rates": {str(rate): n for rate, n in sound.rates.most_common()},
                    "channels": {str(number): n for number, n in sound.channels.most_common()},
                }
                for extension, sound in sorted(self.sounds.items())
            },
            "text": {
                extension: {"characters": text.characters.as_json()}
                | ({"tokens": text.tokens.as_json()} if text.tokens.count else {})
                for extension, text in sorted(self.texts.items())
            },
            "languages": dict(self.languages.most_common()),
            "licences": dict(self.licences.most_common()),
            "labels": dict(self.labels.most_common()),
            "more_labels": self.more_labels,
            "unreadable": [
                {"reason": reason, "count": count, "examples": examples}
                for reason, (count, examples) in sorted(self.unreadable.items(), key=lambda item: -item[1][0])
            ],
        }


def picture_size(raw: bytes) -> tuple[int, int]:
    """(width, height) in pixels, from the header.

    Raises:
        SampleError: it is no picture.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(raw), formats=_FORMATS) as image:
                return image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise SampleError(f"no picture ({type(error).__name__})") from None


def sound_size(raw: bytes) -> tuple[float, int, int]:
    """(seconds, sampling rate in Hz, channels), from the header.

    Raises:
        SampleError: it is no recording.
    """
    import soundfile

    try:
        info = soundfile.info(io.BytesIO(raw))
    except soundfile.LibsndfileError as error:
        raise SampleError(f"no recording ({error.error_string})") from None
    return info.frames / info.samplerate, info.samplerate, info.channels


def _decoded(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise SampleError("not UTF-8") from None
