"""A folder of awkward pictures, written with Pillow: what a folder of real pictures may hold."""

import io
import struct
import zlib
from pathlib import Path
from tempfile import TemporaryDirectory

from common.images import find_pictures, read_pictures

import numpy as np
from PIL import ExifTags, Image, ImageDraw

CAN_BE_USED = {
    "animated.gif": "four frames",
    "cmyk.jpg": "four inks instead of three lights",
    "deep.png": "16 bits a channel",
    "grey.png": "one channel",
    "palette.png": "256 colours by number, one of them transparent",
    "plain.png": "nothing odd",
    "transparent.png": "a drawing on nothing",
    "turned.jpg": "stored lying, EXIF says how to turn it",
    "white on nothing.png": "white parts that white paper would hide",
}
CANNOT_BE_USED = {
    "bomb.png": "a few bytes that claim 12 gigabytes of pixels",
    "cut short.jpg": "half a file",
    "empty.jpg": "no bytes",
    "invisible.png": "every pixel transparent",
    "no picture.png": "a text with the ending of a picture",
    "pixel.gif": "1 x 1, as web pages use to count visitors",
}


def write_odd_pictures(folder: Path) -> dict[str, str]:
    """Write all of CAN_BE_USED and CANNOT_BE_USED; from each file's name to what is odd about it.

    Each that can be used shows the same house, 64 x 48 pixels, roof up and door to the right.
    """
    folder.mkdir(parents=True, exist_ok=True)
    house = draw_house()
    opaque = _on_white(house)
    opaque.save(folder / "plain.png")
    house.save(folder / "transparent.png")
    opaque.convert("L").save(folder / "grey.png")
    opaque.convert("CMYK").save(folder / "cmyk.jpg", quality=95)
    _palette(house).save(folder / "palette.png", transparency=255)
    frames = [opaque, *(Image.new("RGB", opaque.size, name) for name in ("red", "lime", "blue"))]
    frames[0].save(folder / "animated.gif", save_all=True, append_images=frames[1:], duration=100)
    deep = np.asarray(opaque.convert("L")).astype(np.uint16) * 257
    Image.fromarray(deep).save(folder / "deep.png")
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # to be turned right by 90 degrees
    lying = opaque.transpose(Image.Transpose.ROTATE_90)
    lying.save(folder / "turned.jpg", quality=95, exif=exif)
    white = Image.new("RGBA", house.size, "white")
    white.putalpha(house.getchannel("A"))
    white.save(folder / "white on nothing.png")

    buffer = io.BytesIO()
    opaque.save(buffer, "JPEG")
    (folder / "cut short.jpg").write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "no picture.png").write_text("This is no picture.\n", encoding="utf-8")
    (folder / "bomb.png").write_bytes(_bomb(65_000))
    Image.new("RGBA", (32, 32), (0, 0, 0, 0)).save(folder / "invisible.png")
    Image.new("RGB", (1, 1), "white").save(folder / "pixel.gif")
    return dict(sorted((CAN_BE_USED | CANNOT_BE_USED).items()))


def read_odd_pictures() -> list[tuple[str, str, str]]:
    """Write and read them: for each the file's name, what is odd about it, what became of it."""
    with TemporaryDirectory() as temporary:
        folder, refused = Path(temporary), []
        odd = write_odd_pictures(folder)
        read = list(read_pictures(find_pictures(folder), folder, refused))
    became = {picture.name: ", ".join(picture.notes) or "as it is" for _, picture in read}
    became |= {error.name: f"refused: {error.reason}" for error in refused}
    return [(name, what, became[name]) for name, what in odd.items()]


def draw_house() -> Image.Image:
    """A house on a transparent ground: RGBA, 64 x 48, a red roof and a blue door at the right."""
    house = Image.new("RGBA", (64, 48), (0, 0, 0, 0))
    pen = ImageDraw.Draw(house)
    pen.rectangle((12, 22, 52, 46), fill="#e8c170")
    pen.polygon([(6, 22), (32, 2), (58, 22)], fill="#b03a2e")
    pen.rectangle((38, 30, 47, 46), fill="#2e5fb0")
    return house


def _on_white(image: Image.Image) -> Image.Image:
    paper = Image.new("RGBA", image.size, "white")
    paper.alpha_composite(image)
    return paper.convert("RGB")


def _palette(image: Image.Image) -> Image.Image:
    """The picture in 255 colours and, under the number 255, nothing."""
    numbers = np.asarray(_on_white(image).quantize(255)).copy()
    numbers[np.asarray(image.getchannel("A")) == 0] = 255
    drawn = Image.fromarray(numbers)
    palette = _on_white(image).quantize(255).getpalette()
    drawn.putpalette((palette + [0] * 768)[:768])
    return drawn


def _bomb(side: int) -> bytes:
    """A PNG whose header claims `side` x `side` pixels, and that holds next to none of them."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1 + 3 * side), 9)
    signature = b"\x89PNG\r\n\x1a\n"
    return signature + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
