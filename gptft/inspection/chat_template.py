"""A chat template and the special tokens it may name -> what is wrong with it.

It renders a question and an answer in a sandbox, where it reaches neither files nor Python.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_QUESTION, _ANSWER = "Is it frosty?", "Frost and sunshine."
_LONGEST = 10_000  # characters that a template may repeat, so that it can't fill the memory
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

    try:
        template = _environment().from_string(source)
        chat = [{"role": "user", "content": _QUESTION}, {"role": "assistant", "content": _ANSWER}]
        given = {"tools": None, "documents": None, **special_tokens}
        answered = template.render(messages=chat, add_generation_prompt=False, **given)
        asked = template.render(messages=chat[:1], add_generation_prompt=True, **given)
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


def _environment() -> Any:
    """A sandbox as transformers has it: its settings, its functions and its `generation` block."""
    from jinja2 import nodes
    from jinja2.exceptions import SecurityError, TemplateError
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class GenerationBlock(Extension):
        tags = frozenset({"generation"})  # type: ignore[assignment]

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.Scope(body).set_lineno(line)

    class Sandbox(ImmutableSandboxedEnvironment):
        intercepted_binops = frozenset(("*", "**"))

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            sizes = [len(side) if hasattr(side, "__len__") else side for side in (left, right)]
            if operator == "**" or abs(sizes[0] * sizes[1]) > _LONGEST:
                raise SecurityError(f"it computes {operator} of numbers too great for a template")
            return super().call_binop(context, operator, left, right)

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    def to_json(value: Any, indent: int | None = None) -> str:
        return json.dumps(value, ensure_ascii=False, indent=indent)

    extensions: list[Any] = [GenerationBlock, loopcontrols]
    environment = Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=extensions)
    environment.filters["tojson"] = to_json
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = lambda _form: "1 January 2000"
    return environment
