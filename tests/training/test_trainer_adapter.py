"""The private parts of transformers' Trainer that gptft stands on are as they were."""

import ast
import inspect
import re
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from transformers import Trainer

from gptft.training import trainer_adapter
from gptft.training.trainer import BlockTrainer
from gptft.training.trainer_adapter import TrainerAdapter
from tests.conftest import ROOT

# As transformers 5.23 declares them.
SIGNATURES = {
    "_get_grad_norm": "(self, model, grad_norm=None)",
    "_get_output_dir": "(self, trial)",
    "_init_training_state": "(self, max_steps, num_update_steps_per_epoch, num_train_epochs, "
    "resume_from_checkpoint, trial)",
    "_load_best_model": "(self)",
    "_load_from_checkpoint": "(self, resume_from_checkpoint, model=None)",
    "_load_optimizer_and_scheduler": "(self, checkpoint)",
    "_maybe_log_save_evaluate": "(self, tr_loss, grad_norm, model, trial, epoch, "
    "ignore_keys_for_eval, start_time, learning_rate=None)",
    "_run_epoch": "(self, model, epoch, train_dataloader, steps_in_epoch, "
    "num_update_steps_per_epoch, trial, ignore_keys_for_eval, start_time, resume_from_checkpoint, "
    "epochs_trained, steps_trained_in_current_epoch)",
    "_save": "(self, output_dir=None, state_dict=None)",
    "_save_checkpoint": "(self, model, trial)",
    "compute_loss": "(self, model, inputs, return_outputs=False, num_items_in_batch=None)",
    "create_optimizer": "(self, model=None)",
    "evaluate": "(self, eval_dataset=None, ignore_keys=None, metric_key_prefix='eval')",
    "train": "(self, resume_from_checkpoint=None, trial=None, ignore_keys_for_eval=None)",
    "training_step": "(self, model, inputs, num_items_in_batch=None)",
}
# Called or read, not overridden.
USED = {
    "_determine_best_metric": "(self, metrics, trial)",
    "_evaluate": "(self, trial, ignore_keys_for_eval, skip_scheduler=False)",
    "_prepare_inputs": "(self, inputs)",
}
ATTRIBUTES = ("_tr_loss", "_globalstep_last_logged")


def plain(method: object) -> str:
    """A signature without its annotations."""
    signature = inspect.signature(method)  # type: ignore[arg-type]
    parameters = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
    return str(signature.replace(parameters=parameters, return_annotation=signature.empty))


def overridden() -> set[str]:
    ours = {**vars(TrainerAdapter), **vars(BlockTrainer)}
    return {name for name in ours if callable(ours[name]) and hasattr(Trainer, name)}


def test_every_method_that_is_overridden_is_in_the_table():
    own = {name for name in overridden() if not name.startswith("__")}
    assert own == set(SIGNATURES)


@pytest.mark.parametrize("name", [*SIGNATURES, *USED])
def test_a_method_has_the_signature_it_was_written_for(name: str):
    assert plain(getattr(Trainer, name)) == {**SIGNATURES, **USED}[name]


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_an_attribute_that_is_read_is_still_set(name: str):
    assert f"self.{name} = " in inspect.getsource(Trainer)


def test_what_is_overridden_takes_what_the_stock_trainer_passes():
    for name in SIGNATURES:
        stock = inspect.signature(getattr(Trainer, name)).parameters
        ours = inspect.signature(getattr(BlockTrainer, name)).parameters
        is_open = any(p.kind is p.VAR_POSITIONAL for p in ours.values())
        assert is_open or list(ours) == list(stock), name


def private_names(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute | ast.FunctionDef):
            name = node.attr if isinstance(node, ast.Attribute) else node.name
            if re.match(r"_[a-z]", name):
                yield name


def test_only_the_adapter_touches_private_names_and_its_docstring_lists_them():
    trainers = {name for name in dir(Trainer) if re.match(r"_[a-z]", name)} | {*ATTRIBUTES}
    for path in (ROOT / "gptft").rglob("*.py"):
        touched = trainers & set(private_names(path))
        if path.stem == "trainer_adapter":
            listed = set(re.findall(r"`(_\w+)`", trainer_adapter.__doc__ or ""))
            assert touched == listed
        elif path.parent.name == "training":
            assert touched == set(), path


def test_the_version_it_was_written_for_is_the_one_that_is_pinned():
    assert version("transformers").startswith("5.23.")
    assert "transformers 5.23" in (trainer_adapter.__doc__ or "")
