"""Characters -> the Unicode scripts they belong to, and the language these tell of."""

from collections import Counter
from functools import cache
from typing import Literal

import regex

PageLanguage = Literal["en", "ru"]  # those that pages are written in

# Those that a text or a vocabulary may hold, as Unicode 16 names them; the rest is "Other".
_SCRIPTS = """
    Latin Cyrillic Common Inherited Greek Armenian Hebrew Arabic Syriac Thaana Devanagari Bengali
    Gurmukhi Gujarati Oriya Tamil Telugu Kannada Malayalam Sinhala Thai Lao Tibetan Myanmar Georgian
    Hangul Ethiopic Cherokee Canadian_Aboriginal Ogham Runic Khmer Mongolian Hiragana Katakana
    Bopomofo Han Yi Gothic Glagolitic Coptic Tifinagh Braille Javanese Balinese Sundanese
    Tagalog Nko Vai Cuneiform Egyptian_Hieroglyphs Adlam Buginese Bamum Lisu Limbu Lepcha Tai_Le
    New_Tai_Lue Tai_Tham Tai_Viet Meetei_Mayek Ol_Chiki Saurashtra Cham Kayah_Li Samaritan Mandaic
    Linear_A Linear_B Phoenician Old_Italic Old_Persian Old_Turkic Ugaritic Avestan Brahmi
    Kharoshthi Deseret Shavian Osmanya Tangut
"""


@cache
def script_of(character: str) -> str:
    """The script of one character; "Common" for what several share.

    >>> script_of("ж"), script_of("µ")
    ('Cyrillic', 'Common')
    """
    match = _pattern().match(character)
    return str(match.lastgroup).replace("_", " ") if match else "Other"


@cache
def _pattern() -> "regex.Pattern[str]":
    """A group for each script."""
    return regex.compile("|".join(rf"(?P<{name}>\p{{Script={name}}})" for name in _SCRIPTS.split()))


# Scripts of one language, as far as we meet them; ones that several share tell nothing.
_LANGUAGES = {
    "Armenian": "hy", "Georgian": "ka", "Greek": "el", "Hangul": "ko", "Hebrew": "he",
    "Hiragana": "ja", "Katakana": "ja", "Thai": "th",
}  # fmt: skip
# Cyrillic letters that Russian hasn't, by language.
_CYRILLIC = {"be": "ў", "uk": "ґєії", "sr": "ђћџљњј", "kk": "әғқңөұүһ"}
_LOOKED_AT = 2_000  # characters


def language_of(text: str) -> str:
    """The language of a text as far as its letters tell, for HTML's `lang`; "" where they don't.

    >>> language_of("Буря мглою"), language_of("Ще не вмерла Україна"), language_of("The fox")
    ('ru', 'uk', '')
    """
    text = text[:_LOOKED_AT].lower()
    scripts = Counter(script_of(letter) for letter in text if letter.isalpha())
    ((script, _),) = scripts.most_common(1) or (("", 0),)
    if script == "Cyrillic":
        return next((name for name, own in _CYRILLIC.items() if {*own} & {*text}), "ru")
    return _LANGUAGES.get(script, "")


def page_language(text: str) -> PageLanguage:
    """The language that a page about a text is written in: Russian for Russian, else English."""
    return "ru" if language_of(text) == "ru" else "en"
