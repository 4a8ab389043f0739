"""Conversations -> a block store: what stands in it, what is learned of it, and what is refused."""

import hashlib
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import PreTrainedTokenizerFast

import gptft
from gptft.api.check import check_config
from gptft.config.sections import Config
from gptft.data.pack import Prepared
from gptft.data.plan import PackingPlan, plan_packing
from gptft.data.prepare import prepare_blocks
from gptft.data.shards import Shard, merge_shards, prepare_shard
from gptft.data.store import BlockStore, read_ledger
from gptft.errors import ConfigError, DataError, GptftError
from gptft.tokenization.chat_format import ENCODING

EOS = "<|endoftext|>"
PICO = Path(gptft.__file__).parent / "models" / "pico"
CHATS = [
    [("user", "Кто?"), ("assistant", "Пушкин.")],
    [("system", "Кратко."), ("user", f"a{EOS}b"), ("assistant", "x"), ("user", "y"),
     ("assistant", "")],
    [("user", "без ответа")],
    [("user", "В каком году?"), ("assistant", "В 1825.")],
]  # fmt: skip


def _write(folder: Path, chats: Any = CHATS, name: str = "chats.jsonl") -> Path:
    path = folder / name
    lines = [
        json.dumps({"messages": [{"role": role, "content": text} for role, text in chat]})
        for chat in chats
    ]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPTFT_CACHE", str(tmp_path / "cache"))


def _plan(path: Path, **data: Any) -> PackingPlan:
    return plan_packing(Config.model_validate({"data": {"train": str(path), **data}}))


def _documents(prepared: Prepared, *, marked: bool = True) -> list[tuple[list[int], list[bool]]]:
    """Ids and marks of each document, read from the store's columns."""
    store = BlockStore(prepared.path)
    found: list[tuple[list[int], list[bool]]] = []
    for block in range(len(store)):
        length = store.length(block)
        ids, begins, trained = store[block], store.begins(block), store.trained(block)
        assert begins is not None
        starts = [*np.flatnonzero(begins[:length]).tolist(), length]
        for start, stop in pairwise(starts):
            marks = [True] * (stop - start) if trained is None else trained[start:stop].tolist()
            found.append((ids[start:stop].tolist(), marks))
    return found


@pytest.mark.parametrize("packing", ["best_fit", "stream"])
def test_what_is_learned_is_what_transformers_marks(tmp_path: Path, packing: str) -> None:
    plan = _plan(_write(tmp_path), packing=packing, block_size=256)
    prepared = prepare_blocks(plan)
    stock = PreTrainedTokenizerFast.from_pretrained(str(PICO))
    assert plan.chat is not None
    expected = []
    for chat in (CHATS[0], CHATS[3]):
        messages = [{"role": role, "content": text} for role, text in chat]
        made = stock.apply_chat_template(
            messages, chat_template=plan.chat.template, return_dict=True,
            return_assistant_tokens_mask=True,
        )  # fmt: skip
        expected.append((made["input_ids"], [bool(one) for one in made["assistant_masks"]]))
    documents = _documents(prepared)
    assert len(documents) == 3
    for one in expected:
        assert one in documents
    (forged,) = [one for one in documents if one not in expected]
    learned = [i for i, yes in zip(*forged, strict=True) if yes]
    assert stock.decode(learned) == f"x{EOS}{EOS}"
    assert forged[0].count(stock.eos_token_id) == 5  # one a message; that which is typed is text


def test_the_ledger_counts_them(tmp_path: Path) -> None:
    ledger = prepare_blocks(_plan(_write(tmp_path), block_size=64)).ledger
    assert (ledger.documents, ledger.answers, ledger.unanswered_documents) == (3, 4, 1)
    said = " ".join(ledger.sentences())
    assert "1 conversation without an answer to learn, left out" in said
    assert "by the chat template plain: 4 answers; answers alone learned" in said
    everything = ledger.num_blocks * ledger.block_size + ledger.tail_tokens
    assert ledger.tokens + ledger.num_eos + ledger.padding_tokens == everything


def test_all_can_be_learned(tmp_path: Path) -> None:
    prepared = prepare_blocks(_plan(_write(tmp_path), loss_on="all", block_size=64))
    assert prepared.ledger.documents == 4
    assert prepared.ledger.answers == 4
    assert all(all(marks) for _, marks in _documents(prepared))


