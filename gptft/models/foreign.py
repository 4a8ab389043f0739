"""A folder that holds no model or tokenizer that gptft reads -> what it holds, and the way out."""

from contextlib import suppress
from importlib.util import find_spec

from gptft.errors import ModelError
from gptft.models.model_files import OLD_VOCABULARIES, ModelFiles
from gptft.terminal.commands import install_command, quoted_word

ADAPTER_CONFIG = "adapter_config.json"
_MODULES = {"sentencepiece": "sentencepiece", "protobuf": "google.protobuf"}


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
    if (old := files.old_vocabulary) is not None:
        kind, settings = OLD_VOCABULARIES[old.name], folder / "tokenizer_config.json"
        said = f"{said}, only {old.name} ({kind})"
        if missing := unread_packages(old.name):
            return ModelError(
                f"{said}. Reading it takes {' and '.join(missing)}. Install what is missing: "
                f"{install_command('sentencepiece')}"
            )
        named = '{"tokenizer_class": "BertTokenizer"}' if kind == "WordPiece" else ""
        such = f", such as {named} where it is BERT's" if named else ""
        model_type = files.config.get("model_type")
        return ModelError(
            f"{said}, which transformers doesn't convert for a {model_type}. Name the class that "
            f"does in {settings}{such}."
        )
    if folder.parent.name == "checkpoints" and (folder / "MANIFEST.json").is_file():
        own, model = f"{folder.parent.parent.name}-{folder.name}", folder.parent.parent / "model"
        copied = f"cp -r {quoted_word(folder)} {quoted_word(own)}"
        return ModelError(
            f"{said}. A checkpoint must stay as it is for --resume: put both into a folder of "
            f"their own, and give that:\n  {copied} && cp {quoted_word(model)}/tokenizer* "
            f"{quoted_word(own)}"
        )
    return ModelError(f"{said}. Copy these from where the model comes from.")


def unread_packages(file_name: str) -> list[str]:
    """The packages that a vocabulary's file takes, and that aren't installed."""
    if OLD_VOCABULARIES.get(file_name) != "SentencePiece":
        return []
    missing = []
    for package, module in _MODULES.items():
        with suppress(ModuleNotFoundError):  # google itself is missing
            if find_spec(module) is not None:
                continue
        missing.append(package)
    return missing


def _adapter(files: ModelFiles) -> str:
    config = files.json(ADAPTER_CONFIG)
    base, kind = config.get("base_model_name_or_path"), config.get("peft_type")
    named = f" ({kind})" if isinstance(kind, str) else ""
    return (
        f"an adapter{named} of {base}" if isinstance(base, str) and base else f"an adapter{named}"
    )
