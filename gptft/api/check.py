"""A config as it was read -> all that would keep `gptft train` from running it, without torch."""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from gptft.api.configs import read_config
from gptft.config.load import ConfigFile
from gptft.config.sections import Config
from gptft.config.source import KeyPath, Problem
from gptft.config.training_fields import value_problems
from gptft.config.training_needs import SLOW_BFLOAT16, UNSCALED, unmet_needs
from gptft.data.plan import NO_DATA, PackingPlan, plan_packing
from gptft.decoding.prompts.room import too_long
from gptft.decoding.settings import MODEL_SETTINGS, Settings, check_strategies, resolve_settings
from gptft.documents.first_look import DocumentCounts, look_at_texts
from gptft.documents.sources import FoundTexts, find_texts
from gptft.errors import ConfigError, GptftError
from gptft.models import machine
from gptft.models.average import check_average
from gptft.models.check import find_weights, model_problems, too_small_vocabulary
from gptft.runs.run_folder import is_foreign

T = TypeVar("T")

_SETTING = re.compile(r"(?:model|tokenizer|data|training|generation|strategies)(?:\.\w+)+")
_PACKED = 200_000  # bytes of text that are packed to see whether they can be


@dataclass(frozen=True)
class CheckResult:
    """A config that `gptft train` can run.

    Attributes:
        config: the config itself.
        plan: its tokenizer, opened, and how its texts are packed.
        settings: by which its samples are generated.
        texts: the files it names.
        documents: how many documents they hold; None where only preparing can count them.
    """

    config: Config
    plan: PackingPlan
    settings: Settings
    texts: FoundTexts
    documents: DocumentCounts | None

    def found(self) -> str:
        """How much there is to train and to validate on, in a sentence."""
        num_train, documents = self.texts.num_train, self.documents
        share = self.plan.data.validation
        if not isinstance(share, float):
            num_held_out = len(self.texts.texts) - num_train
            return f"Files to train on: {num_train:,}, to validate on: {num_held_out:,}."
        if documents is None:
            return f"Files to train on: {num_train:,}, of whose documents {share:.0%} are held out."
        train, held_out = documents.train, documents.validation
        return f"Documents to train on: {train:,}, to validate on: {held_out:,}."


def check_config(path: Path, *, overrides: Sequence[str] = ()) -> CheckResult:
    """Check all that `gptft train` needs of a config, without torch.

    Args:
        path: a YAML config, or a text file or folder to train on.
        overrides: `section.key=value` each.

    Raises:
        ConfigError: every problem found, each with its place in the file.
    """
    return check_file(read_config(path, overrides=overrides))


def check_file(file: ConfigFile) -> CheckResult:
    """Check a config, and what it says of models, texts, packages and this machine.

    Raises:
        ConfigError: every problem found, each with its place in the file.
    """
    findings = _Findings(file)
    result = _check(file.config, findings) if file.config is not None else None
    file.checked(findings.problems)
    if result is None:  # there is no result without a problem
        raise ConfigError(f"{file.source.name} can't be checked.")
    return result


class _Findings:
    """The problems of a config, each with its place."""

    def __init__(self, file: ConfigFile) -> None:
        self._file = file
        self.problems: list[Problem] = []

    def add(self, default: KeyPath, message: str) -> None:
        """Add a problem at the setting its message begins with, or at `default`."""
        named = _SETTING.match(message)
        within = (*default[:-1], message.partition(" ")[0])
        path = tuple(named[0].split(".")) if named else default
        if within in self._file.source.marks:
            path = within
        self.problems.append(self._file.source.problem(path, message))

    def of(self, default: KeyPath, work: Callable[[], T]) -> T | None:
        """What `work` gives; None, and its error added, where it fails."""
        try:
            return work()
        except ConfigError as error:
            for problem in error.problems:
                self.add(default, problem)
        except GptftError as error:
            self.add(default, str(error))
        return None


