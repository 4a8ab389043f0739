"""What a file can be besides a file: a FIFO, a device, one without an end, one too large."""

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from gptft.config.sections import ModelConfig
from gptft.config.source import read_yaml
from gptft.decoding.prompts.gather import gather_prompts
from gptft.decoding.strategies.grammar import read_grammar
from gptft.decoding.strategies.json_schema import read_schema
from gptft.errors import GptftError
from gptft.files import read_json_lines, read_json_value, read_tail
from gptft.inputs import expand_user, near_names, parse_json, read_input
from gptft.inspection.model_facts import model_facts
from gptft.models.check import model_problems
from gptft.models.load import load_for_inference, load_for_training
from gptft.runs.checkpoints import all_damage
from gptft.runs.read import read_run
from gptft.runs.verify import model_problem
from gptft.text.encoding import read_text
from gptft.tokenization.extension import read_tokens

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs FIFOs and devices")


@pytest.fixture(params=["fifo", "zero", "full", "tty", "sparse"])
def endless(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A path that can be opened, and whose reading would not end or would fill the memory."""
    path = tmp_path / "endless"
    if request.param == "fifo":
        os.mkfifo(path)
    elif request.param == "sparse":
        with path.open("wb") as file:
            file.truncate(2**40)
    elif request.param == "tty":
        controller, terminal = os.openpty()
        path.symlink_to(os.ttyname(terminal))
        yield path
        os.close(controller)
        os.close(terminal)
        return
    else:
        path.symlink_to(f"/dev/{request.param}")
    yield path


READERS = {
    "config": read_yaml,
    "prompts": lambda path: gather_prompts([], path),
    "grammar": lambda path: read_grammar(str(path)),
    "schema": lambda path: read_schema(str(path)),
    "text": read_text,
    "tokens": read_tokens,
}


@pytest.mark.parametrize("reader", READERS)
def test_what_a_person_names_is_refused_at_once(endless: Path, reader: str) -> None:
    begun = time.monotonic()
    with pytest.raises(GptftError) as caught:
        READERS[reader](endless)
    assert time.monotonic() - begun < 5
    message = str(caught.value)
    assert "\n" not in message
    assert str(endless) in message
    assert any(word in message for word in ("FIFO", "device", "more than"))


def test_what_a_folder_holds_is_refused_at_once(endless: Path, tmp_path: Path) -> None:
    assert read_tail(endless) in (b"", b"\0" * 65_536)  # of a sparse file it is the end
    for read in (read_json_value, read_json_lines):
        with pytest.raises(OSError, match=r"FIFO|device|more than"):
            read(endless)
    checkpoint = tmp_path / "checkpoint-1"
    checkpoint.mkdir()
    endless.rename(checkpoint / "MANIFEST.json")
    assert [*all_damage(checkpoint)] == ["MANIFEST.json can't be read"]
    (checkpoint / "MANIFEST.json").rename(tmp_path / "metrics.jsonl")
    (tmp_path / "run.json").write_text('{"config": {}}', encoding="utf-8")
    with pytest.raises(GptftError, match=r"metrics.jsonl can't be read: it (is|has)"):
        read_run(tmp_path)


def test_weights_that_are_a_fifo_are_said(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}", encoding="utf-8")
    os.mkfifo(model / "model.safetensors")
    problem = model_problem(tmp_path, {})
    assert problem is not None
    assert "FIFO" in problem


@pytest.mark.parametrize("name", ["model.safetensors", "model-00002-of-00002.safetensors"])
def test_a_model_isnt_waited_for(
    endless: Path, tiny_model_dir: Path, tmp_path: Path, name: str
) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_model_dir, model)
    (model / name).unlink(missing_ok=True)
    endless.rename(model / name)
    begun = time.monotonic()
    for load in (
        lambda: load_for_inference(str(model), device=torch.device("cpu")),
        lambda: load_for_training(str(model)),
        lambda: model_facts(str(model)),
    ):
        with suppress(GptftError):  # what isn't the model's file may be left alone
            load()
    problems = model_problems(ModelConfig(name=str(model)), masks_documents=False)
    assert time.monotonic() - begun < 5
    assert not problems or name in str(problems)


def test_a_pipe_that_something_writes_to_is_read(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_text, args=("Мороз",), kwargs={"encoding": "utf-8"})
    writer.start()
    content = None
    while content is None:  # until the writer has opened it
        try:
            content = read_text(path)
        except GptftError:
            time.sleep(0.01)
    writer.join()
    assert content == "Мороз"


def test_a_pipe_of_the_shell_is_read() -> None:
    script = "import sys\nfrom gptft.config.source import read_yaml\nfrom pathlib import Path\n"
    script += "print(read_yaml(Path(sys.argv[1])).values)"
    command = f"{sys.executable} -c '{script}' <(echo 'a: 1')"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout == "{'a': 1}\n"


def test_a_text_of_a_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import gzip

    monkeypatch.setattr("gptft.text.encoding._MAX_TEXT", 1_000_000)
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(b"a" * 50_000_000))
    assert path.stat().st_size < 60_000
    with pytest.raises(GptftError, match=r"has more than 1,000,000 bytes of text"):
        read_text(path)


def test_as_much_as_is_allowed_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"12345")
    assert read_input(path, at_most=5) == b"12345"
    with pytest.raises(OSError, match="more than 4 bytes"):
        read_input(path, at_most=4)


def test_a_user_that_is_not_there_is_said() -> None:
    assert expand_user("~") == Path.home()
    with pytest.raises(OSError, match="there is no such user"):
        expand_user("~nobody-of-this-name/a")


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 100_000, "1" * 5_000, b"\xff", "", "{,}"]
)
def test_what_is_no_json_is_one_kind_of_error(text: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_json(text)


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("poem.tx", " Did you mean DIR/poem.txt?"),
        ("poem", " Did you mean DIR/poem.txt?"),
        ("POEM.TXT", " Did you mean DIR/poem.txt?"),
        ("my.yml", " Did you mean DIR/my.yaml?"),
        ("стих.txt", " Did you mean DIR/стихи?"),
        ("стехи/зима.txt", " Did you mean DIR/стихи?"),
        ("nothing-like-it", ""),
        (".poem.tx", " Did you mean DIR/poem.txt?"),
        ("poem.txt/under/a/file", " Did you mean DIR/poem.txt?"),
        ("a\0b", ""),
        ("x" * 5000, ""),
    ],
)
def test_names_near_one_that_is_not_there(tmp_path: Path, asked: str, meant: str) -> None:
    for name in ("poem.txt", "my.yaml", ".poem.txz"):
        (tmp_path / name).touch()
    (tmp_path / "стихи").mkdir()
    assert near_names(tmp_path / asked) == meant.replace("DIR", str(tmp_path))


def test_a_name_that_lacks_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("runs/poem").mkdir(parents=True)
    assert near_names("poem", within=("runs",)) == " Did you mean runs/poem?"
    assert near_names("poem") == ""


def test_near_names_where_nothing_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert near_names("poem.tx") == ""
