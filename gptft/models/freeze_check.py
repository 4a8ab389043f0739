"""The setting model.freeze and the files of its base -> what doesn't fit, before torch is loaded.

Only what headers tell: training itself has the last word, before it writes anything.
"""

from collections.abc import Iterator

from gptft.config.lora import LoraConfig
from gptft.config.name_patterns import matching, pattern_problem
from gptft.config.sections import Config
from gptft.config.source import KeyPath
from gptft.models.anatomy import read_anatomy
from gptft.models.architectures import buffer_names, linear_layers
from gptft.models.headers import Tensors, read_headers, weight_files
from gptft.models.hub import find_model
from gptft.models.parameters import LORA_RANK, adapted_layers, learned, part_of
from gptft.terminal.words import bytes_text, count

Problem = tuple[KeyPath, str]

_AT: KeyPath = ("model", "freeze")
# Of a number in 4 bits with a scale in float32 for each 64, and in 8 bits.
_BYTES = {"nf4": 0.5 + 4 / 64, "int8": 1.0}
# What models have in memory before names that their files leave it out of, GPT-2's for one.
_ROOTS = ("transformer", "model", "gpt_neox", "backbone")
_HEAD = "lm_head.weight"  # a tied one is in no file, and some files call it otherwise


def freeze_problems(config: Config) -> Iterator[Problem]:
    """What of a config's model.freeze doesn't fit its base."""
    if not config.model.freeze:
        return
    for name in ("fsdp", "deepspeed"):
        if config.training.get(name):
            yield ("training", name), f"{DIVIDED} Leave it out."
    tensors = _tensors(config)
    if not tensors:
        return
    known = [*(one for name in tensors for one in _in_memory(name, tensors)), _HEAD]
    for pattern in config.model.freeze:
        in_files = pattern_problem(pattern, [*tensors])
        if in_files and pattern_problem(pattern, known) and not _is_merged(pattern, tensors):
            yield _AT, f"{pattern} {in_files}"
    frozen = _frozen(config, tensors)
    if frozen == {*tensors}:
        yield _AT, "all of the model is frozen, and nothing is left to be trained."
    own = config.tokenizer
    if (own.add_tokens or own.special_tokens or own.name) and any(
        part_of(name) == "embeddings" for name in frozen
    ):
        yield (
            _AT,
            "the embeddings are frozen, and those of new tokens would never learn. Leave them out, "
            "or add no tokens.",
        )


DIVIDED = (
    "model.freeze can't be combined with training.fsdp or DeepSpeed, which hold many weights as "
    "one, frozen or not."
)


def trained_sentence(config: Config) -> str:
    """How much of the base is trained, as its files tell; nothing where all of it is."""
    if config.lora is not None:
        return _adapter_sentence(config, config.lora)
    tensors = _tensors(config) if config.model.freeze else {}
    if not tensors:
        return ""
    frozen, total = _frozen(config, tensors), sum(one.size for one in tensors.values())
    trained = total - sum(tensors[name].size for name in frozen)
    return f"Trained: {trained:,} of {count(total, 'parameter')}."


def _adapter_sentence(config: Config, lora: LoraConfig) -> str:
    """How large an adapter is, where it is on all linear layers, and what its base takes."""
    tensors = _tensors(config)
    if not tensors:
        return ""
    files = find_model(config.model.name, revision=config.model.revision, with_weights=False)
    linear = linear_layers(str(files.config.get("model_type")))
    total = sum(one.size for one in tensors.values())
    adapted = adapted_layers(tensors, linear=linear)
    size = sum(adapted.values()) * lora.r // LORA_RANK
    special = (
        lora.target_modules != "all-linear", lora.layers, lora.use_dora, lora.bias != "none",
        lora.modules_to_save, lora.trainable_token_indices, config.tokenizer.add_tokens,
        config.tokenizer.special_tokens, config.tokenizer.name,
    )  # fmt: skip
    of = "" if any(special) else f" of {size:,}"
    held = ""
    if lora.quantize is not None:
        in_linear = sum(tensors[name].size for name in adapted)
        other = 4 if config.model.dtype in ("auto", "float32") else 2  # bytes a number
        num_bytes = other * (total - in_linear) + _BYTES[lora.quantize] * in_linear
        held = f", which take about {bytes_text(round(num_bytes))} in {lora.quantize}"
    return f"Trained: an adapter{of} beside {count(total, 'parameter')}{held}."


def _tensors(config: Config) -> Tensors:
    """Name and shape of the base's weights; empty where headers don't tell."""
    if config.model.from_scratch is not None:
        return {}
    files = find_model(config.model.name, revision=config.model.revision, with_weights=False)
    tensors, unreadable = read_headers(weight_files(files)) if files.gguf is None else ({}, [])
    if unreadable or not tensors:
        return {}
    kind = str(files.config.get("model_type"))
    ties = read_anatomy(files.config, tensors).ties
    return learned(tensors, ties=ties, buffers=buffer_names(kind))


def _frozen(config: Config, tensors: Tensors) -> set[str]:
    """What patterns name of the tensors, by the names in files or in memory."""
    return {
        name
        for pattern in config.model.freeze
        for name in tensors
        if matching(pattern, _in_memory(name, tensors))
    }


def _in_memory(name: str, tensors: Tensors) -> list[str]:
    """What a weight may be called in memory: as in its file, or below a root that files leave out.

    A head is below none.
    """
    has_root = any(one.partition(".")[0] in _ROOTS for one in tensors)
    is_below = not has_root and part_of(name) != "head"
    return [name, *(f"{root}.{name}" for root in _ROOTS if is_below)]


def _is_merged(pattern: str, tensors: Tensors) -> bool:
    """Whether it is of experts, which files hold one by one and memory as one tensor."""
    return "experts" in pattern and any("experts" in name for name in tensors)
