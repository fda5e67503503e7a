"""Pictures of every kind are read right, or refused with a reason that names the file."""

import io
import os
import random
import warnings
from pathlib import Path

from common.images import (
    MAX_SIDE,
    Picture,
    PictureError,
    colour_histogram,
    find_pictures,
    read_picture,
    read_pictures,
)
from common.odd_pictures import (
    CAN_BE_USED,
    CANNOT_BE_USED,
    draw_house,
    read_odd_pictures,
    write_odd_pictures,
)

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps

ROOF, DOOR, SKY = (32, 10), (42, 38), (1, 1)
RED, BLUE, WHITE, BLACK = (176, 58, 46), (46, 95, 176), (255, 255, 255), (0, 0, 0)


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("odd")
    write_odd_pictures(folder)
    return folder


def file_of(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def test_a_folder_of_odd_pictures(odd: Path) -> None:
    refused: list[PictureError] = []
    read = {path.name: each for path, each in read_pictures(find_pictures(odd), odd, refused)}
    assert set(read) == set(CAN_BE_USED)
    assert {error.name for error in refused} == set(CANNOT_BE_USED)
    reasons = {error.name: error.reason for error in refused}
    assert reasons["bomb.png"] == "more than 50,000,000 pixels"
    assert reasons["cut short.jpg"].startswith("broken: image file is truncated")
    assert reasons["pixel.gif"] == "1 x 1 pixels: a side needs 8 or more"
    assert reasons["invisible.png"].startswith("transparent all over")
    assert reasons["no picture.png"] == reasons["empty.jpg"] == "no picture that Pillow can read"
    assert all(str(error).startswith(f"{error.name}: ") for error in refused)
    assert {name: became for name, _, became in read_odd_pictures()}["cmyk.jpg"] == "CMYK"


@pytest.mark.parametrize(
    ("name", "note"),
    [
        ("plain.png", ()),
        ("animated.gif", ("first of 4 frames",)),
        ("cmyk.jpg", ("CMYK",)),
        ("palette.png", ("transparent parts on white",)),
        ("transparent.png", ("transparent parts on white",)),
        ("turned.jpg", ("turned as its EXIF data say",)),
    ],
)
def test_the_house_stands_upright_in_its_colours(odd: Path, name: str, note: tuple) -> None:
    picture = read_picture(odd / name)
    assert picture.notes == note
    assert (picture.image.mode, picture.image.size) == ("RGB", (64, 48))
    for place, colour in ((ROOF, RED), (DOOR, BLUE), (SKY, WHITE)):
        assert picture.image.getpixel(place) == pytest.approx(colour, abs=6)


def test_shades_of_grey(odd: Path) -> None:
    grey, deep = (read_picture(odd / name) for name in ("grey.png", "deep.png"))
    assert deep.notes == ("more than 8 bits a channel",)
    assert np.array_equal(np.asarray(grey.image), np.asarray(deep.image))
    assert len(np.unique(np.asarray(grey.image))) >= 3  # Pillow alone would make 16 bits all white


def test_white_on_nothing_is_seen_on_black(odd: Path) -> None:
    picture = read_picture(odd / "white on nothing.png")
    assert picture.notes == ("transparent parts on black",)
    assert picture.image.getpixel(DOOR) == WHITE
    assert picture.image.getpixel(SKY) == BLACK


def test_glass_of_one_colour_lies_on_white() -> None:
    picture = read_picture(file_of(Image.new("RGBA", (64, 64), (255, 0, 0, 128))))
    assert picture.notes == ("transparent parts on white",)
    assert picture.image.getpixel((9, 9)) == pytest.approx((255, 127, 127), abs=1)


@pytest.mark.parametrize("turn", range(1, 9))
def test_each_orientation_of_exif(turn: int) -> None:
    upright = Image.fromarray(np.arange(8 * 12 * 3, dtype=np.uint8).reshape(8, 12, 3))
    told = Image.Exif()
    told[ExifTags.Base.Orientation] = turn
    # Put by Pillow as a camera would have stored it: all turns but two are their own inverse.
    upright.getexif()[ExifTags.Base.Orientation] = {6: 8, 8: 6}.get(turn, turn)
    picture = read_picture(file_of(ImageOps.exif_transpose(upright), exif=told))
    assert np.array_equal(np.asarray(picture.image), np.asarray(upright))


def test_pixels_that_can_be_read_beside_exif_data_that_cannot() -> None:
    data = file_of(draw_house().convert("RGB"), "JPEG", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff")
    assert read_picture(data).notes == ()


def test_large_ones_are_scaled_down() -> None:
    for form in ("PNG", "JPEG"):
        picture = read_picture(file_of(Image.new("RGB", (3000, 1500), "teal"), form))
        assert picture.size == (3000, 1500)
        assert picture.image.size == (MAX_SIDE, MAX_SIDE // 2)


def test_the_size_is_judged_before_the_pixels_are_unpacked() -> None:
    data = file_of(Image.new("1", (8000, 8000)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(PictureError, match="8000 x 8000: more than 50,000,000 pixels"):
            read_picture(data, "x")


def test_broken_files_give_a_picture_or_a_picture_error(odd: Path) -> None:
    draw, seeds = random.Random(0), [path.read_bytes() for path in sorted(odd.glob("*.*"))]
    house = draw_house().convert("RGB")
    seeds += [file_of(house, form) for form in ("WEBP", "AVIF", "BMP", "TIFF", "PPM", "ICO")]
    seeds = [seed for seed in seeds if len(seed) > 16]
    outcomes = []
    for number in range(600):
        data = bytearray(seeds[number % len(seeds)])
        for _ in range(draw.choice((1, 3, 9))):
            data[draw.randrange(len(data))] = draw.randrange(256)
        try:
            outcomes.append(read_picture(bytes(data), "mutant").image.mode)
        except PictureError as error:
            outcomes.append(error.name)
    assert set(outcomes) == {"RGB", "mutant"}
    assert min(outcomes.count("RGB"), outcomes.count("mutant")) > 100


def test_what_is_looked_for(tmp_path: Path) -> None:
    (tmp_path / "b" / "deep").mkdir(parents=True)
    (tmp_path / ".hidden").mkdir()
    for name in ("z.PNG", "b/a.jpg", "b/deep/c.heic", "notes.txt", "._z.png", ".hidden/d.png"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "folder.png").mkdir()
    found = [path.relative_to(tmp_path).as_posix() for path in find_pictures(tmp_path)]
    assert found == ["b/a.jpg", "b/deep/c.heic", "z.PNG"]
    with pytest.raises(PictureError, match="no such folder"):
        find_pictures(tmp_path / "nowhere")
    with pytest.raises(PictureError, match="no file in it ends in"):
        find_pictures(tmp_path / "folder.png")


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(PictureError, match=r"gone\.png: No such file"):
        read_picture(Path("gone.png"))


def test_a_name_that_is_no_unicode(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png"))
    draw_house().save(path)
    ((_, picture),) = read_pictures(find_pictures(tmp_path), tmp_path, [])
    assert picture.name == "\N{REPLACEMENT CHARACTER}.png"


def test_the_digest_is_that_of_the_pixels() -> None:
    house = draw_house().convert("RGB")
    as_png, as_bmp = read_picture(file_of(house)), read_picture(file_of(house, "BMP"))
    assert as_png.digest == as_bmp.digest
    assert read_picture(file_of(house.rotate(5))).digest != as_png.digest
    tall, wide = (Picture("", Image.new("RGB", size), size) for size in ((8, 32), (32, 8)))
    assert tall.digest != wide.digest


def test_thumbnails() -> None:
    small = Image.open(io.BytesIO(read_picture(file_of(draw_house())).thumbnail(32)))
    assert (small.format, small.size) == ("PNG", (32, 24))


def test_colour_histogram() -> None:
    pixels = np.zeros((2, 8, 3), np.uint8)
    pixels[0, :4] = (255, 0, 0)  # 4 of 16 pixels
    pixels[1, :1] = (31, 32, 255)  # 1 of 16: steps 0, 1, 7
    histogram = colour_histogram(Picture("", Image.fromarray(pixels), (8, 2)))
    assert histogram.shape == (512,)
    expected = {7 * 64: 4 / 16, 1 * 8 + 7: 1 / 16, 0: 11 / 16}
    for number, share in expected.items():
        assert histogram[number] ** 2 == pytest.approx(share)
    assert np.linalg.norm(histogram) == pytest.approx(1)
    assert np.count_nonzero(histogram) == 3
