"""The files of an adapter -> a plain model in a folder: its base with the adapter merged in."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from gptft.console import Notify, stage
from gptft.errors import RunError
from gptft.files import sync_folder, sync_tree, write_text
from gptft.models.adapted import merge_scaled
from gptft.models.load import load_for_training
from gptft.models.model_files import ModelFiles
from gptft.models.reading import take_special_ids
from gptft.runs import disk
from gptft.tokenization.auto import load_auto_tokenizer
from gptft.tokenization.chat_encoder import chat_encoder
from gptft.training.base import learn_eos
from gptft.training.dry_save import check_savable

_NOTHING = "Nothing was written."


@dataclass(frozen=True)
class Merged:
    """A model that an adapter was merged into.

    Attributes:
        model: in float32.
        tokenizer: the adapter's own, or the base's.
        apart: see `merge_scaled`.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    apart: float | None


def merge_files(
    files: ModelFiles, *, scale: float, config_overrides: Mapping[str, Any], notify: Notify
) -> Merged:
    """Load a base in float32 and merge the adapter into it that `files` ends with.

    Args:
        files: of an adapter, see `find_model`.
        scale: see `merge_scaled`.
        config_overrides: of the base, as it was when the adapter was trained.
        notify: told what of the base's files had to be mended.

    Raises:
        ModelError: one of them can't be read, or they can't be merged.
        ConfigError: an override names no field of the base's config.
    """
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    folder = files.adapters[-1]
    before = replace(files, adapters=files.adapters[:-1])
    base = load_for_training(before, dtype="float32", config_overrides=config_overrides)
    model, apart = merge_scaled(base, folder, scale=scale)
    tokenizer = load_auto_tokenizer(files)
    if files.own_tokenizer is not None and isinstance(tokenizer.eos_token_id, int):
        answers = chat_encoder(tokenizer).answer_ends if tokenizer.chat_template else ()
        ends = dict.fromkeys((*answers, *take_special_ids(model, folder)))
        learn_eos(model, tokenizer.eos_token_id, ends=[*ends])
    check_savable(model, tokenizer, notify=notify)
    return Merged(model, tokenizer, apart)


def save_merged(merged: Merged, out: Path, *, card: Callable[[Path], str]) -> None:
    """Write a model with its tokenizer and card to a folder that is empty or isn't there.

    Args:
        merged: see `merge_files`.
        out: the folder; it appears by one rename.
        card: gives README.md of a model in a folder.

    Raises:
        RunError: it can't be written.
    """
    needed = sum(4 * one.numel() for one in merged.model.parameters()) + 1_000_000
    partial = out.absolute().with_name(f".{out.absolute().name}.partial")
    try:
        partial.parent.mkdir(parents=True, exist_ok=True)
        if (free := disk.missing_bytes(partial.parent, needed)) is not None:
            raise RunError(
                f"Disk full: {out} needs {needed / 1e6:,.1f} MB and has {free / 1e6:,.1f} MB left. "
                f"{_NOTHING} Make room, or name a folder on a larger disk with --out."
            )
        shutil.rmtree(partial, ignore_errors=True)
        with stage("Saving the model"):
            merged.model.save_pretrained(str(partial))
            merged.tokenizer.save_pretrained(str(partial))
            write_text(partial / "README.md", card(partial))
            sync_tree(partial)
        if out.is_dir():
            out.rmdir()  # an empty one
        partial.rename(out)
        sync_folder(out.absolute().parent)
    except RunError:
        raise
    except Exception as error:  # torch and safetensors raise types of their own
        said = " ".join(str(getattr(error, "strerror", None) or error).split())
        raise RunError(f"{out} can't be written: {said}. {_NOTHING}") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
