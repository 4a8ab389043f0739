"""An audit of a tokenizer -> columns on a terminal, lines with tabs off one."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from gptft.inspection.audit import Audit
from gptft.inspection.audit_finding import Finding, shown
from gptft.terminal.draw import Drawn, Table, plain_lines
from gptft.terminal.words import count

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.segment import Segment
    from rich.text import Text

_STYLES = {"fault": "bold red", "warning": "bold yellow", "ok": "green"}


def audit_view(audit: Audit) -> Drawn:
    """Every finding with its level, its place and what to do; the counts last."""
    counts = f"{count(audit.count('fault'), 'fault')}, "
    counts += f"{count(audit.count('warning'), 'warning')}, {audit.count('ok')} ok"

    def draw(console: "Console", width: int) -> "Iterable[RenderableType | Segment | Table]":
        from rich.text import Text

        if not console.is_terminal:
            cells = ((f.level, f.what, f.where, f.do) for f in audit.findings)
            return [plain_lines([*("\t".join(map(_line, row)) for row in cells), f"# {counts}"])]
        rows = [(Text(f.level, _STYLES[f.level]), _described(f)) for f in audit.findings]
        return [Table(rows, "nl"), "", Text(counts, "bold")]

    return Drawn(draw)


def _described(finding: Finding) -> "Text":
    from rich.text import Text

    text = Text(_line(finding.what))
    if finding.do:
        text.append(f"\n{_line(finding.do)}", "italic")
    return text.append(f"\n{_line(finding.where)}" if finding.where else "", "dim")


def _line(text: str) -> str:
    """A line that a terminal shows and doesn't obey: files may hold anything."""
    return "".join(c if c.isprintable() else shown(c) for c in text)
