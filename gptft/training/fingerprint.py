"""A run's settings, model and machine -> the fingerprint of all that decides its weights."""

import json
from importlib.metadata import version
from typing import Any

import torch

from gptft.config.sections import Config
from gptft.files import json_checksum
from gptft.models.adapters import adapter_of, adapters_checksum
from gptft.models.hub import commit_of, find_model
from gptft.models.source import VOLATILE_FIELDS
from gptft.runs import run_folder
from gptft.training.resume import decides
from gptft.training.setup import Setup
from gptft.training.weight_decay import decay_schedule
from gptft.version import __version__

_DECISIVE = ("torch", "transformers")  # another version may change a weight's last bits


def fingerprint(config: Config, setup: Setup) -> dict[str, Any]:
    """All that decides the weights, by names a person knows, as JSON gives it back."""
    args = setup.trainer.args
    training = {
        f"training.{name}": value for name, value in args.to_dict().items() if decides(name)
    }
    if unlikelihood := setup.trainer.unlikelihood:
        training["training.unlikelihood_weight"] = unlikelihood.weight
        training["training.unlikelihood_ngram_size"] = unlikelihood.ngram_size
    if average := setup.trainer.kept.average:
        training["training.ema_decay"] = average.decay
        training["training.ema_save"] = average.is_kept  # what is measured may steer a schedule
    if schedule := decay_schedule(config.training):
        training["training.weight_decay_end"] = schedule.end
        training["training.weight_decay_schedule"] = schedule.shape
    if config.model.from_scratch is None and (commit := _commit(config)):
        training["model.commit"] = commit  # whatever the revision is called
    elif config.model.revision is not None:
        training["model.revision"] = config.model.revision
    if config.model.average_with:
        training["model.average_with"] = config.model.model_dump()["average_with"]
    if config.model.from_scratch is None:
        base = find_model(config.model.name, revision=config.model.revision)
        if base.adapters:
            training["model.adapter"] = adapters_checksum(base)
    training |= _lora(config, setup)
    if config.model.freeze:
        training["model.freeze"] = sorted(config.model.freeze)
    data, packing = config.data, setup.ledger.get("packing", "stream")
    if data and data.shuffles(packing):
        training["data.shuffle_documents"] = True
    model_config = setup.model.config.to_dict()
    sizes = {name: value for name, value in model_config.items() if name not in VOLATILE_FIELDS}
    sizes["attn_implementation"] = setup.model.config._attn_implementation
    versions = run_folder.versions()
    values = {
        **training,
        "data": setup.store_dir.name,
        "data.shift_blocks": data.shifts(packing) if data else None,
        "data.isolate_documents": data.isolation(packing) if data else None,
        "tokenizer": _digest(setup.tokenizer.get_vocab()),
        "model": config.model.name if config.model.from_scratch is None else "new",
        "model.config": _digest(sizes),
        "model.dtype": setup.dtype,
        "device": args.device.type,
        "world_size": args.world_size,
        "threads": torch.get_num_threads(),
        **{f"versions.{name}": versions[name] for name in _DECISIVE if name in versions},
        "versions.gptft": __version__,
    }
    plain: dict[str, Any] = json.loads(json.dumps(values, default=str))
    return plain


def _lora(config: Config, setup: Setup) -> dict[str, Any]:
    """The settings of the adapter that is trained, and the very layers that have it."""
    if config.lora is None or setup.trainer.lora is None:
        return {}
    values = config.lora.model_dump(exclude={"target_modules", "merge"})
    if config.lora.quantize is None:
        del values["quantize"]
    else:
        values["bitsandbytes"] = version("bitsandbytes")
    return {
        **{f"lora.{name}": value for name, value in values.items()},
        "lora.target_modules": _digest(list(setup.trainer.lora.targets)),
    }


def adapter_facts(config: Config, setup: Setup) -> dict[str, Any]:
    """What is kept of the adapter that a run starts from, and how much it trains if not all."""
    is_whole = setup.trainer.lora is None and not config.model.freeze
    trained = {} if is_whole else {"num_trained": setup.num_trained}
    return {**_base_adapter(config), **trained}


def _base_adapter(config: Config) -> dict[str, Any]:
    if config.model.from_scratch is not None:
        return {}
    base = find_model(config.model.name, revision=config.model.revision)
    if not base.adapters:
        return {}
    kind, named = adapter_of(base)
    return {"adapter": {"kind": kind, "base": named}}


def _commit(config: Config) -> str | None:
    return commit_of(config.model.name, revision=config.model.revision)


def _digest(value: Any) -> str:
    return json_checksum(value, default=str)[:16]
