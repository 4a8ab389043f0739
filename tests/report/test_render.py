import pytest
from jinja2 import UndefinedError
from markupsafe import Markup

from gptft.report.html import SECTIONS
from gptft.report.render import render
from tests.conftest import ROOT

TEMPLATES = ROOT / "gptft" / "report" / "templates"


def test_every_section_is_a_template_and_every_template_a_section():
    found = {path.name.removesuffix(".html.j2") for path in (TEMPLATES / "sections").iterdir()}
    assert found == set(SECTIONS)


def test_the_pages_share_one_stylesheet():
    assert [path.name for path in TEMPLATES.rglob("*.css")] == ["style.css"]
    sources = [path.read_text(encoding="utf-8") for path in TEMPLATES.rglob("*.html.j2")]
    assert sum(source.count("<style") for source in sources) == 1


@pytest.mark.parametrize("style", ["<b>", Markup("<b>")])
def test_only_markup_is_taken_as_it_is(style: str):
    values = {"title": "<i>", "size": 1, "lines": [], "x_ticks": [], "y_ticks": [], "step": ""}
    html = render("chart.html.j2", style=style, **values)
    assert ("<b>" in html) is isinstance(style, Markup)
    assert "&lt;i&gt;" in html


def test_a_value_that_is_missing_is_an_error_and_not_a_gap():
    with pytest.raises(UndefinedError, match="lines"):
        render("chart.html.j2", title="x", style="")
