"""The section `lora` and the files of its base -> what doesn't fit, before torch is loaded.

Only what headers tell: training itself has the last word, before it writes anything.
"""

from collections.abc import Iterator
from importlib.util import find_spec

from gptft.config.lora import LoraConfig
from gptft.config.sections import Config
from gptft.config.source import KeyPath
from gptft.models.anatomy import read_anatomy
from gptft.models.headers import Tensors, read_headers, weight_files
from gptft.models.hub import find_model
from gptft.models.parameters import part_of
from gptft.terminal.commands import install_command

Problem = tuple[KeyPath, str]


def lora_problems(config: Config) -> Iterator[Problem]:
    """What of a config's section `lora` doesn't fit this machine, or the base."""
    lora = config.lora
    if lora is None:
        return
    if find_spec("peft") is None:
        yield ("lora",), f"it takes the package peft. Install it: {install_command('peft')}"
    for name in ("fsdp", "deepspeed"):
        if config.training.get(name):
            yield (
                ("training", name),
                "an adapter (lora) is trained with all weights in each process. Leave it out.",
            )
    if lora.quantize and find_spec("bitsandbytes") is None:
        yield (
            ("lora", "quantize"),
            f"it takes the package bitsandbytes. Install it: {install_command('bitsandbytes')}",
        )
    if lora.quantize and config.training.get("torch_compile"):
        yield (
            ("training", "torch_compile"),
            "a quantized base (lora.quantize) can't be compiled while it is trained on. Leave it "
            "out.",
        )
    if config.model.from_scratch is not None:
        return
    files = find_model(config.model.name, revision=config.model.revision)
    if lora.quantize and files.adapters:
        yield (
            ("lora", "quantize"),
            f"{files.name} is an adapter, and can't be quantized. Merge it first, with gptft "
            "merge, and train on the model that it makes.",
        )
    tensors, _ = read_headers(weight_files(files)) if files.gguf is None else ({}, [])
    for name, message in _misfits(lora, tensors):
        yield ("lora", name), message
    anatomy = read_anatomy(files.config, tensors)
    if anatomy.layers and lora.layers and (highest := max(lora.layers)) >= anatomy.layers:
        last = anatomy.layers - 1
        yield ("lora", "layers"), f"there is no layer {highest:,}; the last one is {last:,}."
    added = len(config.tokenizer.add_tokens) + len(config.tokenizer.special_tokens)
    ids = lora.trainable_token_indices
    if anatomy.vocab_size and ids and max(ids) >= anatomy.vocab_size + added:
        last = anatomy.vocab_size + added - 1
        yield (
            ("lora", "trainable_token_indices"),
            f"there is no id {max(ids):,}; the model's go up to {last:,}.",
        )


def _misfits(lora: LoraConfig, tensors: Tensors) -> Iterator[tuple[str, str]]:
    """Names that no weight has, and embeddings that can't be trained whole."""
    modules = [name.rpartition(".")[0] for name in tensors]
    if not modules:
        return
    targets = [] if isinstance(lora.target_modules, str) else lora.target_modules
    for setting, names in (("target_modules", targets), ("modules_to_save", lora.modules_to_save)):
        for name in names:
            if not any(_is_named(module, name) for module in modules):
                known = ", ".join(sorted({one.rpartition(".")[2] for one in modules if one}))
                yield setting, f"the model has no {name}. It has {known}."
    has_head = any(part_of(name) == "head" for name in tensors)
    for name in lora.modules_to_save:
        ends = {part_of(own) for own in tensors if _is_named(own.rpartition(".")[0], name)}
        if "embeddings" in ends and not has_head:
            yield (
                "modules_to_save",
                f"{name} shares its weights with the head, and trained whole the two would part. "
                "Train single tokens: lora.trainable_token_indices.",
            )


def _is_named(module: str, name: str) -> bool:
    """Whether a module's path ends with a name, or has it as a part, as peft looks for it."""
    return module == name or module.endswith(f".{name}") or f".{name}." in f".{module}."
