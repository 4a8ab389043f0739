"""Settings -> what changes the logits at each step, in order and by name.

In: `Settings`, a model with its tokenizer, a batch of prompts. Out: logits processors, ours and
transformers', each with the name of the setting behind it. All are built here and none is left to
`generate`, which would put its own after ours. Order: other models, biases, penalties, bans, length
and form, then what cuts the distribution before a draw, from temperature to mirostat, then marks.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from transformers import (
    LogitsProcessor,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    SynthIDTextWatermarkingConfig,
    WatermarkingConfig,
)
from transformers.generation.logits_process import (
    EncoderNoRepeatNGramLogitsProcessor,
    EncoderRepetitionPenaltyLogitsProcessor,
    EpsilonLogitsWarper,
    EtaLogitsWarper,
    ExponentialDecayLengthPenalty,
    ForcedEOSTokenLogitsProcessor,
    MinNewTokensLengthLogitsProcessor,
    MinPLogitsWarper,
    NoBadWordsLogitsProcessor,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
    SuppressTokensAtBeginLogitsProcessor,
    SuppressTokensLogitsProcessor,
    TemperatureLogitsWarper,
    TopHLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)

from gptft.decoding import warpers
from gptft.decoding.auxiliary_processors import (
    AmateurProcessor,
    Companion,
    DExpertsProcessor,
    GuidanceProcessor,
)
from gptft.decoding.constraints import TextConstraint, allowed_by_choices, allowed_by_regex
from gptft.decoding.early_exit import first_layers
from gptft.decoding.encoding import encode_bare, encode_prompt
from gptft.decoding.loaded_model import LoadedModel
from gptft.decoding.settings import Settings
from gptft.errors import ConfigError
from gptft.terminal.words import short_value

Named = tuple[str, LogitsProcessor]


@dataclass(frozen=True)
class BatchContext:
    """What processors are made for.

    Attributes:
        loaded: the model that writes.
        input_ids: prompts of shape (B, T), left-padded.
        attention_mask: 1 for their tokens, shape (B, T).
        rows: rows a prompt, beams or texts.
    """

    loaded: LoadedModel
    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    rows: int = 1

    @property
    def model(self) -> PreTrainedModel:
        """The one that writes."""
        return self.loaded.model

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Its tokenizer."""
        return self.loaded.tokenizer

    @property
    def eos(self) -> tuple[int, ...]:
        """The ids that end a text."""
        return self.loaded.special.eos

    @property
    def others(self) -> Mapping[str, PreTrainedModel]:
        """Models that settings name, by setting."""
        return self.loaded.others.models

    @property
    def vocab_size(self) -> int:
        """The ids the model knows."""
        return int(self.model.get_input_embeddings().num_embeddings)  # type: ignore[arg-type]

    @property
    def prompt_length(self) -> int:
        """T, padding included."""
        return int(self.input_ids.shape[1])


def named_processors(settings: Settings, batch: BatchContext) -> list[Named]:
    """Everything that changes the logits, in order.

    Raises:
        ConfigError: an id or a text that the tokenizer doesn't have, a pattern that is none.
    """
    made = [*_companions(settings, batch), *_penalties(settings, batch), *_form(settings, batch)]
    if settings.do_sample:
        made += _warpers(settings, batch)
    return [*made, *_marks(settings, batch)]


def _companions(settings: Settings, batch: BatchContext) -> Iterator[Named]:
    made: LogitsProcessor

    def beside(model: PreTrainedModel, name: str) -> Companion:
        return Companion(model, batch.input_ids, batch.attention_mask, name=name)

    length = batch.prompt_length
    if settings.strategy == "contrastive_decoding":
        layers = settings["amateur_layers"]
        amateur = first_layers(batch.model, layers) if layers else batch.others["amateur_model"]
        yield (
            "amateur",
            AmateurProcessor(
                beside(amateur, "amateur_model"),
                prompt_length=length,
                cd_alpha=settings["cd_alpha"],
                cd_beta=settings["cd_beta"],
                amateur_temperature=settings["amateur_temperature"],
            ),
        )
    if settings.strategy == "dexperts":
        expert, antiexpert = (
            beside(batch.others[name], name) if name in batch.others else None
            for name in ("expert_model", "antiexpert_model")
        )
        alpha = settings["dexperts_alpha"]
        made = DExpertsProcessor(expert, antiexpert, prompt_length=length, dexperts_alpha=alpha)
        yield "dexperts", made
    if settings.strategy == "guidance" and settings.is_on("guidance_scale"):
        other = _negative(settings, batch)
        yield "guidance_scale", _away_from(other, batch, settings["guidance_scale"])
    if settings.strategy == "context_aware":
        other = _without_context(settings, batch)
        scale = 1 + settings["context_alpha"]
        yield "context_alpha", _away_from(other, batch, scale)