def test_plain_pairs_are_encoded_apart_and_end_with_eos(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    pairs = [{"prompt": "Мороз и сол", "completion": "нце"}, {"prompt": f"{EOS}", "completion": ""}]
    path.write_text("\n".join(map(json.dumps, pairs)))
    plan = _plan(path, block_size=64)
    prepared = prepare_blocks(plan)
    assert plan.tokenizer is not None
    encode = plan.tokenizer.backend.encode
    expected = []
    for pair in pairs:
        prompt, completion = (encode(pair[n]).ids for n in ("prompt", "completion"))
        marks = [False] * len(prompt) + [True] * (len(completion) + 1)
        expected.append(([*prompt, *completion, plan.tokenizer.eos_token_id], marks))
    assert sorted(_documents(prepared)) == sorted(expected)
    assert (read_ledger(prepared.path) or {})["chat"]["template"] is None


def test_pairs_of_messages_learn_the_completion_alone(tmp_path: Path) -> None:
    first = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "first"},
             {"role": "user", "content": "b"}]  # fmt: skip
    record = {"prompt": first, "completion": [{"role": "assistant", "content": "second"}]}
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps(record))
    plan = _plan(path, block_size=64)
    ((ids, marks),) = _documents(prepare_blocks(plan))
    assert plan.tokenizer is not None
    learned = [i for i, yes in zip(ids, marks, strict=True) if yes]
    assert plan.tokenizer.backend.decode(learned, skip_special_tokens=False) == f"second{EOS}"


@pytest.mark.parametrize(("template", "end"), [("plain", EOS), ("chatml", f"<|im_end|>\n{EOS}")])
def test_plain_pairs_in_a_template_end_as_messages_do(
    tmp_path: Path, template: str, end: str
) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps({"prompt": "Кто?", "completion": "Пушкин."}))
    plan = _plan(path, chat_template=template, block_size=64)
    chats = _plan(_write(tmp_path, CHATS[:1]), chat_template=template, block_size=64)
    documents = _documents(prepare_blocks(plan))
    assert documents == _documents(prepare_blocks(chats))
    assert plan.tokenizer is not None
    text = plan.tokenizer.backend.decode(documents[0][0], skip_special_tokens=False)
    assert text.endswith(f"Пушкин.{end}")  # once: after EOS there is nothing to learn


def test_a_byte_order_mark_is_no_part_of_a_template(tmp_path: Path) -> None:
    source = "{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}"
    plans = []
    for name, mark in (("mine", ""), ("notepad", "\ufeff")):
        (tmp_path / f"{name}.jinja").write_text(mark + source, encoding="utf-8")
        plans.append(_plan(_write(tmp_path), chat_template=str(tmp_path / f"{name}.jinja")))
    chats = [plan.chat for plan in plans]
    assert [chat and chat.template for chat in chats] == [source, source]


def test_a_named_template_gets_its_tokens(tmp_path: Path) -> None:
    for name, tokens in (("chatml", 2), ("llama3", 3), ("mistral", 2), ("plain", 0)):
        plan = _plan(_write(tmp_path), chat_template=name, block_size=64)
        assert plan.chat is not None
        assert plan.tokenizer is not None
        assert len(plan.chat.added_tokens) == tokens
        assert plan.tokenizer.vocab_size == 8192 + tokens
        prepare_blocks(plan)


def test_settings_and_texts_decide_the_store(tmp_path: Path) -> None:
    path, other = _write(tmp_path), tmp_path / "mine.jinja"
    chat = _plan(path).chat
    assert chat is not None
    other.write_text((chat.template or "").replace("'\\n'", "'\\n\\n'"))
    plans = [
        _plan(path), _plan(path, loss_on="all"), _plan(path, chat_template="chatml"),
        _plan(path, chat_template=str(other)), _plan(path, packing="stream"),
    ]  # fmt: skip
    folders = [prepare_blocks(plan).path for plan in plans]
    assert len({*folders}) == len(plans)
    assert prepare_blocks(plans[0]).cached


def _said(*contents: str) -> list[dict[str, str]]:
    """Messages of a user and the assistant in turn."""
    roles = [("user", "assistant")[number % 2] for number in range(len(contents))]
    return [{"role": r, "content": c} for r, c in zip(roles, contents, strict=True)]


