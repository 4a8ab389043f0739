"""A page's language -> its words from `words/`, and numbers as it writes them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from gptft.report.values import number, rounded
from gptft.terminal.words import percent, probability
from gptft.text.scripts import PageLanguage

# A decimal comma, and a narrow space between thousands.
_RUSSIAN = str.maketrans({".": ",", ",": "\N{NARROW NO-BREAK SPACE}"})
_NO_FIGURES = {"not a number": "не число", "infinite": "бесконечность"}


@cache
def page_words(lang: PageLanguage, name: str) -> Mapping[str, str]:
    """The words of some pages, by key, with places for values in braces.

    Args:
        lang: of the words.
        name: explain, pages, comparisons, report or play.
    """
    from ruamel.yaml import YAML

    text = files("gptft.report").joinpath(f"words/{name}.{lang}.yaml").read_text("utf-8")
    return dict(YAML(typ="safe").load(text))


@dataclass(frozen=True)
class Words:
    """What a page says, in its language.

    Attributes:
        lang: the language.
        t: the words by key.
    """

    lang: PageLanguage
    t: Mapping[str, str]

    @classmethod
    def of(cls, lang: PageLanguage, name: str = "pages") -> "Words":
        """The words of some pages; see `page_words`."""
        return cls(lang, page_words(lang, name))

    def say(self, key: str, **values: Any) -> str:
        """A sentence, its values filled in."""
        return self.t[key].format(**values)

    def local(self, figure: str) -> str:
        """A figure as English writes it -> as this language does.

        >>> Words("ru", {}).local("1,234.5%")
        '1\u202f234,5%'
        """
        return figure if self.lang == "en" else figure.translate(_RUSSIAN)

    def rounded(self, value: int) -> str:
        """A count in words where it is large.

        >>> Words("ru", {"million": "{number} млн"}).rounded(4_439_040)
        '4,4 млн'
        """
        figure, _, size = rounded(value).partition(" ")
        return self.say(size, number=self.local(figure)) if size else self.local(figure)

    def number(self, value: float | None, *, decimals: int = 2) -> str:
        """A figure for a table, a dash where there is none.

        >>> Words("ru", {}).number(float("inf")), Words("ru", {}).number(2.5)
        ('бесконечность', '2,50')
        """
        figure = number(value, decimals=decimals)
        return _NO_FIGURES.get(figure, self.local(figure)) if self.lang == "ru" else figure

    def whole(self, value: int) -> str:
        """A whole number."""
        return self.local(f"{value:,}")

    def probability(self, value: float) -> str:
        """A probability in at most 6 cells."""
        return self.local(probability(value))

    def percent(self, share: float | None, *, decimals: int = 1) -> str:
        """A share in per cent."""
        return self.local(percent(share, decimals=decimals))

    def duration(self, shown: str) -> str:
        """A time span as English writes it, with its units as this language does.

        >>> Words("ru", {"unit_h": "ч", "unit_min": "мин"}).duration("2 h 1 min")
        '2 ч 1 мин'
        """
        return self.local(re.sub("[a-z]+", lambda unit: self.t[f"unit_{unit[0]}"], shown))

    def count(self, value: int, noun: str) -> str:
        """A number with its noun, whose forms are `n_<noun>`: two in English, three in Russian.

        >>> one = Words("ru", {"n_step": "шаг|шага|шагов"})
        >>> [one.count(n, "step") for n in (1, 3, 11, 22, 1005)]
        ['1 шаг', '3 шага', '11 шагов', '22 шага', '1\u202f005 шагов']
        """
        forms = self.t[f"n_{noun}"].split("|")
        return f"{self.whole(value)} {forms[_form(value, self.lang)]}"


def _form(value: int, lang: PageLanguage) -> int:
    """Which form of a noun goes with a number.

    Source: Unicode CLDR, plural rules of en and ru for whole numbers.
    """
    if lang == "en":
        return value != 1
    tens, ones = value % 100 // 10, value % 10
    if ones == 1 and tens != 1:
        return 0
    return 1 if 2 <= ones <= 4 and tens != 1 else 2
