"""A trained model and its tokenizer -> the run's `model/`, complete or absent."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from transformers import PreTrainedModel

from gptft.config.sections import ModelConfig
from gptft.console import Notify, silent
from gptft.files import list_files, sync_folder, sync_tree
from gptft.models.adapted import few_logits
from gptft.models.dropout import restore_dropout
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
    settings: ModelConfig,
    notify: Notify,
) -> float | None:
    """Write `model/` under another name and rename it; called by all processes together.

    Of an adapter that was trained `adapter/` is written first, and `model/` is what it makes of its
    base, unless it is to be used with its base (lora.merge: false).

    Args:
        setup: the model that was trained, and its trainer.
        run_dir: where it goes.
        settings: of the model, as the run's config has them.
        notify: told how far a merged model is from the quantized one that was trained.

    Returns:
        how far the logits of the model are from those of the quantized one that was trained, as a
        share of the largest; None where none was quantized and merged.
    """
    setup.model.config.use_cache = True  # Trainer turns it off for training, and it would be saved
    if setup.base_config is not None:  # in training another dropout held
        restore_dropout(setup.model.config, setup.base_config, but=settings.config_overrides)
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
            model, apart = _merge_anew(setup, run_dir / ADAPTER, settings)
            notify(
                f"The adapter was merged into its base in float32. A few logits are "
                f"{percent(apart)} of the largest from those of the {lora.quantize} model that "
                "was trained and measured."
            )
        else:
            lora.merge()
            setup.trainer.lora = None
    if settings.save_dtype != "auto":
        model.to(named_dtype(settings.save_dtype))  # type: ignore[arg-type]
    if apart is None:
        _write(setup, run_dir, MODEL, setup.trainer.save_model)
    else:
        _write(setup, run_dir, MODEL, model.save_pretrained)
    return apart


def _merge_anew(
    setup: Setup, adapter: Path, settings: ModelConfig
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
    merged = merge_files(
        files, scale=1.0, config_overrides=settings.config_overrides, notify=silent
    ).model
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
