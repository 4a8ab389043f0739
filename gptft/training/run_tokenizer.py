"""A base's tokenizer -> a run's: it begins a text as the run's blocks begin a document."""

from transformers import PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from gptft.tokenization.framing import framing_of, set_framing


def begin_as_blocks(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    bos: tuple[int, ...],
    eos_token_id: int,
) -> PreTrainedTokenizerBase:
    """The tokenizer with the ids `bos` before every text; the model generates from them, too.

    They stand in the tokenizer's own template, which is saved with the model: whoever opens it,
    with gptft or plain transformers, gives it texts as it was trained on them, without a setting.
    Where `data.add_bos` is false a document follows EOS alone, so that EOS is BOS as well, as
    GPT-2's is.
    """
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        return tokenizer
    framing = framing_of(tokenizer.backend_tokenizer)
    if framing.before == bos:
        return tokenizer
    # GPTNeoXTokenizer and XGLMTokenizer, when loaded again, put a template of their own in the
    # place of the file's (transformers 5.23); this class goes by the file.
    plain = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer.backend_tokenizer, **tokenizer.init_kwargs
    )
    set_framing(plain.backend_tokenizer, framing._replace(before=bos))
    first = bos[0] if bos else eos_token_id
    plain.bos_token = str(plain.convert_ids_to_tokens(first))
    model.generation_config.bos_token_id = first
    return plain
