"""A string of escapes, arguments or JSON -> the text it means, or why it is none.

`json.dumps` writes an emoji as a surrogate pair, two escapes of a half each: JSON's readers join
them, YAML's don't. Half a pair alone, as of an argument that isn't UTF-8, no file could hold.
"""

import re

_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_NO_TEXT = re.compile("[\ud800-\udfff\0]")


def join_pairs(text: str) -> str:
    r"""Surrogate pairs as the characters they stand for.

    >>> join_pairs("\ud83d\ude00") == "\U0001f600"
    True
    """
    return _PAIR.sub(
        lambda pair: pair[0].encode("utf-16-le", "surrogatepass").decode("utf-16-le"), text
    )


def text_problem(text: str) -> str | None:
    r"""Why a string is no text, in the words that follow its name; None where it is one.

    >>> text_problem("a\ud83d"), text_problem("\0"), text_problem("a")
    ('has half of a surrogate pair, U+D83D at character 2', 'has a NUL at character 1', None)
    """
    if (found := _NO_TEXT.search(text)) is None:
        return None
    code = ord(found[0])
    what = f"half of a surrogate pair, U+{code:04X}" if code else "a NUL"
    return f"has {what} at character {found.start() + 1:,}"


def only_text(text: str) -> str:
    """The string with a question mark for all that is no text."""
    return _NO_TEXT.sub("?", text)
