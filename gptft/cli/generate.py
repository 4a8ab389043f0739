"""`gptft generate`: a model and prompts -> texts."""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gptft.cli.options import (
    AsJson,
    Dtype,
    GenerationFile,
    Overrides,
    StrategyName,
    UseCpu,
    read_generation_config,
)
from gptft.cli.settings_options import given_settings, with_settings

if TYPE_CHECKING:
    from gptft.config.sections import Config
    from gptft.decoding.engine import Generated
    from gptft.decoding.loaded_model import LoadedModel
    from gptft.decoding.settings import Settings
    from gptft.decoding.speed import Speed

ModelName = Annotated[
    str | None,
    typer.Argument(metavar="MODEL", help="A run folder, a model folder, a hub id, or pico."),
]
Prompts = Annotated[
    list[str], typer.Option("--prompt", "-p", help="A text to continue; repeatable.")
]
PromptFile = Annotated[
    Path | None,
    typer.Option("--file", "-f", help="A text file with a prompt a line, or .jsonl."),
]
Streaming = Annotated[
    bool | None,
    typer.Option("--stream/--no-stream", help="Show the text token by token."),
]
TemplateName = Annotated[
    str | None,
    typer.Option(help="Put prompts into words: qa, translate, summary or dialogue."),
]
Compared = Annotated[
    str | None,
    typer.Option(metavar="NAMES", help="Strategies side by side: all, or names with commas."),
]


@with_settings
def generate(
    model: ModelName = None,
    prompts: Prompts = [],
    prompt_file: PromptFile = None,
    strategy: StrategyName = None,
    config_file: GenerationFile = None,
    overrides: Overrides = [],
    template: TemplateName = None,
    chat: Annotated[
        bool, typer.Option("--chat", help="Put prompts into the model's own chat template.")
    ] = False,
    window: Annotated[
        bool,
        typer.Option("--window", help="Let the model forget the beginning of a text too long."),
    ] = False,
    compare: Compared = None,
    html: Annotated[
        Path | None, typer.Option(help="With --compare: write the comparison as a page, too.")
    ] = None,
    why: Annotated[
        bool, typer.Option("--why", help="Show each token's probability, rank and runners-up.")
    ] = False,
    speed: Annotated[
        bool, typer.Option("--speed", help="Tokens a second, time to the first, drafts accepted.")
    ] = False,
    dtype: Dtype = None,
    use_cpu: UseCpu = False,
    stream: Streaming = None,
    as_json: AsJson = False,
    **settings: Any,
) -> None:
    """Continue a prompt, given with -p, in a --file or on standard input.

    The texts go to stdout; the strategy and settings in force, the seed included, to stderr.
    """
    from gptft.analysis.compare.entries import shared_settings
    from gptft.console import notice
    from gptft.decoding.prompts.gather import gather_prompts
    from gptft.decoding.prompts.templates import in_template
    from gptft.decoding.settings import check_strategies, choose_settings, with_seed

    _check_flags(
        compare=compare,
        html=html,
        why=why,
        speed=speed,
        stream=stream,
        chat=chat,
        template=template,
    )
    config = read_generation_config(config_file, overrides)
    check_strategies(config.strategies)
    given = given_settings({"strategy": strategy, **settings})
    name = _model_name(model, config)
    texts = gather_prompts(prompts, prompt_file)
    stop_strings: list[str] = []
    if template is not None:
        texts, stop_strings = in_template(template, texts)
    loading: dict[str, Any] = {
        "dtype": dtype or config.model.dtype,
        "revision": config.model.revision if model is None else None,  # it is model.name's
        "use_cpu": use_cpu,
    }
    if compare is not None:
        shared = {**shared_settings(config.generation), **given}
        if stop_strings:
            shared["stop_strings"] = [*shared.get("stop_strings", []), *stop_strings]
        _compare(name, texts, compare, own=config.strategies, shared=shared, window=window,
                 html=html, as_json=as_json, loading=loading)  # fmt: skip
        return
    chosen = with_seed(choose_settings(config.generation, config.strategies, given=given))
    if stop_strings:
        chosen = chosen.changed(stop_strings=[*chosen["stop_strings"], *stop_strings])
    whole = {"--json prints": as_json, "--why shows": why, "--window writes": window}
    reason = next((f"{flag} whole texts" for flag, is_on in whole.items() if is_on), None)
    streaming = not speed and _is_streamed(stream, chosen, num_prompts=len(texts), reason=reason)
    notice(f"{name}, {chosen.sentence()}")

    from gptft.decoding import engine

    loaded = engine.load_model(name, settings=chosen, **loading)
    if suggested := engine.unused_suggestions(loaded):
        notice(suggested)

    def run(on_text: Callable[[str], None] | None = None) -> "list[Generated]":
        return engine.generate(
            loaded, texts, settings=chosen, window=window, chat=chat, on_text=on_text
        )

    if streaming:
        _stream(run)
    elif speed:
        from gptft.decoding.speed import SpeedMeter

        with SpeedMeter(loaded.model) as meter:
            generated = run()
        _show(loaded, generated, why=why, as_json=as_json, speed=meter.speed(generated))
    else:
        _show(loaded, run(), why=why, as_json=as_json)


