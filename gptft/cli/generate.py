"""`gptft generate`: a model and prompts -> texts."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from gptft.cli import options
from gptft.cli.settings_options import given_settings, with_settings
from gptft.console import notice, result, result_json, stderr
from gptft.errors import ConfigError

if TYPE_CHECKING:
    from gptft.api.generation import Generation

Prompts = Annotated[list[str], Option("--prompt", "-p", help="A text to continue; repeatable.")]
PromptFile = Annotated[
    Path | None, Option("--file", "-f", help="A text file with a prompt a line, or .jsonl.")
]
Streaming = Annotated[
    bool | None, Option("--stream/--no-stream", help="Show the text token by token.")
]
TemplateName = Annotated[
    str | None, Option(help="Put prompts into words: qa, translate, summary or dialogue.")
]
Compared = Annotated[
    str | None, Option(metavar="NAMES", help="Strategies side by side: all, or names with commas.")
]

_NO_PAGE = (
    "--html writes a page of strategies, with --compare all or --compare NAMES, or of why tokens "
    "were chosen, with --why. Give one of them."
)


@with_settings
def generate(
    model: Annotated[str | None, options.MODEL] = None,
    prompts: Prompts = [],
    prompt_file: PromptFile = None,
    strategy: options.StrategyName = None,
    config_file: options.GenerationFile = None,
    overrides: options.Overrides = [],
    template: TemplateName = None,
    chat: Annotated[
        bool, Option("--chat", help="Put prompts into the model's own chat template.")
    ] = False,
    window: Annotated[
        bool, Option("--window", help="Let the model forget the beginning of a text too long.")
    ] = False,
    batch_size: Annotated[
        int | None,
        Option(metavar="N", min=1, help="Prompts at once, 16 by default; 1 to rule out rounding."),
    ] = None,
    compare: Compared = None,
    html: Annotated[
        Path | None, Option(help="With --compare or --why: write a page of it, too.")
    ] = None,
    lang: options.Lang = None,
    overwrite: options.OverwritePage = False,
    why: Annotated[
        bool, Option("--why", help="Show each token's probability, rank and runners-up.")
    ] = False,
    speed: Annotated[
        bool, Option("--speed", help="Tokens a second, time to the first, drafts accepted.")
    ] = False,
    dtype: Annotated[options.DtypeName | None, options.DTYPE] = None,
    use_cpu: options.UseCpu = False,
    stream: Streaming = None,
    as_json: options.AsJson = False,
    **settings: Any,
) -> None:
    """Continue a prompt, given with -p, in a --file or on standard input.

    The texts go to stdout; the strategy and settings in force, the seed included, to stderr.
    """
    from gptft import api
    from gptft.api.generation import Extra, Options
    from gptft.decoding.prompts.gather import gather_prompts

    shown = {"--why": why, "--speed": speed, "--stream": bool(stream), "--chat": chat}
    shown["--batch-size"] = batch_size is not None
    if compare is None and html is not None and not why:
        raise ConfigError(_NO_PAGE)
    if compare is not None and any(shown.values()):
        wrong = ", ".join(flag for flag, is_on in shown.items() if is_on)
        raise ConfigError(f"{wrong}: not with --compare, which has a table of its own.")
    if stream and as_json:
        raise ConfigError("--stream is impossible here: --json prints whole texts. Leave it out.")
    if speed and stream:
        raise ConfigError("--stream and --speed: writing to a screen would be timed. Give one.")
    if chat and template is not None:
        raise ConfigError("--chat and --template both frame the prompt. Give one of them.")
    asked: Options = {
        "config": api.generation_config(config_file, overrides=overrides),
        "given": given_settings({"strategy": strategy, **settings}),
        "template": template, "window": window, "batch_size": batch_size, "dtype": dtype,
        "use_cpu": use_cpu,
    }  # fmt: skip
    texts = gather_prompts(prompts, prompt_file)
    read = [path for path in (prompt_file, config_file) if path is not None]
    if compare is not None:
        from gptft.analysis.compare.view import comparison_table

        names = [name.strip() for name in compare.split(",") if name.strip()]
        chosen = None if compare == "all" else names
        rows = api.compare(
            model, texts, chosen, html=html, lang=lang, inputs=read, overwrite=overwrite,
            notify=notice, **asked,
        )  # fmt: skip
        options.print_result(rows, comparison_table, as_json=as_json)
        return
    extras: list[Extra] = ["why"] if why else []
    extras += ["speed"] if speed else []
    is_live = stream is None and sys.stdout.isatty() and not (speed or as_json)
    generated = api.generate(
        model, texts, chat=chat, extras=extras, on_text=_write, html=html, lang=lang, inputs=read,
        overwrite=overwrite, notify=notice,
        stream="always" if stream else "possible" if is_live else "never", **asked,
    )  # fmt: skip
    if as_json:
        result_json(generated.rows())
    else:
        _print(generated, why=why)


def _print(generated: "Generation", *, why: bool) -> None:
    """Print texts, unless they were shown as they came, or why their tokens were chosen."""
    if why:
        from gptft.analysis.text_view import why_view

        result(*map(why_view, generated.tokens))
    elif not generated.streamed:
        _write("\n\n".join(text.text for text in generated.texts) + "\n")
    if generated.speed is not None:
        notice(generated.speed.sentence())
    if generated.cut_off and stderr().is_terminal:  # --json has it of each text
        notice(generated.cut_off)


def _write(text: str) -> None:
    """Write to stdout exactly: a console would wrap lines and turn tabs into spaces."""
    sys.stdout.write(text)
    sys.stdout.flush()
