"""tokenizer.json files over which libraries written in Rust panic: one line, no traceback."""

import base64
import json
import os
import shutil
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from gptft import panics
from gptft.api import (
    audit_tokenizer,
    count_tokens,
    extend_tokenizer,
    load_tokenizer,
    summarize_vocabulary,
    tokenize,
    trace_merges,
    train_tokenizer,
)  # fmt: skip
from gptft.errors import GptftError, ModelError
from gptft.panics import PanicError, is_panic, no_panic
from gptft.tokenization.encoder import (
    EngineDisagreesError,
    FastokensEngine,
    choose_engine,
    with_engine,
)
from gptft.tokenization.tokenizer import TextTokenizer
from tests.conftest import SENTENCES

TEXT = "а" * 3 + "a" * 60 + "! Мороз и солнце, день чудесный."


def charsmap(raw: bytes) -> dict[str, Any]:
    return {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(raw).decode()}


def replacing(pattern: dict[str, str]) -> dict[str, Any]:
    return {"type": "Replace", "pattern": pattern, "content": "xyz"}


def splitting(regex: str) -> dict[str, Any]:
    return {
        "type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False,
    }  # fmt: skip


def template(single: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "type": "TemplateProcessing", "single": single, "pair": [], "special_tokens": {},
    }  # fmt: skip


# What is put in the place of a part of a good tokenizer.json. All panic in tokenizers 0.23.
AT_OPENING = {
    "a character map that is none": {"normalizer": charsmap(b"junkjunkjunk")},
    "a character map too short": {"normalizer": charsmap(b"\0")},
    "no character map": {"normalizer": charsmap(b"")},
}
AT_ENCODING = {
    "a character map without states": {"normalizer": charsmap(struct.pack("<I", 0))},
    "a character map that ends early": {
        "normalizer": charsmap(struct.pack("<I", 4) + b"\0" * 64)
    },
    "an empty pattern to replace": {"normalizer": replacing({"String": ""})},
    "a pattern that matches nothing": {"normalizer": replacing({"Regex": ""})},
    "nothing to prepend": {"normalizer": {"type": "Prepend", "prepend": ""}},
    "a replacement that tries all ways": {"normalizer": replacing({"Regex": "(a+)+$"})},
    "a split that tries all ways": {"pre_tokenizer": splitting("(a+)+$")},
    "pieces of no characters": {"pre_tokenizer": {"type": "FixedLength", "length": 0}},
    "a template of the second text": {
        "post_processor": template([{"Sequence": {"id": "B", "type_id": 0}}])
    },
}  # fmt: skip
STRIP = {"type": "Strip", "content": "a", "start": 100, "stop": 100}
AT_DECODING = {
    "a strip of more than there is": {"decoder": STRIP},
    "a strip of a whole text": {
        "decoder": {"type": "Sequence", "decoders": [{"type": "Fuse"}, STRIP]}
    },
}
PANICS = AT_OPENING | AT_ENCODING | AT_DECODING

Write = Callable[[dict[str, Any]], Path]


@pytest.fixture
def write(tiny_model_dir: Path, tmp_path: Path) -> Write:
    """Writes a model folder whose tokenizer.json has other parts."""

    def written(parts: dict[str, Any]) -> Path:
        folder = tmp_path / "broken"
        shutil.copytree(tiny_model_dir, folder)
        path = folder / "tokenizer.json"
        document = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps(document | parts), encoding="utf-8")
        return folder

    return written


def cases(table: dict[str, dict[str, Any]]) -> Any:
    return pytest.mark.parametrize("parts", [*table.values()], ids=[*table])


def one_line(error: GptftError, folder: Path) -> None:
    assert len(error.problems) == 1
    assert "\n" not in str(error)
    assert "its library panicked, " in str(error)
    assert folder.name in str(error)
    assert error.exit_code == 2


def panicking(work: Callable[[], object]) -> bool:
    try:
        work()
    except BaseException as error:
        return is_panic(error)
    return False


@cases(AT_OPENING)
def test_the_library_itself_panics_at_opening(parts: dict[str, Any], write: Write):
    path = str(write(parts) / "tokenizer.json")
    assert panicking(lambda: Tokenizer.from_file(path))


@cases(AT_OPENING)
def test_what_panics_at_opening_is_no_tokenizer(parts: dict[str, Any], write: Write):
    folder = write(parts)
    with pytest.raises(ModelError, match=r"is not a tokenizer\.json") as caught:
        load_tokenizer(str(folder))
    one_line(caught.value, folder)


@cases(AT_ENCODING)
def test_the_library_itself_panics_at_encoding(parts: dict[str, Any], write: Write):
    backend = Tokenizer.from_file(str(write(parts) / "tokenizer.json"))
    assert panicking(lambda: backend.encode(TEXT, add_special_tokens=False))


def by_an_engine(tokenizer: TextTokenizer) -> None:
    with_engine(choose_engine(tokenizer), tokenizer, lambda engine: engine.encode([TEXT]))


