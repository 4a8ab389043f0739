"""The tutorial shows what its commands print, in both languages and as a notebook."""

import json
import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from gptft.cli.app import app
from tests.conftest import ROOT
from tests.tutorial import notebook
from tests.tutorial.compare import differences, differences_of_draws
from tests.tutorial.pages import (
    FOLDER,
    PAGES,
    Command,
    File,
    blocks,
    parts,
    pictures,
    read,
    rewrite,
    shorten,
)


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What each command prints: the notebook's cells in their order, then what is English."""
    pytest.importorskip("pty")
    from tests.tutorial.session import Session

    session = Session(tmp_path_factory.mktemp("tutorial"))
    for source in notebook.code(notebook.NOTEBOOK.read_text(encoding="utf-8")):
        if (block := notebook.block_of_cell(source)) is not None:
            session.do(block)
    for block in blocks(read(PAGES[1])):
        session.do(block)
    return session.printed


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_shows_what_its_commands_print(page: Path, printed: dict[str, str]) -> None:
    wrong = []
    for block in blocks(read(page)):
        if isinstance(block, Command):
            now = shorten(printed[block.line], block.lines)
            if block.is_drawn:
                wrong += differences_of_draws(block.line, block.shown, now)
            else:
                wrong += differences(block.shown, now)
    assert not wrong, "\n".join([*wrong, "make tutorial writes the pages anew."])


def test_the_notebook_is_made_of_the_russian_page() -> None:
    assert notebook.NOTEBOOK.read_text(encoding="utf-8") == notebook.make(), "make tutorial"


def test_the_notebook_does_what_the_page_does() -> None:
    cells = notebook.code(notebook.NOTEBOOK.read_text(encoding="utf-8"))
    assert cells[0] == notebook.INSTALL
    done = [notebook.block_of_cell(cell) for cell in cells[1:]]
    of_page = blocks(read(PAGES[0]))
    assert [block.line if isinstance(block, Command) else block for block in done] == [
        block.line if isinstance(block, Command) else block for block in of_page
    ]


def test_the_notebook_needs_no_file_beside_it() -> None:
    prose = "".join(
        "".join(cell["source"])
        for cell in json.loads(notebook.NOTEBOOK.read_text("utf-8"))["cells"]
        if cell["cell_type"] == "markdown"
    )
    links = [link for link in re.findall(r"\]\(([^)]+)\)", prose) if "://" not in link]
    assert links
    assert all(link.startswith("data:image/png;base64,") for link in links)
    assert "<!--" not in prose


def test_both_languages_do_the_same() -> None:
    russian, english = (
        [re.sub(r" --lang (ru|en)\b", "", str(block)) for block in _without_output(page)]
        for page in PAGES
    )
    assert russian == english
    headings = [re.findall(r"^#+ (\d*)", _prose(page), flags=re.MULTILINE) for page in PAGES]
    assert headings[0] == headings[1]


def _without_output(page: Path) -> list[str]:
    return [
        f"$ {block.line} | {block.lines} {block.is_drawn}" if isinstance(block, Command)
        else f"{block.name}: {block.text}"
        for block in blocks(read(page))
    ]  # fmt: skip


def _prose(page: Path) -> str:
    return "".join(part for part in parts(read(page)) if isinstance(part, str))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_is_not_run_parses(page: Path) -> None:
    """The commands for a GPU are shown and not run."""
    shown = re.findall(r"^gptft .*$", _prose(page), flags=re.MULTILINE)
    assert any("rugpt3" in line for line in shown)
    group = get_command(app)
    for line in shown:
        words = shlex.split(line, comments=True)[1:]
        context = group.make_context("gptft", list(words))
        _, found, rest = group.resolve_command(context, words)  # type: ignore[attr-defined]
        found.make_context(found.name, rest, parent=context)


@pytest.mark.parametrize("name", ["README.md", "README.ru.md", *map(str, PAGES)])
def test_nothing_to_paste_has_a_placeholder(name: str) -> None:
    """A shell reads `<this repository>` as a file to read from."""
    shown = re.findall(r"^```\w*\n(.*?)^```", read(ROOT / name), flags=re.DOTALL | re.MULTILINE)
    lines = [line for block in shown for line in block.splitlines()]
    commands = [line for line in lines if re.match(r"(\$ )?(cp|git|gptft|make|pip|python3) ", line)]
    assert len(commands) > 5
    assert not [line for line in commands if re.search(r"<[a-z][^<>]*>", line)]


