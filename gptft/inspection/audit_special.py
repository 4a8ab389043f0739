"""Tokenizer files -> findings on special tokens: named, in the vocabulary, alike in every file."""

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

from gptft.inspection.audit_files import TokenizerFiles
from gptft.inspection.audit_finding import Finding, fault, ok, shown, warning
from gptft.tokenization.tokenizer import MAX_IDS

_NAMES = [f"{kind}_token" for kind in ("eos", "bos", "pad", "unk", "sep", "cls", "mask")]
_WITH_IDS = ("eos_token", "bos_token", "pad_token")


def named_tokens(files: TokenizerFiles) -> dict[str, tuple[str, str]]:
    """Special tokens by name, and the place that names each; in the order files are looked at."""
    found: dict[str, tuple[str, str]] = {}
    for file, values in (
        ("tokenizer_config.json", files.tokenizer_config),
        ("special_tokens_map.json", files.special_tokens_map),
    ):
        for name in _NAMES:
            if (content := _content(values.get(name))) is not None:
                found.setdefault(name, (content, f"{file}:{name}"))
        for key in ("additional_special_tokens", "extra_special_tokens"):
            more = values.get(key)
            more = list(more.values()) if isinstance(more, dict) else more
            for value in more if isinstance(more, list) else []:
                if (content := _content(value)) is not None:
                    found.setdefault(f"{key}:{content}", (content, f"{file}:{key}"))
    return found


def check_named(files: TokenizerFiles) -> Iterator[Finding]:
    """Whether the special tokens that are named are there."""
    if files.default is None:
        return
    for name, (content, where) in named_tokens(files).items():
        token_id = files.default.token_to_id(content)
        label = "A further special token" if ":" in name else name
        if token_id is None:
            what = f"{label} is {shown(content)}, which the vocabulary doesn't hold."
            do = "Name a token that is there, or add it to added_tokens and give it an embedding."
            yield fault(what, where, do)
        else:
            yield ok(f"{label} is {shown(content)}, id {token_id:,}.", where)
        other = _content(files.special_tokens_map.get(name))
        if other is not None and other != content:
            what = f"{name} is {shown(content)} here and {shown(other)} in special_tokens_map.json."
            yield warning(what, where, "Write the same in both, or delete the latter.")


def check_eos_and_bos(files: TokenizerFiles) -> Iterator[Finding]:
    """Whether a token is named that ends a text, and one that begins it."""
    named = named_tokens(files)
    if "eos_token" not in named and files.tokenizer is not None:
        where = "tokenizer_config.json:eos_token"
        eos = files.tokenizer.special_tokens.get("eos_token")
        if eos is not None:
            what = f"Only an id in config.json says that {shown(eos)} is the EOS token."
            yield warning(what, where, f'Set "eos_token": "{eos}" for AutoTokenizer.')
        else:
            what = "There is no EOS token: the end of a text can't be learned, nor generation end."
            yield fault(what, where, "Name the token that ends a text as eos_token.")
    if "bos_token" not in named:
        what = "nothing"
        if files.tokenizer is not None and files.tokenizer.framing.before:
            ids = files.tokenizer.framing.before
            what = " ".join(shown(files.tokenizer.backend.id_to_token(i)) for i in ids)
        what = f"No bos_token: {what} is put in front of a text."
        yield ok(what, "tokenizer_config.json:bos_token")


def check_pad(files: TokenizerFiles) -> Iterator[Finding]:
    """Whether a token is named that fills texts up."""
    named, where = named_tokens(files), "tokenizer_config.json:pad_token"
    if "pad_token" not in named:
        is_known = _ids(files.config, "pad_token") or _ids(files.generation_config, "pad_token")
        what = "No pad_token: AutoTokenizer can't fill texts up to one length. gptft needs none."
        do = "For batches of prompts in transformers set it to the EOS token."
        yield (ok if is_known else warning)(what, where, do)
    elif named["pad_token"][0] == named.get("eos_token", ("", ""))[0]:
        what = "pad_token is the EOS token: trainers that leave PAD out of the loss never teach it."
        yield ok(f"{what} gptft packs texts and isn't among them.", where)


def check_ids(files: TokenizerFiles) -> Iterator[Finding]:
    """Whether the files of the model mean the tokens that the tokenizer means."""
    configs = {"config.json": files.config, "generation_config.json": files.generation_config}
    for name, (file, config) in product(_WITH_IDS, configs.items()):
        yield from _check_ids(files, name, file, config)


def _check_ids(
    files: TokenizerFiles, name: str, file: str, config: Mapping[str, Any]
) -> Iterator[Finding]:
    if files.default is None:
        return
    content, _ = named_tokens(files).get(name, (None, ""))
    token_id = None if content is None else files.default.token_to_id(content)
    where, ids = f"{file}:{name}_id", _ids(config, name)
    missing = [i for i in ids if i >= MAX_IDS or files.default.id_to_token(i) is None]
    if missing:
        what = f"{name}_id is {missing[0]:,}, an id that no token has."
        do = "Write the id of the token." if token_id is None else f"Write {token_id:,}."
        yield fault(what, where, do)
    elif token_id is None or not ids:
        return
    elif token_id in ids:
        yield ok(f"{name}_id agrees with the tokenizer: {token_id:,}.", where)
    else:
        is_eos = name == "eos_token"
        generation = _ids(files.generation_config, name)
        is_overruled = is_eos and file == "config.json" and token_id in generation
        meant = files.default.id_to_token(ids[0])
        what = (
            f"{name}_id is {ids[0]:,} ({shown(meant)}); the tokenizer's {name} is "
            f"{shown(content)}, id {token_id:,}."
        )
        if is_overruled:
            what += " generation_config.json, which overrules it, has it right."
        elif is_eos:
            what += " Generation won't stop where texts end."
        level = warning if is_overruled or name == "pad_token" else fault
        yield level(what, where, f"Write {token_id:,}.")


def _content(value: Any) -> str | None:
    value = value.get("content") if isinstance(value, dict) else value
    return value if isinstance(value, str) else None


def _ids(config: Mapping[str, Any], name: str) -> list[int]:
    value = config.get(f"{name}_id")
    ids = value if isinstance(value, list) else [value]
    return [i for i in ids if isinstance(i, int) and not isinstance(i, bool) and i >= 0]
