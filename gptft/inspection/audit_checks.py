"""A tokenizer's files -> findings: special tokens, ids, embeddings, length, padding, template.

In: `TokenizerFiles`. Out: findings, each with its place and what to do. Must not import torch or
transformers.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gptft.inspection.audit_files import TokenizerFiles
from gptft.inspection.chat_template import check_template
from gptft.models.model_files import context_length
from gptft.terminal.text import visible
from gptft.tokenization.tokenizer import TextTokenizer

LEVELS = ("fault", "warning", "ok")
_NAMES = ("eos_token", "bos_token", "pad_token", "unk_token", "sep_token", "cls_token")
_WITH_IDS = ("eos_token", "bos_token", "pad_token")
_NO_LIMIT = 10**15  # what transformers writes where no length was given is 10**30
_MANY_UNUSED = 1_000  # embeddings without a token; fewer only make the number a round one
_MAX_NAMED = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was checked.

    Attributes:
        level: "fault" (something will go wrong), "warning" (something may) or "ok".
        what: the finding, in a sentence.
        where: the file and the key in it, as `config.json:eos_token_id`.
        do: the way out; "" where there is nothing to do.
    """

    level: str
    what: str
    where: str
    do: str


def shown(token: str | None) -> str:
    """A token as a message may hold it, with nothing hidden.

    >>> shown(" <s>")
    '·<s>'
    """
    return visible((token or "").encode(errors="replace"))


def check_model_files(files: TokenizerFiles) -> Iterator[Finding]:
    """Compare the tokenizer with what the files beside it say."""
    yield from _check_special(files)
    if files.default is not None:
        for name in _WITH_IDS:
            yield from _check_ids(files, name)
        yield from _check_embeddings(files)
    yield from _check_length(files)
    yield from _check_padding(files)
    yield from _check_templates(files)


def named_tokens(files: TokenizerFiles) -> dict[str, tuple[str, str]]:
    """Special tokens by name, and the place that names each; in the order files are looked at."""
    found: dict[str, tuple[str, str]] = {}
    sources: tuple[tuple[str, Mapping[str, Any]], ...] = (
        ("tokenizer_config.json", files.tokenizer_config),
        ("special_tokens_map.json", files.special_tokens_map),
    )
    for file, values in sources:
        for name in (*_NAMES, "mask_token"):
            content = _content(values.get(name))
            if content is not None:
                found.setdefault(name, (content, f"{file}:{name}"))
        for key in ("additional_special_tokens", "extra_special_tokens"):
            more = values.get(key)
            more = list(more.values()) if isinstance(more, dict) else more
            for value in more if isinstance(more, list) else []:
                if (content := _content(value)) is not None:
                    found.setdefault(f"{key}:{content}", (content, f"{file}:{key}"))
    return found


def _content(value: Any) -> str | None:
    value = value.get("content") if isinstance(value, dict) else value
    return value if isinstance(value, str) else None


def _check_special(files: TokenizerFiles) -> Iterator[Finding]:
    """Whether the special tokens that are named are there, and those needed are named."""
    named = named_tokens(files)
    for name, (content, where) in named.items():
        token_id = None if files.default is None else files.default.token_to_id(content)
        label = "A further special token" if ":" in name else name
        if files.default is None:
            continue
        if token_id is None:
            what = f"{label} is {shown(content)}, which the vocabulary doesn't hold."
            do = "Name a token that is there, or add it to added_tokens and give it an embedding."
            yield Finding("fault", what, where, do)
        else:
            yield Finding("ok", f"{label} is {shown(content)}, id {token_id:,}.", where, "")
        other = _content(files.special_tokens_map.get(name))
        if other is not None and other != content:
            what = f"{name} is {shown(content)} here and {shown(other)} in special_tokens_map.json."
            yield Finding("warning", what, where, "Write the same in both, or delete the latter.")
    if "eos_token" not in named and files.tokenizer is not None:
        yield _without_eos(files.tokenizer)
    if "bos_token" not in named:
        what = "No bos_token: nothing is put in front of a text."
        yield Finding("ok", what, "tokenizer_config.json:bos_token", "")
    where = "tokenizer_config.json:pad_token"
    if "pad_token" not in named:
        is_known = _ids(files.config, "pad_token") or _ids(files.generation_config, "pad_token")
        what = "No pad_token: AutoTokenizer can't fill texts up to one length. gptft needs none."
        do = "For batches of prompts in transformers set it to the EOS token."
        yield Finding("ok" if is_known else "warning", what, where, do)
    elif named["pad_token"][0] == named.get("eos_token", ("", ""))[0]:
        what = "pad_token is the EOS token: trainers that leave PAD out of the loss never teach it."
        yield Finding("ok", f"{what} gptft packs texts and isn't among them.", where, "")