def _away_from(other: Companion, batch: BatchContext, scale: float) -> LogitsProcessor:
    return GuidanceProcessor(other, prompt_length=batch.prompt_length, guidance_scale=scale)


def _negative(settings: Settings, batch: BatchContext) -> Companion:
    """The model going on from the negative prompt, or from the last token of each prompt."""
    if settings["negative_prompt"] is None:
        last = batch.input_ids[:, -1:]
        return Companion(batch.model, last, torch.ones_like(last), name="guidance_scale")
    ids = encode_prompt(batch.tokenizer, settings["negative_prompt"])
    rows = torch.tensor([ids] * len(batch.input_ids), device=batch.input_ids.device)
    return Companion(batch.model, rows, torch.ones_like(rows), name="negative_prompt")


def _without_context(settings: Settings, batch: BatchContext) -> Companion:
    """The model going on from the prompts alone; the scene's have the context before them."""
    head = len(encode_prompt(batch.tokenizer, settings["context"]))
    lengths = batch.attention_mask.sum(dim=1)
    longest = int(lengths.max())
    kept = max(longest - head, 1)
    mask = _last(lengths - head, kept)
    return Companion(batch.model, batch.input_ids[:, -kept:], mask, name="context")


def _last(lengths: torch.Tensor, width: int) -> torch.Tensor:
    """A mask of shape (B, width) with the last `lengths` tokens of each row, at least one."""
    places = torch.arange(width, 0, -1, device=lengths.device)
    return (places[None] <= lengths.clamp(min=1)[:, None]).long()


def _penalties(settings: Settings, batch: BatchContext) -> Iterator[Named]:
    made: LogitsProcessor
    length, tokenizer = batch.prompt_length, batch.tokenizer
    if weights := settings["sequence_bias"]:
        biases = [
            [ids, weight]
            for text, weight in weights.items()
            for ids in _spellings(batch, text, setting="sequence_bias")
        ]
        yield "sequence_bias", SequenceBiasLogitsProcessor(biases)
    if weights := settings["logit_bias"]:
        by_id = {_one_id(batch, key): weight for key, weight in weights.items()}
        yield "logit_bias", warpers.LogitBias(by_id)
    if settings.is_on("encoder_repetition_penalty"):
        prompts = batch.input_ids.repeat_interleave(batch.rows, dim=0)
        penalty = settings["encoder_repetition_penalty"]
        made = EncoderRepetitionPenaltyLogitsProcessor(penalty, prompts)  # type: ignore[arg-type]
        yield "encoder_repetition_penalty", made
    if settings.is_on("repetition_penalty"):
        made = RepetitionPenaltyLogitsProcessor(settings["repetition_penalty"])
        yield "repetition_penalty", made
    if settings.is_on("frequency_penalty") or settings.is_on("presence_penalty"):
        frequency, presence = settings["frequency_penalty"], settings["presence_penalty"]
        name = "frequency_penalty" if frequency else "presence_penalty"
        yield (
            name,
            warpers.FrequencyPresencePenalty(
                frequency_penalty=frequency, presence_penalty=presence, prompt_length=length
            ),
        )
    if settings.is_on("dry_multiplier"):
        breakers = {
            i for text in settings["dry_sequence_breakers"] for i in encode_bare(tokenizer, text)
        }
        yield (
            "dry_multiplier",
            warpers.DryPenalty(
                dry_multiplier=settings["dry_multiplier"],
                dry_base=settings["dry_base"],
                dry_allowed_length=settings["dry_allowed_length"],
                dry_penalty_last_n=settings["dry_penalty_last_n"],
                breaker_ids=breakers,
            ),
        )
    if size := settings["no_repeat_ngram_size"]:
        yield "no_repeat_ngram_size", NoRepeatNGramLogitsProcessor(size)
    if size := settings["encoder_no_repeat_ngram_size"]:
        made = EncoderNoRepeatNGramLogitsProcessor(size, batch.input_ids)  # type: ignore[arg-type]
        yield "encoder_no_repeat_ngram_size", made
    yield from _bans(settings, batch)


