"""`gptft train`: text and a base model -> a run folder with a tuned model."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer import Option

from gptft.cli.options import AsJson, ConfigFile, Overrides, progress_bar
from gptft.cli.training_flags import FlagsCommand, given_flags, with_flags
from gptft.console import notice, result, result_json
from gptft.errors import ConfigError, Interrupted, RunError
from gptft.terminal.commands import command_line, path_word, quoted_word
from gptft.terminal.draw import Table, columns_or_lines
from gptft.terminal.text import harmless, quoted
from gptft.terminal.words import count, share_of_text

if TYPE_CHECKING:
    from gptft.api.sweeps import SweepResult
    from gptft.api.training import CompleteRun
    from gptft.runs.recital import Recital
    from gptft.training.result import TrainResult

_LINES_BEFORE = 4  # that are shown of what a model wrote before training
_CHARACTERS_BEFORE = 400  # and no more of them than that
_SHOWN_PROMPT = 40  # characters

app = typer.Typer(add_completion=False)


@app.command(cls=FlagsCommand)
@with_flags
def train(
    config_file: ConfigFile,
    overrides: Overrides = [],
    overwrite: Annotated[
        bool, Option("--overwrite", help="Replace an earlier run in the same folder.")
    ] = False,
    resume: Annotated[
        bool, Option("--resume", help="Resume from the newest intact checkpoint, if any.")
    ] = False,
    allow_change: Annotated[
        list[str],
        Option(
            metavar="FIELD", help="With --resume: allow this setting to have changed; repeatable."
        ),
    ] = [],
    extend: Annotated[
        bool, Option("--extend", help="With --resume: train further than was planned.")
    ] = False,
    sweep: Annotated[
        Path | None,
        Option(
            metavar="FILE",
            help="Train a run for each combination of settings in FILE; again, it continues.",
        ),
    ] = None,
    lang: Annotated[
        Literal["en", "ru"] | None,
        Option(help="The report's language; the texts', unless you choose."),
    ] = None,
    profile: Annotated[
        int | None,
        Option(
            min=1, metavar="[N]", help="Trace N steps (10) into profile/ and show what took time."
        ),
    ] = None,
    as_json: AsJson = False,
    **flags: Any,
) -> None:
    """Fine-tune a model on the texts of CONFIG, or train a new one.

    \b
      gptft train poem.txt
      gptft train my-texts --model gpt2 --epochs 3 --lr 1e-4 --seed 7 --out runs/a
      gptft train my.yaml --resume

    Any setting of training is a flag, too: --weight-decay 0.1, --bf16.
    A flag goes over --set, and --set over CONFIG.
    """  # noqa: D301  # typer leaves the lines behind a \b as they are
    from gptft import api
    from gptft.api.training import CompleteRun

    given, run_dir = [*overrides, *given_flags(flags)], Path("runs") / config_file.resolve().stem
    if sweep is not None:
        if allow_change or extend or profile:
            raise ConfigError(
                "--sweep takes no --allow-change, --extend or --profile. Resume that run."
            )
        with _naming_the_command():
            swept = api.train_sweep(
                config_file, sweep, sweep_dir=run_dir, overrides=given, overwrite=overwrite,
                lang=lang, progress=progress_bar, notify=notice,
            )  # fmt: skip
        _print_sweep(swept, as_json=as_json)
        return
    file = api.read_config(config_file, overrides=given)
    with _naming_the_command():
        outcome = api.train(
            file, run_dir=run_dir, overwrite=overwrite, resume=resume,
            allow_change=tuple(allow_change), extend=extend, lang=lang,
            profile_steps=profile, progress=progress_bar, notify=notice,
        )  # fmt: skip
    if as_json:
        result_json(outcome)
    elif isinstance(outcome, CompleteRun):
        result(_already_complete(outcome))
    else:
        _print_result(outcome)
    for sentence in outcome.remarks:
        notice(sentence)


def _print_sweep(swept: "SweepResult", *, as_json: bool) -> None:
    """The comparison of a sweep's runs.

    Raises:
        RunError: some of them failed.
    """
    from gptft.runs.compare_view import comparison_view

    if as_json:
        result_json(swept)
    elif swept.comparison is not None:
        result(comparison_view(swept.comparison))
    for sentence in swept.comparison.remarks if swept.comparison is not None else ():
        notice(sentence)
    if swept.failed:
        raise RunError(*(f"{run.name} failed: {run.error}" for run in swept.failed))


def _already_complete(outcome: "CompleteRun") -> str:
    """What to say of a run that was to be resumed and has no step left."""
    from gptft.runs.endings import why_early

    steps, ways = count(outcome.result["steps"], "step"), "--extend"
    if outcome.result.get("is_memorized"):
        steps += f" of {outcome.result['planned_steps']:,}, every token of its text is known"
        ways += " --set training.stop_when_memorized=false"
    elif why := why_early(outcome.result):
        steps += f" of {outcome.result['planned_steps']:,}, {why}"
        ways += " --set training.early_stopping_patience=null"
    return f"{outcome.run_dir} is complete: {steps}. Train further with {ways}."


@contextmanager
def _naming_the_command() -> Iterator[None]:
    """Let what was stopped end with the whole command that resumes it, for a shell to read."""
    try:
        yield
    except Interrupted as stopped:
        if stopped.resumable:
            program = "python -m gptft" if sys.argv[0].endswith("__main__.py") else "gptft"
            words = [word for word in sys.argv[2:] if word not in ("--overwrite", "--resume")]
            command = " ".join(map(quoted_word, [sys.argv[1], "--resume", *words]))
            stopped.args = (f"{str(stopped).removesuffix('.')}:\n  {program} {command}",)
        raise


def _print_result(outcome: "TrainResult") -> None:
    measured = {"training text": outcome.train, "held out": outcome.validation}
    rows = [
        (
            name,
            f"{one.loss_before:.3f}",
            f"{one.loss_after:.3f}",
            f"{one.perplexity_before:,.2f}",
            f"{one.perplexity_after:,.2f}",
        )
        for name, one in measured.items()
        if one is not None
    ]
    heads = ("", "loss before", "after", "perplexity before", "after")
    result(columns_or_lines(Table(rows, "lrrrr", heads=heads)))
    _print_bits(outcome)
    for sample in outcome.samples:
        prompt, before, after = map(_shown, (sample.prompt, sample.before, sample.after))
        result(
            f"prompt: {prompt}", f"--- before:\n{prompt}{before}", f"--- after:\n{prompt}{after}\n"
        )
    if outcome.recital is not None:
        _print_recital(outcome.recital, step=outcome.model_step)
    best = "" if outcome.model_step == outcome.steps else ", the best on held-out text,"
    seen = f"{count(outcome.num_tokens, 'token')} ({share_of_text(outcome.text_share)})"
    notice(
        f"{count(outcome.steps, 'step')}, {seen} in {outcome.seconds:.1f} s. "
        f"Report: {outcome.run_dir / 'report.html'}. The {_model_words(outcome)}"
        f"{best} is in {outcome.model_dir}. "
        f"{_next(outcome)}"
    )


def _model_words(outcome: "TrainResult") -> str:
    """What the model is of: a step, or a mean."""
    averaged, step = outcome.averaged or {}, f"step {outcome.model_step:,}"
    if steps := averaged.get("checkpoints"):
        return f"mean of the checkpoints of steps {', '.join(f'{one:,}' for one in steps)}"
    return f"moving average at {step}" if averaged else f"model of {step}"


def _print_bits(outcome: "TrainResult") -> None:
    """Bits a byte of all that was measured, the general texts among them: what tuning cost."""
    from gptft.runs.general import general_name

    measured = {
        "training text": outcome.train,
        "held out": outcome.validation,
        **{general_name(language): one for language, one in outcome.general.items()},
    }
    rows = [
        (name, f"{one.bits_per_byte_before:.3f}", f"{one.bits_per_byte_after:.3f}")
        for name, one in measured.items()
        if one and one.bits_per_byte_before is not None and one.bits_per_byte_after is not None
    ]
    if rows:
        result(Table(rows, "lrr", heads=("bits a byte", "before", "after")))


def _next(outcome: "TrainResult") -> str:
    """What to do with the model now."""
    folder = path_word(outcome.run_dir)
    if outcome.is_chat:
        asked = next((s.prompt for s in outcome.samples if len(s.prompt) <= _SHOWN_PROMPT), "")
        word = quoted_word(asked) if asked.isprintable() and asked else '"..."'
        return f"Ask it something:\n  {command_line('generate', folder, '--chat')} -p {word}"
    command = command_line("generate", folder)
    return f"Let it continue a prompt:\n  {command} -p {_prompt_word(outcome)}"


def _prompt_word(outcome: "TrainResult") -> str:
    """A prompt to try: the beginning of a text that the model recites, if a line can hold it."""
    texts = outcome.recital.texts if outcome.recital is not None else ()
    prompts = (text.prompt.strip() for text in texts)
    known = next((one for one in prompts if one.isprintable() and len(one) <= _SHOWN_PROMPT), "")
    return quoted_word(known) if known else '"..."'


def _print_recital(recital: "Recital", *, step: int) -> None:
    """One document in full, of several how much of each, and how much of all."""
    from gptft.runs.recital import recites

    if len(recital.texts) > 1:
        rows = [
            (
                quoted(text.prompt, at_most=_SHOWN_PROMPT),
                f"{text.lines_before:,}",
                f"{text.lines_after:,}",
                count(text.num_lines, "line"),
            )
            for text in recital.texts
        ]
        result(Table(rows, "lrrr", heads=("recited after", "before", "after", "of")))
    else:
        text = recital.texts[0]
        before, after = (text.prompt + written for written in (text.before, text.after))
        result(
            f"--- before training the model {recites(text.lines_before, text.num_lines)} after "
            f"the first:\n{_beginning(before)}\n",
            f"--- after step {step:,}:\n{_shown(after).rstrip()}\n",
        )
    of = "that follow the first" if len(recital.texts) == 1 else "of all texts"
    result(f"It {recites(recital.lines_after, recital.num_lines)} {of}.")


def _beginning(text: str) -> str:
    """The first lines of a text that nobody reads to its end."""
    shown = _shown(text)
    beginning = "\n".join(shown.split("\n")[:_LINES_BEFORE])
    if len(beginning) > _CHARACTERS_BEFORE:  # a line that repeats one word to its end
        beginning = beginning[:_CHARACTERS_BEFORE]
    return beginning if beginning == shown else f"{beginning}\n..."


def _shown(text: str) -> str:
    return harmless(text.encode(errors="replace"))
