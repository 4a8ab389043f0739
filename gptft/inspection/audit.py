"""A model's name -> what is wrong with its tokenizer, where, and what to do about it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from gptft.errors import ModelError
from gptft.files import JsonFields
from gptft.inspection import audit_model, audit_special, audit_text, audit_vocabulary
from gptft.inspection.audit_files import TokenizerFiles, read_tokenizer_files
from gptft.inspection.audit_finding import LEVELS, Finding, fault
from gptft.models.source import GGUF_SUFFIX

# Each looks at one thing and says what it found; findings of a level stand in this order.
_Check = Callable[[TokenizerFiles], Iterator[Finding]]
_CHECKS: tuple[_Check, ...] = (
    audit_vocabulary.check_readable,
    audit_vocabulary.check_vocabulary,
    audit_vocabulary.check_options,
    audit_special.check_named,
    audit_special.check_eos_and_bos,
    audit_special.check_pad,
    audit_special.check_ids,
    audit_model.check_embeddings,
    audit_model.check_length,
    audit_model.check_padding_side,
    audit_model.check_templates,
    audit_text.check_forgery,
    audit_text.check_space,
    audit_text.check_normalizer,
    audit_text.check_round_trip,
    audit_text.check_clean_up,
)
_BROKEN = "Repair its normalizer, pre_tokenizer, post_processor and decoder, or take another file."
# What only AutoTokenizer goes by, which doesn't open a .gguf file.
_NOT_IN_GGUF = {"pad_token", "padding_side", "model_max_length", "chat_template"}


@dataclass(frozen=True)
class Audit(JsonFields):
    """What an audit found.

    Attributes:
        name: the model's name.
        findings: faults first, then warnings, then what is in order.
    """

    name: str
    findings: tuple[Finding, ...]

    def count(self, level: str) -> int:
        """How many findings are of a level: fault, warning or ok."""
        return sum(finding.level == level for finding in self.findings)

    @property
    def has_faults(self) -> bool:
        """Whether anything is broken."""
        return self.count("fault") > 0

    def json_fields(self) -> dict[str, Any]:
        """Counts by level, and the findings."""
        return {
            "name": self.name,
            "faults": self.count("fault"),
            "warnings": self.count("warning"),
            "findings": self.findings,
        }


def _found(check: _Check, files: TokenizerFiles) -> Iterator[Finding]:
    """What a check finds; that the tokenizer can't be tried out is a finding, too."""
    try:
        yield from check(files)
    except ModelError as error:
        yield fault(f"{str(error).partition('. Repair ')[0].rstrip('.')}.", files.source, _BROKEN)


def audit_tokenizer(name: str, *, revision: str | None = None) -> Audit:
    """Check a tokenizer against itself, the text it is given, and its model's files.

    Args:
        name: what a person calls the model; see `load_tokenizer`.
        revision: branch, tag or commit of a hub model.

    Raises:
        ModelError: there is no such model, or nothing of a tokenizer in it.
    """
    files = read_tokenizer_files(name, revision=revision)
    findings = [*dict.fromkeys(finding for check in _CHECKS for finding in _found(check, files))]
    if files.source.lower().endswith(GGUF_SUFFIX):
        findings = [  # all files of a model folder are in one
            replace(finding, where=f"{files.source}:{key}".rstrip(":"))
            for finding in findings
            if (key := finding.where.partition(":")[2]) not in _NOT_IN_GGUF
        ]
    findings.sort(key=lambda finding: LEVELS.index(finding.level))
    return Audit(name, tuple(findings))
