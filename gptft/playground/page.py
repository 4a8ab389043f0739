"""A language and a text to begin with -> the page, its words in that language."""

from importlib.resources import files

from jinja2 import Environment, StrictUndefined

from gptft.report.language import Words


def page_html(words: Words, *, prompt: str) -> str:
    """The page that everything else happens on.

    Args:
        words: what it says.
        prompt: the text that it begins with.
    """
    source = files("gptft.playground").joinpath("static/index.html").read_text("utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    return environment.from_string(source).render(t=words.t, lang=words.lang, prompt=prompt)
