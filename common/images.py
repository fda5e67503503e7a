"""Pictures read safely: whatever a folder holds, a square of RGB or an error that names the file.

Pictures of people come in every state: turned by a note in their EXIF data, with transparent
parts, animated, in CMYK, with 16 bits a channel, one pixel large, cut short, or small files that
would unpack to gigabytes. `read_picture()` makes one kind of them, and says what it did.
"""

import hashlib
import io
import os
import struct
import warnings
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

# Only what decodes inside Pillow: EPS, for one, would start a Ghostscript on a stranger's program.
FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "AVIF", "BMP", "TIFF", "PPM", "ICO")
# .heic and .heif are looked for so that they are named among the unreadable, not passed over.
SUFFIXES = frozenset(
    {".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".gif", ".webp", ".avif", ".bmp"}
    | {".tif", ".tiff", ".ppm", ".pgm", ".ico", ".heic", ".heif"}
)
MAX_PIXELS = 50_000_000  # 150 MB as RGB
MIN_SIDE = 8  # pixels
MAX_SIDE = 512  # what is larger is scaled down: encoders look at 224 pixels
_BINS = 8  # for each of red, green and blue

# From the orientation in EXIF data to what puts the picture upright; 1 is upright.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# What Pillow raises for files that are no pictures, cut short, or made to break a decoder.
_BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    OverflowError,
    ZeroDivisionError,
    RuntimeError,
    MemoryError,
    struct.error,
    zlib.error,
)


class PictureError(Exception):
    """A picture cannot be used; the message names it and says why."""

    exit_code = 2

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.name = name
        self.reason = reason


@dataclass(frozen=True)
class Picture:
    """A picture that can be encoded.

    Attributes:
        name: where it came from.
        image: RGB, no side longer than MAX_SIDE pixels, nothing transparent.
        size: width and height of the original, in pixels.
        notes: what was done to it, such as "CMYK"; empty for a plain one.
    """

    name: str
    image: Image.Image = field(repr=False)
    size: tuple[int, int]
    notes: tuple[str, ...] = ()

    @cached_property
    def digest(self) -> str:
        """The sha256 of the pixels: alike for files that show the very same picture."""
        width, height = self.image.size
        return hashlib.sha256(f"{width}x{height} ".encode() + self.image.tobytes()).hexdigest()

    def thumbnail(self, side: int = 128) -> bytes:
        """The picture as a PNG file with sides of at most `side` pixels."""
        small = self.image.copy()
        small.thumbnail((side, side))
        buffer = io.BytesIO()
        small.save(buffer, "PNG")
        return buffer.getvalue()


def read_picture(source: Path | bytes, name: str = "") -> Picture:
    """Read one picture from a file or from the bytes of one.

    Only the first frame of an animation is read, the orientation in the EXIF data is applied,
    transparent parts are laid on white (on black where nothing would be seen on white), and what
    is large is scaled down to MAX_SIDE. Colour profiles are not applied.

    Args:
        source: a path or the bytes of a file in one of FORMATS.
        name: how to call it; by default the file's name.

    Raises:
        PictureError: it is no picture, cut short, too small, of too many pixels, or transparent
            all over.
    """
    if isinstance(source, bytes):
        return _read(io.BytesIO(source), name or "picture")
    name = name or _text(source.name)
    try:
        with source.open("rb") as file:
            return _read(file, name)
    except OSError as error:
        raise PictureError(name, error.strerror or str(error)) from error


def find_pictures(folder: Path) -> list[Path]:
    """The files in a folder and those below that look like pictures, sorted by path.

    Hidden ones are passed over: a Mac puts a "._photo.jpg" that is none beside each photo.

    Raises:
        PictureError: there is no such folder, or no picture in it.
    """
    if not folder.is_dir():
        raise PictureError(str(folder), "there is no such folder")
    found = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    )
    if not found:
        endings = ", ".join(sorted(SUFFIXES))
        raise PictureError(str(folder), f"no file in it ends in {endings}")
    return found


def read_pictures(
    paths: Iterable[Path], folder: Path, refused: list[PictureError]
) -> Iterator[tuple[Path, Picture]]:
    """Read pictures one after the other; those that cannot be used are added to `refused`.

    Args:
        paths: files below `folder`; a picture is named by its path from there.
        folder: see `paths`.
        refused: gets one error for each that cannot be used, in the order of `paths`.
    """
    for path in paths:
        try:
            yield path, read_picture(path, _text(path.relative_to(folder)))
        except PictureError as error:
            refused.append(error)


