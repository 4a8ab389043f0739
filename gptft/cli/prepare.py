"""`gptft prepare`: text -> blocks on disk, and the ledger."""

from itertools import chain
from typing import Annotated

from typer import Option

from gptft.cli.options import AsJson, ConfigFile, Overrides, progress_bar
from gptft.console import notice, result, result_json
from gptft.errors import ConfigError
from gptft.terminal.commands import command_line, path_word


def prepare(
    config_file: ConfigFile,
    overrides: Overrides = [],
    preview: Annotated[
        int | None, Option("--preview", metavar="N", help="Show block N, decoded; -1 is the last.")
    ] = None,
    shard: Annotated[
        str | None,
        Option("--shard", metavar="I/N", help="Encode the Ith of N shards of the corpus."),
    ] = None,
    merge: Annotated[
        bool, Option("--merge", help="Pack the blocks out of the shards that are there.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Read, tokenize and pack the texts of CONFIG, and print where every token went."""
    from gptft import api

    if shard is not None and (merge or preview is not None):
        raise ConfigError("--shard goes with neither --merge nor --preview. Give it alone.")
    config = api.read_config(config_file, overrides=overrides).checked()
    if shard is not None:
        with progress_bar() as progress:
            encoded = api.prepare_shard(config, shard, progress=progress, notify=notice)
        if as_json:
            result_json(encoded)
            return
        result(*encoded.sentences())
        same = chain.from_iterable(("--set", override) for override in overrides)
        command = command_line("prepare", path_word(config_file), *same, "--merge")
        notice(f"When all are there:\n  {command}")
        return
    with progress_bar() as progress:
        blocks = api.prepare(config, merge=merge, preview=preview, progress=progress, notify=notice)
    if as_json:
        result_json(blocks)
        return
    result(*blocks.prepared.sentences())
    if blocks.preview is not None:
        from gptft.data.preview_view import preview_view

        result("", preview_view(blocks.preview))