def _without_eos(tokenizer: TextTokenizer) -> Finding:
    where = "tokenizer_config.json:eos_token"
    eos = tokenizer.special_tokens.get("eos_token")
    if eos is not None:
        what = f"Only an id in config.json says that {shown(eos)} is the EOS token."
        return Finding("warning", what, where, f'Set "eos_token": "{eos}" for AutoTokenizer.')
    what = "There is no EOS token: the end of a text can't be learned, nor generation end."
    return Finding("fault", what, where, "Name the token that ends a text as eos_token.")


def _ids(config: Mapping[str, Any], name: str) -> list[int]:
    value = config.get(f"{name}_id")
    ids = value if isinstance(value, list) else [value]
    return [i for i in ids if isinstance(i, int) and not isinstance(i, bool) and i >= 0]


def _check_ids(files: TokenizerFiles, name: str) -> Iterator[Finding]:
    """Whether the files of the model mean the token that the tokenizer means."""
    if files.default is None:
        return
    content = named_tokens(files).get(name, (None, ""))[0]
    token_id = None if content is None else files.default.token_to_id(content)
    generation = _ids(files.generation_config, name)
    for file, config in (
        ("config.json", files.config),
        ("generation_config.json", files.generation_config),
    ):
        where, ids = f"{file}:{name}_id", _ids(config, name)
        missing = [i for i in ids if files.default.id_to_token(i) is None]
        if missing:
            what = f"{name}_id is {missing[0]:,}, an id that no token has."
            do = "Write the id of the token." if token_id is None else f"Write {token_id:,}."
            yield Finding("fault", what, where, do)
        elif token_id is None or not ids:
            continue
        elif token_id in ids:
            what = f"{name}_id agrees with the tokenizer: {token_id:,}."
            yield Finding("ok", what, where, "")
        else:
            is_eos = name == "eos_token"
            is_overruled = is_eos and file == "config.json" and token_id in generation
            level = "warning" if is_overruled or name == "pad_token" else "fault"
            meant = files.default.id_to_token(ids[0])
            what = (
                f"{name}_id is {ids[0]:,} ({shown(meant)}); the tokenizer's {name} is "
                f"{shown(content)}, id {token_id:,}."
            )
            if is_eos:
                what += (
                    " generation_config.json, which overrules it, has it right."
                    if is_overruled
                    else " Generation won't stop where texts end."
                )
            yield Finding(level, what, where, f"Write {token_id:,}.")


