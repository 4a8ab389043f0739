"""A model's files -> what can be told of the model without loading its weights."""

from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gptft.errors import ModelError
from gptft.files import JsonFields
from gptft.models.adapters import AdapterFacts, adapter_facts, is_adapter, with_base
from gptft.models.anatomy import Anatomy, read_anatomy
from gptft.models.architectures import buffer_names, linear_layers
from gptft.models.card import Card, read_card
from gptft.models.check import quantization_method
from gptft.models.gguf_header import read_gguf
from gptft.models.headers import DTYPES, Tensor, Tensors, read_headers, weight_files
from gptft.models.hub import find_folder, find_model
from gptft.models.kept import kept_folder
from gptft.models.model_files import ModelFiles, pickled_files
from gptft.models.parameters import Parameters, count_parameters
from gptft.models.training_memory import FLOAT, kept_of_token, logits_bytes
from gptft.tokenization.tokenizer import MAX_IDS, TextTokenizer, load_tokenizer
from gptft.tokenization.tokens import TextCost, split_tokens, text_cost

CountedFrom = Literal["weights", "config"]
TRAINED_BYTES = 16  # a parameter: float32 weight, gradient and AdamW's two moments
_BYTES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "int8": 1, "uint8": 1}
_SPECIAL = ("bos_token", "eos_token", "pad_token", "unk_token")


@dataclass(frozen=True)
class SpecialToken:
    """A special token by its two sources.

    Attributes:
        name: eos_token, say.
        token: its text in the tokenizer; None where it has none.
        tokenizer_id: the id of that text.
        config_ids: what config.json says; empty where it says nothing.
        agrees: whether both say the same; None where one says nothing.
    """

    name: str
    token: str | None
    tokenizer_id: int | None
    config_ids: tuple[int, ...]
    agrees: bool | None


@dataclass(frozen=True)
class Needs:
    """What running and training take, estimated; memory in bytes, operations a token.

    Attributes:
        weights: of the weights as they are stored; None where their dtype isn't known.
        weights_float32: of the weights in float32, as on a CPU.
        cache_per_token: of keys and values of a token in float32; None where that can't be told.
        cache_full: of a full context.
        full_training: weights, gradients and AdamW's moments in float32, without activations.
        lora_parameters: that LoRA of rank 16 on all linear layers trains.
        lora_training: float32 weights and 16 bytes a LoRA parameter, without activations.
        activations_per_1000_tokens: of a batch, about; None where it was never measured.
        forward_flops: 2 a parameter that a token is multiplied with.
        training_flops: 6.
        attention_flops: what attention adds to the former on average over a full context.
    """

    weights: int | None
    weights_float32: int
    cache_per_token: int | None
    cache_full: int | None
    full_training: int
    lora_parameters: int
    lora_training: int
    activations_per_1000_tokens: int | None
    forward_flops: int
    training_flops: int
    attention_flops: int | None


@dataclass(frozen=True)
class ModelFacts(JsonFields):
    """What can be told of a model; None, or empty, where its files don't tell.

    Attributes:
        model: its name.
        anatomy: what it is made of.
        parameters: how many there are, by part.
        counted_from: the headers of its weights, or its config as transformers builds it.
        dtypes: parameters by dtype of the weights.
        quantized: by what method, if at all.
        bytes_on_disk: of its files of weights.
        needs: memory and operations.
        special_tokens: ids in the tokenizer and in config.json.
        num_tokens: entries of the tokenizer.
        text: what the given text costs in its tokens.
        card: what its README.md says.
        adapter: what changes its weights, where it is an adapter; all else is its base's.
        unknown: what couldn't be told, and why, a sentence each.
    """

    model: str
    anatomy: Anatomy
    parameters: Parameters | None
    counted_from: CountedFrom | None
    dtypes: Mapping[str, int]
    quantized: str | None
    bytes_on_disk: int | None
    needs: Needs | None
    special_tokens: tuple[SpecialToken, ...]
    num_tokens: int | None
    text: TextCost | None
    card: Card
    adapter: AdapterFacts | None
    unknown: tuple[str, ...]


