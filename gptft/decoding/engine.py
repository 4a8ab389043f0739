"""A model, prompts and settings -> texts: what `gptft generate` does.

Every field of transformers' GenerationConfig is set by the settings; of a model's own
generation_config.json only the special tokens count.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby, islice
from typing import Any, Literal

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from gptft.decoding import candidates
from gptft.decoding.auxiliary_models import AuxiliaryModels, load_auxiliary_models
from gptft.decoding.batch import generate_batch
from gptft.decoding.encoding import continuation, encode_bare, encode_prompt
from gptft.decoding.loaded_model import LoadedModel, open_model
from gptft.decoding.logprobs import sequence_logprobs
from gptft.decoding.prompts.chat import chat_problem, encode_chats
from gptft.decoding.prompts.healing import heal
from gptft.decoding.settings import BATCH_SIZE, Settings, why_not_streamed, with_seed
from gptft.decoding.sliding_window import generate_windows
from gptft.decoding.special_tokens import check_context, check_ids, special_tokens
from gptft.decoding.stopping import cut_at
from gptft.decoding.strategies import SETTINGS, active_processors
from gptft.decoding.stream import TextStreamer
from gptft.errors import ConfigError
from gptft.files import JsonFields
from gptft.models.load import context_of
from gptft.models.precision import DtypeName
from gptft.terminal.words import short_value

Sampler = Callable[[PreTrainedModel, PreTrainedTokenizerBase, Sequence[str]], list[str]]


@dataclass(frozen=True)
class Generated(JsonFields):
    """A prompt and its continuation.

    Attributes:
        prompt: as it was given.
        continuation: what follows it, exactly: spaces kept, special tokens left out.
        prompt_ids: what the model was given, without padding.
        new_ids: the new tokens, EOS not among them.
        stopped: eos where the model ended the text, stop_string where one did, length where
            max_new_tokens or max_time did.
        settings: what was in force, the seed included.
        details: what decided between several texts.
        between: what is shown between the prompt and an answer to it: a line end, or nothing.
        place: among those written for its prompt at once.
    """

    prompt: str
    continuation: str
    prompt_ids: tuple[int, ...]
    new_ids: tuple[int, ...]
    stopped: Literal["eos", "length", "stop_string"]
    settings: Settings
    details: Mapping[str, Any] = field(default_factory=dict)
    between: str = ""
    place: int = 0

    @property
    def text(self) -> str:
        """The prompt and its continuation; in a conversation a line for each."""
        return self.prompt + self.between + self.continuation

    @property
    def num_new_tokens(self) -> int:
        """Tokens of the continuation, EOS not counted."""
        return len(self.new_ids)

    def json_fields(self) -> dict[str, Any]:
        """As `gptft generate --json` prints them; no seed if none was used."""
        return {
            "prompt": self.prompt,
            "text": self.text,
            "continuation": self.continuation,
            "strategy": self.settings.strategy,
            "settings": self.settings.to_dict(),
            "seed": self.settings.seed if self.settings.do_sample else None,
            "num_new_tokens": self.num_new_tokens,
            "stopped": self.stopped,
            **self.details,
        }


def load_model(
    model_name: str,
    *,
    settings: Settings,
    dtype: DtypeName = "auto",
    revision: str | None = None,
    use_cpu: bool = False,
) -> LoadedModel:
    """Load a model with its tokenizer, and every other model that `settings` name.

    Args:
        model_name: pico, a model or run folder, or a hub id.
        settings: see `resolve_settings`.
        dtype: of the weights.
        revision: branch, tag or commit of a hub model.
        use_cpu: run on the CPU even if an accelerator is available.

    Raises:
        ConfigError: another model doesn't fit this one.
        ModelError: a model can't be found or read.
    """
    model, tokenizer = open_model(model_name, dtype=dtype, revision=revision, use_cpu=use_cpu)
    auxiliary = load_auxiliary_models(settings, tokenizer, device=model.device, dtype=dtype)
    return LoadedModel(model, tokenizer, special_tokens(model, tokenizer), auxiliary)


def generate(
    loaded: LoadedModel,
    prompts: Sequence[str],
    *,
    settings: Settings,
    window: bool = False,
    chat: bool = False,
    batch_size: int | None = None,
    on_text: Callable[[str], None] | None = None,
) -> list[Generated]:
    """Continue `prompts`.

    Prompts of similar length run together, each from the seed as if it were alone. Its text doesn't
    depend on the others but where two tokens are alike likely to the last digits of a logit.

    Args:
        loaded: see `load_model`.
        prompts: plain texts; an empty one begins with BOS, or EOS.
        settings: see `resolve_settings`; a missing seed is drawn.
        window: slide a window over what doesn't fit the context, instead of refusing it.
        chat: put each prompt into the model's own chat template, as what a user says.
        batch_size: prompts at once, or drawn texts, 16 if not given; 1 rules out such digits.
        on_text: given the prompt and then each new stretch of text as it is generated; for one
            prompt and one text without beams.

    Returns:
        `num_return_sequences` texts for each prompt, in order; fewer where beams find no more.

    Raises:
        ConfigError: prompts too long for the model, all of them at once and before any text is
            generated, or settings that the model or tokenizer can't take.
        ModelError: the tokenizer isn't the model's, or the model's logits are not numbers.
    """
    settings = with_seed(settings)
    given, heads = _encode(loaded, prompts, settings, chat=chat)
    loaded = loaded.in_conversation() if chat else loaded
    num_new = settings["max_new_tokens"]  # the last one needs no position
    room = (context_of(loaded.model) or math.inf) - num_new + 1
    slides = [window and len(ids) > room for ids in given]
    if not window:
        check_context(loaded.model, given, prompts=prompts, max_new_tokens=num_new)
    encoded = [heal(loaded, ids) for ids in given] if settings["token_healing"] else given
    between = "\n" if chat else ""
    shown = [prompt + between for prompt in prompts]
    streamer = _streamer(loaded, shown, settings, slides=any(slides), on_text=on_text)
    texts: list[list[Generated]] = [[] for _ in prompts]
    for batch in _batches(loaded, encoded, settings, slides=slides, batch_size=batch_size):
        if settings.do_sample:
            torch.manual_seed(settings.seed or 0)
        chosen = [encoded[i] for i in batch]
        if slides[batch[0]]:
            rows = generate_windows(loaded, chosen[0], settings=settings, head=heads[batch[0]])
        else:
            rows = generate_batch(loaded, chosen, settings=settings, streamer=streamer)
        for i, own in zip(batch, _split(rows, len(batch)), strict=True):
            how = (prompts[i], between), encoded[i], settings, given[i]
            drawn = [replace(_generated(loaded, ids, *how), place=n) for n, ids in enumerate(own)]
            texts[i] = _pick(loaded, drawn, settings)
    return [text for texts_of_prompt in texts for text in texts_of_prompt]


def _split(rows: Sequence[list[int]], number: int) -> Iterator[Sequence[list[int]]]:
    """As many rows of one prompt as of each other."""
    size = len(rows) // number
    return (rows[at * size : (at + 1) * size] for at in range(number))


def _encode(
    loaded: LoadedModel, prompts: Sequence[str], settings: Settings, *, chat: bool
) -> tuple[list[list[int]], list[int]]:
    """The ids of each prompt, and how many of them a chat template put before it."""
    if not chat:
        given, heads = encode_all(loaded, prompts, settings), [0 for _ in prompts]
    elif problem := chat_problem(settings.values):
        raise ConfigError(problem)
    else:
        chats = encode_chats(loaded.chat_encoder, prompts)
        given, heads = [one.ids for one in chats], [one.num_before for one in chats]
    check_ids(loaded.model, given)
    return given, heads


def _streamer(
    loaded: LoadedModel,
    prompts: Sequence[str],
    settings: Settings,
    *,
    slides: bool,
    on_text: Callable[[str], None] | None,
) -> TextStreamer | None:
    if on_text is None:
        return None
    reason = why_not_streamed(settings, num_prompts=len(prompts))
    if slides:
        reason = "a window slides over it"
    if reason:
        raise ConfigError(f"This can't be streamed: {reason}.")
    eos = loaded.special.eos
    return TextStreamer(loaded.tokenizer, prompt=prompts[0], eos_token_ids=eos, on_text=on_text)


def make_sampler(settings: Settings, *, chat: bool = False) -> Sampler:
    """A function that continues each prompt once with whatever model it is given.

    With `chat` a prompt is a question, put into the tokenizer's chat template.

    It sets torch's global random state to the settings' seed, or 0, before each drawn text, and
    leaves the state where drawing took it: a caller that needs its own keeps it.
    """
    if "num_return_sequences" in settings.values:
        settings = settings.changed(num_return_sequences=1)
    settings = replace(settings, seed=settings.seed or 0)
    auxiliary: dict[torch.device, AuxiliaryModels] = {}

    def sample(
        model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str]
    ) -> list[str]:
        device, special = model.device, special_tokens(model, tokenizer)
        if device not in auxiliary:
            auxiliary[device] = load_auxiliary_models(
                settings, tokenizer, device=device, dtype="auto"
            )
        loaded = LoadedModel(model, tokenizer, special, auxiliary[device])
        texts = generate(loaded, prompts, settings=settings, chat=chat)
        return [text.between + text.continuation for text in texts]

    return sample


def missing_texts(generated: Sequence[Generated], settings: Settings, *, num_prompts: int) -> str:
    """What to say where beams found fewer texts than were asked for; empty where they didn't."""
    asked = settings["num_return_sequences"] * num_prompts
    if len(generated) == asked:
        return ""
    return f"{asked:,} texts were asked for, and the beams found {len(generated):,} that differ."


