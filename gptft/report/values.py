"""Numbers and texts -> how a report writes them, in plain text."""

import math

NOTHING = "–"  # where a number wasn't recorded

_PICTURES = {code: 0x2400 + code for code in range(0x20) if chr(code) not in "\n\t"}
_PICTURES[0x7F] = 0x2421


def number(value: float | None, *, decimals: int = 2) -> str:
    """A figure for a table.

    >>> number(8528.851), number(1.5, decimals=3), number(2.5e9), number(None)
    ('8,528.85', '1.500', '2.50e+09', '–')
    >>> number(float("nan")), number(float("inf"))
    ('not a number', 'infinite')
    """
    if value is None:
        return NOTHING
    if math.isnan(value):
        return "not a number"
    if math.isinf(value):
        return "infinite"
    return f"{value:.2e}" if abs(value) >= 1e9 else f"{value:,.{decimals}f}"


def rounded(value: int) -> str:
    """A count in words where it is large.

    >>> rounded(812), rounded(12_345), rounded(4_439_040), rounded(1_500_000_000)
    ('812', '12,345', '4.4 million', '1.5 billion')
    """
    for size, name in ((10**9, "billion"), (10**6, "million")):
        if value >= size:
            return f"{value / size:.1f} {name}"
    return f"{value:,}"


def visible(text: str) -> str:
    r"""Control characters as the pictures Unicode has for them; line breaks and tabs stay.

    >>> visible("a\b\r\nb")
    'a␈␍\nb'
    """
    return text.translate(_PICTURES)


def one_line(text: str) -> str:
    r"""Every run of white space, line breaks included, as one space.

    >>> one_line(" a\r\n\n# b\u2028c ")
    'a # b c'
    """
    return visible(" ".join(text.split()))
