"""A trained model and its tokenizer -> the run's `model/`, complete or absent."""

import os
import shutil
from pathlib import Path

from gptft.files import list_files, sync_folder, sync_tree
from gptft.models.precision import named_dtype
from gptft.runs.model_folder import ADAPTER, MODEL
from gptft.training.setup import Setup


def save_model(setup: Setup, *, run_dir: Path, save_dtype: str) -> None:
    """Write `model/` under another name and rename it; called by all processes together.

    Of an adapter that was trained `adapter/` is written first, and `model/` is what it makes of its
    base, unless it is to be used with its base (lora.merge: false).
    """
    setup.model.config.use_cache = True  # Trainer turns it off for training, and it would be saved
    lora = setup.trainer.lora
    if lora is not None:
        _write(setup, run_dir, ADAPTER)
        if not lora.is_merged:
            lora.check_restorable(run_dir / ADAPTER)
            return
        lora.merge()
        setup.trainer.lora = None
    if save_dtype != "auto":
        setup.model.to(named_dtype(save_dtype))  # type: ignore[arg-type]
    _write(setup, run_dir, MODEL)


def _write(setup: Setup, run_dir: Path, name: str) -> None:
    """Write what the trainer saves under another name, and rename it."""
    partial, old, final = (run_dir / one for one in (f".{name}.partial", f".{name}.old", name))
    if setup.trainer.is_world_process_zero():
        shutil.rmtree(partial, ignore_errors=True)
    setup.trainer.accelerator.wait_for_everyone()
    setup.trainer.save_model(str(partial))
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
