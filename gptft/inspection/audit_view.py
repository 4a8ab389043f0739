"""An audit of a tokenizer -> columns on a terminal, lines with tabs off one."""

from rich.console import Console, RenderResult
from rich.text import Text

from gptft.inspection.audit import Audit
from gptft.inspection.audit_finding import Finding
from gptft.terminal.draw import Drawn, Table, plain_lines
from gptft.terminal.text import escaped
from gptft.terminal.words import count

_STYLES = {"fault": "bold red", "warning": "bold yellow", "ok": "green"}


def audit_view(audit: Audit) -> Drawn:
    """Every finding with its level, its place and what to do; the counts last."""
    counts = f"{count(audit.count('fault'), 'fault')}, "
    counts += f"{count(audit.count('warning'), 'warning')}, {audit.count('ok')} ok"

    def draw(console: Console, width: int) -> RenderResult:
        if not console.is_terminal:
            cells = ((f.level, f.what, f.where, f.do) for f in audit.findings)
            return [plain_lines([*("\t".join(map(escaped, row)) for row in cells), f"# {counts}"])]
        rows = [(Text(f.level, _STYLES[f.level]), _described(f)) for f in audit.findings]
        return [Table(rows, "nl"), "", Text(counts, "bold")]

    return Drawn(draw)


def _described(finding: Finding) -> Text:
    text = Text(escaped(finding.what))
    if finding.do:
        text.append(f"\n{escaped(finding.do)}", "italic")
    return text.append(f"\n{escaped(finding.where)}" if finding.where else "", "dim")
