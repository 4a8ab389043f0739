import json
import math
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Trainer,
    TrainingArguments,
    set_seed,
)

import gptft.training.evaluation as evaluation
from gptft.api import load_config
from gptft.data.plan import plan_packing
from gptft.data.prepare import prepare_blocks
from gptft.data.store import BlockStore
from gptft.errors import ConfigError, ModelError
from gptft.files import default_cache_dir
from gptft.runs.held_out import BestStep
from gptft.training.dataset import collate_blocks
from gptft.training.run import Resume
from gptft.training.trainer import BlockTrainer
from tests.conftest import SENTENCES
from tests.training.conftest import Run


def losses(run_dir: Path) -> list[float]:
    lines = (run_dir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [entry["loss"] for line in lines if "loss" in (entry := json.loads(line))]


def test_the_run_folder_is_laid_out_as_documented(run: Run):
    result = run(samples={"prompts": ["Буря", "The"], "steps": 2})
    names = {path.name for path in result.run_dir.iterdir()}
    assert names == {
        "run.json",
        "config.yaml",
        "metrics.jsonl",
        "samples.jsonl",
        "model",
    }
    facts = json.loads((result.run_dir / "run.json").read_text(encoding="utf-8"))
    assert facts["state"] == "done"
    assert facts["result"]["steps"] == 3
    assert facts["world_size"] == 1
    assert facts["versions"]["torch"] == version("torch")
    lines = (result.run_dir / "samples.jsonl").read_text(encoding="utf-8").splitlines()
    assert [(json.loads(line)["step"], json.loads(line)["prompt"]) for line in lines] == [
        (step, prompt) for step in (0, 2, 3) for prompt in ("Буря", "The")
    ]
    assert [s.after for s in result.samples] == [" <- Буря", " <- The"]
    assert not list(result.run_dir.rglob("*.bin"))


def test_losses_of_blocks_stay_in_float32_where_the_model_is(
    run: Run, monkeypatch: pytest.MonkeyPatch
):
    """An accelerator of Apple has no float64."""
    stock, dtypes = evaluation.row_losses, set()

    def row_losses(*args: Any) -> tuple[torch.Tensor, torch.Tensor]:
        losses, counts = stock(*args)
        dtypes.add(losses.dtype)
        return losses, counts

    monkeypatch.setattr(evaluation, "row_losses", row_losses)
    run(training={"max_steps": 1})
    assert dtypes == {torch.float32}


def test_folders_in_the_model_can_be_opened(run: Run, tmp_path: Path, tiny_model_dir: Path):
    """A tokenizer with several chat templates keeps them in a folder of their own."""
    shutil.copytree(tiny_model_dir, tmp_path / "base")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "base")
    tokenizer.chat_template = {"default": "a", "tool_use": "b"}
    tokenizer.save_pretrained(tmp_path / "base")
    result = run(model={"name": str(tmp_path / "base")})
    (folder,) = (path for path in (result.run_dir / "model").iterdir() if path.is_dir())
    assert folder.stat().st_mode & 0o700 == 0o700
    again = AutoTokenizer.from_pretrained(result.run_dir / "model")
    assert again.chat_template == tokenizer.chat_template


def test_stock_transformers_opens_the_model_and_sees_the_same_logits(
    run: Run, monkeypatch: pytest.MonkeyPatch
):
    kept: dict[str, Any] = {}
    original = BlockTrainer.save_model

    def keep(self: BlockTrainer, *args: Any, **kwargs: Any) -> None:
        kept["model"] = self.model
        original(self, *args, **kwargs)

    monkeypatch.setattr(BlockTrainer, "save_model", keep)
    result = run(training={"max_steps": 20})
    assert result.steps == 20
    model = AutoModelForCausalLM.from_pretrained(result.run_dir / "model")
    tokenizer = AutoTokenizer.from_pretrained(result.run_dir / "model")
    ids = tokenizer(SENTENCES[0], return_tensors="pt").input_ids
    with torch.no_grad():
        expected = kept["model"].eval()(input_ids=ids).logits
        logits = model.eval()(input_ids=ids).logits
    # Not bit for bit: in training a GPT-2's GELU is one kernel.
    torch.testing.assert_close(logits, expected, rtol=1e-6, atol=1e-6)
    assert tokenizer.eos_token == "<|endoftext|>"
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert model.generation_config.pad_token_id == tokenizer.eos_token_id


