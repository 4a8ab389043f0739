"""The first bytes of a file of markup -> the codec that it says it is in, or None."""

import codecs
import re

_XML = re.compile(rb"""\s*<\?xml\b[^>]*?\bencoding\s*=\s*["']([\w.:-]+)["']""")
_META = re.compile(rb"""<meta\b[^>]{0,400}?\bcharset\s*=\s*["']?\s*([\w.:-]+)""", re.I)
# What browsers take these names for (https://encoding.spec.whatwg.org/#names-and-labels).
_TAKEN_FOR = {
    "ascii": "cp1252",
    "iso8859-1": "cp1252",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "euc_kr": "cp949",
    "shift_jis": "cp932",
}


def declared_codec(head: bytes) -> str | None:
    """The codec that an XML declaration or an HTML meta element names.

    Args:
        head: the first bytes of the file, some kilobytes of them.

    Returns:
        None where nothing is named, no codec of text, or UTF-8 or UTF-16, which need no telling.

    >>> declared_codec(b'<?xml version="1.0" encoding="Windows-1251"?>')
    'cp1251'
    >>> declared_codec(b'<html><meta charset=iso-8859-1>')
    'cp1252'
    """
    found = _XML.match(head) or _META.search(head)
    if found is None:
        return None
    try:
        info = codecs.lookup(found[1].decode("ascii"))
        b" ".decode(info.name)  # hex and zip are codecs, but none of text
    except (LookupError, ValueError, AssertionError):
        return None
    if info.incrementaldecoder is None or info.name.startswith(("utf-8", "utf-16")):
        return None
    return _TAKEN_FOR.get(info.name, info.name)