@cases(AT_ENCODING)
@pytest.mark.parametrize(
    "use",
    [
        lambda tokenizer: tokenize(TEXT, [tokenizer]),
        by_an_engine,
        lambda tokenizer: trace_merges(tokenizer, TEXT),
    ],
    ids=["shown", "by an engine", "merge by merge"],
)
def test_what_panics_at_encoding_is_one_line(
    use: Callable[[TextTokenizer], object], parts: dict[str, Any], write: Write
):
    folder = write(parts)
    tokenizer = load_tokenizer(str(folder))
    with pytest.raises(ModelError, match="can't encode this text") as caught:
        use(tokenizer)
    one_line(caught.value, folder)


@cases(PANICS)
def test_an_audit_names_what_panics_as_a_fault(parts: dict[str, Any], write: Write):
    if "(a+)+$" in json.dumps(parts):  # right for most texts, the audit's among them
        pytest.skip("it panics over few texts")
    findings = audit_tokenizer(str(write(parts))).findings
    assert any("panicked" in one.what for one in findings if one.level == "fault")


@cases(AT_ENCODING | AT_DECODING)
def test_a_summary_of_a_vocabulary_is_one_or_one_line(parts: dict[str, Any], write: Write):
    folder = write(parts)
    tokenizer = load_tokenizer(str(folder))
    try:
        assert summarize_vocabulary(tokenizer).num_ids == tokenizer.vocab_size
    except ModelError as error:
        one_line(error, folder)


@cases(AT_ENCODING | AT_DECODING)
def test_extending_what_panics_is_one_line(parts: dict[str, Any], write: Write, tmp_path: Path):
    folder = write(parts)
    text = tmp_path / "text.txt"
    text.write_text(f"{TEXT}\n" * 20, encoding="utf-8")
    for asked in ({"tokens": [f" {'a' * 60}!", "чудесный"]}, {"learn": [str(text)], "num": 2}):
        said = problem_of(partial(extend_tokenizer, str(folder), tmp_path / "more", **asked))
        assert not said or "panicked" in said or "can't be added" in said
        assert bool(said) != (tmp_path / "more").exists()
        shutil.rmtree(tmp_path / "more", ignore_errors=True)


def problem_of(work: Callable[[], object]) -> str:
    try:
        work()
    except GptftError as error:
        return str(error)
    return ""


@cases(AT_ENCODING)
def test_counting_a_corpus_with_what_panics_is_one_line(
    parts: dict[str, Any], write: Write, tmp_path: Path
):
    folder = write(parts)
    text = tmp_path / "text.txt"
    text.write_text(f"{TEXT}\n" * 20, encoding="utf-8")
    with pytest.raises(ModelError) as caught:
        count_tokens([str(text)], load_tokenizer(str(folder)))
    assert "panicked" in str(caught.value)


@cases(AT_DECODING)
def test_measuring_beside_what_panics_at_decoding_is_one_line(
    parts: dict[str, Any], write: Write, tmp_path: Path
):
    folder = write(parts)
    text = tmp_path / "text.txt"
    text.write_text("a" * 20, encoding="utf-8")
    with pytest.raises(ModelError, match="can't decode what it encoded") as caught:
        train_tokenizer(
            [str(text)], tmp_path / "new", vocab_size=260, held_out=0, beside=[str(folder)]
        )
    one_line(caught.value, folder)


def test_an_audit_names_what_the_library_refuses_as_a_fault(write: Write):
    cut = {"direction": "Left", "max_length": 2, "strategy": "OnlySecond", "stride": 1}
    findings = audit_tokenizer(str(write({"truncation": cut}))).findings
    assert any(
        "Second sequence not provided" in one.what for one in findings if one.level == "fault"
    )


def test_an_id_that_no_model_has_is_refused_where_ids_are_counted(
    write: Write, tiny_model_dir: Path
):
    stored = json.loads((tiny_model_dir / "tokenizer.json").read_text(encoding="utf-8"))
    stored["model"]["vocab"]["zz"] = 2**32 - 1
    tokenizer = load_tokenizer(str(write({"model": stored["model"]})))
    with pytest.raises(ModelError, match=r"the id 4,294,967,295; the highest .* is 9,999,999\."):
        _ = tokenizer.vocab_size


def test_a_template_of_a_token_that_it_does_not_know_is_one_line(write: Write):
    parts = [{"SpecialToken": {"id": "Q", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    folder = write({"post_processor": template(parts)})
    with pytest.raises(ModelError, match="names the token 'Q', and doesn't say its id"):
        load_tokenizer(str(folder))


class PanicException(BaseException):
    """By its name what pyo3 raises."""


def test_a_panic_of_the_fast_engine_is_a_reason_for_the_other(
    tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
):
    engine = FastokensEngine(load_tokenizer(str(tiny_model_dir)))

    class Fast:
        def encode_batch_flat(self, *args: object) -> object:
            raise PanicException("index out of bounds")

    monkeypatch.setattr(engine, "_fast", Fast())
    with pytest.raises(EngineDisagreesError, match="panicked, index out of bounds"):
        engine.encode(SENTENCES)


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), SystemExit(3), ValueError("no"), ModelError("x")], ids=repr
)
def test_what_is_no_panic_comes_through(error: BaseException):
    with pytest.raises(type(error)) as caught, no_panic("It can't be"):
        raise error
    assert caught.value is error


