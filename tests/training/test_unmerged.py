"""`lora.merge: false`: a run holds its adapter alone, and every command takes it for a model."""

import contextlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from pydantic import ValidationError
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from typer.testing import CliRunner

from gptft.cli.app import app
from gptft.config.sections import Config
from gptft.models.load import load_for_inference
from tests.models.adapter_maker import make_base
from tests.training.test_lora import logits

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

POEM = "Буря мглою небо кроет, вихри снежные крутя;\nТо, как зверь, она завоет, то заплачет.\n" * 8
TRAIN = (
    "train poem.txt --model base --max-steps 4 --use-cpu --block-size 16 --learning-rate 0.02 "
    "--set lora.r=2 --set samples.prompts=[Буря]"
)


def call(command: str) -> Any:
    return CliRunner().invoke(app, command.split())


def done(command: str) -> str:
    answer = call(command)
    assert answer.exit_code == 0, answer.output + repr(answer.exception)
    return str(answer.stdout)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path) -> Path:
    """A folder with a base, and with one run of it without and with a merged model."""
    folder = tmp_path_factory.mktemp("unmerged")
    make_base("gpt2", folder / "base", tokenizer_of=tiny_model_dir)
    (folder / "poem.txt").write_text(POEM, encoding="utf-8")
    before = Path.cwd()
    os.chdir(folder)
    try:
        done(f"{TRAIN} --set lora.merge=false --out run")
        done(f"{TRAIN} --out zwei")
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def here(in_tmp: Path, kept: Path) -> Path:
    shutil.copytree(kept, in_tmp, dirs_exist_ok=True)
    return in_tmp


def test_the_run_holds_the_adapter_alone_and_peft_opens_it(here: Path) -> None:
    assert not (here / "run" / "model").exists()
    names = {path.name for path in (here / "run" / "adapter").iterdir()}
    assert {"adapter_model.safetensors", "tokenizer.json", "README.md"} <= names
    base = AutoModelForCausalLM.from_pretrained("base", dtype=torch.float32)
    untouched = logits(base.eval())
    adapted = logits(PeftModel.from_pretrained(base, "run/adapter").eval())
    ours = logits(load_for_inference("run", device=torch.device("cpu")))
    merged = logits(load_for_inference("zwei", device=torch.device("cpu")))
    assert float((adapted - untouched).abs().max()) > 1e-3
    for found in (ours, merged):
        assert float((found - adapted).abs().max()) <= 1e-5 * float(adapted.abs().max())


SAME = [
    "generate NAME -p Буря --max-new-tokens 8 --strategy greedy --cpu",
    "score NAME Буря --cpu",
    "predict NAME -p Буря --steps 2 --cpu",
    "predict NAME -p Буря --with base --cpu",
    "tokenize --model NAME --json Буря",
    "explain NAME -p Буря --cpu",
    "novelty NAME",
]


@pytest.mark.parametrize("command", SAME)
def test_a_command_gives_what_it_gives_of_the_merged_run(here: Path, command: str) -> None:
    ours, merged = (done(command.replace("NAME", name)).split() for name in ("run", "zwei"))
    assert [word.replace("zwei", "run") for word in merged] == ours


def test_its_own_base_is_named_by_a_word(here: Path) -> None:
    (here / "base").rename(here / "gpt")
    config = here / "run" / "adapter" / "adapter_config.json"
    stored = json.loads(config.read_text(encoding="utf-8"))
    config.write_text(json.dumps({**stored, "base_model_name_or_path": "gpt"}))
    facts = here / "run" / "run.json"
    facts.write_text(facts.read_text(encoding="utf-8").replace('"base"', '"gpt"'))
    for name in ("run", "run/adapter"):
        for command in ("predict NAME -p Буря --cpu", "score NAME Буря --cpu"):
            command = command.replace("NAME", name)
            assert done(f"{command} --with base") == done(f"{command} --with gpt")
    refused = call("predict gpt -p Буря --with base --cpu")
    assert "gpt is no run and no adapter whose base can be found" in str(refused.exception)


def test_it_is_measured_and_told_of(here: Path) -> None:
    found = json.loads(done("eval run zwei base --data poem.txt --cpu --json"))
    ours, merged, base = (one["bits_per_byte"] for one in found["models"])
    assert ours == pytest.approx(merged, rel=1e-5)
    assert ours != pytest.approx(base, rel=1e-3)
    facts = json.loads(done("info run --json"))
    assert (facts["models"][0] if "models" in facts else facts)["adapter"]["base"] == "base"
    done("config check poem.txt --set model.name=base --set model.average_with=[run]")
    assert "done" in done("runs list .")
    assert "lora.merge" in done("runs show run")
    done("runs compare run zwei")
    done("runs verify run")