def colour_histogram(picture: Picture) -> NDArray[np.float32]:
    """How often each colour occurs, in 8 steps each of red, green and blue: float32, (512,).

    The square roots of the shares are returned. Their length is 1, and the cosine of two such
    vectors is the Bhattacharyya coefficient of the two histograms, so that a large plain
    background counts for less than in the shares themselves.
    """
    steps = np.asarray(picture.image).reshape(-1, 3) // (256 // _BINS)
    numbers = steps.astype(np.int64) @ (_BINS**2, _BINS, 1)
    counts = np.bincount(numbers, minlength=_BINS**3)
    return np.sqrt(counts / counts.sum()).astype(np.float32)


def _read(file: BinaryIO, name: str) -> Picture:
    try:
        with warnings.catch_warnings():
            # Pillow warns of too many pixels, and of palettes whose transparency is handled here.
            warnings.simplefilter("ignore")
            with Image.open(file, formats=FORMATS) as image:
                size = image.size
                _check_size(name, *size)
                return _prepared(image, name)
    except Image.UnidentifiedImageError as error:
        raise PictureError(name, "no picture that Pillow can read") from error
    except Image.DecompressionBombError as error:
        raise PictureError(name, f"more than {MAX_PIXELS:,} pixels") from error
    except _BROKEN as error:
        raise PictureError(name, f"broken: {_line(error)}") from error


def _check_size(name: str, width: int, height: int) -> None:
    """Judge by the header, before a pixel is unpacked."""
    if width * height > MAX_PIXELS:
        raise PictureError(name, f"{width} x {height}: more than {MAX_PIXELS:,} pixels")
    if min(width, height) < MIN_SIDE:
        raise PictureError(name, f"{width} x {height} pixels: a side needs {MIN_SIDE} or more")


def _prepared(image: Image.Image, name: str) -> Picture:
    size, notes = image.size, []
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format not in ("MPO", "ICO"):  # these hold the same in other sizes
        notes.append(f"first of {frames} frames")
    turn = _orientation(image)
    image.draft("RGB", (MAX_SIDE, MAX_SIDE))  # a large JPEG is unpacked at half size or less
    image.load()
    if turn in _TURNS:
        notes.append("turned as its EXIF data say")
    if image.mode == "CMYK":
        notes.append("CMYK")
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        notes.append("more than 8 bits a channel")
        image = _to_eight_bits(image)
    if image.has_transparency_data:
        image, note = _laid_on_paper(image.convert("RGBA"), name)
        notes += note
    image = image.convert("RGB")
    if turn in _TURNS:
        image = image.transpose(_TURNS[turn])
    image.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.BICUBIC)
    plain = Image.fromarray(np.asarray(image))  # without EXIF data, palette and file behind it
    return Picture(name, plain, size, tuple(notes))


def _orientation(image: Image.Image) -> object:
    """1 to 8 as EXIF counts them; 1 also where the EXIF data cannot be read: the pixels can."""
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except _BROKEN:
        return 1


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """Scale 16 bits or floats to 0..255; Pillow's own conversion would cut at 255."""
    values = np.asarray(image).astype(np.float64)
    if image.mode.startswith("I;16"):
        values /= 257
    else:
        values = np.nan_to_num(values)
        low, span = values.min(), np.ptp(values)
        values = (values - low) * (255 / span) if span > 0 else np.zeros_like(values)
    return Image.fromarray(values.round().astype(np.uint8))


def _laid_on_paper(image: Image.Image, name: str) -> tuple[Image.Image, list[str]]:
    """Fill what is transparent with white, or with black where white would hide all of it."""
    lowest, highest = image.getchannel("A").getextrema()
    if highest == 0:
        raise PictureError(name, "transparent all over: there is nothing to see")
    if lowest == 255:
        return image, []
    for colour in ("white", "black", "white"):  # white as well where all of it has one colour
        paper = Image.new("RGBA", image.size, colour)
        paper.alpha_composite(image)
        if any(low != high for low, high in paper.convert("RGB").getextrema()):
            break
    return paper, [f"transparent parts on {colour}"]


def _text(path: Path | str) -> str:
    """A path as a text that can be printed and stored, whatever bytes its name is made of."""
    return os.fsencode(path).decode("utf-8", "replace")


def _line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
