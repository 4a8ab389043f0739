"""A folder with an adapter of peft -> the files of its base with it, and what it says of itself.

Nothing of peft or torch is needed here, and nothing that a folder names is ever run.
"""

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from gptft.config.suggest import did_you_mean
from gptft.errors import ModelError
from gptft.files import JsonFields, file_checksum, json_checksum, read_json
from gptft.inputs import is_file
from gptft.models.headers import read_headers
from gptft.models.kept import kept_folder
from gptft.models.model_files import ModelFiles, pickled_files, require_small
from gptft.models.source import BUNDLED_MODELS, resolve_model
from gptft.terminal.commands import install_command
from gptft.terminal.words import short_value

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
PICKLED_ADAPTER = "adapter_model.bin"

# Kinds that change weights, so that they can be merged into them, by peft's name of each (0.21).
KINDS = {
    "LORA": "LoRA", "ADALORA": "AdaLoRA", "BOFT": "BOFT", "C3A": "C3A", "DELORA": "DeLoRA",
    "FOURIERFT": "FourierFT", "GRALORA": "GraLoRA", "HIRA": "HiRA", "HRA": "HRA", "IA3": "IA3",
    "LN_TUNING": "LN tuning", "LOHA": "LoHa", "LOKR": "LoKr", "MISS": "MiSS", "OFT": "OFT",
    "RANDLORA": "RandLoRA", "ROAD": "RoAd", "SHIRA": "SHiRA", "TRAINABLE_TOKENS": "trained tokens",
    "VBLORA": "VB-LoRA", "VERA": "VeRA",
}  # fmt: skip
# Kinds that put vectors of their own before every text.
_PROMPTS = (
    "CARTRIDGE", "CPT", "MULTITASK_PROMPT_TUNING", "PREFIX_TUNING", "PROMPT_TUNING", "P_TUNING",
)  # fmt: skip
# Starts that leave the base's weights alone, or that a second one repeats to the digit.
_STARTS = (True, False, "gaussian", "orthogonal", "eva", "pissa", "olora")
# Settings of LoRA under which the layers alone don't compute what the whole of peft's model does,
# or which import a module by its name; and what each is.
_BEYOND_LAYERS = {
    "alora_invocation_tokens": "an adapter that works from a certain token on (aLoRA)",
    "arrow_config": "a router between adapters (Arrow)",
    "layer_replication": "a model that repeats layers of its base",
    "megatron_config": "layers of Megatron",
}
# What this machine's own peft decides, and never a folder.
_NEVER_TAKEN = ("auto_mapping", "megatron_core", "runtime_config")
_BUNDLED = re.compile(rf"[/\\]gptft[/\\]models[/\\]({'|'.join(BUNDLED_MODELS)})[/\\]?$")
_MAX_RANK = 65_536  # of any adapter in use it is some hundreds

Find = Callable[[str, str | None], ModelFiles]