def model_facts(
    model: str | ModelFiles, *, text: str | None = None, revision: str | None = None
) -> ModelFacts:
    """Tell what can be told of a model.

    Weights are never read: their headers are enough, and without these the config is built by
    transformers without memory for weights, which takes the seconds that importing it takes.

    Args:
        model: a bundled model, a model or run folder, or a hub id, of which no weights are fetched.
        text: to say what a token holds of it.
        revision: branch, tag or commit of a hub model.

    Raises:
        ModelError: there is no such model, it has no config.json, or a text is given and no
            tokenizer is there for it.
        ConfigError: the text holds a lone surrogate.
    """
    files = find_model(model, revision=revision, with_weights=False)
    if is_adapter(files.folder):  # its base isn't here, which is all right for a tokenizer alone
        files = with_base(files, _find_base)
    if not files.config:
        raise ModelError(
            f"{files.folder} has no config.json, which says what model it is. Copy it from where "
            "the model comes from; gptft tokenize shows a tokenizer alone."
        )
    unknown: list[str] = []
    stored, on_disk, seen = _stored(files, unknown)
    quantized = quantization_method(files.config)
    tensors = {} if quantized else stored
    counted_from: CountedFrom | None = "weights"
    if not tensors:
        tensors, counted_from = _built(files, unknown), "config"
    anatomy = read_anatomy(files.tokenizer.config, tensors)
    parameters = _parameters(tensors, anatomy, files.config) if tensors else None
    tokenizer = _tokenizer(files, unknown, is_needed=text is not None)
    dtypes: Counter[str] = Counter()
    for one in stored.values():
        dtypes[one.dtype or "unknown"] += one.size
    if parameters and parameters.tied is None:
        unknown.append("Its weights hold no head, and its config doesn't tie it to the embeddings.")
    return ModelFacts(
        model=files.name,
        anatomy=anatomy,
        parameters=parameters,
        counted_from=counted_from if parameters else None,
        dtypes=dict(dtypes.most_common()),
        quantized=quantized,
        bytes_on_disk=on_disk,
        needs=_needs(parameters, anatomy, seen) if parameters else None,
        special_tokens=_special_tokens(tokenizer, files.config),
        num_tokens=None if tokenizer is None else tokenizer.vocab_size,
        text=None if text is None or tokenizer is None else _cost(tokenizer, text),
        card=read_card(files.adapters[-1] if files.adapters else files.folder),
        adapter=adapter_facts(files.adapters[-1]) if files.adapters else None,
        unknown=tuple(unknown),
    )


def _parameters(tensors: Tensors, anatomy: Anatomy, config: Mapping[str, Any]) -> Parameters:
    """How many there are; what is none of them is told by the code of each part of the config."""
    configs = [config, *(part for part in config.values() if isinstance(part, dict))]
    kinds = [kind for part in configs if isinstance(kind := part.get("model_type"), str)]
    return count_parameters(
        tensors,
        ties=anatomy.ties,
        buffers=buffer_names(*kinds),
        linear=linear_layers(anatomy.model_type or ""),
        num_experts=anatomy.num_experts,
        top_k=anatomy.top_k,
    )


def _find_base(name: str, revision: str | None) -> ModelFiles:
    return find_folder(name, revision=revision, with_weights=False)


def _stored(files: ModelFiles, unknown: list[str]) -> tuple[Tensors, int | None, int | None]:
    """The tensors in its files, the bytes of the files, and those of the tensors."""
    if files.gguf is not None:
        return _in_gguf(files.gguf)
    paths = weight_files(files)
    if not paths:
        with suppress(ModelError):
            return _converted(files, pickled_files(files.folder))
        return {}, None, None
    tensors, unreadable = read_headers(paths)
    on_disk = sum(path.stat().st_size for path in paths)
    if unreadable or not files.has_weights:
        what = f"{unreadable[0].name} can't be read" if unreadable else "its index names more"
        unknown.append(
            f"Its weights are incomplete: {what}. Parameters are counted by config.json."
        )
        return {}, on_disk, None
    sizes = [_BYTES.get(one.dtype or "", 0) * one.size for one in tensors.values()]
    return tensors, on_disk, sum(sizes) if all(sizes) else on_disk


