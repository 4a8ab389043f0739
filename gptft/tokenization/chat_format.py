"""A config and a tokenizer -> how a run's conversations are written: their template, tried.

A template is a bundled one, a file, or the model's own; a base that has none gets the plain one.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any, Literal, NamedTuple

from gptft.config.sections import Config, TokenizerConfig
from gptft.errors import ConfigError, DataError
from gptft.inputs import expand_user, is_file, read_input
from gptft.models.gguf_header import read_gguf_header
from gptft.models.hub import find_model
from gptft.models.model_files import ModelFiles
from gptft.tokenization.chat_encoder import ChatEncoder
from gptft.tokenization.grown import with_added
from gptft.tokenization.tokenizer import TextTokenizer

PLAIN = "plain"
# Of how conversations become ids and marks: raised with every change of these, so that blocks of an
# older gptft are never taken for new ones.
ENCODING = 2
# The bundled templates, each with the control tokens that it writes beside EOS and BOS.
BUNDLED: Mapping[str, tuple[str, ...]] = {
    PLAIN: (),
    "chatml": ("<|im_start|>", "<|im_end|>"),
    "llama3": ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    "mistral": ("[INST]", "[/INST]"),
}
_MAX_TEMPLATE = 200_000  # bytes
_LIKE_CONTROL = re.compile(r"<\|[^|<>\s]+\|>|<(?:start|end)_of_turn>|\[/?INST\]")


class _Message(NamedTuple):
    role: str
    content: str


_QUESTION, _ANSWER = _Message("user", "Is it frosty?"), _Message("assistant", "Frost and sun.")


@dataclass(frozen=True)
class ChatFormat:
    """How the conversations of a run are written and learned.

    Attributes:
        format: what records are.
        loss_on: which tokens are learned.
        template: in Jinja; None for prompts and completions that stay as they are.
        name: what messages call the template.
        added_tokens: control tokens of it that the tokenizer lacks, and that the model gets.
        end_token_ids: what ends an answer.
        said: sentences on how it was chosen.
    """

    format: Literal["messages", "prompt_completion"]
    loss_on: Literal["all", "answers"]
    template: str | None = None
    name: str = ""
    added_tokens: tuple[str, ...] = ()
    end_token_ids: tuple[int, ...] = ()
    said: tuple[str, ...] = ()

    @property
    def key(self) -> list[int | str | None]:
        """What decides ids and marks, the tokenizer aside."""
        return [ENCODING, self.format, self.loss_on, self.template]

    @property
    def as_facts(self) -> dict[str, Any]:
        """As the ledger of a store has it."""
        return {
            "format": self.format, "loss_on": self.loss_on, "template": self.template,
            "name": self.name, "added_tokens": [*self.added_tokens],
            "end_token_ids": [*self.end_token_ids],
        }  # fmt: skip


def own_template(files: ModelFiles) -> str | None:
    """The chat template that a model brings; None where it has none.

    Raises:
        ModelError: a file of it can't be read.
    """
    files = files.tokenizer
    if files.gguf is not None:
        found = read_gguf_header(files.gguf).get("tokenizer.chat_template")
        return found if isinstance(found, str) and found else None
    path = files.folder / "chat_template.jinja"
    if is_file(path):
        return _read(path)
    for name in ("chat_template.json", "tokenizer_config.json"):
        value = files.json(name).get("chat_template")
        if isinstance(value, list):
            named = {one.get("name"): one.get("template") for one in value if isinstance(one, dict)}
            value = named.get("default")
        if isinstance(value, str) and value:
            return value
    return None


@cache
def bundled_template(name: str) -> str:
    """The text of a bundled template, without the line end of its file."""
    folder = package_files("gptft.tokenization") / "chat_templates"
    return (folder / f"{name}.jinja").read_text(encoding="utf-8").rstrip("\n")


def with_bos(template: str, tokenizer: TextTokenizer) -> str:
    """A bundled template that begins with what stands before any text of this tokenizer's.

    transformers puts nothing before what a chat template writes.
    """
    tokens = [tokenizer.backend.id_to_token(i) or "" for i in tokenizer.framing.before]
    return "".join(f"{{{{- {token!r} -}}}}\n" for token in tokens) + template


def choose_template(asked: str | None, model: str | None, *, revision: str | None = None) -> tuple[
    str, str, str
]:  # fmt: skip
    """The template of a run.

    Args:
        asked: `data.chat_template`.
        model: what the model is called; None for a new one.
        revision: of a model on the hub.

    Returns:
        the template, what messages call it, and a sentence on why it is this one, perhaps "".

    Raises:
        ConfigError: it names neither a bundled template nor a file that can be read.
        ModelError: the model can't be found.
    """
    if asked is not None and asked in BUNDLED:
        return bundled_template(asked), asked, ""
    if asked is not None:
        path = expand_user(asked)
        if not is_file(path):
            names = ", ".join(BUNDLED)
            raise ConfigError(
                f"data.chat_template: {asked} is no file, and none of {names}. Name one of these, "
                "or a file in Jinja."
            )
        return _read(path).removeprefix("\ufeff"), str(asked), ""  # an editor's mark, no text
    own = None
    if model is not None:
        own = own_template(find_model(model, revision=revision, with_weights=False))
    if own is not None:
        return own, f"{model}'s own", ""
    why = "The new model" if model is None else f"{model}"
    said = (
        f"{why} has no chat template: the plain one is used and saved with the model "
        "(data.chat_template)."
    )
    return bundled_template(PLAIN), PLAIN, said


def _read(path: Path) -> str:
    try:
        return read_input(path, at_most=_MAX_TEMPLATE).decode().rstrip("\n")
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} isn't UTF-8. Save it as UTF-8.") from None


def missing_tokens(name: str, tokenizer: TextTokenizer) -> tuple[str, ...]:
    """The control tokens of a bundled template that a tokenizer lacks."""
    added = tokenizer.backend.get_added_tokens_decoder()
    there = {token.content for token in added.values() if token.special}
    return tuple(token for token in BUNDLED.get(name, ()) if token not in there)


def make_encoder(tokenizer: TextTokenizer, template: str) -> ChatEncoder:
    """What writes and encodes conversations by a template."""
    return ChatEncoder(tokenizer.backend, template, special_tokens=tokenizer.special_tokens)


def try_template(
    encoder: ChatEncoder, *, name: str, loss_on: str
) -> tuple[tuple[int, ...], list[str]]:
    """Write a question and its answer, and see that what is to be learned can be.

    Args:
        encoder: by the template.
        name: what messages call the template.
        loss_on: `data.loss_on`.

    Returns:
        the ids that end an answer, and sentences on what is unlike what one may expect.

    Raises:
        ConfigError: the template fails, leaves words out, or an answer has no end to be learned.
    """
    what = f"The chat template {name}"
    try:
        written = encoder.write([_QUESTION, _ANSWER])
        asked = encoder.write([_QUESTION], add_generation_prompt=True)
        (chat,) = encoder.encode([written])
    except DataError as error:
        raise ConfigError(f"data.chat_template: {what} can't be used: {error}.") from None
    for message in (_QUESTION, _ANSWER):
        if message.content not in written.text:
            raise ConfigError(
                f"data.chat_template: {what} leaves the {message.role}'s words out of what it "
                "writes. Name another one."
            )
    answered = [i for i, is_answer in zip(chat.ids, chat.is_answer, strict=True) if is_answer]
    if loss_on == "answers" and not answered:
        raise ConfigError(
            f"data.chat_template: {what} marks nothing of an answer to be learned. Put its "
            "{% generation %} and {% endgeneration %} around the answer and what ends it."
        )
    ends = encoder.answer_ends
    if loss_on == "answers" and not ends:
        raise ConfigError(
            f"data.chat_template: {what} has no control token at the end of what is learned of an "
            "answer, so that the model would never learn to stop. Move {% endgeneration %} behind "
            "the token that ends an answer, or write eos_token there."
        )
    said = []
    if loss_on == "answers" and not encoder.has_marks:
        said.append(
            f"{what} has no {{% generation %}} marks: an answer is what its message says, with "
            "the control token after it."
        )
    unknown = [t for t in dict.fromkeys(_LIKE_CONTROL.findall(written.text + asked.text))
               if encoder.splits(t)]  # fmt: skip
    if unknown:
        said.append(
            f"{what} writes {unknown[0]}, which is no token of the tokenizer and is read in "
            f"pieces. Add it to tokenizer.special_tokens."
        )
    return ends, said


def resolve_chat(
    config: Config,
    format: Literal["messages", "prompt_completion"],
    tokenizer: TextTokenizer | None,
    *,
    is_plain: bool = False,
) -> tuple[ChatFormat, TextTokenizer | None]:
    """How a config's conversations are written and learned, tried.

    Args:
        config: with a data section.
        format: what records are.
        tokenizer: of the run; None where one is to be trained on the texts.
        is_plain: whether records are prompts and completions in plain text, around which a template
            is put only where one is named.

    Returns:
        that, and the tokenizer with what the template writes.

    Raises:
        ConfigError: the template can't be had or used.
        ModelError: the model can't be found.
    """
    data, model = config.data, config.model
    loss_on = (data.loss_on if data is not None else None) or "answers"
    asked = data.chat_template if data is not None else None
    if is_plain and asked is None:
        eos = () if tokenizer is None else (tokenizer.require_eos(),)
        return ChatFormat(format, loss_on, end_token_ids=eos), tokenizer
    named = model.name if model.from_scratch is None else config.tokenizer.name
    revision = model.revision if model.from_scratch is None else None
    template, name, why = choose_template(asked, named, revision=revision)
    added: tuple[str, ...] = ()
    if tokenizer is None:
        if BUNDLED.get(name):
            raise ConfigError(
                f"data.chat_template: {name} writes {', '.join(BUNDLED[name])}, and a tokenizer "
                "made by tokenizer.train has no control token but EOS. Use plain, or train the "
                "tokenizer first, with gptft tokenizer train."
            )
        return ChatFormat(format, loss_on, template, name, said=(why,) if why else ()), None
    if name in BUNDLED:
        added = missing_tokens(name, tokenizer)
        template = with_bos(template, tokenizer)
    tokenizer = with_added(tokenizer, TokenizerConfig(special_tokens=[*added]))
    ends, said = try_template(make_encoder(tokenizer, template), name=name, loss_on=loss_on)
    if added:
        said.insert(0, f"The tokenizer gets {', '.join(added)}, which the template {name} writes.")
    every = tuple(sentence for sentence in (why, *said) if sentence)
    return ChatFormat(format, loss_on, template, name, added, ends, every), tokenizer
