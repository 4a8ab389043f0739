"""A word of a command line that typer doesn't know -> what was probably meant."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperGroup

from gptft.console import one_message

_UsageError: Any = typer.BadParameter.__base__  # which typer has no name for

# What other programs call our commands.
_COMMANDS: Mapping[str, str] = {
    **dict.fromkeys(("perplexity", "ppl", "loss"), "score"),
    **dict.fromkeys(("evaluate", "evaluation", "test", "measure"), "eval"),
    **dict.fromkeys(("finetune", "fine-tune", "tune", "fit", "learn", "pretrain", "sft"), "train"),
    **dict.fromkeys(
        ("sample", "complete", "continue", "infer", "inference", "write", "run"), "generate"
    ),
    **dict.fromkeys(("chat", "talk", "ask"), "generate MODEL --chat"),
    **dict.fromkeys(("compare", "benchmark"), "generate MODEL --compare all"),
    **dict.fromkeys(("encode", "tokens", "count", "vocab"), "tokenize"),
    **dict.fromkeys(("tokenizer-train", "train-tokenizer"), "tokenizer train"),
    **dict.fromkeys(("next", "logits", "probs"), "predict"),
    **dict.fromkeys(("memorized", "memorization", "copies", "plagiarism"), "novelty"),
    **dict.fromkeys(("list", "ls", "status"), "runs"),
    "verify": "runs verify RUN",
    "resume": "train CONFIG --resume",
    **dict.fromkeys(("plot", "curves", "report"), "runs show RUN"),
    **dict.fromkeys(("diff", "compare-runs"), "runs compare RUN RUN"),
    **dict.fromkeys(("check", "validate", "lint"), "config check"),
    "show": "config show",
    "schema": "config schema",
    **dict.fromkeys(("preprocess", "pack", "data"), "prepare"),
    "help": "--help",
    "version": "--version",
}
# What other programs call our options; the first that a command has is meant. What `generation`
# knows of old names is looked up there.
_OPTIONS: Mapping[str, Sequence[str]] = {
    **dict.fromkeys(("--tokens", "--num-tokens", "--length"), ("--max-new-tokens",)),
    **dict.fromkeys(("--input", "--input-file", "--prompt-file", "--path"), ("--file",)),
    **dict.fromkeys(("--output", "--output-dir", "--run-dir", "--name"), ("--out",)),
    **dict.fromkeys(("--force", "--replace"), ("--overwrite",)),
    **dict.fromkeys(("--gpu", "--device", "--no-gpu", "--no-cuda"), ("--cpu", "--use-cpu")),
    **dict.fromkeys(("--base", "--base-model", "--pretrained"), ("--model",)),
    **dict.fromkeys(("--continue", "--restart", "--checkpoint"), ("--resume",)),
    **dict.fromkeys(("--samples", "--num-samples"), ("--num-return-sequences",)),
    **dict.fromkeys(("--text", "--message", "--question", "--start"), ("--prompt", "--file")),
    **dict.fromkeys(("--steps", "--iterations", "--iters"), ("--max-steps",)),
    **dict.fromkeys(("--context", "--context-length", "--seq-len"), ("--block-size",)),
}
# What is no option here at all, and where it belongs.
_NO_OPTIONS: Mapping[str, str] = {
    **dict.fromkeys(
        ("--data", "--dataset", "--train-file", "--corpus", "--config"),
        "What to read comes without an option: gptft train poem.txt, gptft train my.yaml.",
    ),
}
# What words behind those a command takes may be meant for.
_EXTRA_WORDS: Mapping[str, str] = {
    **dict.fromkeys(
        ("train", "prepare", "check", "show"),
        "One file, folder or YAML config is taken. Put several texts into a folder, or name them "
        "in data.train of a config.",
    ),
    **dict.fromkeys(("generate", "predict"), 'The prompt comes with -p: -p "Мороз и солнце".'),
    "novelty": "One run is taken; texts come with --file.",
    "list": "One folder is taken; gptft runs verify takes several.",
    "runs show": "One run is taken; gptft runs compare shows several side by side.",
}
# What a file means where a command of a group must stand.
_FOR_A_FILE: Mapping[str, str] = {
    "": "train",
    "config": "config check",
    "tokenizer": "tokenizer train",
}
# An argument that is missing, by its name: what it may be.
_MISSING: Mapping[str, str] = {
    "config_file": "Name a text file, a folder of texts or a YAML config: {command} poem.txt",
    "model": "Name a run, a model folder or pico, the bundled model: {command} pico",
    "run": "Name the folder of a run: {command} runs/poem",
    "runs": "Name a run, or a folder of them: {command} runs",
}


@contextmanager
def saying_what_was_meant() -> Iterator[None]:
    """Let typer's own errors quote a command line as ours do, and name what was probably meant."""
    try:
        yield
    except _UsageError as error:
        _mend(error)
        error.message = one_message(error.message)
        raise


