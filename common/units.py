"""Amounts as people write them on a command line: "2GB", "512 MiB", "5ms", "0.2 s".

    add("--memory", type=parse_bytes)
    add("--latency", type=parse_seconds)
    add("--rows", type=partial(whole_number, least=1))

What cannot be read is an `argparse.ArgumentTypeError`, whose message argparse shows.
"""

import math
import re
from argparse import ArgumentTypeError
from collections.abc import Mapping

_BYTES = {
    "": 1,
    "B": 1,
    **{f"{prefix}B": 1000**n for n, prefix in enumerate("KMGT", start=1)},
    **{f"{prefix}IB": 1024**n for n, prefix in enumerate("KMGT", start=1)},
}
_SECONDS = {"US": 1e-6, "MS": 1e-3, "S": 1.0}


def parse_bytes(text: str) -> float:
    """Bytes: "2GB" is 2,000,000,000, "2GiB" 2,147,483,648; a bare number is in bytes.

    Raises:
        ArgumentTypeError: it is no amount over 0 in one of these units.
    """
    return _amount(text, _BYTES, 'a number of bytes, as in "2GB", "1.5GiB" or "800MB"')


def parse_seconds(text: str) -> float:
    """Seconds: "5ms" is 0.005; the unit (us, ms or s) must be given.

    Raises:
        ArgumentTypeError: it is no time over 0 in one of these units.
    """
    return _amount(text, _SECONDS, 'a time with its unit, as in "5ms" or "0.2s"')


def whole_number(text: str, least: int) -> int:
    """A whole number that is not too small: `type=partial(whole_number, least=1)`.

    Raises:
        ArgumentTypeError: it is none, or below `least`.
    """
    if not re.fullmatch(r"[+-]?\d{1,18}", text, re.ASCII) or int(text) < least:
        raise ArgumentTypeError(f"{text!r} is not a whole number of {least:,} or more")
    return int(text)


def _amount(text: str, units: Mapping[str, float], wanted: str) -> float:
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?|\.\d+)\s*([a-z]*)\s*", text, re.IGNORECASE | re.ASCII)
    unit = match[2].upper() if match else None
    if unit not in units or float(match[1]) <= 0 or not math.isfinite(float(match[1])):
        raise ArgumentTypeError(f"{text!r} is not {wanted}, and over 0")
    return float(match[1]) * units[unit]