def unused_suggestions(loaded: LoadedModel) -> str | None:
    """What the model's own generation_config.json suggests, none of which is in force.

    Returns:
        a sentence that says how to have it, or None where there is nothing.
    """
    own = loaded.model.generation_config
    values = own.to_diff_dict() if own is not None else {}
    words = [f"{name} {short_value(value)}" for name, value in values.items() if name in SETTINGS]
    if not words:
        return None
    return (
        f"The model's own generation_config.json suggests {', '.join(words)}. It is not in force; "
        "give these settings to have them."
    )


def stray_eos(loaded: LoadedModel) -> str | None:
    """What to say of an EOS that a model's config names and that no text can end with."""
    named = loaded.model.config.get_text_config(decoder=True).eos_token_id
    ids = [i for i in (named if isinstance(named, list) else [named]) if isinstance(i, int)]
    if not ids or any(i in loaded.special.eos or i < 0 for i in ids):
        return None
    eos = loaded.special.eos
    known = f"the tokenizer's own EOS, id {eos[0]:,}," if eos else "max_new_tokens alone"
    return (
        f"The model's config.json says that EOS is id {ids[0]:,}, and the tokenizer has no control "
        f"token of that id: texts are ended by {known.rstrip(',')}."
    )


def encode_all(loaded: LoadedModel, prompts: Sequence[str], settings: Settings) -> list[list[int]]:
    """The ids of each prompt, after the context where there is one; of nothing BOS or EOS."""
    tokenizer, context = loaded.tokenizer, settings["context"]
    head = encode_prompt(tokenizer, context) if context else []
    encode = encode_bare if context else encode_prompt
    return [[*head, *encode(tokenizer, prompt)] or loaded.special.first() for prompt in prompts]


