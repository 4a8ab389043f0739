"""A config as it was read -> all that would keep `gptft train` from running it, without torch."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from gptft.api.check_machine import machine_notices, machine_problems, place_problems
from gptft.api.check_texts import Looked, look, look_through
from gptft.api.configs import read_config
from gptft.config.load import ConfigFile
from gptft.config.sections import Config
from gptft.config.source import KeyPath, Problem
from gptft.config.training_fields import value_problems
from gptft.config.training_needs import UNSCALED, unmet_needs
from gptft.config.training_notices import sample_notices, training_notices
from gptft.data.plan import NO_DATA, PackingPlan, plan_packing
from gptft.documents.first_look import DocumentCounts, sample_text
from gptft.documents.markup import markup_notices
from gptft.documents.record_format import FoundFormat, find_format
from gptft.documents.sources import FoundTexts, find_texts
from gptft.errors import ConfigError, GptftError
from gptft.models.average import check_average
from gptft.models.check import model_problems, too_small_vocabulary
from gptft.models.freeze_check import freeze_problems, trained_sentence
from gptft.models.lora_check import lora_problems
from gptft.models.present import find_weights
from gptft.terminal.words import count
from gptft.tokenization.losses import loss_notice
from gptft.tokenization.tokenizer import TextTokenizer, load_tokenizer

if TYPE_CHECKING:
    from gptft.decoding.settings import Settings

T = TypeVar("T")

_SETTING = re.compile(r"(?:model|tokenizer|lora|data|training|generation|strategies)(?:\.\w+)+")


@dataclass(frozen=True)
class CheckResult:
    """A config that `gptft train` can run.

    Attributes:
        config: the config itself.
        plan: its tokenizer, opened, and how its texts are packed.
        texts: the files it names.
        documents: how many documents they hold; None where only preparing can count them.
        trained_ids: of a tokenizer trained on them to check that; else None.
        notices: sentences on what may not be meant, and what gave way to another setting.
    """

    config: Config
    plan: PackingPlan
    texts: FoundTexts
    documents: DocumentCounts | None
    trained_ids: int | None = None
    notices: tuple[str, ...] = ()

    @property
    def settings(self) -> "Settings":
        """How its samples are generated."""
        from gptft.decoding.settings import resolve_settings

        return resolve_settings(self.config.generation)

    @property
    def is_chat(self) -> bool:
        """Whether prompts are questions, put into a chat template."""
        return self.plan.template is not None

    def found(self) -> str:
        """How much there is to train and to validate on, and what is trained, if not all."""
        return f"{self._texts_found()} {trained_sentence(self.config)}".rstrip()

    def _texts_found(self) -> str:
        num_train, documents = self.texts.num_train, self.documents
        share = self.plan.data.validation
        if not isinstance(share, float):
            num_held_out = len(self.texts.texts) - num_train
            return f"Files to train on: {num_train:,}, to validate on: {num_held_out:,}."
        if documents is None:
            return f"Files to train on: {num_train:,}, of whose documents {share:.0%} are held out."
        train, held_out = documents.train, documents.validation
        return f"Documents to train on: {train:,}, to validate on: {held_out:,}."


@dataclass(frozen=True)
class GenerationCheck:
    """A config that `gptft generate` can use, and in which nothing asks for training."""

    config: Config
    notices: tuple[str, ...] = ()

    def found(self) -> str:
        """What it is good for, in a sentence."""
        return "It is good for generating; gptft train also needs data.train."


def check_config(path: Path, *, overrides: Sequence[str] = ()) -> CheckResult | GenerationCheck:
    """Check all that `gptft train` needs of a config, or `gptft generate`, without torch.

    Args:
        path: a YAML config, or a text file or folder to train on.
        overrides: `section.key=value` each.

    Raises:
        ConfigError: every problem found, each with its place in the file.
    """
    file = read_config(path, overrides=overrides)
    findings = _Findings(file)
    if file.config is None or not _only_generates(file.config):
        checked = check_file(file)
        looked = findings.of(
            ("data", "train"), lambda: look_through(checked.config, checked.plan, checked.texts)
        )
        file.checked(findings.problems)
        return _with_notices(_looked(checked, looked, file), file)
    _check_generation(file.config, findings)
    for at, message in model_problems(file.config.model, masks_documents=False):
        findings.add(at, message)
    return GenerationCheck(file.checked(findings.problems))


def _looked(checked: CheckResult, looked: Looked | None, file: ConfigFile) -> CheckResult:
    """What was checked, with what looking through the texts has shown.

    Raises:
        ConfigError: samples that the tokenizer trained on them can't take.
    """
    if looked is None:
        return checked
    said = [file.source.problem(("data", "train"), one)[1] for one in looked.said]
    trained_ids = checked.trained_ids
    if looked.store_dir is not None and checked.plan.tokenizer is None:
        check_samples(checked, file, store_dir=looked.store_dir)
        trained_ids = load_tokenizer(str(looked.store_dir / "tokenizer")).vocab_size
    return replace(checked, notices=(*checked.notices, *said), trained_ids=trained_ids)


def check_file(file: ConfigFile) -> CheckResult:
    """Check a config that is to be trained by, and what it says of models, texts and this machine.

    Its notices leave out what depends on the texts, which training tells itself.

    Raises:
        ConfigError: every problem found, each with its place in the file.
    """
    findings = _Findings(file)
    result = _check(file.config, findings) if file.config is not None else None
    file.checked(findings.problems)
    if result is None:  # there is no result without a problem
        raise ConfigError(f"{file.source.name} can't be checked.")
    _note_losses(result, findings)
    return replace(result, notices=(*file.notices, *findings.notices, *result.notices))


def _note_losses(checked: CheckResult, findings: "_Findings") -> None:
    """Say of a new model's tokenizer what it doesn't keep of the texts, measured on some."""
    tokenizer = checked.plan.tokenizer
    if checked.config.model.from_scratch is None or tokenizer is None:
        return
    if said := loss_notice(tokenizer, sample_text(checked.texts, checked.plan.data)):
        findings.note(("tokenizer", "name"), said)


def _with_notices(checked: CheckResult, file: ConfigFile) -> CheckResult:
    """Add what training tells itself, when it has read the texts, as far as it is known now."""
    training = checked.config.training
    steps = training.get("max_steps") or -1
    epochs = float(training.get("num_train_epochs") or 3)
    found = training_notices(
        training,
        num_steps=steps if steps > 0 else None,
        num_epochs=None if steps > 0 else epochs,
    )
    located = [file.source.problem(("training", name), said)[1] for name, said in found]
    if steps > 0:
        said = sample_notices(checked.config.samples.steps, steps)
        located += [file.source.problem(("samples", "steps"), one)[1] for one in said]
    said = [*checked.plan.said, *markup_notices(checked.texts.texts)]
    located += [file.source.problem(("data", "train"), one)[1] for one in said]
    if checked.trained_ids is not None:
        path = ("tokenizer", "train", "vocab_size")
        said = vocabulary_notices(checked.config, checked.trained_ids)
        located += [file.source.problem(path, one)[1] for one in said]
    return replace(checked, notices=(*checked.notices, *located))


class _Findings:
    """The problems of a config, each with its place."""

    def __init__(self, file: ConfigFile) -> None:
        self._file = file
        self.problems: list[Problem] = []
        self.notices: list[str] = []

    def note(self, path: KeyPath, sentence: str) -> None:
        """Add a sentence on a setting that is right, with its place."""
        self.notices.append(self._file.source.problem(path, sentence)[1])

    def add(self, default: KeyPath, message: str) -> None:
        """Add a problem at the setting its message begins with, or at `default`."""
        named = _SETTING.match(message)
        within = (*default[:-1], message.partition(" ")[0].rstrip(":"))
        path = tuple(named[0].split(".")) if named else default
        if within in self._file.source.marks:
            path = within
        self.problems.append(self._file.source.problem(path, message))

    def of(self, default: KeyPath, work: Callable[[], T]) -> T | None:
        """What `work` gives; None, and its error added, where it fails."""
        try:
            return work()
        except GptftError as error:
            for problem in error.problems:
                self.add(default, problem)
        return None


def _check(config: Config, findings: _Findings) -> CheckResult | None:
    """Add every problem to `findings`; the result, where all it is made of could be had."""
    wrong = {name for name, _ in value_problems(config.training)}  # which the file's own are about
    training = {name: value for name, value in config.training.items() if name not in wrong}
    for name, message in (*unmet_needs(training), *machine_problems(training)):
        findings.add(("training", name), f"training.{name} {message}")
    for name, sentence in machine_notices(training):
        findings.note(("training", name), sentence)
    for path, message in place_problems(config.model, training):
        findings.add(path, message)
    has_samples = bool(config.samples.prompts)
    settings = None
    if config.generation or config.strategies or has_samples:
        settings = _check_generation(config, findings)
    if config.model.dtype == "float16" and training.get("unlikelihood_weight"):
        findings.add((), UNSCALED)
    data = config.data
    if data is None:
        findings.add(("data",), NO_DATA)
    masks = data is not None and data.isolate_documents is True
    has_model = True
    problems = model_problems(config.model, masks_documents=masks) or [
        *lora_problems(config),
        *freeze_problems(config),
    ]
    for path, message in problems:
        findings.add(path, message)
        has_model = False
    texts = findings.of(("data", "train"), partial(find_texts, data)) if data else None
    if data is None or not has_model:
        return None
    plan = _plan(config, texts, findings)
    if plan is None:
        return None
    if config.model.from_scratch is not None:
        findings.of(("model", "from_scratch"), lambda: _check_vocabulary(config, plan))
    findings.of(("model", "average_with"), lambda: check_average(config.model))
    if plan.tokenizer is not None:
        if said := plan.tokenizer.stray_eos_notice:
            findings.note(("model", "name"), said)
        _check_samples(config, settings, plan.tokenizer, findings, template=plan.template)
    if texts is None or (has_samples and settings is None):
        return None
    looked = findings.of(("data", "train"), lambda: look(texts, plan))
    documents, trained = looked or (None, None)
    if trained is not None:
        _check_samples(config, settings, trained, findings, template=plan.template)
    trained_ids = None if trained is None else trained.vocab_size
    return CheckResult(config, plan, texts, documents, trained_ids)


def _plan(config: Config, texts: FoundTexts | None, findings: _Findings) -> PackingPlan | None:
    """How texts are packed; None, and the problems added, where that can't be."""
    data, found = config.data, FoundFormat("text")
    if texts is not None and data is not None:
        records = findings.of(("data", "train"), lambda: find_format(texts, data))
        if records is None:
            return None
        found = records
    elif data is not None and (data.chat_template or data.loss_on):
        return None  # what is missing decides what they mean
    return findings.of(("model", "name"), lambda: plan_packing(config, found=found))


