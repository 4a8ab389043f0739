"""Any text -> Markdown (CommonMark with GitHub's tables) and YAML in which it can't be markup."""

import json
import re

from gptft.report.values import one_line, visible

_MARKUP = re.compile(r"([\\`*_\[\]<>#|~&$])")
# What would begin a list or a rule at the start of a line, and where a backslash stops it.
_LINE_START = re.compile(r"^(\d{1,9}(?=[.)](?:\s|$))|(?=[-+=]))")


def escaped(text: str) -> str:
    r"""Text for a heading, a paragraph or a cell of a table, in one line.

    >>> print(escaped("a_b <i>[c](d)\n# e"), escaped("- f"), escaped("1. g"), escaped("1.5 h"))
    a\_b \<i\>\[c\](d) \# e \- f 1\. g 1.5 h
    """
    return _LINE_START.sub(r"\1\\", _MARKUP.sub(r"\\\1", one_line(text)))


def code(text: str) -> str:
    """Text as a code span, in one line; backticks in it can't end it.

    >>> code("a"), code("`a` b"), code("")
    ('`a`', '`` `a` b ``', '` `')
    """
    line = one_line(text)
    fence = "`" * (_longest_run(line) + 1)
    if not line or line[0] == "`" or line[-1] == "`":
        line = f" {line} " if line else " "
    return f"{fence}{line}{fence}"


def code_block(text: str, *, language: str = "text") -> str:
    """Text as a fenced code block, as it is; no line of it can close the fence."""
    fence = "`" * max(3, _longest_run(text) + 1)
    return f"{fence}{language}\n{visible(text)}\n{fence}"


def yaml_string(text: str) -> str:
    r"""Text as a double-quoted YAML scalar in one line, Cyrillic readable.

    >>> print(yaml_string('Проза: "1"\n---\x85'))
    "Проза: \"1\"\n---\u0085"
    """
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(c if c.isprintable() else _yaml_escape(c) for c in quoted)


def _longest_run(text: str) -> int:
    return max(map(len, re.findall("`+", text)), default=0)


def _yaml_escape(character: str) -> str:
    point = ord(character)
    return f"\\u{point:04x}" if point <= 0xFFFF else f"\\U{point:08x}"
