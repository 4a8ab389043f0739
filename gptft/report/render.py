"""A template and values -> HTML or Markdown in which no value can become markup."""

from collections.abc import Callable
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from gptft.report import facts, markdown, verdict
from gptft.report.values import number, one_line, visible
from gptft.terminal.words import count
from gptft.text.scripts import language_of


def render(template: str, **values: Any) -> str:
    """Fill one of `gptft/report/templates/`.

    Every value is escaped for what the template is, HTML (`.html.j2`) or Markdown (`.md.j2`),
    unless it is `Markup`. Control characters are shown as signs; in Markdown a value is one line.

    Raises:
        jinja2.UndefinedError: the template names a value that isn't given.
    """
    environment = _markdown() if template.endswith(".md.j2") else _html()
    return environment.get_template(template).render(values)


@cache
def _html() -> Environment:
    return _environment(lambda value: visible(value) if type(value) is str else value)


@cache
def _markdown() -> Environment:
    # jinja2 escapes for HTML what `finalize` hands on as plain text, so everything becomes Markup.
    environment = _environment(
        lambda value: value if isinstance(value, Markup) else Markup(markdown.escaped(str(value)))
    )
    environment.filters |= {
        "code": _markup_of(markdown.code),
        "code_block": _markup_of(markdown.code_block),
        "yaml_string": _markup_of(markdown.yaml_string),
    }
    return environment


def _markup_of(function: Callable[..., str]) -> Callable[..., Markup]:
    return lambda *given, **named: Markup(function(*given, **named))


def _environment(finalize: Any) -> Environment:
    environment = Environment(
        loader=PackageLoader("gptft.report"), autoescape=True, finalize=finalize,
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    environment.filters |= {"one_line": one_line, "language": language_of}
    environment.globals |= {"facts": facts, "verdict": verdict, "count": count, "number": number}
    return environment
