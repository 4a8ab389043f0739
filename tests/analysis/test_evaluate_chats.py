"""`gptft eval` on conversations: the loss of answers, held against stock transformers' masks."""

import json
import math
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import gptft
from gptft import api
from gptft.errors import DataError
from gptft.tokenization.chat_format import bundled_template

PICO = Path(gptft.__file__).parent / "models" / "pico"
CHATS = [
    [("user", "Кто написал «Пророка»?"), ("assistant", "Пушкин."), ("user", "Когда?"),
     ("assistant", "В 1826 году.")],
    [("system", "Отвечай кратко."), ("user", "a"), ("assistant", "")],
    [("user", "без ответа")],
]  # fmt: skip


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPTFT_CACHE", str(tmp_path / "cache"))


def _messages(chat: list[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"role": role, "content": text} for role, text in chat]


@pytest.mark.parametrize("window", [None, 16])
def test_the_loss_of_answers_is_that_of_plain_torch(tmp_path: Path, window: int | None) -> None:
    path = tmp_path / "chats.jsonl"
    path.write_text("\n".join(json.dumps({"messages": _messages(chat)}) for chat in CHATS))
    said: list[str] = []
    found = api.evaluate(["pico"], [str(path)], window=window, use_cpu=True, notify=said.append)
    model = AutoModelForCausalLM.from_pretrained(PICO, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(PICO)
    nats, tokens, answers = 0.0, 0, ""
    for chat in CHATS:
        made = tokenizer.apply_chat_template(
            _messages(chat), chat_template=bundled_template("plain"), return_dict=True,
            return_assistant_tokens_mask=True, return_tensors="pt",
        )  # fmt: skip
        ids, mask = made["input_ids"], torch.as_tensor(made["assistant_masks"]).reshape(-1).bool()
        with torch.no_grad():
            logprobs = model(ids).logits[0, :-1].log_softmax(-1)
        own = logprobs.gather(-1, ids[0, 1:, None])[:, 0]
        nats -= float(own[mask[1:]].double().sum())
        tokens += int(mask.sum())
        answers += "".join(text for role, text in chat if role == "assistant")
    (scores,) = found.models
    total = scores.figures()
    assert total.num_tokens == tokens
    assert total.num_bytes == len(answers.encode())
    if window is None:
        assert total.nats == pytest.approx(nats, rel=1e-6)
        assert total.bits_per_byte == pytest.approx(nats / math.log(2) / len(answers.encode()))
    else:  # it sees less, and so knows less
        assert total.nats > nats
    assert "Answers alone are counted" in " ".join(said)


def test_plain_pairs_count_completions_and_eos(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text("prompt,completion\nМороз и сол,нце\n", encoding="utf-8")
    (scores,) = api.evaluate(["pico"], [str(path)], use_cpu=True).models
    tokenizer = AutoTokenizer.from_pretrained(PICO)
    completion = tokenizer("нце", add_special_tokens=False)["input_ids"]
    assert scores.figures().num_tokens == len(completion) + 1
    assert scores.figures().num_bytes == len("нце".encode())


def test_texts_and_conversations_are_not_mixed(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    (tmp_path / "b.jsonl").write_text('{"messages": []}')
    with pytest.raises(DataError, match="several kinds"):
        api.evaluate(["pico"], [str(tmp_path)], use_cpu=True)