def _batches(
    loaded: LoadedModel,
    encoded: Sequence[Sequence[int]],
    settings: Settings,
    *,
    slides: Sequence[bool],
    batch_size: int | None,
) -> Iterator[list[int]]:
    """Which prompts run together, by their index, from short to long.

    Draws of a loop would share one stream of random numbers. Penalties look at the padding, too,
    and so do some models: under them only prompts of one length share a batch.
    """
    lengths, most = [len(ids) for ids in encoded], batch_size or BATCH_SIZE
    order = sorted(range(len(lengths)), key=lambda i: (slides[i], lengths[i]))
    same_length = any(one.sees_padding for one in active_processors(settings))
    same_length |= not loaded.takes_padding
    alone = settings.row.single or (settings.do_sample and not settings.draws_together)
    rows = settings.num_drawn if settings.draws_together else 1
    for key, group in groupby(order, key=lambda i: (slides[i], lengths[i] if same_length else 0)):
        size = 1 if alone or key[0] else max(min(most // rows, len(lengths)), 1)
        while batch := list(islice(group, size)):
            yield batch


def _generated(
    loaded: LoadedModel,
    ids: Sequence[int],
    shown: tuple[str, str],
    prompt_ids: Sequence[int],
    settings: Settings,
    given: Sequence[int],
) -> Generated:
    """Cut new ids at EOS, behind which there is padding, or before a stop string; decode them.

    `shown` is the prompt, and what stands between it and what is generated; `given` are the
    prompt's ids before its last token was healed.
    """

    def read(new_ids: Sequence[int]) -> str:
        if list(prompt_ids) == list(given):
            return continuation(loaded.tokenizer, prompt_ids, new_ids)
        healed = continuation(loaded.tokenizer, given[:-1], [prompt_ids[-1], *new_ids])
        last = continuation(loaded.tokenizer, given[:-1], given[-1:])  # what healing replaced
        return healed[len(last) :]

    end = next((i for i, token in enumerate(ids) if token in loaded.special.eos), None)
    new_ids = ids[:end]
    text = read(new_ids)
    stopped: Literal["eos", "length", "stop_string"] = "length" if end is None else "eos"
    cut = cut_at(text, stops := settings["stop_strings"])
    if len(cut) < len(text):  # other texts of the batch were longer
        starts = (new_ids[:length] for length in range(len(new_ids) + 1))
        new_ids = next(one for one in starts if any(stop in read(one) for stop in stops))
        stopped = "stop_string"
    prompt, between = shown
    found = (tuple(prompt_ids), tuple(new_ids), stopped, settings)
    return Generated(prompt, cut, *found, between=between)


def _pick(loaded: LoadedModel, drawn: list[Generated], settings: Settings) -> list[Generated]:
    """The texts to return of those drawn for a prompt."""
    number, texts = settings["num_return_sequences"], [text.continuation for text in drawn]
    if settings.row.beams:
        different: dict[str, Generated] = {}
        for text in drawn:
            different.setdefault(text.continuation, text)
        return list(different.values())[:number]
    if settings.row.pick == "best_of_n":
        ids = [[*text.prompt_ids, *text.new_ids] for text in drawn]
        starts = [len(text.prompt_ids) for text in drawn]
        kept = loaded.special.num_before(drawn[0].prompt_ids)
        sums = sequence_logprobs(loaded.model, ids, starts=starts, kept=kept)
        means = [s / max(text.num_new_tokens, 1) for s, text in zip(sums, drawn, strict=True)]
        chosen = candidates.best_of_n(means, num_return=number)
        return [replace(drawn[i], details={"mean_logprob": means[i]}) for i in chosen]
    if settings.row.pick == "mbr":
        return [drawn[i] for i in candidates.minimum_bayes_risk(texts, num_return=number)]
    if settings.row.pick == "self_consistency":
        pattern = settings["answer_pattern"]
        vote = candidates.self_consistency(texts, answer_pattern=pattern, num_return=number)
        details = {"answer": vote.answer, "votes": dict(vote.counts)}
        return [replace(drawn[i], details=details) for i in vote.indices]
    return drawn
