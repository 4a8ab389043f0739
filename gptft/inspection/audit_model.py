"""Tokenizer files -> findings on the model: embeddings, context, padding, chat templates."""

from collections.abc import Iterator

from gptft.inspection.audit_files import TokenizerFiles
from gptft.inspection.audit_finding import MAX_NAMED, Finding, fault, ok, shown, some, warning
from gptft.inspection.audit_special import named_tokens
from gptft.inspection.chat_template import check_template
from gptft.models.model_files import context_length
from gptft.terminal.words import count, first_of

_NO_LIMIT = 10**15  # what transformers writes where no length was given is 10**30
_MANY_UNUSED = 1_000  # embeddings without a token; fewer only make the number a round one


def check_embeddings(files: TokenizerFiles) -> Iterator[Finding]:
    """Whether each id has an embedding."""
    if files.default is None:
        return
    where, size = "config.json:vocab_size", files.config.get("vocab_size")
    vocab = files.default.get_vocab(with_added_tokens=True)
    num_ids = max(vocab.values(), default=-1) + 1
    if not isinstance(size, int):
        what = "No vocab_size: whether each token has an embedding can't be checked."
        yield ok(what, where)
        return
    beyond = sorted((i, token) for token, i in vocab.items() if i >= size)
    if beyond:
        named = first_of([f"{shown(token)} ({i:,})" for i, token in beyond], MAX_NAMED)
        what = (
            f"{count(len(beyond), 'token has', 'tokens have')} no embedding: the model knows "
            f"{size:,} ids, the tokenizer's go to {num_ids - 1:,}: {named}."
        )
        do = "Take them out, or resize the model's embeddings (resize_token_embeddings)."
        yield fault(what, where, do)
        return
    unused = size - num_ids
    what = f"Each token has an embedding: ids to {num_ids - 1:,} of {size:,}."
    if unused > _MANY_UNUSED:
        what += f" {unused:,} embeddings have no token. Is this the model's own tokenizer?"
        do = "Take the tokenizer that came with the model, if it isn't."
        yield warning(what, where, do)
    else:
        yield ok(what, where)


def check_length(files: TokenizerFiles) -> Iterator[Finding]:
    """Whether AutoTokenizer's limit is the model's."""
    where = "tokenizer_config.json:model_max_length"
    value = files.tokenizer_config.get("model_max_length")
    context = context_length(files.config)
    if context is None:
        what = "The model's files name no context length to compare model_max_length with."
        yield ok(what, where)
    elif not isinstance(value, int | float) or value >= _NO_LIMIT:
        what = f"No model_max_length: AutoTokenizer won't cut at the model's {context:,} tokens."
        yield warning(what, where, f"Write {context}. gptft goes by config.json.")
    elif value > context:
        what = f"model_max_length is {value:,}; the model sees {context:,} tokens at once."
        yield fault(what, where, f"Write {context}: longer texts fail, or turn bad.")
    elif value < context:
        what = f"model_max_length is {value:,}, less than the {context:,} tokens the model sees."
        yield warning(what, where, f"Write {context}, unless it was trained on less.")
    else:
        yield ok(f"model_max_length is the model's {context:,} tokens.", where)


def check_padding_side(files: TokenizerFiles) -> Iterator[Finding]:
    """Whether prompts are padded where generation needs it."""
    where = "tokenizer_config.json:padding_side"
    side = files.tokenizer_config.get("padding_side")
    if side == "left":
        yield ok("Prompts are padded on the left, where generation needs it.", where)
    elif side is None:
        what = "No padding_side: transformers pads on the right. gptft doesn't go by it."
        do = 'For batches of prompts in transformers set it to "left".'
        yield ok(what, where, do)
    elif side == "right":
        what = "Padding is on the right: in a batch, shorter prompts are continued after their PAD."
        yield warning(what, where, 'Set it to "left" for generation.')
    else:
        what = f"padding_side is {shown(str(side))}; AutoTokenizer refuses it."
        yield fault(what, where, 'Set it to "left".')


def check_templates(files: TokenizerFiles) -> Iterator[Finding]:
    """Whether chat templates work, and write tokens that are there."""
    if not files.templates:
        what = "No chat template: a base model, which continues text."
        yield ok(what, "tokenizer_config.json:chat_template")
    tokens = {name: content for name, (content, _) in named_tokens(files).items()}
    for where, source in files.templates.items():
        check = check_template(source, special_tokens=tokens)
        for problem in check.problems:
            what = f"The chat template doesn't work: {problem.rstrip('.')}."
            do = "Repair it: a question and an answer must come out of it."
            yield fault(what, where, do)
        if files.default is None:
            continue
        unknown = [mark for mark in check.marks if files.default.token_to_id(mark) is None]
        if unknown:
            what = f"The chat template writes {some(unknown)}, which the vocabulary doesn't hold."
            do = "Use the template of this tokenizer's model, or a mark that is one token."
            yield warning(what, where, do)
        if not check.problems:
            yield ok("The chat template works: question and answer.", where)
