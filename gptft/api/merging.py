"""A run or an adapter -> a folder with the model that it makes of its base."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gptft.console import Notify, loading_libraries, silent
from gptft.errors import ConfigError
from gptft.files import JsonFields
from gptft.inputs import can_be_made, expand_user, why_unusable
from gptft.models.adapters import adapter_of, is_adapter
from gptft.models.hub import find_model
from gptft.runs.model_folder import ADAPTER, MODEL, trains_adapter
from gptft.runs.read import as_mapping, read_facts, read_run

_MOST = 10.0  # of a scale, beyond which nothing of the base is left


@dataclass(frozen=True)
class MergedModel(JsonFields):
    """A model that was made of an adapter and its base.

    Attributes:
        model_dir: its folder.
        kind: of the adapter: LoRA, rank 8, say.
        base: how the adapter names its base.
        scale: what the adapter's changes were multiplied by.
        apart: how far the logits of a few tokens are from those of the adapter on its base, at that
            scale, as a share of the largest; None where only weights can be scaled.
    """

    model_dir: Path
    kind: str
    base: str
    scale: float
    apart: float | None

    json_names = ("model_dir", "kind", "base", "scale", "apart")


def merge(name: str, out: Path, *, scale: float = 1.0, notify: Notify = silent) -> MergedModel:
    """Merge an adapter into its base, and write the model, in float32, with tokenizer and card.

    Args:
        name: of a run that trained an adapter, of an adapter's folder, or of one on the hub.
        out: a folder that is empty or isn't there.
        scale: what is added to the base's weights is multiplied by it: 0.5 is half-way.
        notify: told what of the base's files had to be mended.

    Raises:
        ConfigError: there is nothing to merge, or `out` is taken, or the scale makes no sense.
        ModelError: adapter or base can't be found or read, or can't be merged.
        RunError: the model can't be written.
    """
    if not 0 < abs(scale) <= _MOST:
        raise ConfigError(
            f"--scale must be a number up to {_MOST:g} other than 0, not {scale:g}: 1 is the "
            "adapter as it was trained, 0.5 half-way to it from its base."
        )
    adapter = _adapter(name)
    _check_free(out)
    files = find_model(adapter)
    if not files.adapters:
        raise ConfigError(f"{name} is a model and no adapter: there is nothing to merge.")
    run_dir = files.adapters[-1].parent
    facts = read_facts(run_dir) or {}
    model = as_mapping(as_mapping(facts.get("config")).get("model"))
    kind, base = adapter_of(files)
    with loading_libraries():
        from gptft.training.merging import merge_files, save_merged
    merged = merge_files(
        files, scale=scale, config_overrides=as_mapping(model.get("config_overrides")),
        notify=notify,
    )  # fmt: skip

    def card(folder: Path) -> str:
        from gptft.report.model_card import merged_card, model_card

        if facts:
            return model_card(read_run(run_dir), model_dir=folder, scale=scale)
        return merged_card(name, kind=kind, base=base, scale=scale, model_dir=folder)

    save_merged(merged, out, card=card)
    return MergedModel(out, kind, base, scale, merged.apart)


def _adapter(name: str) -> str:
    """The adapter's folder of a run; any other name as it is.

    Raises:
        ConfigError: the run has none.
    """
    try:
        folder = expand_user(name)
    except OSError:
        return name  # which `find_model` refuses
    facts = read_facts(folder)
    if facts is None:
        return name
    if is_adapter(folder / ADAPTER):
        return str(folder / ADAPTER)
    raise ConfigError(_nothing_to_merge(name, folder, facts))


def _nothing_to_merge(name: str, folder: Path, facts: Mapping[str, Any]) -> str:
    if trains_adapter(facts):
        return (
            f"{name} is a run that has no finished adapter: {folder / ADAPTER} is missing. Train "
            "it to the end first (--resume)."
        )
    return (
        f"{name} is a run without an adapter: its weights themselves were tuned, and there is "
        f"nothing to merge. Its model is in {folder / MODEL}."
    )


def _check_free(out: Path) -> None:
    if problem := why_unusable(out):
        raise ConfigError(f"{out} {problem}. Name another folder with --out.")
    if out.is_dir() and any(out.iterdir()):
        raise ConfigError(
            f"{out} isn't empty; nothing in it was touched. Name another folder with --out."
        )
    if not can_be_made(out):
        raise ConfigError(f"{out} can't be made. Name another folder with --out.")