def _only_generates(config: Config) -> bool:
    """Whether a config says how to generate, and nothing of training: not even an empty section."""
    sections = config.model_fields_set - {"model"}
    is_trained = config.model.from_scratch is not None or config.model.average_with
    return bool(sections) and sections <= {"generation", "strategies"} and not is_trained


def _check_generation(config: Config, findings: _Findings) -> "Settings | None":
    """The settings of `generation`; None where they can't be had."""
    # Imported where a config has any: every strategy's file is read for it.
    from gptft.decoding.settings import check_strategies, resolve_settings

    settings = findings.of(("generation", "strategy"), lambda: resolve_settings(config.generation))
    findings.of(("strategies",), lambda: check_strategies(config.strategies))
    if settings is not None and (config.samples.prompts or _only_generates(config)):
        _find_models(settings, findings)
    return settings


def _find_models(settings: "Settings", findings: _Findings) -> None:
    """See that the models are there that settings name."""
    from gptft.decoding.settings import MODEL_SETTINGS

    for name in filter(settings.values.get, MODEL_SETTINGS):
        findings.of(("generation", name), partial(find_weights, settings.values[name]))


def _check_samples(
    config: Config,
    settings: "Settings | None",
    tokenizer: TextTokenizer,
    findings: _Findings,
    *,
    template: str | None,
) -> None:
    """Check samples by the tokenizer in force; of conversations there are some in any case."""
    if settings is None or not (config.samples.prompts or template):
        return
    from gptft.api.samples import sample_problems  # it knows of every strategy's limits

    if not config.samples.prompts:
        _find_models(settings, findings)
    found = sample_problems(config, settings, tokenizer=tokenizer, template=template)
    for path, message in found:
        findings.add(path, message)