def _check_embeddings(files: TokenizerFiles) -> Iterator[Finding]:
    """Whether each id has an embedding."""
    if files.default is None:
        return
    where, size = "config.json:vocab_size", files.config.get("vocab_size")
    vocab = files.default.get_vocab(with_added_tokens=True)
    num_ids = max(vocab.values(), default=-1) + 1
    if not isinstance(size, int):
        what = "No vocab_size: whether each token has an embedding can't be checked."
        yield Finding("ok", what, where, "")
        return
    beyond = sorted((i, token) for token, i in vocab.items() if i >= size)
    if beyond:
        some = ", ".join(f"{shown(token)} ({i:,})" for i, token in beyond[:_MAX_NAMED])
        what = (
            f"{len(beyond):,} tokens have no embedding: the model knows {size:,} ids, the "
            f"tokenizer's go to {num_ids - 1:,}: {some}."
        )
        do = "Take them out, or resize the model's embeddings (resize_token_embeddings)."
        yield Finding("fault", what, where, do)
        return
    unused = size - num_ids
    what = f"Each token has an embedding: ids to {num_ids - 1:,} of {size:,}."
    if unused > _MANY_UNUSED:
        what += f" {unused:,} embeddings have no token. Is this the model's own tokenizer?"
        do = "Take the tokenizer that came with the model, if it isn't."
        yield Finding("warning", what, where, do)
    else:
        yield Finding("ok", what, where, "")


def _check_length(files: TokenizerFiles) -> Iterator[Finding]:
    """Whether AutoTokenizer's limit is the model's."""
    where, value = "tokenizer_config.json:model_max_length", None
    value = files.tokenizer_config.get("model_max_length")
    context = context_length(files.config)
    if context is None:
        what = "The model's files name no context length to compare model_max_length with."
        yield Finding("ok", what, where, "")
    elif not isinstance(value, int | float) or value >= _NO_LIMIT:
        what = f"No model_max_length: AutoTokenizer won't cut at the model's {context:,} tokens."
        yield Finding("warning", what, where, f"Write {context}. gptft goes by config.json.")
    elif value > context:
        what = f"model_max_length is {value:,}; the model sees {context:,} tokens at once."
        yield Finding("fault", what, where, f"Write {context}: longer texts fail, or turn bad.")
    elif value < context:
        what = f"model_max_length is {value:,}, less than the {context:,} tokens the model sees."
        yield Finding("warning", what, where, f"Write {context}, unless it was trained on less.")
    else:
        yield Finding("ok", f"model_max_length is the model's {context:,} tokens.", where, "")


def _check_padding(files: TokenizerFiles) -> Iterator[Finding]:
    where = "tokenizer_config.json:padding_side"
    side = files.tokenizer_config.get("padding_side")
    if side == "left":
        yield Finding("ok", "Prompts are padded on the left, where generation needs it.", where, "")
    elif side is None:
        what = "No padding_side: transformers pads on the right. gptft doesn't go by it."
        do = 'For batches of prompts in transformers set it to "left".'
        yield Finding("ok", what, where, do)
    elif side == "right":
        what = "Padding is on the right: in a batch, shorter prompts are continued after their PAD."
        yield Finding("warning", what, where, 'Set it to "left" for generation.')
    else:
        what = f"padding_side is {shown(str(side))}; AutoTokenizer refuses it."
        yield Finding("fault", what, where, 'Set it to "left".')


def _check_templates(files: TokenizerFiles) -> Iterator[Finding]:
    if not files.templates:
        what = "No chat template: a base model, which continues text."
        yield Finding("ok", what, "tokenizer_config.json:chat_template", "")
    tokens = {name: content for name, (content, _) in named_tokens(files).items()}
    for where, source in files.templates.items():
        check = check_template(source, special_tokens=tokens)
        if check.unavailable:
            what = f"The chat template wasn't checked: {check.unavailable}"
            yield Finding("ok", what, where, "")
            continue
        for problem in check.problems:
            what = f"The chat template doesn't work: {problem.rstrip('.')}."
            do = "Repair it: a question and an answer must come out of it."
            yield Finding("fault", what, where, do)
        if files.default is None:
            continue
        unknown = [mark for mark in check.marks if files.default.token_to_id(mark) is None]
        if unknown:
            some = ", ".join(map(shown, unknown[:_MAX_NAMED]))
            what = f"The chat template writes {some}, which the vocabulary doesn't hold."
            do = "Use the template of this tokenizer's model, or a mark that is one token."
            yield Finding("warning", what, where, do)
        if not check.problems:
            yield Finding("ok", "The chat template works: question and answer.", where, "")
