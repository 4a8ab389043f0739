"""`gptft generate`: a model and prompts -> texts."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from gptft.cli.options import (
    AsJson,
    Dtype,
    GenerationFile,
    Overrides,
    StrategyName,
    UseCpu,
    print_result,
)
from gptft.cli.settings_options import given_settings, with_settings

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
    from gptft import api
    from gptft.api.generation import Extra, Options
    from gptft.console import notice, result, result_json
    from gptft.decoding.prompts.gather import gather_prompts

    _check_flags(
        compare=compare, html=html, why=why, speed=speed, stream=stream, chat=chat,
        template=template, as_json=as_json,
    )  # fmt: skip
    asked: Options = {
        "config": api.generation_config(config_file, overrides=overrides),
        "given": given_settings({"strategy": strategy, **settings}),
        "template": template,
        "window": window,
        "dtype": dtype,
        "use_cpu": use_cpu,
    }
    texts = gather_prompts(prompts, prompt_file)
    if compare is not None:
        from gptft.analysis.compare.view import comparison_table

        names = [name.strip() for name in compare.split(",") if name.strip()]
        chosen = None if compare == "all" else names
        rows = api.compare(model, texts, chosen, html=html, notify=notice, **asked)
        print_result(rows, comparison_table, as_json=as_json)
        return
    extras: list[Extra] = ["why"] if why else []
    extras += ["speed"] if speed else []
    is_shown = sys.stdout.isatty() and not (speed or as_json) if stream is None else stream
    generated = api.generate(
        model,
        texts,
        chat=chat,
        extras=extras,
        stream="always" if stream else "possible" if is_shown else "never",
        on_text=_write,
        notify=notice,
        **asked,
    )
    if as_json:
        result_json(generated.rows())
        return
    if why:
        from gptft.analysis.text_view import why_view

        for scored in generated.tokens:
            result(why_view(scored))
    elif not generated.streamed:
        _write("\n\n".join(text.text for text in generated.texts) + "\n")
    if generated.speed is not None:
        notice(generated.speed.sentence())


def _check_flags(
    *,
    compare: str | None,
    html: Path | None,
    why: bool,
    speed: bool,
    stream: bool | None,
    chat: bool,
    template: str | None,
    as_json: bool,
) -> None:
    """Refuse flags that don't go together, before anything is loaded."""
    from gptft.errors import ConfigError

    if compare is None and html is not None:
        raise ConfigError("--html writes a comparison. Give --compare all, or --compare NAMES.")
    asked = {"--why": why, "--speed": speed, "--stream": bool(stream), "--chat": chat}
    wrong = [flag for flag, is_on in asked.items() if is_on]
    if compare is not None and wrong:
        raise ConfigError(f"{', '.join(wrong)}: not with --compare, which has a table of its own.")
    if stream and as_json:
        raise ConfigError("--stream is impossible here: --json prints whole texts. Leave it out.")
    if speed and stream:
        raise ConfigError("--stream and --speed: writing to a screen would be timed. Give one.")
    if chat and template is not None:
        raise ConfigError("--chat and --template both frame the prompt. Give one of them.")


def _write(text: str) -> None:
    """Write to stdout exactly: a console would wrap lines and turn tabs into spaces."""
    sys.stdout.write(text)
    sys.stdout.flush()
