"""`gptft generate`: a model and prompts -> texts."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from gptft.cli.options import AsJson, Overrides

if TYPE_CHECKING:
    from gptft.config import Config
    from gptft.decoding.strategies import Settings


def _setting(*names: str, help: str) -> Any:
    """An option of the strategy's settings, shown together; without names it is named after."""
    return typer.Option(*names, help=help, rich_help_panel="Settings of the strategy")


ModelName = Annotated[
    str | None,
    typer.Argument(metavar="MODEL", help="A run folder, a model folder, a hub id, or pico."),
]
Prompts = Annotated[
    list[str], typer.Option("--prompt", "-p", help="A text to go on from; repeatable.")
]
PromptFile = Annotated[
    Path | None, typer.Option("--file", "-f", help="A UTF-8 file with a prompt a line.")
]
StrategyName = Annotated[
    str | None,
    typer.Option(
        help="greedy, beam, temperature, top_k, nucleus or beam_sampling; without it the settings "
        "decide."
    ),
]
GenerationFile = Annotated[
    Path | None, typer.Option("--config", "-c", help="A YAML config: its generation, model.name.")
]
Dtype = Annotated[
    Literal["auto", "float32", "bfloat16", "float16"] | None,
    typer.Option(help="Of the weights; auto is what the device is fast in."),
]
Streaming = Annotated[
    bool | None,
    typer.Option("--stream/--no-stream", help="Show the text as it is written."),
]

MaxNewTokens = Annotated[int | None, _setting(help="Tokens to write at most.")]
NumBeams = Annotated[int | None, _setting(help="Texts kept at once.")]
LengthPenalty = Annotated[
    float | None, _setting(help="Beams: above 0 favours longer texts, below 0 shorter ones.")
]
Temperature = Annotated[float | None, _setting(help="Below 1 safer, above 1 bolder.")]
TopK = Annotated[int | None, _setting(help="Draw from the k likeliest tokens; 0: from all.")]
TopP = Annotated[
    float | None, _setting(help="Draw from the likeliest tokens that reach this probability.")
]
RepetitionPenalty = Annotated[
    float | None, _setting(help="Above 1: tokens already in the text become less likely.")
]
NoRepeatNgramSize = Annotated[int | None, _setting(help="Never the same n tokens twice.")]
NumReturnSequences = Annotated[
    int | None, _setting("--num-return-sequences", "-n", help="Texts a prompt.")
]
Seed = Annotated[int | None, _setting(help="Of the draws; without it one is drawn and shown.")]


def generate(
    model: ModelName = None,
    prompts: Prompts = [],
    prompt_file: PromptFile = None,
    strategy: StrategyName = None,
    config_file: GenerationFile = None,
    overrides: Overrides = [],
    max_new_tokens: MaxNewTokens = None,
    num_beams: NumBeams = None,
    length_penalty: LengthPenalty = None,
    temperature: Temperature = None,
    top_k: TopK = None,
    top_p: TopP = None,
    repetition_penalty: RepetitionPenalty = None,
    no_repeat_ngram_size: NoRepeatNgramSize = None,
    num_return_sequences: NumReturnSequences = None,
    seed: Seed = None,
    dtype: Dtype = None,
    use_cpu: Annotated[bool, typer.Option("--cpu", help="Leave an accelerator alone.")] = False,
    stream: Streaming = None,
    as_json: AsJson = False,
) -> None:
    """Go on writing a text, given with -p, in a --file or on standard input.

    The texts go to stdout; the strategy and settings in force, the seed included, to stderr.
    """
    from gptft.console import notice, result_json
    from gptft.decoding.strategies import resolve_settings, with_seed

    config = _read_config(config_file, overrides)
    flags = {
        "strategy": strategy,
        "max_new_tokens": max_new_tokens,
        "num_beams": num_beams,
        "length_penalty": length_penalty,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "repetition_penalty": repetition_penalty,
        "no_repeat_ngram_size": no_repeat_ngram_size,
        "num_return_sequences": num_return_sequences,
        "seed": seed,
    }
    given = {name: value for name, value in flags.items() if value is not None}
    settings = with_seed(resolve_settings(config.generation.model_copy(update=given)))
    name = _model_name(model, config)
    texts = _read_prompts(prompts, prompt_file)
    streaming = _is_streamed(stream, settings, num_prompts=len(texts), as_json=as_json)
    notice(f"{name}, {settings.sentence()}")

    from gptft.decoding import engine

    def run(on_text: Callable[[str], None] | None = None) -> list[engine.Generated]:
        return engine.generate(
            name,
            texts,
            settings=settings,
            dtype=dtype or config.model.dtype,
            revision=config.model.revision if model is None else None,  # it is model.name's
            use_cpu=use_cpu,
            on_text=on_text,
        )

    if streaming:
        _stream(run)
    elif as_json:
        result_json([generated.to_dict() for generated in run()])
    else:
        _write("\n\n".join(generated.text for generated in run()) + "\n")