def test_training_goes_on_from_it(here: Path) -> None:
    done("train poem.txt --model run --max-steps 1 --use-cpu --block-size 16 --out next")
    assert (here / "next" / "model" / "model.safetensors").is_file()


@pytest.mark.parametrize("damage", ["cut", "gone", "folder"])
@pytest.mark.parametrize("name", ["run", "zwei"])
def test_verify_finds_a_damaged_adapter(here: Path, name: str, damage: str) -> None:
    weights = here / name / "adapter" / "adapter_model.safetensors"
    if damage == "cut":
        weights.write_bytes(weights.read_bytes()[:-8])
    elif damage == "gone":
        weights.unlink()
    else:
        shutil.rmtree(weights.parent)
    answer = call(f"runs verify {name}")
    assert answer.exit_code == 1
    assert "adapter/" in answer.output


def test_the_base_is_found_from_elsewhere(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = here / "run" / "run.json"
    stored = json.loads(facts.read_text(encoding="utf-8"))
    facts.write_text(json.dumps({**stored, "working_dir": str(here)}), encoding="utf-8")
    (here / "elsewhere").mkdir()
    expected = done("score run Буря --cpu")
    monkeypatch.chdir(here / "elsewhere")
    assert done("score ../run Буря --cpu").split()[1:] == expected.split()[1:]


GONE = [
    "generate run -p x --cpu", "score run x --cpu", "predict run -p x --cpu", "info run",
    "explain run -p x --cpu", "eval run --data poem.txt --cpu", "play run --cpu",
]  # fmt: skip


@pytest.mark.parametrize("command", GONE)
def test_a_base_that_is_gone_is_one_line(
    here: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = here / "run" / "run.json"
    stored = json.loads(facts.read_text(encoding="utf-8"))
    facts.write_text(json.dumps({**stored, "working_dir": str(here)}), encoding="utf-8")
    (here / "base").rename(here / "was")
    refused = call(command)
    assert getattr(refused.exception, "exit_code", None) == 2, repr(refused.exception)
    said = str(refused.exception)
    assert "an adapter (LoRA, rank 2) of base, which can't be had" in said
    assert "\n" not in said.strip()


def test_the_card_and_the_last_line_say_where_it_is(here: Path) -> None:
    card = (here / "run" / "adapter" / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\nlibrary_name: peft\n")
    script = card.split("```python\n")[1].split("```")[0]
    script = script.replace("path/to/model", "run/adapter").replace("path/to/base", "base")
    exec(script, {"print": lambda text: None})
    answer = call(f"{TRAIN} --set lora.merge=false --out again")
    assert f"is in {Path('again') / 'adapter'}" in " ".join(answer.output.split())
    (here / "again" / "adapter" / "README.md").unlink()
    assert json.loads(done(f"{TRAIN} --set lora.merge=false --resume --out again --json"))
    assert (here / "again" / "adapter" / "README.md").is_file()


def test_a_run_in_its_place_leaves_no_adapter_behind(here: Path) -> None:
    done(
        "train poem.txt --model base --max-steps 1 --use-cpu --block-size 16 --out run --overwrite"
    )
    assert not (here / "run" / "adapter").exists()
    assert (here / "run" / "model").is_dir()


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ({"save_dtype": "bfloat16"}, "model.save_dtype is of model/"),
        ({"config_overrides": {"n_head": 2}}, "changes n_head of the base"),
        ({"config_overrides": {"attn_pdrop": 0.1}}, ""),
    ],
)
def test_what_an_adapter_alone_cant_hold(model: dict[str, Any], said: str) -> None:
    values = {"model": {"name": "pico", **model}, "lora": {"merge": False}}
    if not said:
        assert Config.model_validate(values).lora is not None
        return
    with pytest.raises(ValidationError, match=said):
        Config.model_validate(values)


def test_new_tokens_are_there_with_the_adapter_alone(here: Path) -> None:
    done(f"{TRAIN} --set lora.merge=false --set tokenizer.add_tokens=[мглою] --out grown")
    done(f"{TRAIN} --set tokenizer.add_tokens=[мглою] --out both")
    assert len(AutoTokenizer.from_pretrained("grown/adapter")("мглою").input_ids) == 1
    compare: Callable[[str], torch.Tensor] = lambda name: logits(  # noqa: E731
        load_for_inference(name, device=torch.device("cpu"))
    )
    ours, merged = compare("grown"), compare("both")
    assert float((ours - merged).abs().max()) <= 1e-5 * float(merged.abs().max())
    card = (here / "grown" / "adapter" / "README.md").read_text(encoding="utf-8")
    assert "resize_token_embeddings(len(tokenizer))" in card


def chat(question: str, answer: str) -> str:
    said = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return json.dumps({"messages": said}, ensure_ascii=False) + "\n"


CHATS = chat("Кто?", "Буря.") + chat("Что?", "Мгла.") + chat("Где?", "Там.") + chat("Как?", "Так.")


@pytest.fixture(scope="module")
def chatting(tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path) -> Path:
    """A folder with a base, and with an adapter whose answers end in <|im_end|>."""
    folder = tmp_path_factory.mktemp("chatting")
    make_base("gpt2", folder / "base", tokenizer_of=tiny_model_dir)
    (folder / "chats.jsonl").write_text(CHATS, encoding="utf-8")
    with contextlib.chdir(folder):
        done(
            "train chats.jsonl --model base --max-steps 2 --use-cpu --block-size 48 --out run "
            "--set lora.r=2 --set lora.merge=false --set data.chat_template=chatml "
            "--set generation.max_new_tokens=8 "
            "--save-strategy steps --save-steps 1"
        )
    return folder


def ends_of(name: str) -> list[int]:
    model = load_for_inference(name, device=torch.device("cpu"))
    found = model.generation_config.eos_token_id
    return found if isinstance(found, list) else [found]


@pytest.mark.parametrize("name", ["run", "run/adapter", "run/checkpoints/checkpoint-1"])
def test_what_ends_an_answer_is_known_with_the_adapter_alone(
    chatting: Path, monkeypatch: pytest.MonkeyPatch, name: str, tmp_path: Path
) -> None:
    monkeypatch.chdir(chatting)
    tokenizer = AutoTokenizer.from_pretrained("run/adapter")
    ends = [tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|im_end|>")]
    assert ends[1] >= 256
    assert ends_of(name) == ends
    assert ends_of("base") == ends[:1]
    folder = "run/adapter" if name == "run" else name
    stored = GenerationConfig.from_pretrained(folder)
    assert (stored.eos_token_id, stored.pad_token_id) == (ends, ends[0])
    base = AutoModelForCausalLM.from_pretrained("base", dtype=torch.float32)
    base.resize_token_embeddings(len(tokenizer))
    adapted = logits(PeftModel.from_pretrained(base, folder).eval())
    assert torch.allclose(
        adapted, logits(load_for_inference(name, device=torch.device("cpu"))), atol=1e-5
    )
    done(f"merge {name} --out {tmp_path / 'merged'}")
    assert ends_of(str(tmp_path / "merged")) == ends
    assert GenerationConfig.from_pretrained(tmp_path / "merged").eos_token_id == ends


@pytest.mark.parametrize(
    ("stored", "found"),
    [
        ('{"eos_token_id": [1, 9]}', [1, 9]),
        ('{"eos_token_id": 9}', [9]),
        ('{"eos_token_id": [1, 999999, -3, "x", true, 2.5]}', [1]),
        ('{"eos_token_id": {"a": 1}, "do_sample": false, "temperature": 0.1}', None),
        ('{"eos_token_id": []}', None),
        ('{"eos', None),
        ("[1]", None),
        ("\udcff", None),
        ("{}", None),
    ],
)
def test_of_another_generation_config_of_an_adapter_only_ids_are_taken(
    here: Path, stored: str, found: list[int] | None
) -> None:
    expected = ends_of("base") if found is None else found
    path = here / "run" / "adapter" / "generation_config.json"
    path.write_bytes(stored.encode("utf-8", "surrogateescape"))
    assert ends_of("run") == expected
    model = load_for_inference("run", device=torch.device("cpu"))
    assert model.generation_config.temperature in (None, 1.0)
    done("generate run -p Буря --max-new-tokens 2 --strategy greedy --cpu")


def test_an_adapter_with_new_tokens_is_looked_into(
    chatting: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(chatting)
    done(f"merge run --out {tmp_path / 'merged'}")
    ours, merged = (
        json.loads(done(f"explain {name} -p Буря --cpu --json"))
        for name in ("run", str(tmp_path / "merged"))
    )
    shown = [[one["token"]["id"] for one in each["next_tokens"]] for each in (ours, merged)]
    assert shown[0] == shown[1]
    logits_shown = [each["distribution"]["logits"] for each in (ours, merged)]
    assert logits_shown[0] == pytest.approx(logits_shown[1], abs=1e-4)
