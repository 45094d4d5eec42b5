"""Image and audio files: which kinds there are, and whether one is usable by its header."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

from data.pack.report import Unusable

IMAGE = {"jpg": "jpg", "jpeg": "jpg", "png": "png", "webp": "webp"}
AUDIO = {"flac": "flac", "wav": "wav", "ogg": "ogg", "mp3": "mp3"}
EXTENSIONS = IMAGE | AUDIO


def extension(name: str | Path) -> str:
    """The part after the last dot, lower case; "" if there is none."""
    return Path(name).suffix.lower().removeprefix(".")


def read(path: Path, kinds: dict[str, str]) -> tuple[str, bytes]:
    """The file's bytes as they are, as (member extension, bytes).

    Args:
        path: an image or audio file.
        kinds: the extensions that will do -> the member's extension.

    Raises:
        Unusable: it is missing, of another kind, or its header cannot be read.
    """
    suffix = extension(path)
    if suffix not in kinds:
        raise Unusable("unknown file type", f"{path.name}; known: {', '.join(kinds)}")
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise Unusable("missing file", str(path)) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise Unusable("unreadable file", f"{path}: {error}") from None
    if not content:
        raise Unusable("empty file", path.name)
    (_check_image if suffix in IMAGE else _check_audio)(path, content)
    return kinds[suffix], content


def _check_image(path: Path, content: bytes) -> None:
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            Image.open(io.BytesIO(content)).close()
    # What Pillow raises on a damaged header depends on the format.
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise Unusable("undecodable image", f"{path.name}: {type(error).__name__}") from None


def _check_audio(path: Path, content: bytes) -> None:
    import soundfile

    try:
        frames = soundfile.info(io.BytesIO(content)).frames
    except soundfile.LibsndfileError as error:
        raise Unusable("undecodable audio", f"{path.name}: {error.error_string}") from None
    if frames == 0:
        raise Unusable("zero-length audio", path.name)
