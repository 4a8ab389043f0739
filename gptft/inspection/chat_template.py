"""A chat template and the special tokens it may name -> what is wrong with it.

It renders a question and an answer in a sandbox, where it reaches neither files nor Python.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial

_QUESTION, _ANSWER = "Is it frosty?", "Frost and sunshine."
_NOW = datetime(2000, 1, 1)
_MARK = re.compile(r"<\|[^|<>\s]+\|>|</?s>|<(?:start|end)_of_turn>")


@dataclass(frozen=True)
class TemplateCheck:
    """What came of trying a template.

    Attributes:
        problems: what is wrong; none if it works.
        marks: what looks like special tokens in the text it makes.
    """

    problems: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()


def check_template(source: str, *, special_tokens: Mapping[str, str]) -> TemplateCheck:
    """Parse a chat template and render a question and its answer with it.

    Args:
        source: the template, in Jinja, with the additions that transformers documents.
        special_tokens: text by name, as `bos_token`; templates may name them.
    """
    from jinja2 import TemplateError, TemplateSyntaxError  # here: few commands need it

    from gptft.tokenization.chat_template import render_chat

    chat = [{"role": "user", "content": _QUESTION}, {"role": "assistant", "content": _ANSWER}]
    render = partial(render_chat, source, special_tokens=special_tokens, now=_NOW)
    try:
        answered = render(chat, add_generation_prompt=False)
        asked = render(chat[:1], add_generation_prompt=True)
    except TemplateError as error:
        where = f" in line {error.lineno}" if isinstance(error, TemplateSyntaxError) else ""
        return TemplateCheck((f"it fails{where}: {error.message or type(error).__name__}",))
    except Exception as error:  # a template is a program: it raises what it likes
        return TemplateCheck((f"it fails: {type(error).__name__}: {error}",))
    problems = [
        f"it leaves the {role}'s words out"
        for role, words in (("user", _QUESTION), ("assistant", _ANSWER))
        if words not in answered
    ]
    if _QUESTION not in asked:
        problems.append("it leaves the question out when an answer is asked for")
    marks = dict.fromkeys(_MARK.findall(answered + asked))
    return TemplateCheck(tuple(dict.fromkeys(problems)), tuple(marks))
