"""A prompt and a template's name -> a text whose continuation answers, and what ends the answer.

A model that was never tuned to follow instructions continues such a frame as it does any text.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from gptft.config.suggest import did_you_mean
from gptft.errors import ConfigError

CYRILLIC = re.compile("[\u0400-\u04ff]")


@dataclass(frozen=True)
class Frame:
    """The words around a prompt in one language.

    Attributes:
        text: with `{prompt}` where the prompt goes.
        stop_strings: what begins a turn that isn't the model's own.
    """

    text: str
    stop_strings: tuple[str, ...]

    def fill(self, prompt: str) -> str:
        r"""The words with the prompt in them.

        >>> TEMPLATES["qa"].english.fill("Who wrote Onegin?")
        'Q: Who wrote Onegin?\nA:'
        """
        return self.text.replace("{prompt}", prompt)


@dataclass(frozen=True)
class Template:
    """A frame in English and in Russian; a prompt with Cyrillic in it takes the Russian one.

    Attributes:
        description: what it asks for, in a sentence.
        english: the words for most prompts.
        russian: those for prompts in Cyrillic.
        source: where it was described.
    """

    description: str
    english: Frame
    russian: Frame
    source: str

    def frame(self, prompt: str) -> Frame:
        """The frame for a prompt's language."""
        return self.russian if CYRILLIC.search(prompt) else self.english


TEMPLATES: Mapping[str, Template] = MappingProxyType(
    {
        "qa": Template(
            "Answers a question.",
            Frame("Q: {prompt}\nA:", ("\nQ:",)),
            Frame("Вопрос: {prompt}\nОтвет:", ("\nВопрос:",)),
            "Radford et al. 2019, section 3.8.",
        ),
        "translate": Template(
            "Translates, English into Russian and Russian into English.",
            Frame("English: {prompt}\nRussian:", ("\n",)),
            Frame("Русский: {prompt}\nАнглийский:", ("\n",)),
            "Radford et al. 2019, section 3.7.",
        ),
        "summary": Template(
            "Sums a text up.",
            Frame("{prompt}\nTL;DR:", ("\n\n",)),
            Frame("{prompt}\nTL;DR:", ("\n\n",)),
            "Radford et al. 2019, section 3.6.",
        ),
        "dialogue": Template(
            "Answers in a conversation.",
            Frame("A: {prompt}\nB:", ("\nA:", "\nB:")),
            Frame("– {prompt}\n–", ("\n–",)),
            "No paper: how plays and novels write a conversation.",
        ),
    }
)


def find_template(name: str) -> Template:
    """The template called `name`.

    Raises:
        ConfigError: there is none of that name.
    """
    if name in TEMPLATES:
        return TEMPLATES[name]
    hint = did_you_mean(name, TEMPLATES) or f"There are {', '.join(TEMPLATES)}."
    raise ConfigError(f"--template: there is no {name!r}. {hint}")


def in_template(name: str, prompts: Sequence[str]) -> tuple[list[str], list[str]]:
    r"""Prompts put into words, and what ends the answers.

    Raises:
        ConfigError: there is no such template.

    >>> in_template("summary", ["Long."])
    (['Long.\nTL;DR:'], ['\n\n'])
    """
    template = find_template(name)
    frames = [template.frame(prompt) for prompt in prompts]
    texts = [frame.fill(prompt) for frame, prompt in zip(frames, prompts, strict=True)]
    return texts, [*dict.fromkeys(stop for frame in frames for stop in frame.stop_strings)]
