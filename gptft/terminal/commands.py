"""A command's words -> the line that a person copies into a shell, whatever is in a name."""

import os
import re
import shlex
from pathlib import Path

# Packages of our extras, as pyproject.toml has them.
_EXTRAS = {
    "tensorboard": "track", "peft": "lora", "bitsandbytes": "quantize", "gguf": "gguf",
    "sentencepiece": "sentencepiece",
    "starlette": "playground", "uvicorn": "playground", "lxml": "documents",
}  # fmt: skip
_ADVICE = re.compile(rf"pip3? install (?:-U |--upgrade )?({'|'.join(_EXTRAS)})\b(?:[=<>~]+[\d.]+)?")
_ESCAPED = re.compile(r"['\\]|[^\x20-\x7e]")


def command_line(*words: str | Path) -> str:
    r"""A command of gptft as a shell reads it.

    >>> print(command_line("generate", "runs/my poem"))
    gptft generate 'runs/my poem'
    """
    return " ".join(["gptft", *map(quoted_word, words)])


def quoted_word(word: str | Path) -> str:
    r"""One word as a shell reads it: bash, zsh and ksh where it holds what no terminal shows.

    >>> print(quoted_word("стих 1"), quoted_word("a\nb"))
    'стих 1' $'a\x0ab'
    """
    text = str(word)
    if text.isprintable():
        # Letters of any script need no quotes; shlex knows those of ASCII alone.
        if re.fullmatch(r"[\w@%+=:,./-]+", text):
            return text
        is_plain = "'" in text and not set(text) & set('"$`\\!')
        return f'"{text}"' if is_plain else shlex.quote(text)
    return f"$'{_ESCAPED.sub(_as_bytes, text)}'"


def install_command(package: str) -> str:
    """What installs a package: our extra, where it is in one.

    >>> install_command("tensorboard"), install_command("wandb")
    ('pip install "gptft[track]"', 'pip install wandb')
    """
    extra = _EXTRAS.get(package)
    return f"pip install {package}" if extra is None else f'pip install "gptft[{extra}]"'


def with_our_extras(advice: str) -> str:
    """What a library says, its advice on packages that we have an extra for put right.

    >>> with_our_extras("Run `pip install -U peft` first.")
    'Run `pip install "gptft[lora]"` first.'
    """
    return _ADVICE.sub(lambda found: install_command(found[1]), advice)


def path_word(path: str | Path) -> str:
    """A path as a word that no command takes for an option.

    >>> path_word("-my.txt"), path_word("my.txt")
    ('./-my.txt', 'my.txt')
    """
    return f"./{path}" if str(path).startswith("-") else str(path)


def _as_bytes(found: re.Match[str]) -> str:
    if found[0] in "'\\":
        return f"\\{found[0]}"
    return "".join(f"\\x{byte:02x}" for byte in os.fsencode(found[0]))
