"""A model's name -> what is wrong with its tokenizer, where, and what to do about it.

In: what a person calls the model. Out: a frozen `Audit` of findings, as JSON or for a terminal. The
checks of the tokenizer's own tables are here; those against the model's files are in
`audit_checks`. Must not import torch or transformers, and rich only to draw.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from gptft.inspection.audit_checks import LEVELS, Finding, check_model_files, shown
from gptft.inspection.audit_files import TokenizerFiles, read_tokenizer_files
from gptft.inspection.audit_text import check_text
from gptft.tokenization.gguf import GGUF_SUFFIX

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

_STYLES = {"fault": "bold red", "warning": "bold yellow", "ok": "green"}
# What only AutoTokenizer goes by, which doesn't go by a .gguf file.
_OF_OTHERS = {"pad_token", "padding_side", "model_max_length", "chat_template"}
_MAX_NAMED = 5  # of a kind, in one finding


@dataclass(frozen=True)
class Audit:
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

    def to_dict(self) -> dict[str, Any]:
        """Counts by level, and the findings."""
        return {
            "name": self.name,
            "faults": self.count("fault"),
            "warnings": self.count("warning"),
            "findings": [asdict(finding) for finding in self.findings],
        }

    def render(self) -> "RenderableType":
        """For `console.print`: columns on a terminal, lines with tabs off one."""
        return _Drawing(self)


def audit_tokenizer(name: str, *, revision: str | None = None) -> Audit:
    """Check a tokenizer against itself, the text it is given, and its model's files.

    Args:
        name: what a person calls the model; see `load_tokenizer`.
        revision: branch, tag or commit of a hub model.

    Raises:
        ModelError: there is no such model, or nothing of a tokenizer in it.
    """
    files = read_tokenizer_files(name, revision=revision)
    findings = [*_check_tables(files), *check_model_files(files), *check_text(files)]
    if files.source.lower().endswith(GGUF_SUFFIX):
        findings = [_in_one_file(f, files.source) for f in findings if _key(f) not in _OF_OTHERS]
    findings.sort(key=lambda finding: LEVELS.index(finding.level))
    return Audit(name, tuple(findings))


def _key(finding: Finding) -> str:
    return finding.where.partition(":")[2]


def _in_one_file(finding: Finding, source: str) -> Finding:
    """The finding as of a .gguf file, which is all files of a model folder in one."""
    return replace(finding, where=f"{source}:{_key(finding)}".rstrip(":"))


def _check_tables(files: TokenizerFiles) -> Iterator[Finding]:
    """Whether the files can be read, and the vocabulary is sound in itself."""
    for file, problem in files.unreadable.items():
        yield Finding("fault", problem, file, "Repair the file, or take it from its source again.")
    model = files.document.get("model")
    model = model if isinstance(model, dict) else {}
    found = [*_repeated(files), *_check_merges(files, model), *_check_added(files, model)]
    yield from found
    if files.tokenizer is not None and not found:
        kind = type(files.tokenizer.backend.model).__name__
        size = files.tokenizer.backend.get_vocab_size(with_added_tokens=True)
        what = f"The vocabulary is sound: {kind}, {size:,} tokens, each once."
        yield Finding("ok", what, files.source, "")
    if model.get("dropout"):
        what = f"Merges are dropped at random ({model['dropout']}): no two encodings are alike."
        do = "Set it to null; BPE-dropout is for training from scratch."
        yield Finding("fault", what, f"{files.source}:model.dropout", do)
    for key, effect in (("truncation", "cuts every text"), ("padding", "fills texts up")):
        if files.document.get(key):
            what = f"The file itself {effect} when it is opened by the tokenizers library."
            do = "Set it to null. gptft turns it off."
            yield Finding("warning", what, f"{files.source}:{key}", do)


def _repeated(files: TokenizerFiles) -> Iterator[Finding]:
    model = files.document.get("model")
    vocab = model.get("vocab") if isinstance(model, dict) else None
    names = Counter(_unigrams(vocab) if isinstance(vocab, list) else [])
    repeated = [*files.repeated, *(token for token, count in names.items() if count > 1)]
    if repeated:
        what = f"The same entry stands twice: {_some(repeated)}. Only the last one counts."
        do = "Leave one of each, with the id its embedding has."
        yield Finding("fault", what, f"{files.source}:model.vocab", do)
    ids = Counter(_vocab(model).values())
    twice = [str(i) for i, count in ids.items() if count > 1]
    if twice:
        what = f"Several tokens have one id: {_some(twice)}."
        do = "Give each token an id of its own: decoding can give only one of them back."
        yield Finding("fault", what, f"{files.source}:model.vocab", do)


def _vocab(model: Any) -> dict[str, int]:
    """The vocabulary as a table, whatever kind of model it is of."""
    vocab = model.get("vocab") if isinstance(model, dict) else None
    if isinstance(vocab, list):  # Unigram: the place is the id
        return {token: number for number, token in enumerate(_unigrams(vocab))}
    pairs = vocab.items() if isinstance(vocab, dict) else ()
    return {token: i for token, i in pairs if isinstance(i, int)}


def _unigrams(vocab: list[Any]) -> list[str]:
    return [str(entry[0]) if isinstance(entry, list) and entry else "" for entry in vocab]


def _check_merges(files: TokenizerFiles, model: dict[str, Any]) -> Iterator[Finding]:
    """Whether each merge joins tokens that are there to one that is there."""
    vocab, merges = _vocab(model), model.get("merges")
    prefix = len(str(model.get("continuing_subword_prefix") or ""))
    missing: dict[str, None] = {}
    seen: Counter[tuple[str, str]] = Counter()
    for merge in merges if isinstance(merges, list) else []:
        pair = merge.split(" ") if isinstance(merge, str) else merge
        if not isinstance(pair, list) or len(pair) != 2:
            continue  # the library refuses the file, which is found above
        left, right = map(str, pair)
        seen[left, right] += 1
        missing |= {t: None for t in (left, right, left + right[prefix:]) if t not in vocab}
    if missing:
        what = f"Merges name {len(missing):,} tokens that aren't there: {_some([*missing])}."
        do = "Add them to model.vocab, or take the merges out: the library refuses such a file."
        yield Finding("fault", what, f"{files.source}:model.merges", do)
    again = ["".join(pair) for pair, count in seen.items() if count > 1]
    if again:
        what = f"Merges stand twice: {_some(again)}. Only the last place of each counts."
        do = "Leave the first of each: its rank is the one that was learned."
        yield Finding("warning", what, f"{files.source}:model.merges", do)


def _check_added(files: TokenizerFiles, model: dict[str, Any]) -> Iterator[Finding]:
    """Whether each added token is there once, under the id that is written."""
    added = files.document.get("added_tokens")
    entries = [e for e in added if isinstance(e, dict)] if isinstance(added, list) else []
    where = f"{files.source}:added_tokens"
    counts = Counter(str(entry.get("content")) for entry in entries)
    twice = [content for content, count in counts.items() if count > 1]
    if twice:
        what = f"Tokens are added twice: {_some(twice)}."
        yield Finding("fault", what, where, "Leave one of each, with the id its embedding has.")
    by_id = {i: token for token, i in _vocab(model).items()}
    for entry in entries:
        content, token_id = str(entry.get("content")), entry.get("id")
        there = by_id.get(token_id) if isinstance(token_id, int) else None
        actual = files.default.token_to_id(content) if files.default is not None else token_id
        if (there is not None and there != content) or actual != token_id:
            is_really = f"is {shown(there)}" if there not in (None, content) else "isn't its id"
            what = f"{shown(content)} is written as id {token_id}, which {is_really}"
            what += f"; the library gives it {actual}." if actual != token_id else "."
            yield Finding("fault", what, where, "Give it the id its embedding has.")


def _some(tokens: Sequence[str]) -> str:
    named = ", ".join(shown(token) for token in tokens[:_MAX_NAMED])
    more = len(tokens) - _MAX_NAMED
    return f"{named} and {more:,} more" if more > 0 else named


@dataclass(frozen=True)
class _Drawing:
    """An audit that is drawn to suit its console."""

    audit: Audit

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "RenderResult":
        from rich.segment import Segment
        from rich.table import Table
        from rich.text import Text

        audit = self.audit
        counts = f"{_counted(audit.count('fault'), 'fault')}, "
        counts += f"{_counted(audit.count('warning'), 'warning')}, {audit.count('ok')} ok"
        if not console.is_terminal:
            lines = [
                "\t".join(map(_line, (f.level, f.what, f.where, f.do))) for f in audit.findings
            ]
            yield Segment("".join(f"{line}\n" for line in [*lines, f"# {counts}"]))
            return
        grid = Table.grid(padding=(0, 2))
        grid.add_column(no_wrap=True)
        grid.add_column(overflow="fold")
        for finding in audit.findings:
            text = Text(_line(finding.what))
            if finding.do:
                text.append(f"\n{_line(finding.do)}", "italic")
            text.append(f"\n{_line(finding.where)}" if finding.where else "", "dim")
            grid.add_row(Text(finding.level, _STYLES[finding.level]), text)
        yield grid
        yield ""
        yield Text(counts, "bold")


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _line(text: str) -> str:
    """A line that a terminal shows and doesn't obey: files may hold anything."""
    return "".join(c if c.isprintable() else shown(c) for c in text)
