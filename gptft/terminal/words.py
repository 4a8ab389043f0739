"""Numbers and values of settings -> words, alike in every message, table and page."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

_MAX_REASONS = 5
_LONG = 10**30


def percent(share: float | None, *, decimals: int = 1) -> str:
    """A share in per cent: never 0 where there is something, nor 100 where something lacks.

    >>> [percent(share) for share in (0.0, 0.0001, 0.0137, 0.9999, 1.0, 25.3, None)]
    ['0%', '<0.1%', '1.4%', '>99.9%', '100%', '2,530%', '-']
    >>> percent(0.611, decimals=0), percent(0.001, decimals=0), percent(0.999, decimals=0)
    ('61%', '<1%', '>99%')
    """
    if share is None:
        return "-"
    unit = 10.0**-decimals
    hundredths = 100 * share
    if 0 < hundredths <= unit / 2:  # half a unit would be rounded to 0, to the even digit
        return f"<{unit:.{decimals}f}%"
    if 100 - unit / 2 <= hundredths < 100:
        return f">{100 - unit:.{decimals}f}%"
    return f"{hundredths:,.{0 if share == 0 or share >= 1 else decimals}f}%"


def share_of_text(share: float) -> str:
    """How much of a text was trained on; one epoch is 100%.

    >>> share_of_text(0.0137), share_of_text(1.0), share_of_text(40.0)
    ('1.4% of the text', '100% of the text', '4,000% of the text, 40.0 epochs')
    """
    epochs = f", {share:,.1f} epochs" if share >= 1.05 else ""
    return f"{percent(share)} of the text{epochs}"


def probability(value: float) -> str:
    """A probability in at most 6 cells, three digits of it.

    >>> [probability(p) for p in (1.0, 0.99999, 0.1234, 0.01234, 0.000049, 0.0)]
    ['100%', '>99.9%', '12.3%', '1.23%', '<0.01%', '0%']
    """
    return percent(value, decimals=1 if value >= 0.09995 else 2)


def count(number: int, noun: str, plural: str | None = None) -> str:
    """A number with its noun.

    >>> count(1, "step"), count(2000, "step"), count(0, "copy", "copies")
    ('1 step', '2,000 steps', '0 copies')
    """
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def bytes_text(number: int) -> str:
    """A number of bytes, in decimal units.

    >>> bytes_text(999), bytes_text(1_500), bytes_text(548_118_077), bytes_text(3 * 10**9)
    ('999 bytes', '1.5 kB', '548.1 MB', '3.0 GB')
    """
    for size, unit in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if number >= size:
            return f"{number / size:,.1f} {unit}"
    return count(number, "byte")


def duration(seconds: float) -> str:
    """A time span, to two units.

    >>> duration(6.54), duration(200), duration(7265)
    ('6.5 s', '3 min 20 s', '2 h 1 min')
    """
    if not math.isfinite(seconds) or seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60:,} h {minutes % 60} min"


def account_of_skipped(skipped: Mapping[str, int]) -> str:
    """How many files were skipped, and why.

    >>> account_of_skipped({".png": 3, "hidden": 1})
    '4 files (3 .png, 1 hidden)'
    """
    return f"{count(sum(skipped.values()), 'file')} ({reasons_for_skipping(skipped)})"


def reasons_for_skipping(skipped: Mapping[str, int]) -> str:
    """How many files were skipped by reason, the five most frequent reasons by name.

    >>> reasons_for_skipping({"hidden": 1, ".png": 3})
    '3 .png, 1 hidden'
    """
    ordered = sorted(skipped.items(), key=lambda item: (-item[1], item[0]))
    named = [f"{number:,} {reason}" for reason, number in ordered[:_MAX_REASONS]]
    rest = sum(number for _, number in ordered[_MAX_REASONS:])
    return ", ".join([*named, f"{rest:,} others"] if rest else named)


def first_of(names: Sequence[str], at_most: int) -> str:
    """The first of some names, and how many more there are.

    >>> first_of(["a", "b", "c"], 2), first_of(["a"], 2)
    ('a, b and 1 more', 'a')
    """
    more = len(names) - at_most
    return ", ".join(names[:at_most]) + (f" and {more:,} more" if more > 0 else "")


def short_value(value: Any) -> str:
    """A setting's value as YAML has it, in short.

    >>> [short_value(value) for value in (True, ["a", "b"], 0.5, None, "")]
    ['true', '[a, b]', '0.5', 'null', "''"]
    """
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(short_value, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {short_value(item)}' for key, item in value.items())}}}"
    if isinstance(value, str) and ("\n" in value or not value.strip()):
        return repr(value)
    return str(value)


def short_number(number: int) -> str:
    """A whole number in full, or how many digits it has where it has more than 30.

    >>> short_number(12345), short_number(10**400), short_number(10**400 - 1)
    ('12,345', 'a number of 401 digits', 'a number of 400 digits')
    """
    if abs(number) < _LONG:
        return f"{number:,}"
    digits = int(math.log10(abs(number)))  # rounded up where the number is just below a power
    return f"a number of {digits + (abs(number) >= 10**digits):,} digits"


def wrong_value(value: Any) -> str:
    """What a setting was given, for the message that says what it must be.

    >>> wrong_value("5e-5"), wrong_value(True), wrong_value([1, 2]), wrong_value([])
    ("the text '5e-5'", 'true', '[1, 2]', 'a list')
    """
    if isinstance(value, str):
        return f"the text {value!r}"
    if isinstance(value, int) and abs(value) >= _LONG:
        return short_number(value)
    if isinstance(value, list | tuple):
        return str(list(value)) if value and len(str(value)) <= 40 else "a list"
    return "a mapping" if isinstance(value, Mapping) else short_value(value)
