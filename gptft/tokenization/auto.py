"""A model's name -> its tokenizer as transformers has it, with the very ids of `load_tokenizer`.

What transformers opens is a folder with a tokenizer.json, so a tokenizer that is kept in any other
way is written as one first.
"""

from typing import TYPE_CHECKING

from gptft.errors import ModelError
from gptft.files import read_json, write_json
from gptft.models.gguf_header import read_gguf_header
from gptft.models.hub import find_model
from gptft.models.model_files import ModelFiles, require_dtype
from gptft.tokenization.old_files import as_new, is_old
from gptft.tokenization.tokenizer import load_tokenizer, save_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_NO_LIMIT = 10**30  # as transformers has it


def load_auto_tokenizer(model: str | ModelFiles) -> "PreTrainedTokenizerBase":
    """Load a model's tokenizer for transformers.

    Raises:
        ModelError: it can't be found or read.
    """
    from gptft.models import load

    files = find_model(model, with_weights=False).tokenizer
    require_dtype(files)
    if files.gguf is not None:
        try:
            _write_tokenizer(files)
        except OSError as error:
            raise ModelError(
                f"The tokenizer of {files.name} can't be kept in {files.folder}: "
                f"{error.strerror}. Set GPTFT_CACHE to a folder that can hold it."
            ) from None
    if is_old(files):
        files = as_new(files)
    return load.load_auto_tokenizer(files)


def _write_tokenizer(files: ModelFiles) -> None:
    """Write the tokenizer of a .gguf file, and its chat template, into its folder in the cache."""
    tokenizer = load_tokenizer(files)
    save_tokenizer(tokenizer, files.folder, model_max_length=tokenizer.context or _NO_LIMIT)
    template = read_gguf_header(files.gguf).get("tokenizer.chat_template") if files.gguf else None
    if isinstance(template, str):
        path = files.folder / "tokenizer_config.json"
        write_json(path, {**read_json(path), "chat_template": template})