def _bans(settings: Settings, batch: BatchContext) -> Iterator[Named]:
    made: LogitsProcessor
    device = str(batch.input_ids.device)
    if words := settings["bad_words"]:
        banned = [ids for word in words for ids in _spellings(batch, word, setting="bad_words")]
        yield "bad_words", NoBadWordsLogitsProcessor(banned, list(batch.eos) or None)
    if words := settings["allowed_words"]:
        spelled = (
            ids for word in words for ids in _spellings(batch, word, setting="allowed_words")
        )
        allowed = {i for ids in spelled for i in ids} | set(batch.eos)
        yield "allowed_words", warpers.AllowedTokens(allowed)
    if ids := settings["suppress_tokens"]:
        _check_ids(batch, ids, setting="suppress_tokens")
        yield "suppress_tokens", SuppressTokensLogitsProcessor(ids, device=device)
    if ids := settings["begin_suppress_tokens"]:
        _check_ids(batch, ids, setting="begin_suppress_tokens")
        begin = batch.prompt_length
        made = SuppressTokensAtBeginLogitsProcessor(ids, begin, device=device)
        yield "begin_suppress_tokens", made


def _form(settings: Settings, batch: BatchContext) -> Iterator[Named]:
    """What holds a text to a length or a form."""
    made: LogitsProcessor
    length, eos, device = batch.prompt_length, list(batch.eos), str(batch.input_ids.device)
    if settings["min_new_tokens"] and eos:
        least = settings["min_new_tokens"]
        made = MinNewTokensLengthLogitsProcessor(length, least, eos, device=device)
        yield "min_new_tokens", made
    if (decay := settings["exponential_decay_length_penalty"]) and eos:
        made = ExponentialDecayLengthPenalty((int(decay[0]), decay[1]), eos, length)
        yield "exponential_decay_length_penalty", made
    matcher = None
    if settings["choices"]:
        matcher = allowed_by_choices(settings["choices"])
    elif settings["regex"] is not None:
        matcher = allowed_by_regex(settings["regex"])
    if matcher is not None:
        made = TextConstraint(batch.tokenizer, matcher, prompt_length=length, eos_token_ids=eos)
        yield settings.strategy, made
    if ids := settings["forced_eos_token_id"]:
        _check_ids(batch, ids, setting="forced_eos_token_id")
        most = length + settings["max_new_tokens"]
        yield "forced_eos_token_id", ForcedEOSTokenLogitsProcessor(most, ids, device=device)