def test_the_russian_page_says_which_links_are_english() -> None:
    links = re.findall(r"\]\(((?!https?:)[^)]+\.md)\)(.{0,16})", _prose(PAGES[0]))
    pages = [(name, after) for name, after in links if name != PAGES[1].name]
    assert len(pages) > 3
    for name, after in pages:
        text = read(FOLDER / name)
        is_english = len(re.findall("[a-z]", text)) > len(re.findall("[а-яё]", text))
        assert is_english == ("на английском" in after), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_model_is_made_of_is_explained(page: Path) -> None:
    """Each word in the boxes of `gptft info` and below a text of `--compare`."""
    text = read(page)
    boxes = re.findall(r"^│ │? ?([^│]+)│", text, flags=re.MULTILINE)
    found = re.findall(r"\b(MHA|rotary|silu|gated|RMSNorm|tied|logits)\b", " ".join(boxes))
    prose = _prose(page)
    assert len({*found}) == 7
    assert not [word for word in found if f"**{word}**" not in prose]
    figures = re.findall(r"(tokens a second|mean logprob|distinct|repetition|stopped by)", text)
    assert not [word for word in {*figures} if f"- {word}" not in prose]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_pictures_are_small(page: Path) -> None:
    shown = [picture.name for picture in pictures(read(page))]
    assert len(shown) >= 3
    for name in shown:
        assert 5_000 < (FOLDER / name).stat().st_size < 200_000, name


def test_all_pictures_are_shown() -> None:
    shown = {picture.name for page in PAGES for picture in pictures(read(page))}
    assert shown == {path.name for path in FOLDER.glob("*.png")}


@pytest.mark.parametrize("name", ["README.md", "README.ru.md", "docs/training.md"])
def test_it_is_linked_to(name: str) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", (ROOT / name).read_text(encoding="utf-8"))
    found = {(ROOT / name).parent.joinpath(link).resolve() for link in links}
    assert found & {*PAGES}


@pytest.mark.parametrize(
    ("page", "now", "is_same"),
    [
        ("loss 3.493", "loss 3.494", True),
        ("loss 3.493", "loss 3.593", False),
        ("p 0.003", "p 0.005", True),
        ("p 0.003", "p 0.009", False),
        ("step 12 of 40", "step 13 of 40", False),
        ("ничем 5354 99.7%", "ничем 5355 99.7%", False),
        ("like 1,269 tokens", "like 1,270 tokens", True),
        ("like 1,269 tokens", "like 2,269 tokens", False),
        ("· 99.7%  ███", "· 99.6%  ██▌", True),
        ("less -0.000", "less +0.001", True),
        ("less -0.100", "less +0.100", False),
        ("·том  <0.01%  99.9%", "·том  0.01%  >99.9%", True),
        ("distinct-1 0.42", "distinct-2 0.42", False),
        ("in 25.0 s.", "in 3.1 s.", True),
        ("тебе другим", "тебе другом", False),
        ("one line", "one\nline", True),
        ("1 2", "1 2 3", False),
    ],
)
def test_what_counts_as_a_difference(page: str, now: str, is_same: bool) -> None:
    assert (not list(differences(page, now))) is is_same


@pytest.mark.parametrize(
    ("now", "is_same"),
    [
        ("pico, temperature: seed 1\nМороз трещит за окном\n", True),
        ("pico, temperature: seed 2\nМороз трещит за окном\n", False),
        ("pico, temperature: seed 1\nЖара стоит над полем\n", False),
        ("pico, temperature: seed 1\nМороз" + " и солнце" * 20, False),
    ],
)
def test_what_counts_as_another_draw(now: str, is_same: bool) -> None:
    shown = "pico, temperature: seed 1\nМороз и иней на стекле\n"
    found = list(differences_of_draws('gptft generate pico -p "Мороз"', shown, now))
    assert (not found) is is_same


@pytest.mark.parametrize(
    ("lines", "shown"),
    [
        ("", "a\nb\nc\nd\n"),
        ("1-2", "a\nb\n...\n"),
        ("2 -1", "...\nb\n...\nd\n"),
        ("-2-", "...\nc\nd\n"),
        ("1-4", "a\nb\nc\nd\n"),
    ],
)
def test_a_long_output_is_shortened(lines: str, shown: str) -> None:
    assert shorten("a\nb\nc\nd\n", lines) == shown


@pytest.mark.parametrize("lines", ["5", "0", "3-2", "x", "-5"])
def test_lines_that_are_not_there_are_an_error(lines: str) -> None:
    with pytest.raises(ValueError, match="lines"):
        shorten("a\nb\nc\nd\n", lines)


def test_a_page_is_written_anew_but_for_its_prose() -> None:
    page = (
        "Prose.\n\n<!-- file: a.txt -->\n```text\nfirst\n```\n\n"
        "<!-- lines: 1 -->\n```console\n$ cat a.txt\nold\n```\n\n```\ngptft runs\n```\n"
    )
    done: list[Command | File] = []

    def run(block: Command | File) -> str:
        done.append(block)
        return "" if isinstance(block, File) else "new\nmore\n"

    assert rewrite(page, run) == page.replace("old\n", "new\n...\n")
    assert done == [File("a.txt", "first\n"), Command("cat a.txt", "old\n", "1")]
