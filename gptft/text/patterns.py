"""A regular expression that a person wrote -> one that can be compiled and matched in time.

`re` can't be interrupted, and both it and `regex` have patterns that take longer than the universe
has existed, or that fill the memory while they are compiled.
"""

import re
import time
import warnings
from collections.abc import Callable

import regex

_MAX_ITEMS = 100_000  # `regex` writes least counts out: 0.3 s and 100 MB for so many
_SECONDS = 5.0  # for one text
_IS_SLOW = 0.01  # seconds for one text, ten thousand times what most take
_SLOW_SECONDS = 30.0  # for all slow ones
_PART = re.compile(
    r"\\.|(?P<set>\[\^?\]?(?:\\.|[^\]\\])*\])|(?P<open>\()|(?P<close>\))"
    r"|\{(?P<least>\d*)(?:,\d*)?\}|(?P<brace>\{)|.",
    re.DOTALL,
)


class TooSlow(Exception):
    """A pattern took longer than any that is meant would."""


def compile_pattern(pattern: str) -> "regex.Pattern[str]":
    """Compile a pattern of `regex`.

    Raises:
        ValueError: it isn't one, or would take too much memory or time; the message says why.
    """
    _check_size(pattern)
    try:
        return regex.compile(pattern)
    except regex.error as error:
        where = "" if error.pos is None else f" at position {error.pos}"
        raise ValueError(f"{error.msg}{where}") from None
    except RecursionError:
        raise ValueError("its groups are nested too deeply") from None
    except (OverflowError, MemoryError):
        raise ValueError("it is too large") from None


def compile_like_re(pattern: str) -> "regex.Pattern[str]":
    r"""Compile a pattern of Python's `re` for `regex`, which can end a match after a while.

    Where the two read a pattern differently, it means what it does to `re`: `{e}` is no error that
    may be made, and `[[:alpha:]]` no class of POSIX.

    Raises:
        ValueError: it isn't one, or would take too much memory or time; the message says why.

    >>> bool(compile_like_re("a{e}").fullmatch("a{e}")), bool(regex.fullmatch("a{e}", "b"))
    (True, True)
    """
    _check_size(pattern)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sets that `re` may read otherwise some day
            flags = re.compile(pattern).flags
    except re.error as error:
        raise ValueError(str(error)) from None
    except RecursionError:
        raise ValueError("its groups are nested too deeply") from None
    except (OverflowError, MemoryError) as error:
        raise ValueError(str(error) or "it is too large") from None
    is_verbose = flags & re.VERBOSE  # a comment in it can hold half of anything
    return compile_pattern(pattern if is_verbose else _PART.sub(_as_re_reads_it, pattern))


def _check_size(pattern: str) -> None:
    if len(pattern) > _MAX_ITEMS or written_out(pattern) > _MAX_ITEMS:
        raise ValueError(f"its repeats, written out, have more than {_MAX_ITEMS:,} characters")


def _as_re_reads_it(part: re.Match[str]) -> str:
    if part["brace"]:
        return r"\{"
    inner = part["set"]
    if inner:
        return "[" + re.sub(r"(\\.)|\[", lambda m: m[1] or r"\[", inner[1:], flags=re.DOTALL)
    return part[0]


def written_out(pattern: str) -> int:
    """How many characters and sets a pattern has once its least counts are written out.

    >>> written_out("ab{3}"), written_out("(?:ab{1000}){1000,2000}c")
    (4, 1003001)
    """
    groups, last = [0], 0  # the sizes of what is open, each without its last item
    for part in _PART.finditer(pattern):
        if part["least"] is not None:
            last *= max(int(part["least"][:20] or 0), 1)
            continue
        groups[-1] += last
        last = 1
        if part["open"]:
            groups.append(0)
            last = 0
        elif part["close"] and len(groups) > 1:
            last = groups.pop()
    return groups[0] + last + sum(groups[1:])


def bounded_fullmatch(pattern: "regex.Pattern[str]") -> Callable[[str], bool]:
    """What tells whether a whole text matches, and doesn't take forever to.

    Returns:
        a function, which raises TooSlow where one text takes more than five seconds, or those that
        take more than ten milliseconds take half a minute together.
    """
    spent = 0.0

    def matches(text: str) -> bool:
        nonlocal spent
        begun = time.perf_counter()
        try:
            found = pattern.fullmatch(text, timeout=_SECONDS) is not None
        except (TimeoutError, MemoryError):
            raise TooSlow from None
        if (took := time.perf_counter() - begun) > _IS_SLOW:
            spent += took
        if spent > _SLOW_SECONDS:
            raise TooSlow
        return found

    return matches
