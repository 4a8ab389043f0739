"""A config -> its blocks, and a run folder with a tuned model, its card and its report."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gptft.api.check import (
    CheckResult,
    check_file,
    check_samples,
    vocabulary_notices,
)
from gptft.api.check_machine import output_dir_problem
from gptft.api.questions import with_questions
from gptft.config.load import ConfigFile, is_yaml
from gptft.config.sections import Config
from gptft.console import Notify, is_first_process, loading_libraries, silent, stderr
from gptft.data import shards
from gptft.data.ledger import Ledger
from gptft.data.pack import Prepared
from gptft.data.plan import plan_packing
from gptft.data.prepare import prepare_blocks
from gptft.data.preview import BlockPreview, preview_block
from gptft.data.recital import MAX_DOCUMENTS, MAX_TOKENS
from gptft.data.shards import PreparedShard, Shard
from gptft.documents.scan import Progress
from gptft.errors import ConfigError
from gptft.files import JsonFields
from gptft.inputs import expand_user
from gptft.models.average import check_average
from gptft.runs.model_folder import model_folder
from gptft.runs.read import read_facts, read_run
from gptft.runs.run_folder import check_free
from gptft.terminal.commands import command_line, path_word, quoted_word
from gptft.text.scripts import PageLanguage

if TYPE_CHECKING:
    from gptft.training.result import TrainResult


@dataclass(frozen=True)
class PreparedBlocks(JsonFields):
    """A block store, and the block of it that was asked for.

    Attributes:
        prepared: the store.
        preview: the block; None where none was asked for.
    """

    prepared: Prepared
    preview: BlockPreview | None = None

    def json_fields(self) -> dict[str, Any]:
        """The fields of the store, and `preview` where there is one."""
        shown = {} if self.preview is None else {"preview": self.preview}
        return {**self.prepared.json_fields(), **shown}


@dataclass(frozen=True)
class CompleteRun(JsonFields):
    """A run that was to be resumed and has nothing left to do.

    Attributes:
        run_dir: its folder.
        result: what it came to, as run.json has it.
        remarks: sentences on what became worse, and what to change.
    """

    run_dir: Path
    result: Mapping[str, Any]
    remarks: tuple[str, ...] = ()

    def json_fields(self) -> dict[str, Any]:
        """What the run came to, and that no step was added."""
        return {**self.result, "resumed_steps": 0}


def prepare(
    config: Config,
    *,
    merge: bool = False,
    preview: int | None = None,
    progress: Progress | None = None,
    notify: Notify = silent,
) -> PreparedBlocks:
    """Make the blocks of a config's texts, or find them made.

    Args:
        config: with a data section.
        merge: pack the shards that are there, and read no text.
        preview: the number of a block to show, decoded; -1 is the last.
        progress: told (stage, bytes done, bytes in all).
        notify: told in a sentence what a person should know.

    Raises:
        ConfigError: settings that can't be had, or no such block.
        DataError: texts are missing or can't be read, or shards are.
        ModelError: the tokenizer can't be opened, or isn't the model's.
        RunError: the disk is full.
    """
    plan = plan_packing(config)
    if merge:
        prepared = shards.merge_shards(plan, notify=notify)
    else:
        check_average(config.model)
        prepared = prepare_blocks(plan, progress=progress, notify=notify)
    _tell(vocabulary_notices(config, prepared.ledger.vocab_size), notify)
    shown = None if preview is None else preview_block(plan, prepared, preview)
    return PreparedBlocks(prepared, shown)


def prepare_shard(
    config: Config, shard: str, *, progress: Progress | None = None, notify: Notify = silent
) -> PreparedShard:
    """Encode one of several shards of a config's texts, for `prepare(merge=True)`.

    Args:
        config: with a data section.
        shard: `2/8`, the second of eight.
        progress: told (stage, bytes done, bytes in all).
        notify: told in a sentence what a person should know.

    Raises:
        ConfigError: no such shard, or settings that can't be had.
        DataError: texts are missing or can't be read.
        ModelError: the tokenizer can't be opened.
        RunError: the disk is full.
    """
    plan = plan_packing(config)
    return shards.prepare_shard(plan, Shard.parse(shard), progress=progress, notify=notify)


def train(
    file: ConfigFile,
    *,
    run_dir: Path,
    overwrite: bool = False,
    resume: bool = False,
    allow_change: tuple[str, ...] = (),
    extend: bool = False,
    lang: PageLanguage | None = None,
    profile_steps: int | None = None,
    progress: Callable[[], AbstractContextManager[Progress | None]] = nullcontext,
    notify: Notify = silent,
) -> "TrainResult | CompleteRun":
    """Fine-tune a model on a config's texts, or train a new one, and write what became of it.

    Args:
        file: see `read_config`.
        run_dir: where the run goes, unless training.output_dir says.
        overwrite: replace an earlier run there.
        resume: continue from the newest intact checkpoint there, if any.
        allow_change: with `resume`: settings that may have changed.
        extend: with `resume`: train further than was planned.
        lang: the report's language; None for that of the run's texts, English where it isn't
            Russian.
        profile_steps: profile so many steps; None for none.
        progress: makes what is told (stage, bytes done, bytes in all) while texts are prepared.
        notify: told in a sentence what happens next.

    Raises:
        ConfigError: anything `check_config` finds, or a run folder in use.
        GptftError: as `prepare_blocks` and `train_model` say.
        Interrupted: a signal ended it; what was trained is saved.
    """
    _check_flags(overwrite=overwrite, resume=resume, changes=bool(allow_change or extend))
    if file.problems or output_dir_problem(file.checked().training):
        check_file(file)  # which names these and all others
    run_dir = expand_user(file.checked().training.get("output_dir") or run_dir)
    earlier = read_facts(run_dir) if resume else None
    if earlier is None:
        check_free(run_dir, overwrite=overwrite)
    elif earlier.get("state") == "done" and not extend:
        return _complete(run_dir, earlier, lang)
    beginning = _nothing_to_resume(file, run_dir) if resume and earlier is None else []
    _tell([*_which_recipe(file), *beginning], notify)
    checked = check_file(file)
    _tell(checked.notices, notify)
    with progress() as told:
        prepared = prepare_blocks(checked.plan, progress=told, notify=notify)
    _tell(prepared.sentences(), notify)
    _tell(vocabulary_notices(checked.config, prepared.ledger.vocab_size), notify)
    _tell(_not_recited(file, prepared.ledger), notify)
    check_samples(checked, file, store_dir=prepared.path)
    checked = with_questions(checked, store_dir=prepared.path, notify=notify)
    changes = {"allow": allow_change, "extend": extend} if resume else None
    outcome = _train_model(
        checked, store_dir=prepared.path, run_dir=run_dir, overwrite=overwrite, changes=changes,
        profile_steps=profile_steps, notify=notify,
    )  # fmt: skip
    _write_reports(run_dir, lang)
    return replace(outcome, remarks=_remarks(run_dir), is_chat=checked.is_chat)


def _train_model(
    checked: CheckResult,
    *,
    store_dir: Path,
    run_dir: Path,
    overwrite: bool,
    changes: Mapping[str, Any] | None,
    profile_steps: int | None,
    notify: Notify,
) -> "TrainResult":
    """Train by what other rooms know of texts: how to sample, to recite and to measure them.

    Args:
        checked: what is trained.
        store_dir: its blocks.
        run_dir: where the run goes.
        overwrite: replace an earlier run there.
        changes: how to resume the run there; None to begin one.
        profile_steps: profile so many steps; None for none.
        notify: told in a sentence what happens next.
    """
    with loading_libraries():
        from gptft.analysis.evaluate.general import measure_general_texts
        from gptft.decoding.engine import make_sampler
        from gptft.decoding.recite import recite
        from gptft.training.run import Resume
        from gptft.training.train import train_model

    return train_model(
        checked.config, store_dir=store_dir, run_dir=run_dir, overwrite=overwrite,
        resume=None if changes is None else Resume(**changes), console=stderr(),
        sampler=make_sampler(checked.settings, chat=checked.is_chat), reciter=recite,
        measurer=measure_general_texts, profile_steps=profile_steps, notify=notify,
    )  # fmt: skip


def _nothing_to_resume(file: ConfigFile, run_dir: Path) -> list[str]:
    """What to say where `--resume` finds no run.

    Raises:
        ConfigError: the config lies in a run, which was moved from the folder that it names.
    """
    folder = Path(file.source.name).parent
    names_another = file.source.level(("training", "output_dir")) == 1
    if names_another and is_yaml(Path(file.source.name)) and read_facts(folder) is not None:
        raise ConfigError(
            f"{file.source.name} is the config of the run in {folder}, and its "
            f"training.output_dir, {run_dir}, holds no run: it was moved. Resume it where it is "
            f"(--out {quoted_word(folder)}), or begin a new one there, without --resume."
        )
    return [f"{run_dir} holds no run to resume: this one begins at step 0."]


def _not_recited(file: ConfigFile, ledger: Ledger) -> list[str]:
    """What to say where a text is to be recited, not by the recipe, and is too long for that."""
    path = ("samples", "recite")
    is_long = ledger.train_tokens > MAX_TOKENS or ledger.documents > MAX_DOCUMENTS
    if file.checked().samples.recite is not True or not file.source.level(path) or not is_long:
        return []
    sentence = (
        f"samples.recite: true recites a text of up to {MAX_TOKENS:,} tokens and {MAX_DOCUMENTS} "
        "documents, and this one is larger. Give a number of documents."
    )
    return [file.source.problem(path, sentence)[1]]


def _which_recipe(file: ConfigFile) -> list[str]:
    """What a text is trained by, where no config says."""
    if is_yaml(Path(file.source.name)):
        return []
    command = command_line("config", "show", path_word(file.source.name))
    what = "a text" if "samples" in file.source.values else "conversations"
    return [
        f"No config: the recipe for {what}, which `{command}` "
        "prints. Change it with flags such as --epochs 3, or --set."
    ]


def _tell(sentences: Iterable[str], notify: Notify) -> None:
    for sentence in sentences:
        notify(sentence)


def _check_flags(*, overwrite: bool, resume: bool, changes: bool) -> None:
    if changes and not resume:
        raise ConfigError("--allow-change and --extend go with --resume. Add it.")
    if resume and overwrite:
        raise ConfigError("--resume continues a run, --overwrite replaces it. Give one of them.")


def _complete(run_dir: Path, facts: Mapping[str, Any], lang: PageLanguage | None) -> CompleteRun:
    """A run that is done, its reports made if a kill in its very last moment left them out."""
    card = f"{model_folder(facts)}/README.md"
    if not all((run_dir / name).is_file() for name in (card, "report.html")):
        _write_reports(run_dir, lang)
    return CompleteRun(run_dir, facts["result"], _remarks(run_dir))


def _remarks(run_dir: Path) -> tuple[str, ...]:
    """What to say of a run at its end; nothing where another process writes the folder."""
    if not is_first_process():
        return ()
    from gptft.report.verdict import last_words

    return tuple(last_words(read_run(run_dir)))


def _write_reports(run_dir: Path, lang: PageLanguage | None) -> None:
    """Write the model's card and the run's report, by one process for all."""
    if not is_first_process():
        return
    from gptft.report.html import write_report
    from gptft.report.model_card import write_model_card

    write_model_card(run_dir)
    write_report(run_dir, lang)