def check_samples(checked: CheckResult, file: ConfigFile, *, store_dir: Path) -> None:
    """Check samples by a tokenizer that was trained only after the config was checked.

    Raises:
        ConfigError: every problem found, each with its place in the file.
    """
    if checked.plan.tokenizer is None:
        findings = _Findings(file)
        trained = load_tokenizer(str(store_dir / "tokenizer"))
        _check_samples(
            checked.config, checked.settings, trained, findings, template=checked.plan.template
        )
        file.checked(findings.problems)


def vocabulary_notices(config: Config, vocab_size: int) -> list[str]:
    """A sentence where a trained tokenizer has fewer ids than were asked for.

    Args:
        config: with a tokenizer section.
        vocab_size: ids that the text gave.
    """
    train, sizes = config.tokenizer.train, config.model.from_scratch or {}
    if train is None or vocab_size >= train.vocab_size:
        return []
    embeddings = sizes.get("vocab_size", vocab_size)
    unused = ", more than will ever be used" if embeddings > vocab_size else ""
    return [
        f"tokenizer.train.vocab_size is {train.vocab_size:,}, and the text gives {vocab_size:,} "
        f"ids: no other pair of tokens is there {count(train.min_frequency, 'time')} "
        f"(tokenizer.train.min_frequency). The model's vocabulary is {embeddings:,}{unused}."
    ]


def _check_vocabulary(config: Config, plan: PackingPlan) -> None:
    sizes, training = config.model.from_scratch, plan.tokenizer_train
    ids = plan.tokenizer.vocab_size if plan.tokenizer else training.vocab_size if training else 0
    if sizes is None:
        return
    if (asked := sizes.get("vocab_size", ids)) < ids:
        raise ConfigError(too_small_vocabulary(asked, ids))
    if isinstance(pad := sizes.get("pad_token_id"), int) and pad >= asked:
        raise ConfigError(f"model.from_scratch.pad_token_id is {pad}, and there are {asked} ids.")
