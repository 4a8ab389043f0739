"""Characters -> the Unicode scripts they belong to."""

from functools import cache

import regex

# All of Unicode 16 but those that no text in use is written in; the rest is "Other".
_SCRIPTS = """
    Latin Cyrillic Greek Armenian Hebrew Arabic Syriac Thaana Devanagari Bengali Gurmukhi
    Gujarati Oriya Tamil Telugu Kannada Malayalam Sinhala Thai Lao Tibetan Myanmar Georgian
    Hangul Ethiopic Cherokee Canadian_Aboriginal Ogham Runic Khmer Mongolian Hiragana Katakana
    Bopomofo Han Yi Gothic Glagolitic Coptic Tifinagh Braille Javanese Balinese Sundanese
    Tagalog Nko Vai Cuneiform Egyptian_Hieroglyphs Adlam Common Inherited
"""


def by_script(characters: str) -> dict[str, str]:
    """The characters of each script that occurs, scripts by name as Unicode has them.

    >>> by_script("aжb1")
    {'Latin': 'ab', 'Cyrillic': 'ж', 'Common': '1'}
    """
    found: dict[str, str] = {}
    for script in _SCRIPTS.split():
        if not characters:
            break
        pattern = regex.compile(rf"\p{{Script={script}}}+")
        if own := "".join(pattern.findall(characters)):
            characters = pattern.sub("", characters)
            found[script.replace("_", " ")] = own
    return found | ({"Other": characters} if characters else {})


@cache
def script_of(character: str) -> str:
    """The script of one character; "Common" for what several share.

    >>> script_of("ж"), script_of("µ")
    ('Cyrillic', 'Common')
    """
    return next(iter(by_script(character)))
