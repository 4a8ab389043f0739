"""Records of conversations -> their messages, by TRL's names and ShareGPT's; what is refused."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gptft.config.data import DataConfig
from gptft.documents.conversations import Conversation, Message, RecordConversation
from gptft.documents.read import read_conversations
from gptft.documents.record_format import find_format
from gptft.documents.scan import scan_texts
from gptft.documents.sources import find_texts
from gptft.errors import DataError

CHAT = [Message("user", "Кто?"), Message("assistant", "Пушкин.")]
AS_MESSAGES = [{"role": "user", "content": "Кто?"}, {"role": "assistant", "content": "Пушкин."}]
AS_SHARED = [{"from": "human", "value": "Кто?"}, {"from": "gpt", "value": "Пушкин."}]
IN_PARTS = [
    {"role": "user", "content": [{"type": "text", "text": "К"}, {"type": "text", "text": "то?"}]},
    AS_MESSAGES[1],
]


def _read(folder: Path, name: str, content: str | bytes, **settings: Any) -> list[Conversation]:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    data = DataConfig.model_validate({"train": str(path), **settings})
    found = find_texts(data)
    data = data.model_copy(update={"format": find_format(found, data).format})
    (text,) = scan_texts(found.texts, data, cache_dir=folder / "cache")
    return [*read_conversations(text, data)]


@pytest.mark.parametrize("messages", [AS_MESSAGES, AS_SHARED, IN_PARTS])
@pytest.mark.parametrize("field", ["messages", "conversations", "conversation"])
def test_messages_are_read_by_every_name(
    tmp_path: Path, messages: list[dict[str, Any]], field: str
) -> None:
    record = json.dumps({"id": 1, field: messages}, ensure_ascii=False)
    assert _read(tmp_path, "chats.jsonl", record) == [Conversation(tuple(CHAT))]
    assert _read(tmp_path, "chats.json", f"[{record}]") == [Conversation(tuple(CHAT))]
    assert _read(tmp_path, "in.json", f'{{"data": [{record}]}}')[0].messages == tuple(CHAT)


def test_messages_in_parquet_and_arrow(tmp_path: Path) -> None:
    table = pa.table({"messages": [AS_MESSAGES, AS_MESSAGES], "score": [1, 2]})
    pq.write_table(table, tmp_path / "a.parquet")
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    for name, raw in (
        ("b.parquet", (tmp_path / "a.parquet").read_bytes()),
        ("b.arrow", sink.getvalue().to_pybytes()),
    ):
        assert _read(tmp_path, name, raw) == [Conversation(tuple(CHAT))] * 2


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", '{"prompt": "Кто?", "completion": " Пушкин."}'),
        ("a.json", '[{"prompt": "Кто?", "completion": " Пушкин."}]'),
        ("a.csv", "prompt,n,completion\nКто?,1, Пушкин.\n"),
        ("a.tsv", "completion\tprompt\n Пушкин.\tКто?\n"),
    ],
)
def test_prompt_and_completion_of_strings_stay_plain(
    tmp_path: Path, name: str, content: str
) -> None:
    (found,) = _read(tmp_path, name, content)
    assert (found.text, found.num_prompt, found.is_plain) == ("Кто? Пушкин.", 1, True)


def test_prompt_and_completion_of_messages(tmp_path: Path) -> None:
    record = {"prompt": AS_MESSAGES, "completion": AS_MESSAGES[1:]}
    (found,) = _read(tmp_path, "a.jsonl", json.dumps(record))
    assert found == Conversation((*CHAT, CHAT[1]), num_prompt=2)


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ('{"text": "a"}', ("text", "")),
        ('{"messages": "not a list"}', ("text", "")),
        ('{"title": "a"}', ("text", "")),
        ("", ("text", "")),
        ('{"text": "a", "messages": []}', ("text", "data.format: messages")),
        ('{"text": "a", "prompt": "b", "completion": "c"}', ("text", "format: prompt_completion")),
        ('{"messages": []}', ("messages", "data.format is messages")),
        ('{"conversations": [], "id": 2}', ("messages", "'conversations'")),
        ('{"prompt": "b", "completion": "c"}', ("prompt_completion", "prompts and completions")),
    ],
)
def test_the_format_is_found_by_the_fields_and_said(
    tmp_path: Path, records: str, expected: tuple[str, str]
) -> None:
    for encoding in ("utf-8", "utf-16"):
        path = tmp_path / f"{encoding}.jsonl"
        path.write_text(records, encoding=encoding)
        data = DataConfig.model_validate({"train": str(path)})
        found = find_format(find_texts(data), data)
        assert found.format == expected[0]
        assert expected[1] in found.said
        assert bool(found.said) == bool(expected[1])


def test_a_format_that_is_named_is_taken(tmp_path: Path) -> None:
    record = json.dumps({"text": "a", "messages": AS_MESSAGES})
    assert _read(tmp_path, "a.jsonl", record, format="messages")[0].messages == tuple(CHAT)


def test_kinds_are_not_mixed(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"messages": []}')
    (tmp_path / "b.txt").write_text("text")
    for settings, said in (({}, "several kinds"), ({"format": "messages"}, "has no records")):
        data = DataConfig.model_validate({"train": str(tmp_path), **settings})
        with pytest.raises(DataError, match=said):
            find_format(find_texts(data), data)


def test_preference_pairs_are_shown_their_way(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}')
    data = DataConfig.model_validate({"train": str(path)})
    with pytest.raises(DataError, match=r"a\.jsonl:1 holds preference pairs.*docs/preferences"):
        find_format(find_texts(data), data)


def _with(**changes: Any) -> list[Any]:
    return [{**AS_MESSAGES[0], **changes}]


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"messages": None}, "'messages' is null"),
        ({"messages": []}, "is an empty list"),
        ({"messages": ["a"]}, "message 1 is a string, not an object"),
        ({"messages": _with(role="narrator")}, "'narrator' is no role"),
        ({"messages": _with(role=3)}, "3 is no role"),
        ({"messages": _with(content=None)}, "'content' is null"),
        ({"messages": _with(content=3)}, "'content' is a number"),
        ({"messages": _with(content="\ud83d")}, "half a character"),
        ({"messages": _with(content=[{"type": "image"}])}, "'image'; text alone"),
        ({"messages": _with(content=["a"])}, "a part that is 'a string'"),
        ({"messages": _with(tool_calls=[{"name": "f"}])}, "'tool_calls': calls of tools"),
        ({"messages": [{"role": "user"}]}, "message 1 has no field 'content', only 'role'"),
        ({"messages": [{"from": "gpt"}]}, "has no field 'value'"),
        ({"text": "a"}, "data.format is messages, which needs a field 'messages'"),
    ],
)
def test_what_is_no_conversation_is_refused_at_its_place(record: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError) as caught:
        RecordConversation("messages").of(record, "chats.jsonl:3")
    assert said in str(caught.value)
    assert str(caught.value).startswith("chats.jsonl:3")


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"prompt": "a"}, "needs the fields 'prompt' and 'completion'"),
        ({"prompt": "a", "completion": AS_MESSAGES}, "'completion' is a list"),
        ({"prompt": None, "completion": "b"}, "'prompt' is null"),
        ({"prompt": "a", "completion": "\ud83d"}, "half a character"),
    ],
)
def test_what_is_no_pair_is_refused(record: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError) as caught:
        RecordConversation("prompt_completion").of(record, "a.jsonl:1")
    assert said in str(caught.value)