def _read_config(path: Path | None, overrides: Sequence[str]) -> "Config":
    from gptft.config.load import default_config, load_config

    if path is not None:
        return load_config(path, overrides=overrides)
    return default_config(overrides=overrides)


def _model_name(argument: str | None, config: "Config") -> str:
    """The model asked for, once it is certain that the name can be a model's."""
    from gptft.errors import ConfigError
    from gptft.models.source import resolve_model

    if argument is None and config.model.from_scratch is not None:
        raise ConfigError(
            "The config makes a new model, model.from_scratch. Say which trained one is to write: "
            "gptft generate MODEL."
        )
    name = argument if argument is not None else config.model.name
    resolve_model(name)
    return name


def _read_prompts(prompts: Sequence[str], path: Path | None) -> list[str]:
    """The prompts of the command line, then those of a file, or else all of standard input."""
    from gptft.errors import ConfigError

    found = [*prompts, *(_read_lines(path) if path is not None else [])]
    if not prompts and path is None:
        found = _read_stdin()
    for prompt in found:
        if any("\ud800" <= character <= "\udfff" for character in prompt):
            raise ConfigError(f"The prompt {prompt[:30]!r} is not UTF-8 text.")
    return found


def _read_lines(path: Path) -> list[str]:
    from gptft.errors import ConfigError

    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror}.") from None
    lines = [line.removesuffix("\r") for line in _decode(content, name=str(path)).split("\n")]
    if not any(lines):
        raise ConfigError(f"{path} holds no prompt: every line of it is empty.")
    return [line for line in lines if line]


def _read_stdin() -> list[str]:
    from gptft.errors import ConfigError

    is_open = sys.stdin is not None and not sys.stdin.isatty()
    content = sys.stdin.buffer.read() if is_open else b""
    if not content:
        raise ConfigError('There is no prompt. Give one: -p "...", --file FILE, or pipe it in.')
    return [_decode(content, name="standard input").removesuffix("\n").removesuffix("\r")]


def _decode(content: bytes, *, name: str) -> str:
    from gptft.errors import ConfigError

    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{name} is not UTF-8 text: byte 0x{content[error.start]:02x} at offset "
            f"{error.start:,}. Convert it to UTF-8 first."
        ) from None


def _is_streamed(
    asked: bool | None, settings: "Settings", *, num_prompts: int, as_json: bool
) -> bool:
    """Whether to show the text as it is written: on a terminal, where that is possible."""
    from gptft.decoding.strategies import why_not_streamed
    from gptft.errors import ConfigError

    reason = "--json prints whole texts" if as_json else None
    reason = reason or why_not_streamed(settings, num_prompts=num_prompts)
    if asked and reason:
        raise ConfigError(f"--stream is impossible here: {reason}. Leave it out.")
    wanted = sys.stdout.isatty() if asked is None else asked
    return wanted and reason is None


def _stream(run: Callable[[Callable[[str], None]], Any]) -> None:
    """Write pieces as they come, and a line's end after the last even when it is cut short."""
    pieces = 0

    def write(piece: str) -> None:
        nonlocal pieces
        pieces += 1
        _write(piece)

    try:
        run(write)
    finally:
        if pieces:
            _write("\n")


def _write(text: str) -> None:
    """Write to stdout exactly: a console would wrap lines and turn tabs into spaces."""
    sys.stdout.write(text)
    sys.stdout.flush()
