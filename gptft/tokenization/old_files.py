"""A folder of vocab.txt or a SentencePiece model -> a folder with the tokenizer.json it stands for.

BERT's vocab.txt becomes one by `tokenizers` alone. Everything else is converted by transformers,
each of whose classes puts a vocabulary together in its own way. That loads torch and takes seconds:
so what comes of it is kept in the cache, and found there by the sizes and times of the files.
"""

from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)

from gptft.console import stage
from gptft.errors import GptftError, ModelError
from gptft.files import default_cache_dir, write_json, write_text
from gptft.models.foreign import no_tokenizer, unread_packages
from gptft.models.kept import made_whole, stamp_of
from gptft.models.model_files import ModelFiles
from gptft.panics import no_panic
from gptft.terminal.text import shown_path
from gptft.text.unicode import text_problem

_BERT = ("BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer", "ConvBertTokenizer")
# Model types whose tokenizer is BERT's where no file names one (transformers 5.23,
# tokenization_auto.py); those that have a causal language model.
_BERT_TYPES = ("bert", "electra", "megatron-bert", "ernie")
# In the order in which transformers adds those that the vocabulary lacks (5.23).
_SPECIAL = {
    "bos_token": None, "eos_token": None, "unk_token": "[UNK]", "sep_token": "[SEP]",
    "pad_token": "[PAD]", "cls_token": "[CLS]", "mask_token": "[MASK]",
}  # fmt: skip
_ENDS = ("cls_token", "sep_token")
_NEW = "tokenizer.json"
_MAP = "special_tokens_map.json"
_DECIDING = (
    "tokenizer_config.json", _MAP, "added_tokens.json", "config.json",
)  # fmt: skip


def is_old(files: ModelFiles) -> bool:
    """Whether a model's tokenizer is only in files that `tokenizers` doesn't open."""
    return not files.path.is_file() and not files.has_tokenizer and files.old_vocabulary is not None


def as_new(files: ModelFiles) -> ModelFiles:
    """The files of a model, in a folder in the cache, with a tokenizer.json.

    Its config.json is the model's own.

    Raises:
        ModelError: its tokenizer can't be converted.
    """
    source = files.old_vocabulary
    if source is None:
        raise no_tokenizer(files)
    paths = [source, *(files.folder / name for name in _DECIDING)]
    try:
        folder = default_cache_dir() / "tokenizers" / stamp_of([p for p in paths if p.is_file()])
        if not (folder / _NEW).is_file():
            folder.parent.mkdir(parents=True, exist_ok=True)
            _make(files, source, folder)
    except OSError as error:
        raise ModelError(
            f"The tokenizer of {files.name} can't be kept as tokenizer.json in "
            f"{default_cache_dir()}: {error.strerror}. Set GPTFT_CACHE to a folder that can "
            "hold it."
        ) from None
    return ModelFiles(files.name, folder, _read={"config.json": files.config})


def _make(files: ModelFiles, source: Path, folder: Path) -> None:
    """Write `folder`, whole or not at all."""
    with made_whole(folder, mark=_NEW) as made:
        if source.name == "vocab.txt" and _is_berts(files):
            _write_word_piece(files, source, made)
        else:
            _write_by_transformers(files, source, made)


def _is_berts(files: ModelFiles) -> bool:
    for named in (files.json("tokenizer_config.json"), files.config):
        if isinstance(kind := named.get("tokenizer_class"), str):
            return kind.removesuffix("Fast") in _BERT
    return files.config.get("model_type") in _BERT_TYPES


def _write_word_piece(files: ModelFiles, source: Path, folder: Path) -> None:
    """WordPiece as transformers' BertTokenizer has it, with the tokens it adds (5.23)."""
    own = files.json("tokenizer_config.json")
    named = {**own} if "added_tokens_decoder" in own else {**own, **files.json(_MAP)}
    tokens = {name: _token(named.get(name, default)) for name, default in _SPECIAL.items()}
    special = {name: token for name, token in tokens.items() if token is not None}
    unknown = special.get("unk_token")
    try:
        with no_panic():
            model = models.WordPiece.from_file(str(source), unk_token=_content(unknown, "[UNK]"))
    except Exception as error:  # tokenizers raises bare Exception
        raise ModelError(f"{source} can't be read: {error}.") from None
    backend = Tokenizer(model)
    backend.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=own.get("tokenize_chinese_chars", True) is not False,
        strip_accents=accents if isinstance(accents := own.get("strip_accents"), bool) else None,
        lowercase=own.get("do_lower_case", True) is not False,
    )
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(prefix="##")
    _add(backend, files, special, named)
    begin, end = (_content(special.get(name), _SPECIAL[name] or "") for name in _ENDS)
    ids = [(token, backend.token_to_id(token)) for token in (begin, end)]
    backend.post_processor = processors.TemplateProcessing(
        single=f"{begin}:0 $A:0 {end}:0",
        pair=f"{begin}:0 $A:0 {end}:0 $B:1 {end}:1",
        special_tokens=ids,
    )
    write_text(folder / _NEW, backend.to_str())
    texts = {name: _content(token, "") for name, token in special.items()}
    kept = {name: value for name, value in own.items() if name != "added_tokens_decoder"}
    kind = {"tokenizer_class": "BertTokenizer", "clean_up_tokenization_spaces": False}
    write_json(folder / "tokenizer_config.json", {**kind, **kept, **texts})