def _check(config: Config, findings: _Findings) -> CheckResult | None:
    """Add every problem to `findings`; the result, where all it is made of could be had."""
    wrong = {name for name, _ in value_problems(config.training)}  # which the file's own are about
    training = {name: value for name, value in config.training.items() if name not in wrong}
    for name, message in (*unmet_needs(training), *_machine_problems(training)):
        findings.add(("training", name), f"training.{name} {message}")
    if problem := output_dir_problem(training):
        findings.add(("training", "output_dir"), problem)
    settings = findings.of(("generation", "strategy"), lambda: resolve_settings(config.generation))
    findings.of(("strategies",), lambda: check_strategies(config.strategies))
    if settings is not None and config.samples.prompts:
        for name in filter(settings.values.get, MODEL_SETTINGS):
            findings.of(("generation", name), partial(find_weights, settings.values[name]))
    if config.model.dtype == "float16" and training.get("unlikelihood_weight"):
        findings.add((), UNSCALED)
    data = config.data
    if data is None:
        findings.add(("data",), NO_DATA)
    masks = data is not None and data.isolate_documents
    has_model = True
    for path, message in model_problems(config.model, masks_documents=masks):
        findings.add(path, message)
        has_model = False
    texts = findings.of(("data", "train"), partial(find_texts, data)) if data else None
    if data is None or not has_model:
        return None
    plan = findings.of(("model", "name"), lambda: plan_packing(config))
    if plan is None:
        return None
    if config.model.from_scratch is not None:
        findings.of(("model", "from_scratch"), lambda: _check_vocabulary(config, plan))
    findings.of(("model", "average_with"), lambda: check_average(config.model))
    if settings is not None:
        for problem in _prompt_problems(config.samples.prompts, plan, settings):
            findings.add(("samples", "prompts"), problem)
    if texts is None or settings is None:
        return None
    documents = findings.of(("data", "train"), lambda: _look(texts, plan))
    return CheckResult(config, plan, settings, texts, documents)


def _look(texts: FoundTexts, plan: PackingPlan) -> DocumentCounts | None:
    """Look at the texts, and pack few of them where that alone shows whether it can be done."""
    documents = look_at_texts(texts, plan.data, cache_dir=plan.cache_dir)
    is_open = plan.data.tail == "drop" or plan.tokenizer_train is not None
    if documents is not None and is_open and texts.num_bytes <= _PACKED:
        from gptft.data.prepare import prepare_blocks

        prepare_blocks(plan)
    return documents


def _prompt_problems(prompts: Sequence[str], plan: PackingPlan, settings: Settings) -> list[str]:
    """Prompts that with their continuation don't fit the model, where its tokenizer is there."""
    if plan.tokenizer is None:  # it is trained first
        return []
    encode = plan.tokenizer.backend.encode
    before = len(encode(settings["context"]).ids) if settings["context"] else 0
    lengths = []
    for prompt in prompts:
        added = encode(prompt, add_special_tokens=not before).special_tokens_mask
        behind = next((i for i, is_special in enumerate(reversed(added)) if not is_special), 0)
        lengths.append((prompt, before + len(added) - behind or 1))
    return too_long(
        lengths, max_new_tokens=settings["max_new_tokens"], context=plan.context, window=()
    )


def _machine_problems(training: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What the machine can't compute; fields of `training` and messages that follow their names."""
    if not (training.get("bf16") or training.get("tf32")):
        return
    device = None if training.get("use_cpu") else machine.accelerator()
    capability = machine.cuda_capability() if device == "cuda" else None
    has_ampere = capability is not None and capability >= (8, 0)
    if training.get("bf16"):
        if device is None and not machine.cpu_has_bfloat16():
            yield "bf16", SLOW_BFLOAT16
        elif device == "cuda" and not has_ampere:
            yield "bf16", "needs a GPU of compute capability 8.0. Set training.fp16: true instead."
    if training.get("tf32") and not has_ampere:
        yield "tf32", "needs a GPU of compute capability 8.0, and there is none. Leave it out."


def output_dir_problem(training: Mapping[str, Any]) -> str | None:
    """Why no run can be in the folder that training.output_dir names, whatever the flags."""
    if not training.get("output_dir"):
        return None
    folder = Path(training["output_dir"]).expanduser()
    try:
        if folder.exists() and not folder.is_dir():
            why = "is a file"
        elif is_foreign(folder):
            why = "isn't empty and isn't a run of gptft; nothing in it was touched"
        else:
            parent = next(path for path in (folder, *folder.absolute().parents) if path.exists())
            why = "" if parent.is_dir() and os.access(parent, os.W_OK) else "can't be made"
    except OSError as error:  # a name too long, say
        why = f"can't be made: {error.strerror}"
    return f"training.output_dir: {folder} {why}. Name another folder." if why else None


def _check_vocabulary(config: Config, plan: PackingPlan) -> None:
    sizes, training = config.model.from_scratch, plan.tokenizer_train
    ids = plan.tokenizer.vocab_size if plan.tokenizer else training.vocab_size if training else 0
    if sizes is not None and (asked := sizes.get("vocab_size", ids)) < ids:
        raise ConfigError(too_small_vocabulary(asked, ids))
