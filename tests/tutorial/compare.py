"""What a page shows beside what its command prints now.

Words are equal, and so are whole numbers: ids, counts, steps, ranks. A number with a decimal point,
or of a thousand or more, may differ by 2 % or by two units of its last digit: the order in which a
processor sums changes a float32 from the seventh digit on, and the steps of training magnify that.
Seconds, speeds and bars are left out. Of a text that is drawn only its prompt is compared and that
it is about as long, since another processor draws other random numbers.
"""

import re
from collections.abc import Iterator

from tests.tutorial.pages import GAP

RELATIVE = 0.02
_NUMBER = re.compile(r"(?:(?<!\S)[+-])?\d[\d,]*(?:\.\d+)?")
_BOUNDS = re.compile(r"[<>](?=\d)")  # <0.01% beside 0.01%
_TIMES = re.compile(
    r"\d[\d.,]* s\b|tokens a second [\d.,]+|[\d.,]+ (?:MB|tokens)/s|\d+:\d\d:\d\d|\d+ min\b"
)
_BARS = re.compile("[\u2580-\u259f]+")


def _plain(text: str) -> str:
    return " ".join(_BARS.sub("", _TIMES.sub("", _BOUNDS.sub("", text))).split())


def _tolerance(shown: str) -> float:
    if "." not in shown and "," not in shown:
        return 0.0
    digits = len(shown.partition(".")[2])
    return max(abs(_value(shown)) * RELATIVE, 2.001 * 10.0**-digits)


def _value(shown: str) -> float:
    return float(shown.replace(",", "").rstrip("."))


def differences(shown: str, printed: str) -> Iterator[str]:
    """What differs more than another processor explains, in a line each."""
    ours, theirs = _plain(shown), _plain(printed)
    if _NUMBER.sub("#", ours) != _NUMBER.sub("#", theirs):
        yield f"the page has:\n{shown}\nprinted is:\n{printed}"
        return
    for page, now in zip(_NUMBER.findall(ours), _NUMBER.findall(theirs), strict=True):
        if abs(_value(page) - _value(now)) > _tolerance(page):
            yield f"the page has {page}, printed is {now}, in:\n{printed}"


def differences_of_draws(line: str, shown: str, printed: str) -> Iterator[str]:
    """Whether as many texts follow the prompt, about as long, under the same settings."""
    for prompt in re.findall(r'-p "([^"]+)"', line):
        if (have := shown.count(prompt)) != (now := printed.count(prompt)):
            yield f"{line}: the page has the prompt {have} times, printed it is {now} times"
    settings = [
        [each for each in text.splitlines() if re.search(r"\bseed \d+$", each)]
        for text in (shown, printed)
    ]
    if settings[0] != settings[1]:
        yield f"{line}: the page has {settings[0]}, printed is {settings[1]}"
    have, now = (len(text.replace(GAP, "").split()) for text in (shown, printed))
    if not have / 3 <= now <= 3 * have:
        yield f"{line}: the page has {have} words, printed are {now}"