def _check_flags(
    *,
    compare: str | None,
    html: Path | None,
    why: bool,
    speed: bool,
    stream: bool | None,
    chat: bool,
    template: str | None,
) -> None:
    """Refuse flags that don't go together, before anything is loaded."""
    from gptft.errors import ConfigError

    if compare is None and html is not None:
        raise ConfigError("--html writes a comparison. Give --compare all, or --compare NAMES.")
    asked = {"--why": why, "--speed": speed, "--stream": bool(stream), "--chat": chat}
    wrong = [flag for flag, is_on in asked.items() if is_on]
    if compare is not None and wrong:
        raise ConfigError(f"{', '.join(wrong)}: not with --compare, which has a table of its own.")
    if speed and stream:
        raise ConfigError("--stream and --speed: writing to a screen would be timed. Give one.")
    if chat and template is not None:
        raise ConfigError("--chat and --template both frame the prompt. Give one of them.")


def _show(
    loaded: "LoadedModel",
    generated: "list[Generated]",
    *,
    why: bool,
    as_json: bool,
    speed: "Speed | None" = None,
) -> None:
    """Print whole texts, with their tokens where asked why, and how fast they came."""
    from gptft.console import notice, result, result_json

    tokens: list[Any] = [None] * len(generated)
    if why:
        from gptft.analysis.why import explain

        tokens = list(explain(loaded, generated))
    if as_json:
        rows = [text.json_fields() for text in generated]
        for row, scored in zip(rows, tokens, strict=True):
            row |= {"tokens": scored} if scored else {}
            row |= {"speed": speed} if speed else {}
        result_json(rows)
        return
    if why:
        from gptft.analysis.text_view import why_view

        for scored in tokens:
            result(why_view(scored))
    else:
        _write("\n\n".join(text.text for text in generated) + "\n")
    if speed is not None:
        notice(speed.sentence())


def _compare(
    name: str,
    prompts: Sequence[str],
    names: str,
    *,
    own: "Mapping[str, Mapping[str, Any]]",
    shared: "Mapping[str, Any]",
    window: bool,
    html: Path | None,
    as_json: bool,
    loading: dict[str, Any],
) -> None:
    """Write one prompt by many strategies, side by side."""
    from gptft.analysis.compare.entries import comparison_entries
    from gptft.analysis.compare.run import compare
    from gptft.analysis.compare.view import comparison_table
    from gptft.analysis.memorization import base_model_of, training_text_of
    from gptft.console import notice, result, result_json
    from gptft.errors import ConfigError

    if len(prompts) != 1:
        raise ConfigError(f"--compare takes one prompt, and there are {len(prompts)}.")
    wanted = None if names == "all" else [n.strip() for n in names.split(",") if n.strip()]
    entries = comparison_entries(
        wanted, own=own, shared=shared, base_model=base_model_of(name), prompt=prompts[0]
    )
    rows = compare(
        name,
        prompts[0],
        entries,
        window=window,
        training_text=training_text_of(name, notify=notice),
        notify=notice,
        **loading,
    )
    if html is not None:
        from gptft.files import write_output
        from gptft.report.comparison import comparison_html

        write_output(html, comparison_html(rows, model=name, prompt=prompts[0]))
        notice(f"Written: {html}")
    if as_json:
        result_json(rows)
        return
    result(comparison_table(rows))


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


def _is_streamed(
    asked: bool | None, settings: "Settings", *, num_prompts: int, reason: str | None
) -> bool:
    """Whether to show the text as it is written: on a terminal, where that is possible."""
    from gptft.decoding.settings import why_not_streamed
    from gptft.errors import ConfigError

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
