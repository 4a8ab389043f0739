"""A folder that holds no model or tokenizer that gptft reads -> what it holds, and the way out."""

from contextlib import suppress
from importlib.util import find_spec

from gptft.errors import ModelError
from gptft.models.model_files import OLD_VOCABULARIES, ModelFiles
from gptft.terminal.commands import install_command, quoted_word

_MODULES = {"sentencepiece": "sentencepiece", "protobuf": "google.protobuf"}


def no_tokenizer(files: ModelFiles) -> ModelError:
    """What to say of a folder with neither tokenizer.json nor vocab.json and merges.txt."""
    folder = files.folder
    said = f"{folder} holds no tokenizer: neither tokenizer.json nor vocab.json with merges.txt"
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
        run = folder.parent.parent
        own = f"{run.name}-{folder.name}"
        kept = run / ("model" if (run / "model").is_dir() else "adapter")
        template = kept / "chat_template.jinja"
        also = f" {quoted_word(template)}" if template.is_file() else ""
        copied = f"cp -r {quoted_word(folder)} {quoted_word(own)}"
        return ModelError(
            f"{said}. A checkpoint must stay as it is for --resume: put both into a folder of "
            f"their own, and give that:\n  {copied} && cp {quoted_word(kept)}/tokenizer*"
            f"{also} {quoted_word(own)}"
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