def test_the_losses_are_those_of_the_stock_trainer(run: Run, tiny_model_dir: Path, tmp_path: Path):
    """The stock Trainer on the same ids, padded by hand, with an attention mask: same losses."""
    result = run(data={"shift_blocks": False}, training={"max_steps": 6})
    facts = json.loads((result.run_dir / "run.json").read_text(encoding="utf-8"))
    store = BlockStore(default_cache_dir() / "blocks" / facts["data"]["store"])
    longest = max(len(store[i]) for i in range(len(store)))
    rows = []
    for number in range(len(store)):
        ids = [int(i) for i in store[number]]
        padding = longest - len(ids)
        rows.append(
            {
                "input_ids": torch.tensor(ids + [1] * padding),
                "attention_mask": torch.tensor([1] * len(ids) + [0] * padding),
                "labels": torch.tensor(ids + [-100] * padding),
            }
        )
    set_seed(42)
    model = AutoModelForCausalLM.from_pretrained(tiny_model_dir, dtype=torch.float32)
    model.loss_type = "ForCausalLM"  # without it the stock Trainer counts each first token too
    stock = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(tmp_path / "stock"),
            max_steps=6,
            logging_steps=1,
            learning_rate=1e-3,
            per_device_train_batch_size=2,
            save_strategy="no",
            use_cpu=True,
            disable_tqdm=True,
            dataloader_pin_memory=False,
        ),
        train_dataset=rows,
    )
    stock.train()
    expected = [entry["loss"] for entry in stock.state.log_history if "loss" in entry]
    assert losses(result.run_dir) == pytest.approx(expected, rel=1e-4)


def test_a_random_model_starts_at_the_logarithm_of_its_vocabulary(run: Run):
    """The first loss of a model that knows nothing is ln V; a wrong shift or mask shows here."""
    result = run(
        model={
            "from_scratch": {
                "model_type": "gpt2",
                "n_layer": 2,
                "n_head": 2,
                "n_embd": 64,
                "n_positions": 64,
            }
        },
        tokenizer={"train": {"vocab_size": 300, "min_frequency": 1}},
        training={"max_steps": 1},
    )
    assert losses(result.run_dir)[0] == pytest.approx(math.log(300), rel=0.02)
    assert result.train.loss_before == pytest.approx(math.log(300), rel=0.02)
    tokenizer = AutoTokenizer.from_pretrained(result.run_dir / "model")
    assert (len(tokenizer), tokenizer.eos_token_id) == (300, 0)


def test_batch_four_and_accumulation_four_follow_the_same_losses(run: Run):
    whole = run("a", training={"max_steps": 5, "per_device_train_batch_size": 4})
    parts = run(
        "b",
        training={
            "max_steps": 5,
            "per_device_train_batch_size": 1,
            "gradient_accumulation_steps": 4,
        },
    )
    assert losses(parts.run_dir) == pytest.approx(losses(whole.run_dir), rel=1e-4)


def test_the_same_seed_gives_the_same_weights_and_another_does_not(run: Run):
    def weights(name: str, seed: int) -> dict[str, torch.Tensor]:
        result = run(name, training={"seed": seed})
        return dict(AutoModelForCausalLM.from_pretrained(result.run_dir / "model").state_dict())

    first, second, third = weights("a", 1), weights("b", 1), weights("c", 2)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], third[name]) for name in first)


def test_the_end_of_a_document_is_learned(run: Run, tmp_path: Path):
    """EOS is a target like any token, although padding and EOS share an id."""
    poem = tmp_path / "poem.txt"
    poem.write_text(SENTENCES[0], encoding="utf-8")
    result = run(
        data={"train": [str(poem)], "block_size": 64},
        training={"max_steps": 60, "learning_rate": 1e-2},
    )
    model = AutoModelForCausalLM.from_pretrained(result.run_dir / "model").eval()
    tokenizer = AutoTokenizer.from_pretrained(result.run_dir / "model")
    ids = tokenizer(SENTENCES[0], return_tensors="pt").input_ids
    with torch.no_grad():
        probabilities = model(input_ids=ids).logits[0, -1].softmax(-1)
    assert probabilities[tokenizer.eos_token_id] > 0.9
    written = model.generate(ids[:, :4], max_new_tokens=60, do_sample=False)
    assert tokenizer.decode(written[0], skip_special_tokens=True) == SENTENCES[0]


def test_measured_loss_is_the_mean_over_every_predicted_token(run: Run, tiny_model_dir: Path):
    """Checked in float64 against log-softmax by hand, block by block, with a short last block."""
    result = run(data={"validation": 0.5})
    config = load_config(result.run_dir / "config.yaml")
    store_dir = prepare_blocks(plan_packing(config)).path
    model = AutoModelForCausalLM.from_pretrained(tiny_model_dir, dtype=torch.float32).eval()
    for part, figure in (("train", result.train), ("validation", result.validation)):
        assert figure is not None
        store = BlockStore(store_dir, split=part)
        assert len({len(store[i]) for i in range(len(store))}) > 1  # a short block is there
        total, count = 0.0, 0
        for number in range(len(store)):
            ids = torch.from_numpy(store[number].astype(np.int64))
            with torch.no_grad():
                logits = model(input_ids=ids[None]).logits[0].double()
            log_probs = logits[:-1].log_softmax(-1)
            total -= float(log_probs[torch.arange(len(ids) - 1), ids[1:]].sum())
            count += len(ids) - 1
        assert figure.num_tokens == count
        assert figure.loss_before == pytest.approx(total / count, rel=1e-5)
        assert figure.perplexity_before == pytest.approx(math.exp(total / count), rel=1e-5)
        assert figure.loss_after < figure.loss_before


