import pytest
from markdown_it import MarkdownIt
from ruamel.yaml import YAML

from gptft.report.markdown import code, code_block, escaped, yaml_string
from gptft.report.values import one_line, visible

NASTY = [
    "plain",
    "Стихи Пушкина",
    "a `b` ``c``",
    "`",
    "```\n# out\n```",
    "---\nbase_model: other\n---",
    "a | b \\| c",
    "<script>alert(1)</script> & &amp;",
    "*a* _b_ ~~c~~ [d](http://e) ![f](g)",
    "# h",
    "- item",
    "1. item",
    "12) item",
    "+",
    "===",
    "> quote",
    "C:\\new\\",
    "$x$ ${y}",
    "quote \" and ' colon: {a: [b",
    "nul\0 bell\a esc\x1b del\x7f nel\x85 ls\u2028 bom\ufeff 🎉",
    "~~~\nx",
    " spaces ",
]


def tokens(markdown: str):
    return MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(markdown)


def inline(markdown: str):
    """The inline tokens of Markdown that is one paragraph."""
    found = tokens(markdown)
    assert [token.type for token in found] == ["paragraph_open", "inline", "paragraph_close"]
    return found[1].children


@pytest.mark.parametrize("text", NASTY)
def test_escaped_text_shows_itself(text: str):
    children = inline(escaped(text))
    assert {child.type for child in children} <= {"text", "text_special"}
    assert "".join(child.content for child in children) == one_line(text)


@pytest.mark.parametrize("text", NASTY)
def test_escaped_text_stays_in_its_heading_and_its_cell(text: str):
    heading = tokens(f"# {escaped(text)}")
    assert [token.type for token in heading] == ["heading_open", "inline", "heading_close"]
    assert "".join(child.content for child in heading[1].children) == one_line(text)
    table = f"| a | b |\n| --- | ---: |\n| {escaped(text)} | 1 |"
    cells = [token for token in tokens(table) if token.type == "inline"]
    assert "".join(child.content for child in cells[2].children) == one_line(text)
    assert len(cells) == 4


@pytest.mark.parametrize("text", NASTY)
def test_a_code_span_shows_the_text(text: str):
    (span,) = inline(f"{code(text)}")
    assert span.type == "code_inline"
    assert span.content == one_line(text)


@pytest.mark.parametrize("text", [*NASTY, "", "\n", "````", "a\n`````\nb\n```"])
def test_a_code_block_holds_the_text_and_ends_after_it(text: str):
    fence, after = tokens(f"{code_block(text)}\n\nafter")[0], tokens(f"{code_block(text)}\n\nafter")
    assert fence.type == "fence"
    assert fence.content == visible(text) + "\n"
    assert [token.type for token in after[1:]] == ["paragraph_open", "inline", "paragraph_close"]


@pytest.mark.parametrize("text", [*NASTY, "", "true", "1e-3", "~"])
def test_a_yaml_string_is_read_back_as_it_was(text: str):
    written = yaml_string(text)
    assert "\n" not in written
    assert YAML(typ="safe", pure=True).load(f"key: {written}\n") == {"key": text}
