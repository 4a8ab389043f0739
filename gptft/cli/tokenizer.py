"""`gptft tokenizer`: make a tokenizer of your own, or give one more tokens."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from gptft.cli.options import AsJson, print_result, progress_bar

app = typer.Typer(
    no_args_is_help=True, help="Train a tokenizer on your texts, or add tokens to one."
)

Out = Annotated[
    Path, typer.Option("--out", "-o", metavar="DIR", help="A new folder, for AutoTokenizer.")
]
HeldOut = Annotated[
    float,
    typer.Option("--held-out", metavar="SHARE", help="Of the texts: measured on, not learned."),
]


@app.command()
def train(
    texts: Annotated[
        list[str],
        typer.Argument(
            metavar="TEXTS", help="Files, folders, globs, hub:NAME.", show_default=False
        ),
    ],
    out: Out,
    kind: Annotated[
        Literal["bpe", "unigram", "wordpiece"],
        typer.Option(
            help="bpe and unigram (ten times as slow) keep every byte of a text, wordpiece doesn't."
        ),
    ] = "bpe",
    vocab_size: Annotated[int, typer.Option("--vocab-size", help="Ids in all.")] = 8192,
    min_frequency: Annotated[
        int | None,
        typer.Option("--min-frequency", help="Rarer pairs aren't merged.  [default: 2]"),
    ] = None,
    special: Annotated[
        list[str] | None,
        typer.Option("--special", metavar="TOKEN", help="A special token besides EOS; repeatable."),
    ] = None,
    held_out: HeldOut = 0.05,
    context: Annotated[
        int, typer.Option("--context", help="model_max_length in tokenizer_config.json.")
    ] = 1024,
    beside: Annotated[
        list[str] | None,
        typer.Option(
            "--beside", metavar="NAME", help="Compare with this one, too; repeatable, local only."
        ),
    ] = None,
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
            texts,
            out,
            kind=kind,
            vocab_size=vocab_size,
            min_frequency=min_frequency,
            special=special or [],
            held_out=held_out,
            model_max_length=context,
            beside=beside or [],
            progress=progress,
        )
    print_result(trained, trained_view, as_json=as_json)


@app.command()
def extend(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="pico, a folder, a run, a .gguf file or a hub id.",
            show_default=False,
        ),
    ],
    out: Out,
    add: Annotated[
        list[str] | None,
        typer.Option(
            "--add", metavar="TOKEN", help="A token as it stands in texts, ' with its space'."
        ),
    ] = None,
    add_file: Annotated[
        Path | None, typer.Option("--add-file", metavar="FILE", help="One token a line.")
    ] = None,
    learn: Annotated[
        list[str] | None,
        typer.Option("--learn", metavar="TEXTS", help="Find words to add in these; repeatable."),
    ] = None,
    num: Annotated[int, typer.Option("--num", help="How many words to learn.")] = 0,
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

    with progress_bar() as progress:
        extended = api.extend_tokenizer(
            model,
            out,
            tokens=[*(add or []), *(read_tokens(add_file) if add_file else [])],
            learn=learn or [],
            num=num,
            held_out=held_out,
            progress=progress,
        )
    print_result(extended, extended_view, as_json=as_json)
