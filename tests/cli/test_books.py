"""Books and pages through the commands: the ledger names what was left out, all read them alike."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gptft.cli.app import app
from gptft.errors import GptftError
from tests.documents.books import write_epub, write_fb2

CHAPTER = "<section><title><p>Глава {0}</p></title><p>Буря мглою небо кроет. {0}</p></section>"
TEXT = "Глава 1\n\nБуря мглою небо кроет. 1\n\nГлава 2\n\nБуря мглою небо кроет. 2"


def run(*words: str | Path) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, [*map(str, words)])
    return done.exit_code, done.stdout, done.stderr


@pytest.fixture
def book(in_tmp: Path) -> Path:
    body = CHAPTER.format(1) + CHAPTER.format(2) + '<section><image l:href="#i"/></section>'
    notes = '<body name="notes"><section><p>Сноска</p></section></body>'
    write_fb2(Path("book.fb2"), body, more=notes, encoding="windows-1251")
    return Path("book.fb2")


def test_prepare_shows_the_text_and_what_was_left_out(book: Path, tiny_model_dir: Path):
    model = f"model.name={tiny_model_dir}"
    code, out, err = run("prepare", book, "--set", model, "--preview", "1")
    assert (code, err) == (0, "")
    assert "1 file, 2 documents: " in out
    assert "1 file not in UTF-8, decoded (book.fb2 from cp1251)." in out
    said = "1 file of which only the text is read (book.fb2 [left out: images 1, notes 1])."
    assert said in " ".join(out.split())
    assert "Глава 1" in out
    assert "<p>" not in out
    assert "Сноска" not in out
    code, out, _ = run("prepare", book, "--set", model, "--json")
    answer = json.loads(out)
    assert (answer["cached"], answer["documents"], answer["book_files"]) == (True, 2, 1)
    assert answer["bytes"] == len(TEXT.encode()) - 2  # of the blank line between the documents
    assert answer["left_out"] == {"images": 1, "notes": 1}


def test_of_several_what_was_left_out_is_summed(book: Path, tiny_model_dir: Path):
    Path("a.html").write_text("<p>Текст<img src=a><script>x</script>", encoding="utf-8")
    write_epub(Path("b.epub"), {"a.xhtml": "<p>Текст</p>"})
    code, out, _ = run("prepare", ".", "--set", f"model.name={tiny_model_dir}")
    assert code == 0
    said = " ".join(out.split())
    assert "b.epub [left out: nothing]" in said
    assert "Left out of them: images 2, notes 1, scripts 1." in said


def test_a_store_that_was_made_of_the_tags_isnt_used(book: Path, tiny_model_dir: Path):
    import gptft.documents.formats.registry as registry
    from gptft.documents.formats import plain_text

    words = ("prepare", book, "--set", f"model.name={tiny_model_dir}", "--json")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry._BY_SUFFIX, ".fb2", plain_text.FORMAT)
        before = json.loads(run(*words)[1])
    after = json.loads(run(*words)[1])
    assert (before["documents"], after["documents"]) == (1, 2)
    assert (after["cached"], after["book_files"]) == (False, 1)


def test_a_shard_says_what_the_whole_does(book: Path, tiny_model_dir: Path):
    words = ("prepare", book, "--set", f"model.name={tiny_model_dir}")
    for shard in ("1/2", "2/2"):
        assert run(*words, "--shard", shard)[0] == 0
    answer = json.loads(run(*words, "--merge", "--json")[1])
    assert answer["left_out"] == {"images": 1, "notes": 1}


@pytest.mark.parametrize(
    "command", ["prepare", "config check", "tokenize --file", "eval MODEL --data"]
)
def test_a_broken_book_is_one_line(in_tmp: Path, tiny_model_dir: Path, command: str):
    Path("a.fb2").write_text("<FictionBook>\n<p>a</FictionBook>", encoding="utf-8")
    words = command.replace("MODEL", str(tiny_model_dir)).split()
    done = CliRunner().invoke(app, [*words, "a.fb2"])
    assert isinstance(done.exception, GptftError)
    assert done.exception.exit_code == 2
    assert "a.fb2:2: not well-formed XML (column " in str(done.exception)
    assert "\n" not in str(done.exception)


def test_config_check_counts_the_chapters(book: Path, tiny_model_dir: Path):
    words = ("--set", f"model.name={tiny_model_dir}", "--set", "data.validation=0.5")
    code, out, err = run("config", "check", book, *words)
    assert (code, err) == (0, "")
    assert "Documents to train on: 1, to validate on: 1." in out


def test_tokenize_and_score_read_what_is_trained_on(book: Path, tiny_model_dir: Path):
    code, out, _ = run("tokenize", "--file", book, "--model", tiny_model_dir, "--json")
    assert code == 0
    raw = b"".join(bytes.fromhex(token["bytes"]) for token in json.loads(out)["tokens"])
    assert raw.decode() == TEXT
    code, out, _ = run("score", tiny_model_dir, "--file", book, "--json")
    assert code == 0
    raw = b"".join(bytes.fromhex(token["bytes"]) for token in json.loads(out)["tokens"])
    assert raw.decode() == TEXT


def test_eval_takes_each_chapter_as_a_document(book: Path, tiny_model_dir: Path):
    code, out, _ = run("eval", tiny_model_dir, "--data", book)
    assert code == 0
    assert "# 2 documents of 1 source" in out
    assert "book.fb2, document 2" in out
