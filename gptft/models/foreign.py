"""A folder that holds no model or tokenizer that gptft reads -> what it holds, and the way out."""

from gptft.errors import ModelError
from gptft.models.model_files import ModelFiles
from gptft.terminal.commands import quoted_word

ADAPTER_CONFIG = "adapter_config.json"
# Files of vocabularies that transformers turns into a tokenizer.json.
_OTHER_VOCABULARIES = {
    "vocab.txt": "WordPiece",
    "tokenizer.model": "SentencePiece",
    "spiece.model": "SentencePiece",
    "sentencepiece.bpe.model": "SentencePiece",
}


def refuse_adapter(files: ModelFiles) -> None:
    """Refuse a folder that holds an adapter and no weights of its own.

    Raises:
        ModelError: as said, with the base it is for.
    """
    folder = files.folder
    if not (folder / ADAPTER_CONFIG).is_file():
        return
    if any(not path.name.startswith("adapter") for path in folder.glob("*.safetensors")):
        return
    script = (
        "from peft import AutoPeftModelForCausalLM as M; "
        f"M.from_pretrained({str(folder)!r}).merge_and_unload().save_pretrained('merged')"
    )
    raise ModelError(
        f"{files.name} is {_adapter(files)}, not a model, and gptft can't load adapters yet. "
        "Merge it into its base, copy its tokenizer to merged/, and give that; peft comes with pip "
        f'install "gptft[lora]":\n  python -c {quoted_word(script)}'
    )


def no_tokenizer(files: ModelFiles) -> ModelError:
    """What to say of a folder with neither tokenizer.json nor vocab.json and merges.txt."""
    folder = files.folder
    said = f"{folder} holds no tokenizer: neither tokenizer.json nor vocab.json with merges.txt"
    if (folder / ADAPTER_CONFIG).is_file():
        return ModelError(f"{said}. It is {_adapter(files)}: give that one's tokenizer.")
    for name, kind in _OTHER_VOCABULARIES.items():
        if (folder / name).is_file():
            script = (
                "from transformers import AutoTokenizer as T; "
                f"T.from_pretrained({str(folder)!r}).save_pretrained({str(folder)!r})"
            )
            needs = ", after pip install sentencepiece" if kind == "SentencePiece" else ""
            return ModelError(
                f"{said}, only {name} ({kind}). Let transformers write a tokenizer.json of it"
                f"{needs}:\n  python -c {quoted_word(script)}"
            )
    return ModelError(f"{said}. Copy these from where the model comes from.")


def _adapter(files: ModelFiles) -> str:
    config = files.json(ADAPTER_CONFIG)
    base, kind = config.get("base_model_name_or_path"), config.get("peft_type")
    named = f" ({kind})" if isinstance(kind, str) else ""
    return (
        f"an adapter{named} of {base}" if isinstance(base, str) and base else f"an adapter{named}"
    )
