"""`--resume`: the same run to the last bit, and no other run by mistake."""

import json
import math
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, TrainingArguments
from typer.testing import CliRunner, Result

from gptft.cli.app import app
from gptft.errors import ConfigError, GptftError
from gptft.files import as_json, write_json
from gptft.runs import run_folder
from gptft.training.resume import NEUTRAL, agreed_changes, decides
from gptft.training.run import Resume
from gptft.training.trainer import BlockTrainer
from tests.conftest import SENTENCES
from tests.training.conftest import Run
from tests.training.folders import Cut, assert_same, contents, facts, rows, weights

SAVES = {"save_strategy": "steps", "save_steps": 2}


@pytest.fixture
def noisy(tiny_model_dir: Path) -> dict[str, Any]:
    """The tiny model with dropout, whose weights tell of every random number."""
    overrides = {"resid_pdrop": 0.1, "embd_pdrop": 0.1, "attn_pdrop": 0.1}
    return {"name": str(tiny_model_dir), "config_overrides": overrides}


CASES: dict[str, dict[str, Any]] = {
    "cadences": {
        "data": {"validation": 0.3, "shift_blocks": True},
        "training": {
            "max_steps": 11,
            "gradient_accumulation_steps": 2,
            "per_device_train_batch_size": 1,
            "eval_strategy": "steps",
            "eval_steps": 2,
            "save_strategy": "steps",
            "save_steps": 5,
            "logging_steps": 3,
            "lr_scheduler_type": "cosine",
            "warmup_steps": 3,
        },
        "samples": {"prompts": ["Буря", "The"], "steps": 2},
    },
    "epochs": {
        "data": {"validation": 0.3, "isolate_documents": True},
        "training": {
            "max_steps": -1,
            "num_train_epochs": 4,
            "eval_strategy": "epoch",
            "save_strategy": "epoch",
            "load_best_model_at_end": True,
            "save_total_limit": 1,
        },
        "samples": {"prompts": ["Буря"], "steps": 3},
    },
}


@pytest.mark.parametrize(
    ("case", "after"), [("cadences", 3), ("cadences", 8), ("cadences", 10), ("epochs", 5)]
)
def test_a_run_that_was_cut_off_ends_as_if_it_had_not_been(
    run: Run, noisy: dict[str, Any], tmp_path: Path, case: str, after: int
):
    whole = run("whole", model=noisy, **CASES[case])
    with Cut(after=after):
        run("cut", model=noisy, **CASES[case])
    assert facts(tmp_path / "cut")["state"] == "running"
    said: list[str] = []
    run("cut", model=noisy, **CASES[case], resume=Resume(), notify=said.append)
    assert_same(tmp_path / "cut", whole.run_dir)
    begun = "holds no intact checkpoint: training starts from step 0"
    assert any((begun if after == 3 else "Resuming from step") in line for line in said)
    assert len(facts(tmp_path / "cut")["resumed"]) == 1


@pytest.mark.parametrize("change", [{}, {"save_only_model": False}])
@pytest.mark.parametrize("extend", [False, True])
def test_a_checkpoint_of_the_model_alone_is_not_resumed_from(
    run: Run, tmp_path: Path, extend: bool, change: dict[str, Any]
):
    """It was, with an optimizer and a learning rate of the first step, and without a word."""
    settings = {"max_steps": 4, **SAVES, "save_only_model": True}
    with nullcontext() if extend else Cut(after=3):
        run(training=settings)
    before = contents(tmp_path / "run")
    more = {**settings, **change, **({"max_steps": 6} if extend else {})}
    with pytest.raises(ConfigError, match=r"saved with training\.save_only_model.* Begin again"):
        run(training=more, resume=Resume(extend=extend))
    assert contents(tmp_path / "run") == before


def test_tokens_are_those_of_the_blocks(run: Run, tmp_path: Path):
    """Counted by hand: each epoch sees every token once, cut off or not."""
    settings = {"max_steps": -1, "num_train_epochs": 3, **SAVES}
    with Cut(after=3):
        run(training=settings)
    result = run(training=settings, resume=Resume())
    ledger = facts(tmp_path / "run")["data"]["ledger"]
    assert result.num_tokens == 3 * (ledger["tokens"] + ledger["num_eos"])