@dataclass(frozen=True)
class AdapterFacts(JsonFields):
    """What an adapter's files say of it.

    Attributes:
        kind: LoRA, say, and what it is besides.
        rank: of its matrices, where it has one.
        base: the base that it is for, as its config names it.
        targets: the ends of the names of the layers that it changes.
        parameters: how many numbers it holds; None where its weights aren't here.
        bytes_on_disk: of its weights.
    """

    kind: str
    rank: int | None
    base: str
    targets: tuple[str, ...]
    parameters: int | None
    bytes_on_disk: int | None


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter, and no weights of its own."""
    if not is_file(folder / ADAPTER_CONFIG):
        return False
    if any(not path.name.startswith("adapter") for path in folder.glob("*.safetensors")):
        return False
    try:
        if pickled_files(folder):
            return False
    except ModelError:
        return False
    has_weights = any(is_file(folder / name) for name in (ADAPTER_WEIGHTS, PICKLED_ADAPTER))
    # Of the hub's models maybe no weights were fetched, and some have an adapter's config, too.
    return has_weights or not is_file(folder / "config.json")


def with_base(files: ModelFiles, find: Find) -> ModelFiles:
    """The files of the base that an adapter is for, with the adapter; of a model the same.

    Args:
        files: of a model or an adapter.
        find: finds a base by its name and revision.

    Raises:
        ModelError: the base isn't there, or the adapter is one of itself, or one that gptft can't
            apply.
    """
    found, chain = files, list[Path]()
    while is_adapter(found.folder):
        chain.append(found.folder)
        found = base_of(found, find, before=chain[:-1])
    if not chain:
        return files
    tokenizer = (one for one in chain if has_own_tokenizer(one))
    return replace(
        found, name=files.name, adapters=(*reversed(chain), *found.adapters),
        own_tokenizer=next(tokenizer, None),
    )  # fmt: skip


def base_of(files: ModelFiles, find: Find, *, before: list[Path]) -> ModelFiles:
    """The files of an adapter's base, which may be an adapter, too.

    Args:
        files: the adapter's.
        find: see `with_base`.
        before: folders of adapters whose base it is, however far.

    Raises:
        ModelError: see `with_base`.
    """
    folder = files.folder
    if folder.resolve() in {one.resolve() for one in before}:
        raise ModelError(
            f"{folder} is an adapter whose base is in the end itself. Write the name of the model "
            f"that it was trained on as base_model_name_or_path in {folder / ADAPTER_CONFIG}."
        )
    base, revision = base_name(folder)
    try:
        return find(_place(base, folder), revision)
    except ModelError as error:
        raise ModelError(
            f"{folder} is an adapter ({kind_of(_config(folder))}) of {base}, which can't be had: "
            f"{str(error).rstrip('.')}. Or write the base's place as base_model_name_or_path in "
            f"{folder / ADAPTER_CONFIG}."
        ) from None


def _place(base: str, folder: Path) -> str:
    """A base's name, or its path where it is one that is relative to something else than here.

    A relative path is one from the current folder, as in peft, or else from the adapter's, or from
    where the run was started that the adapter is of.
    """
    if base in BUNDLED_MODELS or _exists(Path(base)):
        return base
    started = None
    with suppress(OSError, ValueError):
        started = read_json(folder.parent / "run.json").get("working_dir")
    starts = [folder, *([Path(started)] if isinstance(started, str) else [])]
    return next((str(start / base) for start in starts if _exists(start / base)), base)


def base_name(folder: Path) -> tuple[str, str | None]:
    """How an adapter's config names its base, and which revision of it.

    Raises:
        ModelError: it names none.
    """
    stored = _config(folder)
    base, revision = stored.get("base_model_name_or_path"), stored.get("revision")
    if not isinstance(base, str) or not base.strip():
        raise ModelError(
            f"{folder / ADAPTER_CONFIG} doesn't name the base that the adapter is for: "
            f"base_model_name_or_path is {short_value(base)}. Write the name or folder of its base."
        )
    if revision is not None and not isinstance(revision, str):
        raise ModelError(
            f"{folder / ADAPTER_CONFIG}: revision is {short_value(revision)}, and a branch, tag or "
            "commit of the base is a text. Leave it out for the newest."
        )
    if bundled := _BUNDLED.search(base):
        own = resolve_model(bundled[1])
        if not _exists(Path(base)) or (own is not None and own.samefile(base)):
            return bundled[1], None  # stock peft writes where that installation of gptft had it
    return base, revision or None


def adapter_config(folder: Path) -> dict[str, Any]:
    """What peft is to be told of an adapter.

    Raises:
        ModelError: it is none that gptft can apply.
    """
    stored = _config(folder)
    _require_kind(stored, folder)
    path, task = folder / ADAPTER_CONFIG, stored.get("task_type")
    if task not in (None, "CAUSAL_LM"):
        raise ModelError(
            f"{path}: the adapter's task_type is {short_value(task)}: it wasn't trained to predict "
            "the next token. Take one of CAUSAL_LM."
        )
    start = stored.get("init_lora_weights", True)
    if not any(start is one or (isinstance(one, str) and start == one) for one in _STARTS):
        raise ModelError(
            f"{path}: init_lora_weights is {short_value(start)}, which changes the base's weights "
            "by chance or by texts, so that the adapter fits them no more. Convert it where it was "
            "trained, with save_pretrained(path_initial_model_for_weight_conversion=...)."
        )
    for name, what in _BEYOND_LAYERS.items():
        if stored.get(name):
            raise ModelError(f"{path}: {name} asks for {what}, which gptft doesn't apply.")
    ranks = stored.get("rank_pattern")
    more = ranks.items() if isinstance(ranks, Mapping) else ()
    for name, rank in (*((key, stored.get(key)) for key in ("r", "init_r", "target_r")), *more):
        # AdaLoRA keeps a list of the values of each there.
        if isinstance(rank, int) and not -1 < rank <= _MAX_RANK:
            raise ModelError(
                f"{path}: {name} is {short_value(rank)}, and a rank is a whole number from 0 to "
                f"{_MAX_RANK:,}. Copy the file again from where the adapter comes from."
            )
    return {name: value for name, value in stored.items() if name not in _NEVER_TAKEN}


def require_adapter(folder: Path) -> None:
    """Refuse an adapter that can't be applied, before anything is loaded.

    Raises:
        ModelError: as said, or peft is missing.
    """
    adapter_config(folder)
    adapter_weights(folder)
    if find_spec("peft") is None:
        raise ModelError(
            f"{folder} is an adapter, and applying it takes the package peft. Install it: "
            f"{install_command('peft')}"
        )


def adapter_weights(folder: Path) -> Path:
    """The file of an adapter's weights.

    Raises:
        ModelError: there is none.
    """
    for name in (ADAPTER_WEIGHTS, PICKLED_ADAPTER):
        if is_file(folder / name):
            return folder / name
    raise ModelError(
        f"{folder} holds an adapter's {ADAPTER_CONFIG} and no weights of it, {ADAPTER_WEIGHTS}. "
        "Copy them from where the adapter comes from."
    )


def adapter_facts(folder: Path) -> AdapterFacts:
    """What the files of an adapter say of it; the weights aren't read.

    Raises:
        ModelError: its config says of no base, or of no kind that gptft applies.
    """
    stored = _config(folder)
    _require_kind(stored, folder)
    targets = stored.get("target_modules")
    listed = targets if isinstance(targets, list) else [targets] if targets else []
    parameters = on_disk = None
    try:
        path = adapter_weights(folder)
    except ModelError:
        path = None
    if path is not None:
        on_disk = path.stat().st_size
        kept = kept_folder([path]) if path.name == PICKLED_ADAPTER else folder
        named = ADAPTER_WEIGHTS if kept == folder else "model.safetensors"
        tensors, unreadable = read_headers([] if kept is None else [kept / named])
        if tensors and not unreadable:
            parameters = sum(one.size for one in tensors.values())
    rank = stored.get("r")
    return AdapterFacts(
        kind=kind_of(stored, with_rank=False),
        rank=rank if isinstance(rank, int) and not isinstance(rank, bool) else None,
        base=base_name(folder)[0],
        targets=tuple(sorted(str(one) for one in listed)),
        parameters=parameters,
        bytes_on_disk=on_disk,
    )


def adapters_checksum(files: ModelFiles) -> str:
    """What changes with all that a model's adapters compute and a commit of their base.

    Returns:
        16 letters.

    Raises:
        ModelError: the weights of one can't be read.
    """
    is_cached = files.folder.parent.name == "snapshots"  # as the hub's cache has a commit
    parts: list[Any] = [files.folder.name if is_cached else None]
    for folder in files.adapters:
        config = {
            name: sorted(map(str, value)) if isinstance(value, list) else value
            for name, value in adapter_config(folder).items()
            if name not in ("base_model_name_or_path", "inference_mode", "peft_version")
        }
        path = adapter_weights(folder)
        try:
            parts.append([config, file_checksum(path)])
        except OSError as error:
            raise ModelError(f"{path} can't be read: {error.strerror}.") from None
    return json_checksum(parts, default=str)[:16]


def kind_of(stored: Mapping[str, Any], *, with_rank: bool = True) -> str:
    """An adapter's kind in a few words.

    >>> kind_of({"peft_type": "LORA", "r": 8, "use_dora": True})
    'DoRA, rank 8'
    """
    known = stored.get("peft_type")
    kind = KINDS.get(known, known) if isinstance(known, str) else "of no kind"
    if known == "LORA" and stored.get("use_dora") is True:
        kind = "DoRA"
    elif known == "LORA" and stored.get("use_rslora") is True:
        kind = "rsLoRA"
    rank = stored.get("r")
    is_number = isinstance(rank, int) and not isinstance(rank, bool)
    return f"{kind}, rank {rank:,}" if with_rank and is_number else str(kind)


def adapter_words(files: ModelFiles) -> str:
    """Which adapter of which base a model is, to be followed by what was done with it."""
    kind, base = adapter_of(files)
    return f"{files.name}: an adapter ({kind}) of {base}"


def adapter_of(files: ModelFiles) -> tuple[str, str]:
    """The kind of the adapter that a model is, and the name of its base."""
    folder = files.adapters[-1]
    return kind_of(_config(folder)), base_name(folder)[0]


def has_own_tokenizer(folder: Path) -> bool:
    """Whether an adapter's folder holds a tokenizer."""
    files = ModelFiles(folder.name, folder)
    return files.has_tokenizer or files.old_vocabulary is not None


def _exists(path: Path) -> bool:
    with suppress(OSError, ValueError):  # a name that is too long, or holds a NUL
        return path.exists()
    return False


def _config(folder: Path) -> dict[str, Any]:
    files = ModelFiles(folder.name, folder)
    require_small(files)
    return files.json(ADAPTER_CONFIG)


def _require_kind(stored: Mapping[str, Any], folder: Path) -> None:
    path, kind = folder / ADAPTER_CONFIG, stored.get("peft_type")
    if isinstance(kind, str) and kind in KINDS:
        return
    if isinstance(kind, str) and kind in _PROMPTS:
        raise ModelError(
            f"{path}: the adapter's peft_type is {kind}: it puts vectors before each text and "
            "changes no weight, so that it can't be merged. gptft applies those that change "
            f"weights: {', '.join(KINDS.values())}."
        )
    hint = did_you_mean(str(kind), KINDS) if isinstance(kind, str) else ""
    raise ModelError(
        f"{path}: the adapter's peft_type is {short_value(kind)}, and gptft applies "
        f"{', '.join(KINDS)}. {hint}".rstrip()
    )
