"""A base model and the settings of an adapter -> the model with the adapter to be trained in it.

The model stays the library's own class: what a trainer or a loss is told of it reaches it, which
within peft's wrapper would be dropped without a word. The wrapper is kept to save and load by.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from gptft.config.lora import LoraConfig, Quantize
from gptft.errors import ConfigError, RunError
from gptft.files import read_json, write_json
from gptft.models.adapted import few_logits, part_ends, tie_again
from gptft.models.adapters import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from gptft.models.lora_forward import fuse_adapter
from gptft.models.quantized import keep_as_loaded, num_weights
from gptft.models.reading import first_line
from gptft.models.restore import is_same
from gptft.panics import no_panic

_MERGED = 1e-4  # of the largest logit: merging rounds, and a thousandth of that


class TrainedAdapter:
    """An adapter that is being trained, in its base.

    Attributes:
        model: the base, with the adapter's layers in it.
        targets: the names of the layers that have a part of it, sorted.
        num_base: how many numbers the base has.
        is_merged: whether it is to be merged into its base at the end.
        quantize: how the base is quantized, if it is; then it is never merged into this one.
    """

    def __init__(
        self,
        wrapped: Any,
        *,
        base_name: str,
        revision: str | None,
        num_base: int,
        is_merged: bool,
        quantize: Quantize | None,
    ) -> None:
        """Keep peft's wrapper, and the name that a person calls the base by."""
        self._wrapped, self._base_name, self._revision = wrapped, base_name, revision
        self.num_base, self.is_merged, self.quantize = num_base, is_merged, quantize
        self.model: PreTrainedModel = wrapped.get_base_model()
        self.targets: Sequence[str] = sorted(wrapped.base_model.targeted_module_names)

    @property
    def num_trained(self) -> int:
        """How many numbers are trained."""
        return sum(one.numel() for one in self.model.parameters() if one.requires_grad)

    def tensors(self) -> dict[str, torch.Tensor]:
        """What is saved of it, by peft's names."""
        peft: Any = import_module("peft")
        with _quiet():
            found: dict[str, torch.Tensor] = peft.get_peft_model_state_dict(
                self._wrapped, save_embedding_layers=False
            )
        return found

    def save(self, folder: Path) -> None:
        """Write it as peft does, its base by the name that a person gave, and what ends a text.

        Raises:
            OSError: it can't be written.
        """
        with _quiet():
            self._wrapped.save_pretrained(str(folder), save_embedding_layers=False)
            self.model.generation_config.save_pretrained(str(folder))
        (folder / "README.md").unlink(missing_ok=True)  # a form that nobody has filled in
        path = folder / ADAPTER_CONFIG
        stored = read_json(path)
        stored["base_model_name_or_path"] = self._base_name
        stored["revision"] = self._revision
        for name, value in stored.items():  # peft keeps sets, whose order differs from run to run
            if isinstance(value, list) and all(isinstance(one, str) for one in value):
                stored[name] = sorted(value)
        write_json(path, stored)

    def restore(self, folder: Path) -> None:
        """Take up what `save` wrote.

        Raises:
            RunError: it isn't this adapter's, tensor for tensor.
        """
        stored = self._stored(folder)
        self.fill(stored)
        self._refuse(stored, folder)

    def stored(self, folder: Path) -> dict[str, torch.Tensor]:
        """What `save` wrote, by peft's names.

        Raises:
            RunError: it can't be read, or is of another adapter.
        """
        found, ours = self._stored(folder), self.tensors()
        if {n: t.shape for n, t in found.items()} != {n: t.shape for n, t in ours.items()}:
            raise RunError(f"{folder} holds another adapter than this one.")
        return found

    def fill(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Give it tensors by peft's names."""
        peft: Any = import_module("peft")
        with _quiet():
            peft.set_peft_model_state_dict(self._wrapped, {**tensors})

    def check_restorable(self, folder: Path) -> None:
        """Prove that what was written is what there is.

        Raises:
            RunError: it isn't.
        """
        self._refuse(self._stored(folder), folder)

    def _stored(self, folder: Path) -> dict[str, torch.Tensor]:
        path = folder / ADAPTER_WEIGHTS
        try:
            with no_panic(f"{path} can't be read"):
                return load_file(path)
        except OSError as error:
            raise RunError(f"{path} can't be read: {error}") from None

    def _refuse(self, stored: Mapping[str, torch.Tensor], folder: Path) -> None:
        ours = self.tensors()
        off = sorted(
            name for name in {*ours, *stored}
            if name not in ours or name not in stored or not is_same(ours[name], stored[name])
        )  # fmt: skip
        if off:
            raise RunError(
                f"{folder}: {len(off)} of its tensors aren't those of this adapter, {off[0]} for "
                "one. It is another run's, or the settings of lora have changed."
            )

    def merge(self) -> PreTrainedModel:
        """The base with the adapter added to its weights, in float32; the adapter is used up.

        Raises:
            RunError: the merged model isn't what the adapter on its base was.
        """
        model = self.model
        model.to(torch.float32)  # type: ignore[arg-type]
        was_training = model.training
        model.eval()
        expected = few_logits(model).float()
        is_tied = part_ends(model)
        with _quiet():
            merged: PreTrainedModel = self._wrapped.merge_and_unload(safe_merge=True)
        merged.requires_grad_(True)
        if is_tied:
            tie_again(merged)
        apart = float((few_logits(merged).float() - expected).abs().max())
        if apart > _MERGED * max(float(expected.abs().max()), 1e-6):
            raise RunError(
                f"The adapter and its base can't be merged: logits differ by {apart:.2g}. The "
                "adapter alone is saved, and can be used with its base."
            )
        merged.train(was_training)
        return merged


def add_adapter(
    model: PreTrainedModel,
    settings: LoraConfig,
    *,
    base_name: str,
    revision: str | None = None,
    seed: int,
    new_ids: Sequence[int] = (),
) -> TrainedAdapter:
    """Put an adapter to be trained into a base, whose own weights are frozen.

    Args:
        model: the base.
        settings: of the section `lora`.
        base_name: what a person calls the base.
        revision: of a base on the hub.
        seed: of the adapter's first weights.
        new_ids: of tokens that the base didn't have, whose embeddings are trained, too.

    Raises:
        ConfigError: the settings don't fit the base.
    """
    peft: Any = import_module("peft")
    _check_saved_whole(model, settings)
    ids = sorted({*settings.trainable_token_indices, *new_ids})
    _check_ids(model, ids)
    rows = _trained_rows(model, settings, ids=ids, new_ids=new_ids)
    num_base = num_weights(model)
    state = torch.get_rng_state()
    torch.manual_seed(seed)
    try:
        with _quiet():
            config = peft.LoraConfig(
                task_type="CAUSAL_LM", r=settings.r, lora_alpha=settings.alpha,
                lora_dropout=settings.dropout, target_modules=_targets(model, settings),
                layers_to_transform=settings.layers, use_rslora=settings.use_rslora,
                use_dora=settings.use_dora, bias=settings.bias,
                modules_to_save=settings.modules_to_save or None,
                trainable_token_indices=rows,
                fan_in_fan_out=any(isinstance(one, Conv1D) for one in model.modules()),
            )  # fmt: skip
            wrapped = peft.get_peft_model(model, config)
            keep_as_loaded(model)
            fuse_adapter(model)
    except Exception as error:  # peft raises a dozen types
        raise ConfigError(_why(error, model, settings)) from None
    finally:
        torch.set_rng_state(state)
    adapter = TrainedAdapter(
        wrapped, base_name=base_name, revision=revision, num_base=num_base,
        is_merged=settings.merge, quantize=settings.quantize,
    )  # fmt: skip
    if not adapter.num_trained:
        raise ConfigError("lora: nothing of the model would be trained.")
    return adapter


def _targets(model: PreTrainedModel, settings: LoraConfig) -> str | list[str]:
    """What peft is told of the layers; it takes a choice of them beside names alone (0.21)."""
    if settings.target_modules != "all-linear" or settings.layers is None:
        return settings.target_modules
    head = model.get_output_embeddings()
    named = model.named_modules()
    linear = {p.rpartition(".")[2] for p, one in named if _is_linear(one) and one is not head}
    return sorted(linear)


def _is_linear(module: torch.nn.Module) -> bool:
    return isinstance(module, torch.nn.Linear | Conv1D)


def _check_saved_whole(model: PreTrainedModel, settings: LoraConfig) -> None:
    """Refuse to train a tied embedding whole: peft would save it untied, without a word (0.21)."""
    ends = {"embeddings": model.get_input_embeddings(), "head": model.get_output_embeddings()}
    weights = [getattr(one, "weight", None) for one in ends.values()]
    if not settings.modules_to_save or weights[0] is not weights[1]:
        return
    for path, module in model.named_modules():
        if _is_named(path, settings.modules_to_save) and any(
            module is end for end in ends.values()
        ):
            raise ConfigError(
                f"lora.modules_to_save: {path} shares its weights with the other end of the model, "
                "and trained whole the two would part. Train single tokens: "
                "lora.trainable_token_indices."
            )


def _trained_rows(
    model: PreTrainedModel,
    settings: LoraConfig,
    *,
    ids: Sequence[int],
    new_ids: Sequence[int],
) -> list[int] | dict[str, list[int]] | None:
    """The tokens whose embeddings are trained, or those of each end of the model by its name.

    A head that has weights of its own gets rows for new tokens, too: else none could be predicted.
    An end that is trained whole (modules_to_save), or in another way, holds them already.

    Raises:
        ConfigError: single tokens are named of embeddings that are trained whole.
    """
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    named: list[str | None] = []
    for end in ends:
        paths = [path for path, module in model.named_modules() if module is end]
        is_saved = any(_is_named(path, settings.modules_to_save) for path in paths)
        named.append(None if is_saved or not paths else paths[0].rpartition(".")[2])
    embeddings, head = named
    if embeddings is None and settings.trainable_token_indices:
        raise ConfigError(
            "lora.trainable_token_indices names single tokens, and lora.modules_to_save trains all "
            "embeddings. Leave one of them out."
        )
    targets = settings.target_modules
    is_target = not isinstance(targets, str) and head is not None and _is_named(head, targets)
    is_tied = getattr(ends[0], "weight", None) is getattr(ends[1], "weight", None)
    rows = {embeddings: [*ids]} if embeddings is not None and ids else {}
    if head is not None and not is_target and not is_tied and new_ids:
        rows[head] = sorted(new_ids)
    if [*rows] == [embeddings]:
        return [*ids]
    return rows or None


def _is_named(path: str, names: Sequence[str]) -> bool:
    """Whether one of some names, as peft takes them, means a module."""
    return any(path == one or path.endswith(f".{one}") for one in names)


def _check_ids(model: PreTrainedModel, ids: Sequence[int]) -> None:
    rows = len(model.get_input_embeddings().weight)  # type: ignore[arg-type]
    if ids and ids[-1] >= rows:
        raise ConfigError(
            f"lora.trainable_token_indices: there is no id {ids[-1]:,}; the model's go up to "
            f"{rows - 1:,}."
        )


def _why(error: Exception, model: PreTrainedModel, settings: LoraConfig) -> str:
    said = first_line(error).rstrip(".")
    if "not found in the base model" in said or "No modules were targeted" in said:
        ends = {
            path.rpartition(".")[2] for path, module in model.named_modules() if _is_linear(module)
        }
        named = settings.target_modules
        shown = named if isinstance(named, str) else ", ".join(named)
        return (
            f"lora.target_modules: the model has no linear layer {shown}"
            + (" among lora.layers" if settings.layers else "")
            + f". It has {', '.join(sorted(ends))}."
        )
    return f"lora: peft refuses the settings for this model: {said}."


@contextmanager
def _quiet() -> Iterator[None]:
    """Peft warns of what is meant here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
