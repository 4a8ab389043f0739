"""Settings that are said to do nothing do nothing in transformers, and do something elsewhere."""

from pathlib import Path
from typing import Any

import pytest

from gptft.api import read_config
from gptft.config.training_conflicts import training_problems
from gptft.config.training_ignored import ignored
from gptft.errors import ConfigError

STEPS = 12
# A setting, two values of it, settings beside which it does nothing, and some where it does.
PAIRS: tuple[tuple[str, Any, Any, dict[str, Any], dict[str, Any]], ...] = (
    ("num_train_epochs", 1, 5, {"max_steps": STEPS}, {}),
    ("warmup_steps", 2, 9, {"lr_scheduler_type": "constant"}, {}),
    ("warmup_steps", 2, 9, {"lr_scheduler_type": "greedy", "eval_strategy": "epoch"}, {}),
    (
        "warmup_steps",
        2,
        9,
        {"lr_scheduler_type": "reduce_lr_on_plateau", "eval_strategy": "epoch"},
        {"lr_scheduler_type": "constant_with_warmup"},
    ),
    ("eval_steps", 2, 3, {"eval_strategy": "epoch"}, {"eval_strategy": "steps"}),
    ("eval_steps", 2, 3, {"eval_strategy": "no"}, {"eval_strategy": "steps"}),
    ("eval_delay", 2, 9, {"eval_strategy": "no"}, {"eval_strategy": "steps", "eval_steps": 3}),
    ("save_steps", 2, 3, {"save_strategy": "no"}, {}),
    ("save_steps", 2, 3, {"save_strategy": "epoch"}, {"save_strategy": "steps"}),
    ("logging_steps", 2, 3, {"logging_strategy": "epoch"}, {}),
    (
        "logging_steps",
        2,
        3,
        {"logging_strategy": "no", "eval_strategy": "steps", "eval_steps": 4},
        {"logging_strategy": "no", "eval_strategy": "steps"},
    ),
    ("adam_beta1", 0.8, 0.7, {"optim": "sgd"}, {}),
    ("adam_beta2", 0.8, 0.7, {"optim": "adafactor"}, {"optim": "adamw_torch"}),
    ("adam_epsilon", 1e-6, 1e-7, {"optim": "rmsprop"}, {}),
    ("adam_epsilon", 1e-6, 1e-7, {"optim": "adagrad"}, {}),
    ("optim_args", "eps=1", "eps=2", {"optim": "adafactor"}, {"optim": "adagrad"}),
    (
        "activation_checkpointing_kwargs",
        {"use_reentrant": True},
        {"use_reentrant": False},
        {},
        {"activation_checkpointing": True},
    ),
    ("gradient_checkpointing", True, False, {"activation_checkpointing": False}, {}),
    ("torch_compile", False, True, {"torch_compile_backend": "eager"}, {}),
)


def decided(values: dict[str, Any], folder: Path) -> list[Any]:
    """What stock transformers makes of a `training` section in 12 steps of 3 epochs."""
    import torch
    from transformers import Trainer, TrainingArguments
    from transformers.optimization import get_scheduler
    from transformers.trainer_callback import DefaultFlowCallback, TrainerControl, TrainerState

    args = TrainingArguments(output_dir=str(folder), use_cpu=True, report_to="none", **values)
    kind, settings = Trainer.get_optimizer_cls_and_kwargs(args, None)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = get_scheduler(
        args.lr_scheduler_type, optimizer, args.get_warmup_steps(STEPS), STEPS,
        args.lr_scheduler_kwargs,
    )  # fmt: skip
    state, flow = TrainerState(max_steps=STEPS), DefaultFlowCallback()
    state.compute_steps(args, STEPS)
    happened = []
    for step in range(1, STEPS + 1):
        optimizer.step()
        if isinstance(schedule, torch.optim.lr_scheduler.LambdaLR):
            schedule.step()
        state.global_step, state.epoch = step, step / 4
        control = flow.on_step_end(args, state, TrainerControl())
        if step % 4 == 0:
            control = flow.on_epoch_end(args, state, control)
        happened.append([optimizer.param_groups[0]["lr"], vars(control)])
    length = args.max_steps if args.max_steps > 0 else args.num_train_epochs
    checkpoints = args.activation_checkpointing and args.activation_checkpointing_kwargs
    on = args.activation_checkpointing, checkpoints, args.torch_compile
    return [kind, settings, happened, length, on]


@pytest.mark.filterwarnings("ignore:.gradient_checkpointing:FutureWarning")
@pytest.mark.parametrize(("name", "one", "other", "beside", "elsewhere"), PAIRS)
def test_it_does_nothing_there_and_something_elsewhere(
    name: str,
    one: Any,
    other: Any,
    beside: dict[str, Any],
    elsewhere: dict[str, Any],
    tmp_path: Path,
):
    assert decided({**beside, name: one}, tmp_path) == decided({**beside, name: other}, tmp_path)
    found = [problem for problem in ignored({**beside, name: one}) if problem.name == name]
    assert len(found) == 1
    assert decided({**elsewhere, name: one}, tmp_path) != decided(
        {**elsewhere, name: other}, tmp_path
    )
    assert not [problem for problem in ignored({**elsewhere, name: one}) if problem.name == name]


