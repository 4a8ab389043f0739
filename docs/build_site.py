"""`python docs/build_site.py`: the documentation -> a site in build/site/html, by zensical.

The pages keep their places in the repository, so that one link works there and on the site; files
that they link to are copied beside them. A dead link or anchor is an error. `--gather` stops before
zensical, `--reference` writes docs/reference/ anew from --help and the schema.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
PAGES = ROOT / "build" / "site" / "pages"
REFERENCE = ROOT / "docs" / "reference"
_LINK = re.compile(r"(\]\()((?!https?:|mailto:|#)[^)#\s]+)([^)]*\))")


def main() -> int:
    """Build what the command line asks for."""
    if "--reference" in sys.argv:
        write_reference()
        return 0
    gather()
    if "--gather" in sys.argv:
        return 0
    return subprocess.run(["zensical", "build", "--strict", "--clean"], cwd=ROOT).returncode


def gather() -> None:
    """Copy the pages, and all that they link to, into build/site/pages."""
    shutil.rmtree(PAGES, ignore_errors=True)
    waiting, seen = [ROOT / name for name in _in_navigation()], set[Path]()
    while waiting:
        source = waiting.pop()
        if source in seen:
            continue
        seen.add(source)
        target = PAGES / source.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            listed = sorted(path for path in source.rglob("*") if path.is_file())
            waiting += listed
            (target / "index.md").parent.mkdir(parents=True, exist_ok=True)
            (target / "index.md").write_text(_listing(source, listed), encoding="utf-8")
        elif source.suffix == ".md":
            text = source.read_text(encoding="utf-8")
            waiting += [(source.parent / match[2]).resolve() for match in _LINK.finditer(text)]
            if source == ROOT / "README.md":
                target = PAGES / "index.md"
            target.write_text(_for_site(text, source), encoding="utf-8")
        else:
            shutil.copy(source, target)


def _in_navigation() -> Iterator[str]:
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    for entry in config["nav"]:
        (page,) = entry.values()
        yield "README.md" if page == "index.md" else page


def _for_site(text: str, source: Path) -> str:
    """A page whose links lead to pages of the site."""

    def moved(match: re.Match[str]) -> str:
        link = match[2]
        found = (source.parent / link).resolve()
        if found == ROOT / "README.md":
            link = link.removesuffix("README.md") + "index.md"
        elif found.is_dir():
            link = link.rstrip("/") + "/index.md"
        return match[1] + link + match[3]

    return _LINK.sub(moved, text)


def _listing(folder: Path, listed: list[Path]) -> str:
    name = folder.relative_to(ROOT).as_posix()
    rows = [f"- [{path.relative_to(folder).as_posix()}]({path.relative_to(folder).as_posix()})"
            for path in listed]  # fmt: skip
    return "\n".join([f"# {name}", "", *rows, ""])


def write_reference() -> None:
    """Write docs/reference/ from what the program itself says."""
    REFERENCE.mkdir(exist_ok=True)
    for name, text in reference().items():
        (REFERENCE / name).write_text(text, encoding="utf-8")


def reference() -> dict[str, str]:
    """The pages of docs/reference/, by name."""
    return {"options.md": _options(), "settings.md": _settings()}


def _options() -> str:
    from typer.main import get_command

    from gptft.cli.app import app

    about = (
        "What `--help` says of each command. `gptft generate` has besides a flag for each setting "
        "of [decoding](../decoding.md)."
    )
    lines = ["# Every option", "", about, ""]
    for path, command in _commands((), get_command(app)):
        lines += [f"## gptft {' '.join(path)}", "", _escaped(command.help or ""), ""]
        rows = [row for row in map(_option, command.params) if row is not None]
        if rows:
            lines += ["| | | |", "| --- | --- | --- |", *rows, ""]
    return "\n".join(lines)


def _commands(path: tuple[str, ...], command: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    if not hasattr(command, "list_commands"):
        yield path, command
        return
    context = command.context_class(command, info_name="gptft")
    for name in command.list_commands(context):
        yield from _commands((*path, name), command.get_command(context, name))


def _option(param: Any) -> str | None:
    help_text = getattr(param, "help", None) or ""
    if getattr(param, "hidden", False) or param.name in ("help", "install_completion"):
        return None
    names = ", ".join(f"`{name}`" for name in (*param.opts, *param.secondary_opts))
    if param.param_type_name == "argument":
        names = f"`{param.metavar or param.name.upper()}`"
    default = param.default
    is_shown = isinstance(default, int | float | str) and not isinstance(default, bool)
    return f"| {names} | {_escaped(help_text)} | {f'`{default}`' if is_shown else ''} |"


def _settings() -> str:
    from gptft import api

    schema = api.config_schema()
    about = (
        "What `gptft config schema` says of a config's sections; `gptft config show my.yaml` "
        "prints what is in force."
    )
    lines = ["# Every setting", "", about, ""]
    for section, described in schema["properties"].items():
        fields = _properties(described, schema)
        if not fields or section in ("generation", "strategies"):
            continue
        lines += [f"## {section}", ""]
        if text := described.get("description"):
            lines += [_escaped(text), ""]
        lines += ["| setting | meaning | default |", "| --- | --- | --- |"]
        lines += [
            f"| `{name}` | {_escaped(field.get('description', ''))} | {_default(field)} |"
            for name, field in fields.items()
        ]
        lines.append("")
    lines += ["Those of `generation` are in [Decoding](../decoding.md).", ""]
    return "\n".join(lines)


def _properties(described: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    for part in (described, *described.get("anyOf", ()), *described.get("allOf", ())):
        if "$ref" in part:
            part = schema["$defs"][part["$ref"].rpartition("/")[2]]
        if "properties" in part:
            found: dict[str, Any] = part["properties"]
            return found
    return {}


def _default(field: dict[str, Any]) -> str:
    value = field.get("default")
    if value is None or value in ([], {}, ""):
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _escaped(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    sys.exit(main())
