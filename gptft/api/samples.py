"""A config's prompts and settings -> why no samples can be generated while it trains."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from gptft.config.sections import Config
from gptft.config.source import KeyPath
from gptft.decoding.known_model import KnownModel, know_model
from gptft.decoding.prompts.chat import chat_problem, encode_chats
from gptft.decoding.prompts.room import too_long
from gptft.decoding.settings import MODEL_SETTINGS, Settings
from gptft.decoding.strategies import model_problems
from gptft.errors import ConfigError, GptftError
from gptft.models.hub import find_model
from gptft.models.model_files import ModelFiles
from gptft.tokenization.chat_encoder import ChatEncoder
from gptft.tokenization.chat_format import make_encoder
from gptft.tokenization.tokenizer import TextTokenizer, load_tokenizer


def sample_problems(
    config: Config,
    settings: Settings,
    *,
    tokenizer: TextTokenizer,
    template: str | None = None,
) -> Iterator[tuple[KeyPath, str]]:
    """What the model to be trained can't continue, or can't be told; settings and messages.

    Args:
        config: its prompts, none where questions of its texts are taken for them, and model.
        settings: of its `generation` section.
        tokenizer: the model's.
        template: that prompts are put into as questions, if any.
    """
    if template is not None and (problem := chat_problem(settings.values)):
        yield ("generation", problem.partition(" ")[0]), f"generation.{problem}"
        return
    prompts, alone = config.samples.prompts, _known(config, tokenizer)
    encoder = None if template is None else make_encoder(tokenizer, template)
    lengths = []
    for number, prompt in enumerate(prompts):
        try:
            lengths.append(_length(alone, prompt, encoder, context=settings["context"]))
        except ConfigError as error:
            yield ("samples", "prompts", number), str(error)
            return
    others: dict[str, KnownModel] = {}
    for setting, files in _auxiliary_files(settings):
        try:
            theirs = load_tokenizer(files)
        except GptftError as error:
            yield ("generation", setting), str(error)
        else:
            others[setting] = know_model(files.name, files.config, tokenizer=theirs)
    model = replace(alone, prompt_lengths=lengths, auxiliary=others)
    limits = {"max_new_tokens": settings["max_new_tokens"], "context": model.context}
    for number, measured in enumerate(zip(prompts, lengths, strict=True)):
        for problem in too_long([measured], **limits, window=()):
            yield ("samples", "prompts", number), problem
    for problem in model_problems(settings, model):
        yield ("generation", "strategy"), problem


def fitting_prompts(
    prompts: Iterable[str],
    config: Config,
    settings: Settings,
    *,
    tokenizer: TextTokenizer,
    template: str,
) -> Iterator[str]:
    """Those questions that the model to be trained has room to answer.

    Args:
        prompts: questions.
        config: its model.
        settings: of its `generation` section.
        tokenizer: the model's.
        template: that they are put into.
    """
    model, encoder = _known(config, tokenizer), make_encoder(tokenizer, template)
    limits = {"max_new_tokens": settings["max_new_tokens"], "context": model.context}
    for prompt in prompts:
        with suppress(ConfigError):  # its template can't write it alone
            length = _length(model, prompt, encoder, context=None)
            if not too_long([(prompt, length)], **limits):
                yield prompt


def _known(config: Config, tokenizer: TextTokenizer) -> KnownModel:
    """What is known of the model to be trained."""
    fields = _model_config(config, tokenizer)
    return know_model(config.model.name, fields, tokenizer=tokenizer)


def _model_config(config: Config, tokenizer: TextTokenizer) -> Mapping[str, Any]:
    """What its config.json says, or will say, of the model to be trained."""
    model = config.model
    if model.from_scratch is not None:
        return {"vocab_size": tokenizer.vocab_size, **model.from_scratch}
    files = find_model(model.name, revision=model.revision, with_weights=False)
    return {**files.config, **model.config_overrides}


def _auxiliary_files(settings: Settings) -> Iterator[tuple[str, ModelFiles]]:
    """The files of each model that settings name; what can't be found is refused elsewhere."""
    for setting in filter(settings.values.get, MODEL_SETTINGS):
        with suppress(GptftError):
            yield setting, find_model(settings[setting], with_weights=False)


def _length(
    model: KnownModel, prompt: str, encoder: ChatEncoder | None, *, context: str | None
) -> int:
    """Tokens of a prompt as `generate` encodes it; an empty one begins with EOS.

    Raises:
        ConfigError: its template can't write it.
    """
    if encoder is not None:
        (chat,) = encode_chats(encoder, [prompt])
        return len(chat.ids)
    if context:
        return len(model.encode_prompt(context)) + len(model.encode(prompt))
    return max(len(model.encode_prompt(prompt)), 1)
