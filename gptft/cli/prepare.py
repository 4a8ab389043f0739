"""`gptft prepare`: text -> blocks on disk, and the ledger."""

from gptft.cli.options import AsJson, ConfigFile, Overrides, prepare_with_progress, read_config


def prepare(config_file: ConfigFile, overrides: Overrides = [], as_json: AsJson = False) -> None:
    """Read, tokenize and pack the texts of CONFIG, and print where every token went."""
    from gptft.console import result, result_json

    prepared = prepare_with_progress(read_config(config_file, overrides))
    if as_json:
        result_json(prepared.to_dict())
        return
    for sentence in prepared.sentences():
        result(sentence)
