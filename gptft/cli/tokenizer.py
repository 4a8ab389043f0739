"""`gptft tokenizer`: make a tokenizer of your own, or give one more tokens."""

from pathlib import Path
from typing import Annotated, Literal

import typer
from typer import Argument, Option

from gptft.cli.mistyped import CommandGroup
from gptft.cli.options import AsJson, print_result, progress_bar
from gptft.console import notice

app = typer.Typer(
    cls=CommandGroup,
    no_args_is_help=True,
    help="Train a tokenizer on your texts, or add tokens to one.",
)

Out = Annotated[Path, Option("--out", "-o", metavar="DIR", help="A new folder, for AutoTokenizer.")]
HeldOut = Annotated[float, Option(metavar="SHARE", help="Of the texts: measured on, not learned.")]


@app.command()
def train(
    texts: Annotated[
        list[str],
        Argument(metavar="TEXTS", help="Files, folders, globs, hub:NAME.", show_default=False),
    ],
    out: Out,
    kind: Annotated[
        Literal["bpe", "unigram", "wordpiece"],
        Option(
            help="bpe and unigram (ten times as slow) keep every byte of a text, wordpiece doesn't."
        ),
    ] = "bpe",
    vocab_size: Annotated[int, Option(help="Ids in all.")] = 8192,
    min_frequency: Annotated[
        int | None, Option(help="Rarer pairs aren't merged.  [default: 2]")
    ] = None,
    special: Annotated[
        list[str], Option(metavar="TOKEN", help="A special token besides EOS; repeatable.")
    ] = [],
    held_out: HeldOut = 0.05,
    context: Annotated[int, Option(help="model_max_length in tokenizer_config.json.")] = 1024,
    beside: Annotated[
        list[str],
        Option(metavar="NAME", help="Compare with this one, too; repeatable, local only."),
    ] = [],
    as_json: AsJson = False,
) -> None:
    """Train a tokenizer on TEXTS and say what held-out text costs in it, and in pico's.

    The draw of what is held out is the same every time. The first special token is EOS,
    <|endoftext|>.
    """
    from gptft import api
    from gptft.tokenization.training_view import trained_view

    with progress_bar() as progress:
        trained = api.train_tokenizer(
            texts, out, kind=kind, vocab_size=vocab_size, min_frequency=min_frequency,
            special=special, held_out=held_out, model_max_length=context, beside=beside,
            progress=progress,
        )  # fmt: skip
    print_result(trained, trained_view, as_json=as_json)
    if trained.remark is not None:
        notice(trained.remark)


@app.command()
def extend(
    model: Annotated[
        str,
        Argument(
            metavar="MODEL",
            help="pico, a folder, a run, a .gguf file or a hub id.",
            show_default=False,
        ),
    ],
    out: Out,
    add: Annotated[
        list[str], Option(metavar="TOKEN", help="A token as it stands in texts, ' with its space'.")
    ] = [],
    add_file: Annotated[Path | None, Option(metavar="FILE", help="One token a line.")] = None,
    learn: Annotated[
        list[str], Option(metavar="TEXTS", help="Find words to add in these; repeatable.")
    ] = [],
    num: Annotated[int, Option(help="How many words to learn.")] = 0,
    held_out: HeldOut = 0.05,
    as_json: AsJson = False,
) -> None:
    """Add tokens to MODEL's tokenizer; every id it has stays as it is.

    --learn adds the words that save the most tokens, and says what text it hasn't learned from
    costs before and after.
    """
    from gptft import api
    from gptft.tokenization.extension import read_tokens
    from gptft.tokenization.training_view import extended_view

    tokens = [*add, *(read_tokens(add_file) if add_file else [])]
    with progress_bar() as progress:
        extended = api.extend_tokenizer(
            model, out, tokens=tokens, learn=learn, num=num, held_out=held_out, progress=progress
        )
    print_result(extended, extended_view, as_json=as_json)
