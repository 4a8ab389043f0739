"""`gptft novelty` as a person runs it."""

import io
import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner, Result

from gptft import console
from gptft.cli.novelty import novelty
from gptft.config.sections import Config
from gptft.data.plan import plan_packing
from gptft.data.prepare import prepare_blocks
from gptft.errors import ConfigError, DataError, RunError
from gptft.files import write_json
from gptft.training.train import train_model
from tests.analysis.test_memorization import PLANTED, verse

PROMPTS = ["Буря", "Выпьем с горя;"]
SAID = [" завоет", " где же кружка? 42 раза"]  # what the run's model is made to say

Invoke = Callable[..., Result]


def speak(model: Any, tokenizer: Any, prompts: Sequence[str]) -> list[str]:
    return SAID


def no_recital(*given: Any) -> list[str]:
    return []


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path) -> Path:
    """A folder with `texts/` and `run/`, trained on them for one step; its cache beside them."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "texts").mkdir()
    for number in range(10):
        text = verse(number, 12) + PLANTED + "\n"
        (folder / "texts" / f"{number}.txt").write_text(text, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GPTFT_CACHE", str(folder / "cache"))
        config = Config.model_validate(
            {
                "model": {"name": str(tiny_model_dir)},
                "data": {
                    "train": [str(folder / "texts")],
                    "block_size": 32,
                    "validation": [str(folder / "texts" / "9.txt")],
                },
                "samples": {"prompts": PROMPTS},
                "training": {"max_steps": 1, "save_strategy": "no", "use_cpu": True},
            }
        )
        train_model(
            config,
            store_dir=prepare_blocks(plan_packing(config)).path,
            run_dir=folder / "run",
            sampler=speak,
            reciter=no_recital,
            console=Console(quiet=True),
        )
    return folder


@pytest.fixture
def run_dir(trained: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GPTFT_CACHE", str(trained / "cache"))
    return trained / "run"


@pytest.fixture
def invoke(run_dir: Path) -> Invoke:
    def run(*args: str, stdin: str | bytes | None = None, run: Path = run_dir) -> Result:
        app = typer.Typer()
        app.command()(novelty)
        return CliRunner().invoke(app, [str(run), *args], input=stdin)

    return run


def error_of(result: Result, kind: type[Exception] = ConfigError) -> str:
    assert isinstance(result.exception, kind), result.output
    assert result.stdout == ""
    return str(result.exception)


class TestOutput:
    def test_the_runs_last_samples_are_looked_at(self, invoke: Invoke, trained: Path):
        result = invoke()
        assert result.exit_code == 0, result.output
        assert "the run's own samples after step 1." in result.stderr
        lines = result.stdout.splitlines()
        assert lines[0].startswith("text 1 after «Буря»: ")
        assert lines[5].startswith("text 2 after «Выпьем с горя;»: ")
        count = lines[5].split(": ")[1]
        assert lines[6] == f"  longest copy: {count}, 23 characters: « где же кружка? 42 раза»"
        assert lines[7] == (
            f"  it stands in: {trained / 'texts' / '0.txt'}:13, the first of 9 places"
        )
        assert lines[8] == "  found there:  4-grams 100%, 8-grams 100%, 16-grams 100%"
        assert lines[10].startswith(f"2 texts: longest copy {count} (median ")
        assert lines[11].startswith("held-out text: longest copy ")

    def test_what_a_run_without_prompts_recited_is_looked_at(self, invoke: Invoke, run_dir: Path):
        place = run_dir.parent / "recites"
        shutil.copytree(run_dir, place, dirs_exist_ok=True)
        (place / "samples.jsonl").unlink()
        facts = json.loads((place / "run.json").read_text(encoding="utf-8"))
        facts["config"]["samples"]["prompts"], facts["result"]["samples"] = [], []
        recited = {"prompt": PROMPTS[1], "num_lines": 1, "lines_before": 0, "lines_after": 1}
        text = {**recited, "before": "", "after": SAID[1]}
        facts["result"]["recital"] = {"texts": [text]}
        write_json(place / "run.json", facts)
        answer = json.loads(invoke("--json", run=place).stdout)
        [found] = answer["texts"]
        assert (found["prompt"], found["continuation"]) == (PROMPTS[1], SAID[1])
        # A line that is recited is copied whole.
        assert found["longest"]["num_tokens"] == found["num_tokens"]

    def test_json_has_every_figure(self, invoke: Invoke, run_dir: Path, trained: Path):
        answer = json.loads(invoke("--json").stdout)
        assert answer["run_dir"] == str(run_dir)
        text = answer["texts"][1]
        assert (text["prompt"], text["continuation"]) == (PROMPTS[1], SAID[1])
        assert text["longest"]["num_tokens"] == text["num_tokens"]
        assert text["longest"]["text"] == SAID[1]
        assert text["longest"]["num_characters"] == 23
        assert text["longest"]["file"] == str(trained / "texts" / "0.txt")
        assert (text["longest"]["line"], text["longest"]["document"]) == (13, None)
        assert text["longest"]["num_places"] == 9
        assert text["shares"] == {"4": 1.0, "8": 1.0, "16": 1.0}
        assert answer["all"]["num_texts"] == 2
        assert set(answer["held_out"]["shares"]) == {"4", "8", "16"}
        assert answer["why_no_files"] is None

    def test_a_page_of_it(self, invoke: Invoke, trained: Path, tmp_path: Path):
        page = tmp_path / "page.html"
        result = invoke("--html", str(page), "--lang", "en")
        assert result.exit_code == 0, result.output
        assert f"Written: {page}\n" in result.stderr
        content = page.read_text(encoding="utf-8")
        assert '<mark class="longest"> где же кружка? 42 раза</mark>' in content
        assert f"It stands in {trained / 'texts' / '0.txt'}:13, the first of 9 places." in content
        texts = tmp_path / "texts.txt"
        texts.write_text("Буря", encoding="utf-8")
        refused = invoke("--file", str(texts), "--html", str(texts))
        assert "it is read by this very command" in error_of(refused)

    @pytest.mark.parametrize("width", [30, 60])
    def test_a_narrow_terminal(self, invoke: Invoke, monkeypatch: pytest.MonkeyPatch, width: int):
        screen = io.StringIO()
        terminal = Console(
            file=screen, force_terminal=True, width=width, color_system=None, highlight=False
        )
        monkeypatch.setattr(console, "stdout", lambda: terminal)
        assert invoke().exit_code == 0
        shown = screen.getvalue()
        assert max(map(len, shown.splitlines())) <= width
        assert "« где же кружка? 42 раза»" in " ".join(shown.split())

    def test_control_characters_are_shown(self, invoke: Invoke):
        rows = json.dumps([{"prompt": "\x1b[2J", "continuation": "\nкруж\x07"}])
        result = invoke("--file", "-", stdin=rows)
        assert r"after «\x1b[2J»" in result.stdout
        assert "\x1b" not in result.stdout
        assert "\x07" not in result.stdout

    def test_nothing_copied(self, invoke: Invoke):
        result = invoke("--file", "-", stdin='[{"continuation": ""}]')
        assert result.stdout.splitlines()[:2] == ["text 1: 0 tokens", "  longest copy: none"]
        assert "4-grams -" in result.stdout

    def test_without_held_out_text_it_says_what_is_missing(
        self, invoke: Invoke, tmp_path: Path, tiny_model_dir: Path
    ):
        from tests.analysis.test_memorization import MadeRun

        made = MadeRun(tmp_path, tiny_model_dir)
        made.write("a.txt", verse(1, 9))
        result = invoke("--file", "-", stdin="Буря", run=made.make())
        assert result.exit_code == 0, result.output
        assert "held no text out" in result.stderr
        assert "held-out" not in result.stdout


class TestTexts:
    def texts(self, result: Result) -> list[tuple[str, str]]:
        assert result.exit_code == 0, result.output
        return [(t["prompt"], t["continuation"]) for t in json.loads(result.stdout)["texts"]]

    def test_what_generate_prints(self, invoke: Invoke, tmp_path: Path):
        rows = [
            {"prompt": "Буря", "text": "Буря мглою", "continuation": " мглою", "seed": 1},
            {"prompt": "Буря", "text": "Буря небо"},
            {"text": "небо кроет"},
            "вихри",
        ]
        expected = [("Буря", " мглою"), ("Буря", " небо"), ("", "небо кроет"), ("", "вихри")]
        content = json.dumps(rows, ensure_ascii=False, indent=2)
        assert self.texts(invoke("--json", "--file", "-", stdin=content)) == expected
        path = tmp_path / "texts.json"
        path.write_text(content, encoding="utf-8-sig")
        assert self.texts(invoke("--json", "-f", str(path))) == expected

    def test_json_lines_and_several_files(self, invoke: Invoke, run_dir: Path, tmp_path: Path):
        poem = tmp_path / "poem.txt"
        poem.write_text("[Отрывок]\nБуря\n", encoding="utf-8")
        lines = str(run_dir / "samples.jsonl")  # before and after training
        both = [*zip(PROMPTS, SAID, strict=True)] * 2
        expected = [*both, ("", "[Отрывок]\nБуря\n")]
        assert self.texts(invoke("--json", "-f", lines, "-f", str(poem))) == expected
        one = '\n{"prompt": "", "continuation": "дитя"}\n\n'
        assert self.texts(invoke("--json", "-f", "-", stdin=one)) == [("", "дитя")]

    def test_half_a_surrogate_pair_is_no_crash(self, invoke: Invoke):
        rows = '[{"prompt": "\\ud83d", "continuation": "дитя\\udc00"}]'
        assert self.texts(invoke("--json", "-f", "-", stdin=rows)) == [("?", "дитя?")]

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            ('[{"continuation": "a"}', "Standard input is not readable as JSON"),
            ('{"text": "a"}\n{"text": b}\n', "Standard input:2 is not readable as JSON"),
            ('[{"prompt": "a"}]', "text 1: no text in it"),
            ('["a", {"text": 5}]', "text 2: no text in it"),
            ('["a", 7]', "text 2: no text in it"),
            ('[{"continuation": "a", "prompt": [1]}]', "text 1: no text in it"),
            ("[]", "holds an empty list"),
            (" \n", "holds no text"),
            ("", "holds no text"),
            ('["a",' + "[" * 100_000, "JSON"),
        ],
    )
    def test_bad_ones_are_errors(self, invoke: Invoke, content: str | bytes, words: str):
        assert words in error_of(invoke("--file", "-", stdin=content))

    @pytest.mark.parametrize("codec", ["cp1251", "utf-16", "utf-8-sig"])
    @pytest.mark.parametrize("piped", [False, True], ids=["file", "stdin"])
    def test_any_encoding_is_read(self, invoke: Invoke, tmp_path: Path, codec: str, piped: bool):
        path, raw = tmp_path / "a.txt", "Буря мглою небо кроет".encode(codec)
        path.write_bytes(raw)
        result = invoke("--json", "--file", "-" if piped else str(path), stdin=raw)
        assert self.texts(result) == [("", "Буря мглою небо кроет")]

    def test_bytes_that_are_no_text_are_errors(self, invoke: Invoke):
        message = error_of(invoke("--file", "-", stdin=b"\xff\xfe\0"), DataError)
        assert message.startswith("Standard input is not utf-16 to its end: byte 0x00 at offset 2")

    def test_bad_files_are_errors(self, invoke: Invoke, tmp_path: Path):
        missing = str(tmp_path / "none.json")
        assert (
            error_of(invoke("-f", missing), DataError)
            == f"{missing} can't be read: No such file or directory."
        )
        path = tmp_path / "a.jsonl"
        path.write_text("Буря", encoding="utf-8")
        assert "a.jsonl is not readable as JSON" in error_of(invoke("-f", str(path)))


class TestRuns:
    def test_no_samples_says_how_to_get_some(self, invoke: Invoke, run_dir: Path, tmp_path: Path):
        bare = tmp_path / "bare"
        shutil.copytree(run_dir, bare)
        (bare / "samples.jsonl").unlink()
        facts = json.loads((bare / "run.json").read_text(encoding="utf-8"))
        del facts["result"]["samples"]
        (bare / "run.json").write_text(json.dumps(facts), encoding="utf-8")
        message = error_of(invoke(run=bare))
        assert f'gptft generate {bare} -p "..." --json | gptft novelty {bare} --file -' in message
        assert invoke("--file", "-", stdin="Буря", run=bare).exit_code == 0

    def test_a_model_that_is_no_run(
        self, invoke: Invoke, run_dir: Path, tiny_model_dir: Path, tmp_path: Path
    ):
        assert "is not a run folder: there is no run.json" in error_of(invoke(run=tiny_model_dir))
        assert "none: no such folder" in error_of(invoke(run=tmp_path / "none"))
        assert error_of(invoke(run=run_dir / "model")).endswith(f"gptft novelty {run_dir}")

    def test_changed_and_missing_texts(
        self, invoke: Invoke, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        texts, aside = trained / "texts", trained / "aside"
        os.rename(texts, aside)
        try:
            result = invoke()
            assert result.exit_code == 0, result.output
            assert "The training files can't be read again" in result.stderr
            assert "it stands in: block " in result.stdout
            monkeypatch.setenv("GPTFT_CACHE", str(tmp_path / "empty"))
            message = error_of(invoke("-f", "-", stdin="Буря"), RunError)
            assert "its texts can't be read again" in message
            assert "no such file or folder" in message
            shutil.copytree(aside, texts)
            (texts / "3.txt").write_text("Другой текст", encoding="utf-8")
            message = error_of(invoke("-f", "-", stdin="Буря"), RunError)
            assert "have changed since the run" in message
        finally:
            shutil.rmtree(texts, ignore_errors=True)
            os.rename(aside, texts)
        again = invoke("-f", "-", stdin="Буря")  # the texts are back: the blocks are made again
        assert again.exit_code == 0, again.output
        assert "made again" in again.stderr