RECORDS: dict[str, list[dict[str, Any]]] = {
    "messages": [{"messages": _said(" Кто? ", "A")}, {"messages": _said(f"a{EOS}b", "x", "y", "")}],
    "pairs of messages": [
        {"prompt": _said("a", "b", "c"), "completion": [{"role": "assistant", "content": "d"}]}
    ],
    "pairs": [{"prompt": "Мороз и ", "completion": "солнце"}, {"prompt": EOS, "completion": ""}],
}  # fmt: skip


def test_what_is_encoded_otherwise_has_another_number(tmp_path: Path) -> None:
    """Else the blocks of an older gptft would be taken from the cache."""
    found = []
    for name, records in RECORDS.items():
        path = tmp_path / f"{name}.jsonl"
        path.write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
        for template in (None, "plain", "chatml", "llama3", "mistral"):
            for loss_on in ("answers", "all"):
                plan = _plan(path, chat_template=template, loss_on=loss_on, block_size=64)
                found.append(_documents(prepare_blocks(plan)))
                assert plan.chat is not None
                assert plan.chat.key[0] == ENCODING
    digest = hashlib.sha256(json.dumps(found).encode()).hexdigest()[:16]
    assert {ENCODING: digest} == {2: "0bbea2d1789d25c3"}, (
        "Conversations are encoded otherwise: raise ENCODING of gptft/tokenization/chat_format.py, "
        "and write the new pair here."
    )


def test_shards_become_the_same_store(tmp_path: Path) -> None:
    _write(tmp_path, name="a.jsonl")
    _write(tmp_path, CHATS[:1] * 3, name="b.jsonl")
    plan = _plan(tmp_path / "*.jsonl", block_size=32)
    whole = prepare_blocks(plan)
    ledger = {p.name: p.read_bytes() for p in whole.path.iterdir()}
    for path in whole.path.iterdir():
        path.unlink()
    whole.path.rmdir()
    for number in (1, 2):
        prepare_shard(plan, Shard(number, 2))
    merged = merge_shards(plan)
    assert merged.path == whole.path
    assert {p.name: p.read_bytes() for p in merged.path.iterdir()} == ledger


@pytest.mark.parametrize(
    ("data", "error", "said"),
    [
        ({"chat_template": "nosuch"}, ConfigError, "nosuch is no file, and none of plain, chatml"),
        ({"chat_template": "{tmp}/bad.jinja"}, ConfigError, "can't be used: the chat template can"),
        ({"chat_template": "{tmp}/latin.jinja"}, ConfigError, "isn't UTF-8"),
        ({"format": "prompt_completion"}, DataError, "needs the fields 'prompt' and 'completion'"),
        ({"format": "text"}, DataError, "has no field 'text', only 'messages'"),
    ],
)
def test_what_can_not_be_is_one_line(
    tmp_path: Path, data: dict[str, str], error: type[GptftError], said: str
) -> None:
    (tmp_path / "bad.jinja").write_text("{% if %}")
    (tmp_path / "latin.jinja").write_bytes("{{ 'é' }}".encode("latin-1"))
    settings = {name: value.replace("{tmp}", str(tmp_path)) for name, value in data.items()}
    with pytest.raises(error) as caught:
        prepare_blocks(_plan(_write(tmp_path), **settings))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("setting", [{"chat_template": "chatml"}, {"loss_on": "answers"}])
def test_settings_of_conversations_are_refused_for_texts(
    tmp_path: Path, setting: dict[str, str]
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("text")
    with pytest.raises(ConfigError, match="aren't conversations"):
        _plan(path, **setting)


def test_a_template_that_refuses_a_record_names_it(tmp_path: Path) -> None:
    path = _write(tmp_path, [CHATS[0], [("tool", "42"), ("assistant", "x")]])
    with pytest.raises(DataError, match=r"chats\.jsonl, record 2: .*no role tool"):
        prepare_blocks(_plan(path, chat_template="mistral"))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"long_documents": "refuse", "block_size": 8}, "longer than a block of 8 tokens"),
        ({"chat_template": "mistral"}, "record 2: .*no role tool"),
    ],
)
def test_config_check_finds_what_encoding_finds(
    tmp_path: Path, data: dict[str, Any], said: str
) -> None:
    path = _write(tmp_path, [CHATS[0], [("tool", "42"), ("assistant", "x")]])
    config = tmp_path / "my.yaml"
    config.write_text(json.dumps({"data": {"train": str(path), **data}}), encoding="utf-8")
    with pytest.raises(ConfigError, match=said):
        check_config(config)