def test_dying_between_the_last_checkpoint_and_the_model_costs_no_step(
    run: Run, noisy: dict[str, Any], tmp_path: Path
):
    for name, settings in (
        ("last", {"training": {"max_steps": 4, **SAVES}}),
        ("best", {**CASES["cadences"], "training": {**CASES["cadences"]["training"]}}),
    ):
        if name == "best":
            settings["training"] |= {
                "learning_rate": 0.3,  # it gets worse: the best checkpoint isn't the last
                "save_steps": 2,
                "save_total_limit": 1,
                "load_best_model_at_end": True,
            }
        result = run(name, model=noisy, **settings)
        kept = weights(result.run_dir), (result.run_dir / "metrics.jsonl").read_bytes()
        shutil.copytree(result.run_dir, tmp_path / f"{name}-whole")
        shutil.rmtree(result.run_dir / "model")
        before = facts(result.run_dir)
        told = before.pop("result")
        write_json(result.run_dir / "run.json", {**before, "state": "running"})
        said: list[str] = []
        again = run(name, model=noisy, **settings, resume=Resume(), notify=said.append)
        assert any("was the last one; nothing is left to train" in line for line in said)
        assert (weights(again.run_dir), (again.run_dir / "metrics.jsonl").read_bytes()) == kept
        assert again.seconds == pytest.approx(told["seconds"], abs=1.0)
        assert_same(again.run_dir, tmp_path / f"{name}-whole")


@contextmanager
def threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    yield
    torch.set_num_threads(before)


TRAINING_CHANGES: list[tuple[str, Any, Any]] = [
    ("learning_rate", 0.001, 0.002),
    ("lr_scheduler_type", "linear", "cosine"),
    ("warmup_steps", 0, 1),
    ("per_device_train_batch_size", 2, 1),
    ("gradient_accumulation_steps", 1, 2),
    ("seed", 42, 7),
    ("data_seed", None, 7),
    ("max_steps", 4, 8),
    ("max_steps", 4, 3),
    ("weight_decay", 0.0, 0.1),
    ("optim", "adamw_torch_fused", "sgd"),
    ("adam_beta2", 0.999, 0.95),
    ("max_grad_norm", 1.0, 0.5),
    ("label_smoothing_factor", 0.0, 0.1),
    ("eval_steps", 2, 3),
    ("eval_strategy", "steps", "no"),
    ("neftune_noise_alpha", None, 5.0),
    ("dataloader_drop_last", False, True),
]