class CommandGroup(TyperGroup):
    """A group of commands that says which of them a wrong word stands for."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that the first word names."""
        self.suggest_commands = False  # typer's own, which knows no other program's names
        try:
            return super().resolve_command(ctx, args)
        except _UsageError as error:
            if not hasattr(error, "option_name"):
                hint = _command_meant(
                    args[0],
                    group=ctx.info_name if ctx.parent else "",
                    known=self.list_commands(ctx),
                )
                error.message = f"{error.message.rstrip('.')}. {hint}"
            raise


def _command_meant(word: str, *, group: str, known: Sequence[str]) -> str:
    # What is needed only here is imported here: every command waits for this module.
    from difflib import get_close_matches

    from gptft.terminal.commands import command_line, path_word

    above = f"gptft {group}".rstrip()
    name = word.lower().replace("_", "-")
    if not group and name in _COMMANDS:
        return f"Did you mean gptft {_COMMANDS[name]}?"
    if group in _FOR_A_FILE and os.path.exists(word):
        command = _FOR_A_FILE[group].split()
        return f"Did you mean {command_line(*command, path_word(word))}?"
    meant = {**({} if group else _COMMANDS), **{one: one for one in known}}
    if near := get_close_matches(name, meant, n=1):
        return f"Did you mean {above} {meant[near[0]]}?"
    return f"{above} --help lists what there is: {', '.join(known)}."


def _mend(error: Any) -> None:
    """Let an error of typer's end with the way out, where it is known."""
    command: Any = None if error.ctx is None else error.ctx.command
    if hasattr(error, "possibilities") and command is not None:  # of an unknown option
        error.message = f"{error.message.rstrip('.')}. {_option_meant(error)}"
        error.possibilities = None  # which typer would add, the nearest not first
    elif error.message.startswith("Got unexpected extra") and (words := _extra_words(error)):
        error.message = f"{error.message.rstrip('.')}. {words}"
    elif (param := getattr(error, "param", None)) is not None and param.name in _MISSING:
        error.message = error.message or _MISSING[param.name].format(command=error.ctx.command_path)


def _extra_words(error: Any) -> str:
    """What to do with words behind those that a command takes; empty where nothing is known."""
    own_path = error.ctx.command_path.partition(" ")[2]
    return _EXTRA_WORDS.get(own_path) or _EXTRA_WORDS.get(error.ctx.command.name, "")


def _option_meant(error: Any) -> str:
    from gptft.config.suggest import did_you_mean

    params = error.ctx.command.get_params(error.ctx)
    known = [name for one in params for name in (*one.opts, *one.secondary_opts)]
    written = error.option_name.replace("_", "-").lower()
    for meant in _other_names(written):
        if meant in known:
            return f"Did you mean {meant}?"
    if written in _NO_OPTIONS:
        return _NO_OPTIONS[written]
    near = did_you_mean(written, known)
    return near or f"{error.ctx.command_path} --help lists them."


def _other_names(option: str) -> Iterator[str]:
    """The options that one of another name may stand for."""
    from gptft.decoding.strategies import SETTINGS

    yield from _OPTIONS.get(option, ())
    name = option.removeprefix("--").replace("-", "_")
    for row in SETTINGS.values():
        if name in row.aliases:
            yield f"--{row.name.replace('_', '-')}"
