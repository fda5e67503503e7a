"""Amounts as people write them."""

from argparse import ArgumentTypeError

from common.units import parse_bytes, parse_seconds, whole_number

import pytest


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2GB", 2_000_000_000),
        ("1.5 gib", 1_610_612_736),
        ("800MB", 800_000_000),
        ("3 kB", 3_000),
        ("4096", 4096),
        (" .5TB ", 500_000_000_000),
    ],
)
def test_bytes(text: str, expected: float) -> None:
    assert parse_bytes(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"), [("5ms", 0.005), ("0.2 s", 0.2), ("250us", 0.00025), ("3S", 3)]
)
def test_seconds(text: str, expected: float) -> None:
    assert parse_seconds(text) == pytest.approx(expected)


@pytest.mark.parametrize("text", ["", "GB", "2 G", "-1GB", "0MB", "2,000MB", "1e9", "nan", "٣GB"])
def test_no_bytes(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="is not a number of bytes"):
        parse_bytes(text)


@pytest.mark.parametrize("text", ["5", "5 minutes", "-5ms", "0s", "inf s", "1" * 400 + "s"])
def test_no_seconds(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="is not a time with its unit"):
        parse_seconds(text)


def test_whole_numbers() -> None:
    assert [whole_number(text, least=1) for text in ("1", "10000", "+7")] == [1, 10_000, 7]
    assert whole_number("-3", least=-3) == -3
    for text in ("0", "-3", "1.5", "", "many", "1e4", "٣", "9" * 20):
        with pytest.raises(ArgumentTypeError, match="is not a whole number of 1 or more"):
            whole_number(text, least=1)
    with pytest.raises(ArgumentTypeError, match="of 1,024 or more"):
        whole_number("1023", least=1024)