def test_every_change_that_matters_is_refused_by_name_and_nothing_is_touched(
    run: Run, tmp_path: Path, corpus_dir: Path, tiny_model_dir: Path, monkeypatch: Any
):
    base = {"max_steps": 4, "eval_strategy": "steps", "eval_steps": 2, **SAVES}
    data = {"validation": 0.3}
    with Cut(after=3):
        run(training=base, data=data)
    folder = tmp_path / "run"
    before = contents(folder)

    def refused(field: str, old: Any, new: Any, **sections: Any) -> None:
        with pytest.raises(ConfigError) as caught:
            run(**{"training": base, "data": data, **sections}, resume=Resume())
        said = [p for p in caught.value.problems if p.startswith(f"{field} was ")]
        assert len(said) == 1, (field, caught.value.problems)
        shown = ["not set" if value is None else str(value) for value in (old, new)]
        assert said[0].startswith(f"{field} was {shown[0]} and is {shown[1]} now. "), said
        is_target = field in ("training.max_steps", "training.num_train_epochs")
        assert ("--extend" if is_target else f"--allow-change {field}") in said[0]
        assert contents(folder) == before, field

    for name, old, new in TRAINING_CHANGES:
        changed = {**base, name: new}
        if new == "no":  # or eval_steps would have no effect
            del changed["eval_steps"]
        refused(f"training.{name}", old, new, training=changed)
    fingerprint = facts(folder)["fingerprint"]
    for name, new in (("shift_blocks", False), ("isolate_documents", True)):
        refused(f"data.{name}", not new, new, data={**data, name: new})
    copy = tmp_path / "copy"
    shutil.copytree(tiny_model_dir, copy)
    refused("model", tiny_model_dir, copy, model={"name": str(copy)})
    half = {"name": str(tiny_model_dir), "dtype": "bfloat16"}
    named = {"name": str(tiny_model_dir), "revision": "v2"}
    refused("model.revision", None, "v2", model=named)
    refused("model.dtype", "float32", "bfloat16", model=half)
    with threads(2):
        refused("threads", 1, 2)
    installed = run_folder.versions()
    for package in ("torch", "transformers"):
        with monkeypatch.context() as patch:
            patch.setattr(run_folder, "versions", lambda p=package: {**installed, p: "9.9"})
            refused(f"versions.{package}", installed[package], "9.9")

    def store_of(**sections: Any) -> str:
        result = run("probe", training={"max_steps": 1}, overwrite=True, **sections)
        name: str = facts(result.run_dir)["data"]["store"]
        return name

    smaller = {**data, "block_size": 16}
    refused("data", fingerprint["data"], store_of(data=smaller), data=smaller)
    other = {**data, "train": [str(tmp_path / "other.txt")], "validation": 0.5}
    (tmp_path / "other.txt").write_text("\n\n".join(SENTENCES), encoding="utf-8")
    other.pop("validation")
    base_without = {name: base[name] for name in base if not name.startswith("eval")}
    with pytest.raises(ConfigError, match=r"(?m)^data was "):
        run(training=base_without, data=other, resume=Resume())
    assert contents(folder) == before
    sized = {"name": str(tiny_model_dir), "config_overrides": {"resid_pdrop": 0.5}}
    with pytest.raises(ConfigError, match=r"(?m)^model\.config was \w+ and is \w+ now"):
        run(training=base, data=data, model=sized, resume=Resume())
    words = json.loads((copy / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = words["model"]["vocab"]
    first, second = [word for word in vocabulary if len(word) == 1][:2]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    (copy / "tokenizer.json").write_text(json.dumps(words), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"(?m)^tokenizer was \w+ and is \w+ now"):
        run(training=base, data=data, model={"name": str(copy)}, resume=Resume())
    assert contents(folder) == before
    told = facts(folder)
    for name, old in (("world_size", 2), ("versions.gptft", "0.0.1"), ("device", "cuda")):
        changed = {**told, "fingerprint": {**told["fingerprint"], name: old}}
        write_json(folder / "run.json", changed)
        before = contents(folder)
        refused(name, old, told["fingerprint"][name])
    write_json(folder / "run.json", {**told, "fingerprint": None})
    with pytest.raises(ConfigError, match="couldn't resume its runs"):
        run(training=base, data=data, resume=Resume())


def test_settings_that_change_no_weight_may_change(run: Run, tmp_path: Path):
    base = {"max_steps": 6, **SAVES}
    whole = run("whole", training=base)
    with Cut(after=3):
        run(training=base)
    neutral = {
        "logging_steps": 3,
        "logging_first_step": True,
        "save_steps": 1,
        "save_total_limit": 2,
        "report_to": "none",
        "run_name": "named",
        "per_device_eval_batch_size": 1,
        "dataloader_num_workers": 0,
        "include_num_input_tokens_seen": "all",
    }
    said: list[str] = []
    run(training={**base, **neutral}, resume=Resume(), notify=said.append)
    assert weights(tmp_path / "run") == weights(whole.run_dir)
    assert not [line for line in said if " changes from " in line]
    assert facts(tmp_path / "run")["changes"] == []
    # What is asked for today counts: a line every third step, a checkpoint each.
    steps = [row["step"] for row in rows(tmp_path / "run" / "metrics.jsonl") if "loss" in row]
    assert steps == [1, 2, 3, 6]
    names = {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()}
    assert names == {"checkpoint-5", "checkpoint-6"}


def test_other_prompts_have_texts_of_their_own_from_before_training(run: Run, tmp_path: Path):
    base = {"max_steps": 4, **SAVES}
    with Cut(after=3):
        run(training=base, samples={"prompts": ["Буря"]})
    with Cut(after=3):
        run(training=base, samples={"prompts": ["The", "Мой"]}, resume=Resume())
    result = run(training=base, samples={"prompts": ["The", "Мой"]}, resume=Resume())
    assert [(sample.prompt, sample.before) for sample in result.samples] == [
        ("The", " <- The"),
        ("Мой", " <- Мой"),
    ]


def test_other_prompts_are_no_hindrance_where_no_checkpoint_is_left(run: Run, tmp_path: Path):
    base = {"max_steps": 4, **SAVES}
    with Cut(after=3):
        run(training=base, samples={"prompts": ["Буря"]})
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    result = run(training=base, samples={"prompts": ["The", "Мой"]}, resume=Resume())
    assert [sample.before for sample in result.samples] == [" <- The", " <- Мой"]


def schedule(name: str, step: int, *, of: int, peak: float) -> float:
    """The learning rate of a step, counted from 0, by the textbook."""
    return (
        peak
        * {
            "constant": 1.0,
            "linear": 1 - step / of,
            "cosine": (1 + math.cos(math.pi * step / of)) / 2,
        }[name]
    )


@pytest.mark.parametrize(
    ("name", "field"),
    [("linear", "learning_rate"), ("cosine", "training.learning_rate"), ("constant", "lr")],
)
def test_an_allowed_change_is_used_and_recorded(run: Run, tmp_path: Path, name: str, field: str):
    base = {"max_steps": 6, "lr_scheduler_type": name, **SAVES}
    with Cut(after=3):
        run(training=base)
    changed = {**base, "learning_rate": 5e-4}
    if field == "lr":
        with pytest.raises(ConfigError, match=r"--allow-change lerning_rate .*learning_rate"):
            run(training=changed, resume=Resume(allow=("lerning_rate",)))
        field = "learning_rate"
    result = run(training=changed, resume=Resume(allow=(field,)))
    assert facts(result.run_dir)["changes"] == [
        {"field": "training.learning_rate", "old": 1e-3, "new": 5e-4, "step": 2}
    ]
    assert "learning_rate: 0.0005" in (result.run_dir / "config.yaml").read_text(encoding="utf-8")
    rates = [r["learning_rate"] for r in rows(result.run_dir / "metrics.jsonl")]
    expected = [schedule(name, step, of=6, peak=1e-3 if step < 2 else 5e-4) for step in range(6)]
    assert rates == pytest.approx(expected, rel=1e-12)


def test_a_changed_weight_decay_is_used(run: Run, tmp_path: Path):
    """AdamW shrinks weights by (1 - lr * decay) a step; 5 % a step shows, gradient or not."""
    base = {"max_steps": 4, "lr_scheduler_type": "constant", **SAVES}
    norms = []
    for decay in (0.0, 50.0):
        name = f"decay-{decay:.0f}"
        with Cut(after=3):
            run(name, training=base)
        result = run(
            name,
            training={**base, "weight_decay": decay},
            resume=Resume(allow=("weight_decay",)),
        )
        model = AutoModelForCausalLM.from_pretrained(result.run_dir / "model")
        norms.append(float(model.transformer.h[0].mlp.c_fc.weight.detach().norm()))
    assert norms[1] / norms[0] == pytest.approx((1 - 1e-3 * 50) ** 2, rel=0.02)


def test_a_change_that_does_not_concern_the_schedule_leaves_it_alone(run: Run, tmp_path: Path):
    base = {
        "max_steps": 10,
        "lr_scheduler_type": "reduce_lr_on_plateau",
        "lr_scheduler_kwargs": {"patience": 0, "threshold": 1e9, "factor": 0.5, "mode": "min"},
        "eval_strategy": "steps",
        "eval_steps": 1,
        **SAVES,
    }
    data = {"validation": 0.3}
    whole = run("whole", training=base, data=data)
    with Cut(after=7):
        run(training=base, data=data)
    told = facts(tmp_path / "run")
    told["fingerprint"]["versions.gptft"] = "0.0.1"
    write_json(tmp_path / "run" / "run.json", told)
    run(training=base, data=data, resume=Resume(allow=("gptft",)))
    assert_same(tmp_path / "run", whole.run_dir)


def test_another_schedule_and_another_optimizer_are_used(run: Run, tmp_path: Path):
    """SGD knows nothing of Adam's moments: p - lr * gradient, whatever they were."""
    base = {"max_steps": 6, **SAVES}
    with Cut(after=5):
        run(training=base)
    changed = {**base, "lr_scheduler_type": "cosine", "optim": "sgd"}
    result = run(training=changed, resume=Resume(allow=("optim", "lr_scheduler_type")))
    logged = rows(result.run_dir / "metrics.jsonl")
    assert [row["learning_rate"] for row in logged] == pytest.approx(
        [schedule("linear" if step < 4 else "cosine", step, of=6, peak=1e-3) for step in range(6)],
        rel=1e-12,
    )

    def parameters(folder: str) -> torch.Tensor:
        model = AutoModelForCausalLM.from_pretrained(tmp_path / "run" / folder)
        return torch.cat([p.detach().double().ravel() for p in model.parameters()])

    moved = parameters("model") - parameters("checkpoints/checkpoint-4")
    # Clipped to a norm of 1, two steps go no further than their rates.
    rates = [row["learning_rate"] for row in logged[4:]]
    assert 0 < float(moved.norm()) <= sum(rates) * 1.001


@pytest.mark.parametrize("is_done", [True, False])
def test_extending_trains_further(run: Run, tmp_path: Path, is_done: bool):
    base = {"max_steps": 4, **SAVES}
    if is_done:
        run(training=base)
        with pytest.raises(ConfigError, match="--extend asks for no more"):
            run(training=base, resume=Resume(extend=True))
    else:
        with Cut(after=3):
            run(training=base)
    before = contents(tmp_path / "run")
    with pytest.raises(ConfigError, match=r"max_steps was 4 and is 3 now: --extend trains further"):
        run(training={**base, "max_steps": 3}, resume=Resume(extend=True))
    with pytest.raises(ConfigError, match=r"max_steps was 4 and is 6 now\. .*--extend"):
        run(training={**base, "max_steps": 6}, resume=Resume())
    assert contents(tmp_path / "run") == before
    result = run(training={**base, "max_steps": 6}, resume=Resume(extend=True))
    assert result.steps == 6
    told = facts(tmp_path / "run")
    begun = 4 if is_done else 2
    assert told["changes"] == [{"field": "training.max_steps", "old": 4, "new": 6, "step": begun}]
    rates = [row["learning_rate"] for row in rows(tmp_path / "run" / "metrics.jsonl")]
    assert rates == pytest.approx(
        [1e-3 * (1 - step / (4 if step < begun else 6)) for step in range(6)], rel=1e-12
    )
    names = {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()}
    assert names == {"checkpoint-2", "checkpoint-4", "checkpoint-6"}


def test_extending_by_epochs_sees_every_token_again(run: Run, tmp_path: Path):
    base = {"max_steps": -1, "num_train_epochs": 1, "save_strategy": "epoch"}
    first = run(training=base)
    more = {**base, "num_train_epochs": 3}
    result = run(training=more, resume=Resume(extend=True))
    assert (result.steps, result.num_tokens) == (3 * first.steps, 3 * first.num_tokens)
    assert (first.text_share, result.text_share) == (1.0, 3.0)
    assert facts(result.run_dir)["result"]["text_share"] == 3.0
    with pytest.raises(ConfigError, match=r"num_train_epochs was 3\.0 and is 2\.0 now: --extend"):
        run(training={**base, "num_train_epochs": 2}, resume=Resume(extend=True))
    with pytest.raises(ConfigError, match="--extend asks for no more"):  # fewer than 3 epochs
        run(training={"max_steps": 2, "save_strategy": "epoch"}, resume=Resume(extend=True))
    steps = result.steps + 2
    further = {"max_steps": steps, "save_strategy": "epoch"}
    assert run(training=further, resume=Resume(extend=True)).steps == steps


def test_extending_a_run_without_end_needs_no_second_word(run: Run, tmp_path: Path):
    """A run that was extended and cut off goes on, with --extend still in the command or not."""
    base = {"max_steps": 2, **SAVES}
    run(training=base)
    more = {**base, "max_steps": 6}
    for after, resume in ((3, Resume(extend=True)), (5, Resume(extend=True))):
        with Cut(after=after):
            run(training=more, resume=resume)
    assert run(training=more, resume=Resume()).steps == 6


def invoke(*args: str) -> Result:
    return CliRunner().invoke(app, list(args))


@pytest.fixture
def config_file(in_tmp: Path, corpus_dir: Path, tiny_model_dir: Path) -> Path:
    path = in_tmp / "my.yaml"
    path.write_text(
        f"model: {{name: '{tiny_model_dir}'}}\n"
        f"data: {{train: '{corpus_dir}', block_size: 32}}\n"
        "training: {max_steps: 2, use_cpu: true, save_strategy: steps, save_steps: 1}\n",
        encoding="utf-8",
    )
    return path


def test_resume_from_nothing_begins_and_from_the_end_rewrites_nothing(
    config_file: Path, in_tmp: Path
):
    first = invoke("train", str(config_file), "--resume")
    assert first.exit_code == 0, first.output
    before = contents(in_tmp / "runs" / "my")
    again = invoke("train", str(config_file), "--resume")
    assert (again.exit_code, again.stdout) == (
        0,
        "runs/my is complete: 2 steps. Train further with --extend.\n",
    )
    answer = json.loads(invoke("train", str(config_file), "--resume", "--json").stdout)
    assert (answer["steps"], answer["resumed_steps"]) == (2, 0)
    assert contents(in_tmp / "runs" / "my") == before


def test_resume_from_nothing_says_that_it_begins(config_file: Path):
    said = "runs/my holds no run to resume: this one begins at step 0."
    assert said in invoke("train", str(config_file), "--resume").stderr
    assert said not in invoke("train", str(config_file), "--resume").stderr


@pytest.mark.parametrize("name", ["moved", "moved to/here", "my"])
def test_a_run_that_was_moved_is_not_begun_again_where_it_was(
    config_file: Path, in_tmp: Path, name: str
):
    """Its config.yaml names the folder that it was trained in."""
    first = invoke("train", str(config_file), "--out", "runs/a")
    assert first.exit_code == 0, first.output
    Path(name).parent.mkdir(exist_ok=True)
    Path("runs/a").rename(name)
    more = ("--resume", "--extend", "--max-steps", "3")
    refused = invoke("train", f"{name}/config.yaml", *more)
    assert isinstance(refused.exception, ConfigError)
    out = f"'{name}'" if " " in name else name
    assert str(refused.exception) == (
        f"{name}/config.yaml is the config of the run in {name}, and its training.output_dir, "
        "runs/a, holds no run: it was moved. Resume it where it is (--out "
        f"{out}), or begin a new one there, without --resume."
    )
    assert not Path("runs/a").exists()
    resumed = invoke("train", f"{name}/config.yaml", "--out", name, *more)
    assert "Resuming from step 2" in resumed.stderr
    assert invoke("train", f"{name}/config.yaml", "--resume").stdout.startswith(f"{name} is comp")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--resume", "--overwrite"), "Give one of them"),
        (("--extend",), "go with --resume"),
        (("--allow-change", "seed"), "go with --resume"),
    ],
)
def test_flags_that_do_not_go_together(config_file: Path, in_tmp: Path, flags: Any, said: str):
    refused = invoke("train", str(config_file), *flags)
    assert isinstance(refused.exception, GptftError)
    assert refused.exception.exit_code == 2
    assert said in str(refused.exception)
    assert not (in_tmp / "runs").exists()


