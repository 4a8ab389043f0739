"""A trained model and its tokenizer -> the run's `model/`, complete or absent."""

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from gptft.console import Notify, silent
from gptft.files import list_files, sync_folder, sync_tree
from gptft.models.adapted import few_logits
from gptft.models.hub import find_model
from gptft.models.precision import named_dtype
from gptft.runs.model_folder import ADAPTER, MODEL
from gptft.terminal.words import percent
from gptft.training.merging import merge_files
from gptft.training.setup import Setup


def save_model(
    setup: Setup,
    *,
    run_dir: Path,
    save_dtype: str,
    config_overrides: Mapping[str, Any],
    notify: Notify,
) -> float | None:
    """Write `model/` under another name and rename it; called by all processes together.

    Of an adapter that was trained `adapter/` is written first, and `model/` is what it makes of its
    base, unless it is to be used with its base (lora.merge: false).

    Returns:
        how far the logits of the model are from those of the quantized one that was trained, as a
        share of the largest; None where none was quantized and merged.
    """
    setup.model.config.use_cache = True  # Trainer turns it off for training, and it would be saved
    lora = setup.trainer.lora
    apart = None
    model = setup.model
    if lora is not None:
        _write(setup, run_dir, ADAPTER, setup.trainer.save_model)
        if not lora.is_merged:
            if setup.trainer.is_world_process_zero():
                lora.check_restorable(run_dir / ADAPTER)
            return None
        if lora.quantize is not None:
            if not setup.trainer.is_world_process_zero():
                setup.trainer.accelerator.wait_for_everyone()
                return None
            model, apart = _merge_anew(setup, run_dir / ADAPTER, config_overrides)
            notify(
                f"The adapter was merged into its base in float32. A few logits are "
                f"{percent(apart)} of the largest from those of the {lora.quantize} model that "
                "was trained and measured."
            )
        else:
            lora.merge()
            setup.trainer.lora = None
    if save_dtype != "auto":
        model.to(named_dtype(save_dtype))  # type: ignore[arg-type]
    if apart is None:
        _write(setup, run_dir, MODEL, setup.trainer.save_model)
    else:
        _write(setup, run_dir, MODEL, model.save_pretrained)
    return apart


def _merge_anew(
    setup: Setup, adapter: Path, config_overrides: Mapping[str, Any]
) -> tuple[PreTrainedModel, float]:
    """The base, loaded as it was before it was quantized, with the adapter in its weights.

    Returns:
        the model, and how far its logits are from the quantized one's, see `save_model`.
    """
    was_training = setup.model.training
    setup.model.eval()
    trained = few_logits(setup.model).float().cpu()
    setup.model.train(was_training)
    files = find_model(str(adapter))
    merged = merge_files(files, scale=1.0, config_overrides=config_overrides, notify=silent).model
    merged.eval()
    logits = few_logits(merged).float()
    merged.generation_config = setup.model.generation_config
    return merged, float((logits - trained).abs().max() / trained.abs().max())


def _write(setup: Setup, run_dir: Path, name: str, save: Callable[[str], object]) -> None:
    """Write what `save` writes into a folder under another name, and rename it."""
    partial, old, final = (run_dir / one for one in (f".{name}.partial", f".{name}.old", name))
    if setup.trainer.is_world_process_zero():
        shutil.rmtree(partial, ignore_errors=True)
    setup.trainer.accelerator.wait_for_everyone()
    save(str(partial))
    if setup.trainer.is_world_process_zero():
        setup.tokenizer.save_pretrained(str(partial))
        for path in list_files(partial).values():  # safetensors writes for its owner alone
            path.chmod(0o666 & ~_umask())
        sync_tree(partial)
        if final.exists():  # of a resumed run
            shutil.rmtree(old, ignore_errors=True)
            final.rename(old)
        partial.rename(final)
        sync_folder(run_dir)
        shutil.rmtree(old, ignore_errors=True)


def _umask() -> int:
    """The process's file mode mask; it can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