def _in_gguf(path: Path) -> tuple[Tensors, int, int]:
    """What the header of a .gguf file says, which needn't be read for the weights."""
    _, stored = read_gguf(path)
    tensors = {
        name: Tensor(one.shape, DTYPES.get(one.type, one.type)) for name, one in stored.items()
    }
    on_disk = path.stat().st_size
    return tensors, on_disk, on_disk


def _converted(files: ModelFiles, pickled: list[Path]) -> tuple[Tensors, int | None, int | None]:
    """Of pickled weights, what the copy in the cache says, where there is one."""
    if not pickled:
        return {}, None, None
    on_disk = sum(path.stat().st_size for path in pickled)
    copy = kept_folder(pickled)
    if copy is None:
        return {}, on_disk, None
    tensors, _ = read_headers(weight_files(ModelFiles(files.name, copy)))
    return tensors, on_disk, on_disk


def _built(files: ModelFiles, unknown: list[str]) -> Tensors:
    from gptft.models.built import built_tensors

    try:
        return built_tensors(files)
    except ModelError as error:
        unknown.append(f"How many parameters it has isn't known: {error}.")
        return {}


def _tokenizer(files: ModelFiles, unknown: list[str], *, is_needed: bool) -> TextTokenizer | None:
    try:
        return load_tokenizer(files)
    except ModelError as error:
        if is_needed:
            raise
        unknown.append(f"Its tokens aren't known: {next(iter(str(error).splitlines()), '')}")
        return None


def _cost(tokenizer: TextTokenizer, text: str) -> TextCost:
    return text_cost(text, num_tokens=len(split_tokens(tokenizer, text)))


def _special_tokens(
    tokenizer: TextTokenizer | None, config: Mapping[str, Any]
) -> tuple[SpecialToken, ...]:
    found = []
    for name in _SPECIAL:
        said = config.get(f"{name}_id")
        ids = tuple(
            token_id
            for token_id in (said if isinstance(said, list) else [said])
            if isinstance(token_id, int) and not isinstance(token_id, bool)
            and 0 <= token_id < MAX_IDS
        )  # fmt: skip
        token = None if tokenizer is None else tokenizer.special_tokens.get(name)
        own = None if token is None or tokenizer is None else tokenizer.backend.token_to_id(token)
        if own is None and not ids:
            continue
        agrees = None if own is None or not ids else own in ids
        found.append(SpecialToken(name, token, own, ids, agrees))
    return tuple(found)


def _needs(parameters: Parameters, anatomy: Anatomy, stored: int | None) -> Needs:
    cache = _cache_per_token(anatomy)
    context, layers = anatomy.context, anatomy.layers
    attention = None
    if context and layers and anatomy.heads and anatomy.head_dim:
        attention = 2 * _attending(anatomy) * context * anatomy.heads * anatomy.head_dim
    return Needs(
        weights=stored,
        weights_float32=FLOAT * parameters.total,
        cache_per_token=cache,
        cache_full=cache * context if cache and context else None,
        full_training=TRAINED_BYTES * parameters.total,
        lora_parameters=parameters.lora,
        lora_training=FLOAT * parameters.total + TRAINED_BYTES * parameters.lora,
        activations_per_1000_tokens=_activations(anatomy),
        forward_flops=2 * parameters.multiplied,
        training_flops=6 * parameters.multiplied,
        attention_flops=attention,
    )


def _attending(anatomy: Anatomy) -> int:
    """How many layers have attention."""
    if not anatomy.layer_kinds:
        return anatomy.layers or 0
    words = ("attention", "global", "local", "hybrid")
    return sum(
        number
        for kind, number in anatomy.layer_kinds.items()
        if any(word in kind for word in words) and "linear" not in kind
    )


def _cache_per_token(anatomy: Anatomy) -> int | None:
    """Keys and values of a token in float32, of layers that see everything before them."""
    if not (anatomy.layers and anatomy.kv_heads and anatomy.head_dim) or anatomy.window:
        return None
    return 2 * _attending(anatomy) * anatomy.kv_heads * anatomy.head_dim * FLOAT


def _activations(anatomy: Anatomy) -> int | None:
    """What training keeps of 1,000 tokens of a batch, in bytes, in float32 and without dropout."""
    kept, logits = kept_of_token(anatomy), logits_bytes(anatomy, num_tokens=1000)
    return None if kept is None or logits is None else 1000 * kept + logits