def test_a_run_without_a_fingerprint_that_agrees_names_every_difference():
    old = {"training.seed": 1, "training.optim": "a", "threads": 2}
    with pytest.raises(ConfigError) as caught:
        agreed_changes(old, {**old, "training.seed": 2, "threads": 4}, allow=(), extend=False)
    assert caught.value.problems == (
        "threads was 2 and is 4 now. Put it back, or resume with --allow-change threads.",
        "training.seed was 1 and is 2 now. Put it back, or resume with "
        "--allow-change training.seed.",
    )
    (change,) = agreed_changes(old, {**old, "threads": 4}, allow=("threads",), extend=False)
    assert as_json(change) == {"field": "threads", "old": 2, "new": 4}
    for name in ("adamw_torch", "muon"):
        new = {"training.optim": {"adamw_torch": "muon", "muon": "adamw_torch"}[name]}
        with pytest.raises(ConfigError, match=r"optimizer state doesn't fit\. Put it back\.$"):
            agreed_changes({"training.optim": name}, new, allow=("optim",), extend=False)
    with pytest.raises(ConfigError, match=r"tread is no field of the fingerprint\. Did you mean"):
        agreed_changes(old, old, allow=("tread",), extend=False)


def test_a_setting_decides_unless_it_is_known_not_to():
    """So a field that a new transformers brings is believed to matter until somebody looks."""
    known = TrainingArguments.__dataclass_fields__
    assert {*known, "deepspeed_plugin", "warmup_ratio"} >= NEUTRAL
    assert decides("a_field_of_tomorrow")
    silent = ("log_on_each_node", "trackio_bucket_id", "hub_token", "report_to", "save_steps")
    assert not any(map(decides, silent))


@pytest.mark.parametrize(
    "failure", [OSError(28, "No space left on device"), RuntimeError("the disk is gone")]
)
def test_a_save_that_fails_after_a_signal_is_written_down(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception
):
    def step(self: BlockTrainer, *args: Any, **kwargs: Any) -> Any:
        if self.state.global_step == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, *args, **kwargs)

    def save(self: BlockTrainer, **kwargs: bool) -> None:
        raise failure

    original = BlockTrainer.training_step
    monkeypatch.setattr(BlockTrainer, "training_step", step)
    monkeypatch.setattr(BlockTrainer, "save_now", save)
    with pytest.raises((GptftError, RuntimeError)) as caught:
        run()
    written = facts(tmp_path / "run")
    assert written["state"] == "failed"
    assert ("Disk full" if isinstance(failure, OSError) else "the disk is gone") in str(
        caught.value
    )
    assert written["error"]