def test_a_panic_says_what_was_tried_and_its_first_line():
    with pytest.raises(PanicError) as caught, no_panic("It can't be opened"):
        raise PanicException("slice index starts at 1 but ends at 0\nmore of it.")
    said = "It can't be opened: its library panicked, slice index starts at 1 but ends at 0"
    assert str(caught.value) == said
    with pytest.raises(PanicError, match="and didn't say why"), no_panic():
        raise PanicException


# Standard error: what Rust prints of a panic is kept from it, all else comes through.


@pytest.fixture
def silenced(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    monkeypatch.delenv("GPTFT_DEBUG", raising=False)
    monkeypatch.setitem(panics._switch, "is_on", True)
    return capfd


def panic(write: Write) -> None:
    with no_panic():
        Tokenizer.from_file(str(write(AT_OPENING["no character map"]) / "tokenizer.json"))


def test_what_rust_prints_is_kept_back_and_all_else_is_not(
    silenced: pytest.CaptureFixture[str], write: Write
):
    with no_panic():
        os.write(2, b"before\n")
        os.write(panics.stderr_number(), b"ours\n")
        with pytest.raises(PanicError):
            panic(write)
    os.write(2, b"after\n")
    assert silenced.readouterr().err == "ours\nbefore\nafter\n"
    assert panics.stderr_number() == 2


def test_panics_of_several_threads_are_kept_back(
    silenced: pytest.CaptureFixture[str], write: Write
):
    path = str(write(AT_ENCODING["a pattern that matches nothing"]) / "tokenizer.json")
    backend = Tokenizer.from_file(path)
    found: list[BaseException] = []

    def encode() -> None:
        for _ in range(20):
            try:
                with no_panic():
                    backend.encode_batch_fast([TEXT] * 8, add_special_tokens=False)
            except PanicError as error:
                found.append(error)

    threads = [threading.Thread(target=encode) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 80
    os.write(2, b"end\n")
    assert silenced.readouterr().err == "end\n"


# Through the command line, each in a process of its own.


def gptft(*args: str, folder: Path, **more: str) -> tuple[int, str, list[str]]:
    done = subprocess.run(
        [sys.executable, "-m", "gptft", *args],
        cwd=folder, capture_output=True, encoding="utf-8", check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "GPTFT_CACHE": str(folder / "cache"), **more},
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr.splitlines()


@pytest.mark.parametrize("backtrace", ["0", "1", "full"])
@pytest.mark.parametrize(
    "name", ["no character map", "a split that tries all ways", "an empty pattern to replace"]
)
def test_tokenize_says_it_in_one_line(name: str, backtrace: str, write: Write, tmp_path: Path):
    write(PANICS[name])
    code, out, lines = gptft(
        "tokenize", "--model", "broken", TEXT, folder=tmp_path, RUST_BACKTRACE=backtrace
    )
    assert (code, out, len(lines)) == (2, "", 1), lines
    assert "its library panicked" in lines[0]


@pytest.mark.parametrize("name", ["a split that tries all ways", "pieces of no characters"])
def test_prepare_says_it_in_one_line(name: str, write: Write, tmp_path: Path):
    write(PANICS[name])
    (tmp_path / "text.txt").write_text(f"{TEXT}\n" * 200, encoding="utf-8")
    (tmp_path / "my.yaml").write_text(
        "model: {name: broken}\ndata: {train: text.txt, block_size: 16}\n", encoding="utf-8"
    )
    code, out, lines = gptft("prepare", "my.yaml", folder=tmp_path)
    assert (code, out) == (2, "")
    assert [line for line in lines if not line.startswith("fastokens isn't used")] == lines[-1:]
    assert lines[-1].startswith("error: The tokenizer of broken can't encode this text: its lib")


@pytest.mark.parametrize(
    ("name", "can_not"),
    [
        ("a split that tries all ways", "encode this text"),
        ("a strip of a whole text", "decode a text"),
    ],
)
def test_generate_says_it_in_one_line(name: str, can_not: str, write: Write, tmp_path: Path):
    write(PANICS[name])
    is_encoding = can_not == "encode this text"
    code, out, lines = gptft(
        "generate", "broken", "-p", "a" * 40 + "!" * is_encoding, "--max-new-tokens", "3", "--cpu",
        folder=tmp_path,
    )  # fmt: skip
    assert (code, out) == (2, "")
    assert lines[-1].startswith(f"error: The tokenizer of broken can't {can_not}: its library pan")
    assert not any("thread '" in line or "RUST_BACKTRACE" in line for line in lines)


def test_a_panic_that_nobody_foresaw_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    from gptft.cli import _exit_code

    monkeypatch.delenv("GPTFT_DEBUG", raising=False)

    def work() -> None:
        raise PanicException("attempt to subtract with overflow")

    assert _exit_code(work) == 1
    assert "PanicException: attempt to subtract with overflow" in capsys.readouterr().err