def _add(
    backend: Tokenizer,
    files: ModelFiles,
    special: Mapping[str, AddedToken],
    named: Mapping[str, Any],
) -> None:
    """Add the tokens that the files add, by their ids, then special ones that aren't there yet."""
    numbered = _numbered(files, {token.content for token in special.values()})
    more = named.get("extra_special_tokens") or named.get("additional_special_tokens") or []
    more = [*more.values()] if isinstance(more, Mapping) else more
    extra = [_token(one) for one in more] if isinstance(more, list) else []
    wanted = [token for _, token in sorted(numbered.items(), key=lambda item: item[0])]
    for token in (*special.values(), *extra):
        if token is not None and all(token.content != one.content for one in wanted):
            wanted.append(token)
    backend.add_tokens(wanted)
    for number, token in numbered.items():
        if (given := backend.token_to_id(token.content)) != number:
            raise ModelError(
                f"{files.folder} gives {token.content!r} the id {number:,}, and the vocabulary has "
                f"{given} for it."
            )


def _numbered(files: ModelFiles, special: Set[str]) -> dict[int, AddedToken]:
    """The tokens that the files add to the vocabulary, by id.

    Raises:
        ModelError: what is there isn't a table of tokens.
    """
    stored = files.json("tokenizer_config.json").get("added_tokens_decoder")
    try:
        if stored is not None:
            added = {int(i): AddedToken(**token) for i, token in stored.items()}
            if not all(token.content for token in added.values()):
                raise ValueError("one has no content")
            return added
        return {
            int(i): AddedToken(text, normalized=text not in special, special=text in special)
            for text, i in files.json("added_tokens.json").items()
        }
    except (TypeError, ValueError, AttributeError) as error:
        where = "tokenizer_config.json" if stored is not None else "added_tokens.json"
        raise ModelError(
            f"{files.folder / where} doesn't give its added tokens as a table: {error}."
        ) from None


def _token(value: Any) -> AddedToken | None:
    """A special token as JSON has it: a text, or a table with its content."""
    if isinstance(value, Mapping):
        flags = {key: value.get(key) is True for key in ("lstrip", "rstrip", "single_word")}
        content = value.get("content")
        normalized = value.get("normalized") is True
    else:
        flags, content, normalized = {}, value, False
    if not isinstance(content, str) or not content or text_problem(content) is not None:
        return None
    return AddedToken(content, special=True, normalized=normalized, **flags)


def _content(token: AddedToken | None, default: str) -> str:
    return default if token is None else str(token.content)


def _write_by_transformers(files: ModelFiles, source: Path, folder: Path) -> None:
    if unread_packages(source.name):
        raise no_tokenizer(files)
    if source.suffix == ".model":
        _require_sentencepiece(source)
    from transformers import AutoTokenizer
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with stage(f"Converting {shown_path(str(source))}"), no_panic():
            made = AutoTokenizer.from_pretrained(str(files.folder), trust_remote_code=False)
            if getattr(made, "backend_tokenizer", None) is None or _is_empty(made, source):
                raise no_tokenizer(files)
            made.save_pretrained(str(folder))
    except GptftError:
        raise
    except Exception as error:  # transformers, sentencepiece and protobuf raise a dozen types
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ModelError(
            f"{source} can't be converted to a tokenizer.json: {reason[:300].rstrip('.')}. Copy it "
            "again from where the model comes from."
        ) from None
    finally:
        logging.set_verbosity(verbosity)
    if not (folder / _NEW).is_file():
        raise no_tokenizer(files)


def _require_sentencepiece(path: Path) -> None:
    """Refuse what is none: transformers takes it for a file of tiktoken then (5.23)."""
    from sentencepiece import SentencePieceProcessor

    try:
        size = SentencePieceProcessor(model_proto=path.read_bytes()).get_piece_size()
    except (RuntimeError, ValueError, TypeError):  # from C++
        size = 0
    if not size:
        raise ModelError(
            f"{path} is not a SentencePiece model, or damaged. Copy it again from where the model "
            "comes from, with its tokenizer.json where there is one."
        )


def _is_empty(made: Any, source: Path) -> bool:
    """Whether transformers took no notice of the file; it makes an empty tokenizer then (5.23)."""
    return source.name not in made.vocab_files_names.values()