def test_an_optimizers_own_weight_decay_never_counts(tmp_path: Path):
    """The Trainer's groups of parameters have a weight decay of their own."""
    import torch
    from transformers import Trainer, TrainingArguments

    for optim in ("sgd", "adagrad", "rmsprop"):
        args = TrainingArguments(
            output_dir=str(tmp_path), use_cpu=True, optim=optim, optim_args="weight_decay=0.5",
            weight_decay=0.1,
        )  # fmt: skip
        made = Trainer(torch.nn.Linear(2, 2), args).create_optimizer()
        assert {group["weight_decay"] for group in made.param_groups} == {0.1, 0.0}
        [(name, message)] = training_problems({"optim": optim, "optim_args": "weight_decay=0.5"})
        assert (name, message[-26:]) == ("optim_args", "Set training.weight_decay.")


def settled(text: str, *overrides: str, folder: Path) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The `training` section that comes of YAML lines, or of the recipe where there are none."""
    path = folder / ("my.yaml" if text else "poem.txt")
    path.write_text(f"training: {text}\n" if text else "Буря мглою", encoding="utf-8")
    file = read_config(path, overrides=[f"training.{override}" for override in overrides])
    return file.checked().training, tuple(said.replace(str(path), "FILE") for said in file.notices)


def test_what_a_recipe_says_gives_way_in_one_line(tmp_path: Path):
    training, said = settled(
        "", "max_steps=8", "lr_scheduler_type=constant", "save_steps=2", folder=tmp_path
    )
    assert training == {
        "per_device_train_batch_size": 1,
        "learning_rate": 2e-3,
        "lr_scheduler_type": "constant",
        "save_strategy": "steps",
        "max_steps": 8,
        "save_steps": 2,
        "stop_when_memorized": True,
    }
    assert said == (
        "Of the recipe, num_train_epochs: 40 gives way to training.max_steps: 8; warmup_steps: 0.1 "
        "gives way to training.lr_scheduler_type: constant; save_strategy: no gives way to "
        "training.save_steps: 2 and is steps.",
    )


@pytest.mark.parametrize(
    ("text", "override", "left", "said"),
    [
        (
            "{num_train_epochs: 3}",
            "max_steps=8",
            {"max_steps": 8},
            "FILE:1:12  training.num_train_epochs: 3 gives way to training.max_steps: 8.",
        ),
        (
            "{max_steps: 8}",
            "num_train_epochs=3",
            {"num_train_epochs": 3},
            "FILE:1:12  training.max_steps: 8 gives way to training.num_train_epochs: 3.",
        ),
        (
            "{warmup_steps: 5}",
            "lr_scheduler_type=constant",
            {"lr_scheduler_type": "constant"},
            "FILE:1:12  training.warmup_steps: 5 gives way to training.lr_scheduler_type: "
            "constant.",
        ),
        (
            "{save_total_limit: 2}",
            "save_strategy='no'",
            {"save_strategy": "no"},
            "FILE:1:12  training.save_total_limit: 2 gives way to training.save_strategy: no.",
        ),
        (
            "{lr_scheduler_type: cosine_with_min_lr, lr_scheduler_kwargs: {min_lr: 0}}",
            "lr_scheduler_type=linear",
            {"lr_scheduler_type": "linear"},
            "FILE:1:51  training.lr_scheduler_kwargs: {min_lr: 0} gives way to "
            "training.lr_scheduler_type: linear.",
        ),
    ],
)
def test_what_a_file_says_gives_way_to_set(
    text: str, override: str, left: dict[str, Any], said: str, tmp_path: Path
):
    assert settled(text, override, folder=tmp_path) == (left, (said,))


@pytest.mark.parametrize(
    ("text", "overrides"),
    [
        ("{num_train_epochs: 3, max_steps: 8}", ()),
        ("{}", ("num_train_epochs=3", "max_steps=8")),
        ("{lr_scheduler_type: constant}", ("warmup_steps=5",)),
        ("{save_strategy: epoch, save_steps: 5}", ()),
        ("{fsdp_config: {}, unlikelihood_ngram_size: 4}", ()),
    ],
)
def test_two_settings_of_one_hand_are_a_mistake(
    text: str, overrides: tuple[str, ...], tmp_path: Path
):
    with pytest.raises(ConfigError, match="has no effect with"):
        settled(text, *overrides, folder=tmp_path)


def test_a_default_gives_way(tmp_path: Path):
    path = tmp_path / "my.yaml"
    path.write_text(
        "data: {train: a, validation: 0.1}\n"
        "training: {load_best_model_at_end: true, eval_steps: 20}\n",
        encoding="utf-8",
    )
    file = read_config(path)
    assert file.checked().training == {
        "load_best_model_at_end": True,
        "eval_steps": 20,
        "eval_strategy": "steps",
        "save_steps": 20,
    }
    assert file.notices == (
        "training.eval_strategy is steps, as training.eval_steps: 20 needs.",
        "training.save_steps is 20, as training.load_best_model_at_end: true needs.",
    )
    epochs = read_config(
        path, overrides=["training.eval_steps=null", "training.eval_strategy=epoch"]
    )
    assert epochs.checked().training["save_strategy"] == "epoch"