def test_the_best_checkpoint_is_what_is_kept_when_asked(run: Run):
    result = run(
        data={"validation": 0.5},
        training={
            "max_steps": 12,
            "learning_rate": 0.05,
            "eval_strategy": "steps",
            "eval_steps": 2,
            "save_strategy": "steps",
            "save_steps": 2,
            "load_best_model_at_end": True,
        },
    )
    lines = (result.run_dir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    evaluated = [e["eval_loss"] for line in lines if "eval_loss" in (e := json.loads(line))]
    assert len(evaluated) == 6
    assert result.validation is not None
    assert result.validation.loss_after == pytest.approx(min(evaluated), rel=1e-5)
    best = 2 * (evaluated.index(min(evaluated)) + 1)
    assert best < result.steps == 12
    noted = json.loads((result.run_dir / "run.json").read_text(encoding="utf-8"))["result"]
    assert (noted["model_step"], noted["steps"]) == (result.model_step, result.steps) == (best, 12)
    assert noted["best"] == {
        "step": best,
        "loss": min(evaluated),
        "checkpoint": f"checkpoints/checkpoint-{best}",
    }
    assert (result.run_dir / "checkpoints" / "checkpoint-12").is_dir()
    assert not list(result.run_dir.rglob("training_args.bin"))


def test_without_evaluations_the_best_of_before_and_after_is_named(run: Run):
    worse = run("worse", data={"validation": 0.5}, training={"learning_rate": 3.0})
    assert worse.validation is not None
    assert worse.best == BestStep(0, worse.validation.loss_before, None)
    better = run("better", data={"validation": 0.5})
    assert better.validation is not None
    assert better.best == BestStep(3, better.validation.loss_after, None)
    assert (worse.model_step, better.model_step) == (3, 3)
    assert run("none").best is None


def test_a_resolved_config_gives_the_same_run_again(run: Run):
    first = run("a", data={"validation": 0.5})
    config = load_config(
        first.run_dir / "config.yaml",
        overrides=[f"training.output_dir={first.run_dir.with_name('b')}"],
    )
    sections = config.model_dump(exclude_none=True)
    again = run("b", **sections)
    assert losses(again.run_dir) == losses(first.run_dir)


def test_a_folder_in_use_is_refused_and_untouched(run: Run, tmp_path: Path):
    run("a")
    before = {p: p.read_bytes() for p in (tmp_path / "a").rglob("*") if p.is_file()}
    with pytest.raises(ConfigError, match="holds an earlier run; nothing in it was touched"):
        run("a")
    assert {p: p.read_bytes() for p in (tmp_path / "a").rglob("*") if p.is_file()} == before
    run("a", overwrite=True, training={"max_steps": 1})
    assert len(losses(tmp_path / "a")) == 1


def test_a_folder_that_is_no_run_is_never_replaced(run: Run, tmp_path: Path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "diary.txt").write_text("дорогое", encoding="utf-8")
    for overwrite in (False, True):
        with pytest.raises(ConfigError, match="isn't a run of gptft; nothing in it was touched"):
            run("mine", overwrite=overwrite)
    assert (tmp_path / "mine" / "diary.txt").read_text(encoding="utf-8") == "дорогое"
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(ConfigError, match="is a file"):
        run("file")


def test_a_run_with_something_else_beside_it_is_never_replaced(run: Run, tmp_path: Path):
    run("a")
    (tmp_path / "a" / "poem").mkdir()
    (tmp_path / "a" / "poem" / "precious.txt").write_text("дорогое", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"something else \(poem\); nothing in it was touched"):
        run("a", overwrite=True)
    assert (tmp_path / "a" / "model" / "model.safetensors").is_file()


def test_a_run_that_fails_keeps_the_one_it_was_to_replace(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run("a")
    before = (tmp_path / "a" / "model" / "model.safetensors").read_bytes()

    def fail(*args: Any, **kwargs: Any) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(BlockTrainer, "training_step", fail)
        for _ in range(2):
            with pytest.raises(MemoryError):
                run("a", overwrite=True)
    assert (tmp_path / "a" / "earlier" / "model" / "model.safetensors").read_bytes() == before
    run("a", overwrite=True)
    assert not (tmp_path / "a" / "earlier").exists()


def test_a_count_of_tokens_in_the_log_hides_nothing(run: Run):
    result = run(training={"include_num_input_tokens_seen": "all"})
    assert len(losses(result.run_dir)) == 3


def test_a_failed_start_leaves_the_earlier_run(run: Run, tmp_path: Path):
    run("a")
    with pytest.raises(ConfigError, match="needs a validation part"):
        run("a", overwrite=True, training={"eval_strategy": "epoch"})
    assert (tmp_path / "a" / "model" / "model.safetensors").is_file()


def test_transformers_own_refusals_are_one_line(run: Run, monkeypatch: pytest.MonkeyPatch):
    # Our own check refuses these before the class does; it has the last word on what we don't know.
    monkeypatch.setattr("gptft.training.arguments.conflicts", lambda training, **given: [])
    with pytest.raises(ConfigError, match="transformers refuses these settings") as caught:
        run(
            data={"validation": 0.5},
            training={"load_best_model_at_end": True, "eval_strategy": "epoch"},
        )
    assert "\n" not in str(caught.value)


def test_ids_beyond_the_vocabulary_are_caught_before_the_first_step(
    run: Run, tiny_model_dir: Path, tmp_path: Path
):
    import shutil

    from transformers import GPT2Config, GPT2LMHeadModel

    folder = tmp_path / "small"
    shutil.copytree(tiny_model_dir, folder)
    GPT2LMHeadModel(
        GPT2Config(vocab_size=100, n_layer=1, n_head=1, n_embd=8, n_positions=64)
    ).save_pretrained(folder)
    with pytest.raises(ModelError, match=r"id 319 .* vocab_size 100\. The tokenizer belongs to"):
        run(model={"name": str(folder)})
    assert not (tmp_path / "run").exists()


def test_a_model_can_be_written_in_half_precision(run: Run, tiny_model_dir: Path):
    result = run(model={"name": str(tiny_model_dir), "save_dtype": "float16"})
    model = AutoModelForCausalLM.from_pretrained(result.run_dir / "model")
    assert model.dtype == torch.float16


def test_padding_in_a_batch_changes_no_gradient(tiny_model_dir: Path):
    """A short block beside a long one: gradients equal those of the two blocks alone."""
    torch.manual_seed(0)
    long, short = torch.randint(1, 300, (20,)), torch.randint(1, 300, (7,))

    def gradients(batches: list[list[torch.Tensor]]) -> torch.Tensor:
        model = AutoModelForCausalLM.from_pretrained(tiny_model_dir, dtype=torch.float32)
        for blocks in batches:
            model(**collate_blocks(blocks), num_items_in_batch=25).loss.backward()
        return torch.cat([p.grad.ravel() for p in model.parameters()])

    together, alone = gradients([[long, short]]), gradients([[long], [short]])
    assert torch.allclose(together, alone, atol=1e-6)


def test_tokens_are_counted_without_padding(run: Run):
    result = run(training={"max_steps": 4, "per_device_train_batch_size": 4})
    facts = json.loads((result.run_dir / "run.json").read_text(encoding="utf-8"))
    ledger = facts["data"]["ledger"]
    epoch = ledger["tokens"] + ledger["num_eos"]
    dataset_len = ledger["num_blocks"] + bool(ledger["tail_tokens"])
    assert dataset_len % 4 != 0  # the batches are not all full
    steps_an_epoch = -(-dataset_len // 4)
    assert 4 % steps_an_epoch == 0
    assert result.num_tokens == epoch * 4 // steps_an_epoch


def test_a_run_begins_at_the_mean_of_earlier_ones_and_remembers_them(run: Run):
    runs = [str(run(name, training={"seed": seed}).run_dir) for name, seed in (("a", 1), ("b", 2))]
    stored = [load_file(Path(name) / "model" / "model.safetensors") for name in runs]
    heavier = {"name": runs[1], "weight": 2.0}
    model = {"name": runs[0], "average_with": [runs[1], heavier]}
    still = run("mean", model=model, training={"learning_rate": 0.0})
    mean = load_file(still.run_dir / "model" / "model.safetensors")
    for name, tensor in mean.items():
        torch.testing.assert_close(tensor, (stored[0][name] + 3 * stored[1][name]) / 4)
        assert not torch.equal(stored[0][name], stored[1][name])
    alone = run("alone", model={"name": runs[0]})
    marks = [
        json.loads((result.run_dir / "run.json").read_text(encoding="utf-8"))["fingerprint"]
        for result in (alone, still)
    ]
    assert "model.average_with" not in marks[0]  # so that older runs can be gone on with
    assert marks[1]["model.average_with"] == [runs[1], heavier]
    with pytest.raises(ConfigError, match=r"model\.average_with was .* and is not set now"):
        run("mean", model={"name": runs[0]}, training={"learning_rate": 0.0}, resume=Resume())
