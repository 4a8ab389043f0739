"""What `config check` calls right, `prepare` can pack, or it is said what is open."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from gptft import api
from gptft.api import check_texts
from gptft.errors import ConfigError, GptftError
from tests.conftest import SENTENCES

LIMIT = 3_000  # bytes in place of megabytes
SHORT, LONG = "Буря мглою.", " ".join(SENTENCES)


@pytest.fixture(autouse=True)
def limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPTFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(check_texts, "_PACKED", 100)
    monkeypatch.setattr(check_texts, "_THROUGH", LIMIT)
    monkeypatch.setattr("gptft.documents.first_look._READ_THROUGH", LIMIT)


def lines(*texts: str) -> bytes:
    return "".join(json.dumps({"text": one}, ensure_ascii=False) + "\n" for one in texts).encode()


def chats(*pairs: tuple[str, str]) -> bytes:
    made = [
        {"messages": [{"role": role, "content": said}, {"role": "assistant", "content": said}]}
        for role, said in pairs
    ]
    return "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in made).encode()


def check(**data: Any) -> tuple[str, ...]:
    """The notices on texts of a config that is right."""
    config = Path("my.yaml")
    config.write_text(json.dumps({"data": {"block_size": 32, **data}}), encoding="utf-8")
    return tuple(said for said in api.check_config(config).notices if "Not checked" in said)


def prepare_problem() -> str:
    with pytest.raises(GptftError) as caught:
        api.prepare(api.read_config(Path("my.yaml")).checked())
    return str(caught.value)


REFUSE = {"packing": "best_fit", "long_documents": "refuse"}


@pytest.mark.parametrize(
    ("name", "raw", "data", "said"),
    [
        ("a.jsonl", lines(*[SHORT] * 20, LONG), REFUSE, "1 document longer than a block of 32"),
        ("a.txt", f"{SHORT}\n%%\n{LONG}".encode(), {**REFUSE, "document_separator": "%%"},
         "the longest is a.txt, document 2"),
        ("a.txt", LONG.encode("cp1251"), {**REFUSE, "encoding": "cp1251"}, "1 document longer"),
        ("a.jsonl", chats(*[("user", SHORT)] * 9, ("user", LONG)), {"long_documents": "refuse"},
         "1 document longer than a block of 32"),
        ("a.jsonl", chats(*[("user", SHORT)] * 9, ("tool", SHORT)), {"chat_template": "mistral"},
         "record 10: .*no role tool"),
        ("a.jsonl", lines(*[SHORT] * 20), {"tail": "drop", "validation": 0.05, "block_size": 64},
         "The validation split holds .* tokens, fewer than one block of 64"),
    ],
)  # fmt: skip
def test_of_some_megabytes_it_finds_what_preparing_finds(
    name: str, raw: bytes, data: dict[str, Any], said: str
) -> None:
    Path(name).write_bytes(raw)
    assert 100 < len(raw) <= LIMIT
    with pytest.raises(ConfigError, match=said) as caught:
        check(train=name, **data)
    assert prepare_problem() in str(caught.value)


def test_what_is_right_is_prepared_then(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("a.jsonl").write_bytes(chats(*[("user", SHORT)] * 20))
    assert check(train="a.jsonl", long_documents="refuse", block_size=128) == ()
    monkeypatch.setattr("gptft.data.encoded_conversations.encoded_batches", None)
    assert api.prepare(api.read_config(Path("my.yaml")).checked()).prepared.cached


MANY = [SHORT] * 150


@pytest.mark.parametrize(
    ("raw", "data", "said"),
    [
        (lines(*[SHORT] * 9, LONG, *MANY), REFUSE, "a.jsonl, document 10, of"),
        (lines(*[SHORT] * 9, LONG, LONG, *MANY), REFUSE, "2 documents longer than a block of 32"),
        (lines(LONG * 30), REFUSE, "1 document longer than a block of 32"),
        (chats(*[("user", SHORT)] * 9, ("user", LONG), *[("user", SHORT)] * 50),
         {"long_documents": "refuse"}, "a.jsonl, document 10, of"),
        (chats(*[("user", SHORT)] * 9, ("tool", SHORT), *[("user", SHORT)] * 50),
         {"chat_template": "mistral"}, "record 10: .*no role tool"),
    ],
)  # fmt: skip
def test_of_more_it_finds_what_is_in_the_beginning(
    raw: bytes, data: dict[str, Any], said: str
) -> None:
    Path("a.jsonl").write_bytes(raw)
    assert len(raw) > LIMIT
    with pytest.raises(ConfigError, match=said):
        check(train="a.jsonl", **data)
    assert re.search(said, prepare_problem())


@pytest.mark.parametrize(
    ("raw", "data", "said"),
    [
        (lines(*MANY, LONG), REFUSE,
         "but the first 0.0 MB: whether a document is longer than a block. gptft prepare shows"),
        (chats(*[("user", SHORT)] * 300, ("tool", LONG)), {"chat_template": "mistral"},
         "whether the chat template can write every conversation"),
        (lines(*MANY), {"tail": "drop", "validation": 0.01}, "whether each split fills a block"),
        (lines(*MANY, LONG).decode().encode("cp1251"), REFUSE, "Not checked of 0.0 MB: whether a"),
    ],
)  # fmt: skip
def test_of_the_rest_it_says_what_is_open(raw: bytes, data: dict[str, Any], said: str) -> None:
    Path("a.jsonl").write_bytes(raw)
    assert len(raw) > LIMIT
    (notice,) = check(train="a.jsonl", **data)
    assert said in notice
    assert prepare_problem()


def test_nothing_is_open_of_blocks_that_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("a.jsonl").write_bytes(chats(*[("user", SHORT)] * 60))
    assert len(check(train="a.jsonl", long_documents="refuse", block_size=128)) == 1
    monkeypatch.setattr("gptft.documents.scan._SETTLED_NS", -(10**12))  # as if it were old
    api.prepare(api.read_config(Path("my.yaml")).checked())
    monkeypatch.setattr("gptft.data.trial.try_texts", None)
    assert check(train="a.jsonl", long_documents="refuse", block_size=128) == ()


def test_what_a_weight_may_leave_out_is_not_refused() -> None:
    Path("a.jsonl").write_bytes(lines(LONG, *MANY))
    Path("b.jsonl").write_bytes(lines(*MANY))
    train = [{"path": "a.jsonl", "weight": 0.01}, "b.jsonl"]
    assert len(check(train=train, **REFUSE)) == 1
    assert len(check(train=["b.jsonl"], tail="keep")) == 0