def _warpers(settings: Settings, batch: BatchContext) -> Iterator[Named]:
    """What cuts or bends the distribution, for settings that are on."""
    made: LogitsProcessor
    keep = max(len(batch.eos), 1) + 1 if settings.row.beams else 1  # beams need one to go on with
    device = str(batch.input_ids.device)
    temperature = settings["temperature"]
    if settings.is_on("dynatemp_range"):
        spread, exponent = settings["dynatemp_range"], settings["dynatemp_exponent"]
        made = warpers.DynamicTemperatureWarper(
            temperature=temperature, dynatemp_range=spread, dynatemp_exponent=exponent
        )
        yield "dynatemp_range", made
    elif settings.is_on("temperature"):
        yield "temperature", TemperatureLogitsWarper(temperature)
    if settings.is_on("smoothing_factor"):
        factor, curve = settings["smoothing_factor"], settings["smoothing_curve"]
        made = warpers.QuadraticSmoothingWarper(smoothing_factor=factor, smoothing_curve=curve)
        yield "smoothing_factor", made
    cuts: Mapping[str, Callable[[float], LogitsProcessor]] = {
        "top_n_sigma": lambda n: warpers.TopNSigmaWarper(n, min_tokens_to_keep=keep),
        "top_h": TopHLogitsWarper,
        "top_k": lambda k: TopKLogitsWarper(int(k), min_tokens_to_keep=keep),
        "top_a": lambda a: warpers.TopAWarper(a, min_tokens_to_keep=keep),
        "tfs_z": lambda z: warpers.TailFreeWarper(z, min_tokens_to_keep=keep),
        "top_p": lambda p: TopPLogitsWarper(p, min_tokens_to_keep=keep),
        "min_p": lambda p: MinPLogitsWarper(p, min_tokens_to_keep=keep),
        "typical_p": lambda p: TypicalLogitsWarper(p, min_tokens_to_keep=keep),
        "epsilon_cutoff": lambda e: EpsilonLogitsWarper(e, min_tokens_to_keep=keep),
        "eta_cutoff": lambda e: EtaLogitsWarper(e, min_tokens_to_keep=keep, device=device),
    }
    for name, make in cuts.items():
        if settings.is_on(name):
            yield name, make(settings[name])
    if settings.is_on("xtc_probability"):
        chance, threshold = settings["xtc_probability"], settings["xtc_threshold"]
        kept = {*batch.eos, *encode_bare(batch.tokenizer, "\n")}
        made = warpers.XTCWarper(xtc_probability=chance, xtc_threshold=threshold, keep_ids=kept)
        yield "xtc_probability", made
    tau, eta = settings["mirostat_tau"], settings["mirostat_eta"]
    if settings.strategy == "mirostat":
        yield "mirostat_tau", warpers.MirostatWarper(mirostat_tau=tau, mirostat_eta=eta)
    if settings.strategy == "mirostat_v1":
        made = warpers.MirostatV1Warper(
            mirostat_tau=tau, mirostat_eta=eta, mirostat_m=settings["mirostat_m"]
        )
        yield "mirostat_tau", made


def _marks(settings: Settings, batch: BatchContext) -> Iterator[Named]:
    device = batch.input_ids.device
    if settings.strategy == "watermark":
        config = WatermarkingConfig(
            greenlist_ratio=settings["greenlist_ratio"],
            bias=settings["watermark_bias"],
            hashing_key=settings["hashing_key"],
            seeding_scheme=settings["seeding_scheme"],
            context_width=settings["context_width"],
        )
        yield "watermark", config.construct_processor(batch.vocab_size, device)
    if settings.strategy == "synthid":
        keys, length = settings["synthid_keys"], settings["synthid_ngram_len"]
        marked = SynthIDTextWatermarkingConfig(ngram_len=length, keys=keys)
        yield "synthid", marked.construct_processor(batch.vocab_size, device)


def _spellings(batch: BatchContext, text: str, *, setting: str) -> list[list[int]]:
    """The ids of a word as it stands at the beginning of a text and after a space.

    Raises:
        ConfigError: the tokenizer has no ids for it that the model knows.
    """
    texts = [text] if text[0].isspace() else [text, f" {text}"]
    spelled = {tuple(encode_bare(batch.tokenizer, text)): None for text in texts}
    found = [list(ids) for ids in spelled if ids]
    if not found:
        raise ConfigError(f"{setting}: {text!r} has no tokens in this model's vocabulary.")
    return found


def _one_id(batch: BatchContext, key: str) -> int:
    """The id that a key of logit_bias names: by its number or its text."""
    if key.isdigit():
        _check_ids(batch, [int(key)], setting="logit_bias")
        return int(key)
    ids = encode_bare(batch.tokenizer, key)
    if len(ids) != 1:
        raise ConfigError(
            f"logit_bias: {key!r} is {len(ids)} tokens, {short_value(ids)}, and a bias is for one. "
            "Name one of them by its id, or use sequence_bias."
        )
    return ids[0]


def _check_ids(batch: BatchContext, ids: Sequence[int], *, setting: str) -> None:
    highest = max(ids)
    if highest >= batch.vocab_size:
        raise ConfigError(
            f"{setting}: there is no id {highest:,}; the model's go up to {batch.vocab_size - 1:,}."
        )
