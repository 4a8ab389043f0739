"""`gptft prepare`: text -> blocks on disk, and the ledger."""

from typing import Annotated

import typer

from gptft.cli.options import (
    AsJson,
    ConfigFile,
    Overrides,
    prepare_with_progress,
    progress_bar,
    read_config,
)


def prepare(
    config_file: ConfigFile,
    overrides: Overrides = [],
    preview: Annotated[
        int | None,
        typer.Option("--preview", metavar="N", help="Show block N, decoded; -1 is the last."),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option("--shard", metavar="I/N", help="Encode the Ith of N parts of the corpus."),
    ] = None,
    merge: Annotated[
        bool, typer.Option("--merge", help="Pack the blocks out of the shards that are there.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Read, tokenize and pack the texts of CONFIG, and print where every token went."""
    from gptft.console import notice, result, result_json
    from gptft.data.plan import plan_packing
    from gptft.data.shards import Shard, merge_shards, prepare_shard
    from gptft.errors import ConfigError

    if shard is not None and (merge or preview is not None):
        raise ConfigError("--shard goes with neither --merge nor --preview. Give it alone.")
    config = read_config(config_file, overrides)
    if shard is not None:
        plan = plan_packing(config)
        with progress_bar() as progress:
            part = prepare_shard(plan, Shard.parse(shard), progress=progress, notify=notice)
        if as_json:
            result_json(part)
            return
        for sentence in part.sentences():
            result(sentence)
        notice(f"When all are there: gptft prepare {config_file} --merge")
        return
    if merge:
        prepared = merge_shards(plan_packing(config), notify=notice)
    else:
        prepared = prepare_with_progress(config)
    block = None
    if preview is not None:
        from gptft.data.preview import preview_block

        block = preview_block(config, prepared, preview)
    if as_json:
        shown = {} if block is None else {"preview": block}
        result_json({**prepared.json_fields(), **shown})
        return
    for sentence in prepared.sentences():
        result(sentence)
    if block is not None:
        result("")
        result(block.render())
