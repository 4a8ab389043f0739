"""A number -> a folder with a config, texts, a model and a run, some spoiled, and a command."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import yaml

from tests.fuzz.mutations import JUNK, mutated, spoil, spoil_folder

SECTIONS = ("model", "tokenizer", "data", "training", "samples", "generation", "lora")
PROMPTS = ("Буря мглою", "The cat", "", " ", "\x00", "\u202eabc", "🙂" * 50, "слово " * 200, "-p")


@dataclass(frozen=True)
class Case:
    """What is done.

    Attributes:
        words: of the command line, without `gptft`.
        outputs: names, below the folder, that the command may make or change.
        is_long: whether settings may rightly ask for more than a fuzzer waits for.
    """

    words: tuple[str, ...]
    outputs: tuple[str, ...] = ()
    is_long: bool = False


def make_case(number: int, *, base: Path, folder: Path) -> Case:
    """Fill a new folder from `base`, spoil what the command will read, and name the command."""
    rng = Random(number)
    shutil.copytree(base, folder, symlinks=True)
    kinds: Sequence[Callable[[Path, Random], Case]] = (
        _train, _train, _train, _check, _check, _check, _check, _prepare, _generate, _generate,
        _generate_config, _runs, _runs, _novelty, _resume, _resume, _tokenize, _tokenize, _score,
        _predict, _tokenizer, _words, _chats, _chats, _chats, _merge,
    )  # fmt: skip
    return rng.choice(kinds)(folder, rng)


@cache
def _schema() -> dict[str, Any]:
    from gptft.config.schema import config_schema
    from gptft.decoding.strategies import GENERATION

    return config_schema(GENERATION)


def _settings(section: str) -> list[str]:
    """The names of a section's settings, from the schema that `gptft config schema` prints."""
    schema = _schema()
    found = schema["properties"][section]
    for key in ("anyOf", "allOf"):
        found = next((one for one in found.get(key, ()) if one.get("type") != "null"), found)
    if "$ref" in found:
        found = schema["$defs"][found["$ref"].rpartition("/")[2]]
    return sorted(found.get("properties", {}))


def _config(folder: Path, rng: Random) -> None:
    """Change config.yaml: a setting or two of any section, or its bytes."""
    path = folder / "config.yaml"
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    for _ in range(rng.choice([0, 0, 1, 1, 1, 2, 4])):
        section = rng.choice([*SECTIONS, "training", "training"])
        if rng.random() < 0.25:
            config = mutated(config, rng)
        elif names := [n for n in _settings(section) if n not in ("output_dir", "logging_dir")]:
            if not isinstance(config.get(section), dict):
                config[section] = {}
            config[section][rng.choice(names)] = rng.choice(JUNK)
        if not isinstance(config, dict) or not config:
            break
    try:
        text = yaml.safe_dump(config, allow_unicode=True, sort_keys=False)
    except yaml.YAMLError:
        return
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    if rng.random() < 0.1:
        spoil(path, rng)


def _inputs(folder: Path, rng: Random) -> None:
    """Spoil the config, and now and then what it names."""
    _config(folder, rng)
    if rng.random() < 0.25:
        spoil_folder(folder / rng.choice(["model", "texts"]), rng)


def _sets(rng: Random) -> tuple[str, ...]:
    words: list[str] = []
    for _ in range(rng.choice([0, 0, 1, 2])):
        section = rng.choice(SECTIONS)
        name = rng.choice(_settings(section))
        if name not in ("output_dir", "logging_dir"):
            words += ["--set", f"{section}.{name}={_word(rng)}"]
    return tuple(words)


def _word(rng: Random) -> str:
    """Junk as a word of a command line, which holds no NUL and no half of a pair."""
    word = str(rng.choice([*JUNK, *PROMPTS])).replace("\x00", "")
    return (
        word.replace("\ud800", "?")
        .encode("utf-8", "surrogateescape")
        .decode("utf-8", "surrogateescape")
    )


def _train(folder: Path, rng: Random) -> Case:
    _inputs(folder, rng)
    text = ("texts/0.txt",) if rng.random() < 0.15 else ("config.yaml",)
    named = ("--model", "model", "--max-steps", "2", "--cpu") if text[0] != "config.yaml" else ()
    flags = [word for word in named if word != "--cpu"]
    words = ("train", *text, *flags, *_sets(rng), "--out", "out")
    return Case(words, outputs=("out",), is_long=True)


def _resume(folder: Path, rng: Random) -> Case:
    spoil_folder(folder / "run", rng)
    more = rng.choice([(), ("--extend",), ("--json",), ("--allow-change", "training.seed")])
    words = ("train", "run.yaml", "--resume", *more)
    return Case(words, outputs=("run",), is_long=True)


def _check(folder: Path, rng: Random) -> Case:
    _inputs(folder, rng)
    return Case(("config", rng.choice(["check", "check", "show"]), "config.yaml", *_sets(rng)))


def _prepare(folder: Path, rng: Random) -> Case:
    _inputs(folder, rng)
    more = rng.choice([(), ("--json",), ("--preview", _word(rng)), ("--shard", "1/2"),
                       ("--shard", _word(rng)), ("--merge",)])  # fmt: skip
    return Case(("prepare", "config.yaml", *_sets(rng), *more), is_long=True)


def _chats(folder: Path, rng: Random) -> Case:
    """Conversations, their template and their settings, some of them spoiled."""
    for name in ("chats.jsonl", "template.jinja"):
        if rng.random() < 0.6:
            spoil(folder / name, rng)
    data: dict[str, Any] = {"train": "chats.jsonl"}
    values: dict[str, Sequence[Any]] = {
        "chat_template": ("plain", "chatml", "mistral", "template.jinja", "template.jinja"),
        "format": ("auto", "messages", "prompt_completion", "text"),
        "loss_on": ("all", "answers"), "packing": ("stream", "best_fit"),
        "long_documents": ("split", "refuse"), "block_size": (8, 32, 256), "validation": (0.3,),
        "isolate_documents": (True, False, "auto"), "add_bos": (True, False),
    }  # fmt: skip
    for name in rng.sample(sorted(values), rng.choice([0, 1, 2, 4])):
        data[name] = rng.choice([*values[name], *values[name], rng.choice(JUNK)])
    path = folder / "config.yaml"
    config = {**yaml.safe_load(path.read_text(encoding="utf-8")), "data": data}
    try:
        text = yaml.safe_dump(config, allow_unicode=True, sort_keys=False)
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
    except yaml.YAMLError:  # junk that YAML can't write
        pass
    words: Sequence[tuple[str, ...]] = (
        ("train", "config.yaml", "--out", "out"), ("prepare", "config.yaml"),
        ("prepare", "config.yaml", "--preview", "1"), ("config", "check", "config.yaml"),
        ("train", "chats.jsonl", "--model", "model", "--max-steps", "2", "--out", "out"),
        ("eval", "model", "--data", "chats.jsonl"), ("prepare", "config.yaml", "--shard", "1/2"),
    )  # fmt: skip
    return Case(rng.choice(words), outputs=("out",), is_long=True)


def _merge(folder: Path, rng: Random) -> Case:
    spoil_folder(folder / rng.choice(["run", "model"]), rng)
    more = rng.choice([(), ("--scale", _word(rng))])
    return Case(("merge", rng.choice(["run", "model"]), "--out", "out", *more), outputs=("out",))


def _generation_flags(rng: Random) -> tuple[str, ...]:
    """A strategy, and some of its settings, most of them within reason."""
    from gptft.decoding.strategies import GENERATION, STRATEGIES

    strategy = rng.choice([*STRATEGIES.values()])
    words = ["--strategy", strategy.name] if rng.random() < 0.7 else []
    names = sorted(strategy.settings) if rng.random() < 0.8 else sorted(GENERATION)
    for name in rng.sample(names, rng.choice([0, 1, 1, 2, 3])):
        usual = strategy.values.get(name)
        usual = "x" if usual in (None, [], {}) else str(usual)
        value = rng.choice([usual, usual, "0.5", "2", _word(rng)])
        words.append(f"--{name.replace('_', '-')}={value}")
    return tuple(words)


def _generate(folder: Path, rng: Random) -> Case:
    model = rng.choice(["model", "run"])
    if rng.random() < 0.6:
        spoil_folder(folder / model, rng)
    words = ["generate", model, "-p", _prompt(rng), *_generation_flags(rng)]
    words += rng.choice([[], [], ["--max-new-tokens", "3"]])
    words += rng.choice([[], ["--json"], ["--why"], ["--window"], ["--chat"], ["--speed"]])
    if rng.random() < 0.2:
        words += rng.choice([["--compare", "greedy,nucleus"], ["--compare", _word(rng)]])
        words += rng.choice([[], ["--html", "page.html"]])
    return Case(tuple(words), outputs=("page.html",), is_long=True)


def _generate_config(folder: Path, rng: Random) -> Case:
    _config(folder, rng)
    if rng.random() < 0.5:
        spoil(folder / "prompts.jsonl", rng)
    words = ("generate", "model", "--file", "prompts.jsonl", "--config", "config.yaml")
    return Case((*words, *_generation_flags(rng)), is_long=True)


def _prompt(rng: Random) -> str:
    return rng.choice(PROMPTS).replace("\x00", "")


def _runs(folder: Path, rng: Random) -> Case:
    spoil_folder(folder / "run", rng)
    words = (
        ("runs",), ("runs", "."), ("runs", "--json"), ("runs", "verify", "run"),
        ("runs", "show", "run"), ("runs", "show", "run", "--json"),
        ("runs", "show", "run", "--html", "page.html", "--svg", "curves"),
        ("runs", "show", "run", "--follow"),
        ("runs", "compare", "run", "other"), ("runs", "compare", ".", "--html", "page.html"),
    )  # fmt: skip
    return Case(rng.choice(words), outputs=("page.html", "curves"))


def _novelty(folder: Path, rng: Random) -> Case:
    spoil_folder(folder / rng.choice(["run", "texts", "model"]), rng)
    return Case(("novelty", "run", *rng.choice([(), ("--json",), ("--file", "texts/1.txt")])))


def _tokenize(folder: Path, rng: Random) -> Case:
    spoil_folder(folder / "model", rng)
    more = rng.choice([
        ("--json",), ("--bytes",), ("--audit",), ("--audit", "--json"), ("--vocab",),
        ("--search", _word(rng)), ("--merges", _word(rng)), ("--id", _word(rng)),
        ("--html", "page.html"), ("--compare", "model"), ("--limit", _word(rng)), (),
    ])  # fmt: skip
    words = ("tokenize", _prompt(rng) or "x", "--model", "model", *more)
    return Case(words, outputs=("page.html",))


def _score(folder: Path, rng: Random) -> Case:
    what = rng.choice(["model", "texts"])
    spoil_folder(folder / what, rng)
    more = rng.choice([("--json",), ("--summary",), ("--html", "page.html"), ()])
    words = ("score", "model", "--file", "texts/0.txt", *more)
    return Case(words, outputs=("page.html",), is_long=True)  # a text may have become long


def _predict(folder: Path, rng: Random) -> Case:
    spoil_folder(folder / "model", rng)
    words = ("predict", "model", "-p", _prompt(rng), *_generation_flags(rng))
    return Case((*words, *rng.choice([(), ("--json",), ("--top", _word(rng))])))


def _tokenizer(folder: Path, rng: Random) -> Case:
    spoil_folder(folder / "texts", rng)
    if rng.random() < 0.3:
        words = ("tokenizer", "extend", "model", "--tokens", _word(rng), "--out", "out")
        return Case(words, outputs=("out",))
    kind = rng.choice(["bpe", "unigram", "wordpiece", _word(rng)])
    size = rng.choice(["300", "400", _word(rng)])
    words = ("tokenizer", "train", "texts", "--out", "out", "--kind", kind, "--vocab-size", size)
    return Case(words, outputs=("out",))


def _words(folder: Path, rng: Random) -> Case:
    """A command line that nobody would type."""
    from gptft.cli.app import COMMANDS

    pool = ["config.yaml", "model", "run", "--json", "--set", "--help", "-p", "--file", "texts",
            "check", "verify", "nosuch.yaml", *COMMANDS]  # fmt: skip
    count = rng.randrange(0, 5)
    words = [rng.choice([*pool, _word(rng)]) for _ in range(count)]
    return Case((rng.choice([*COMMANDS, "x"]), *words), outputs=("runs",), is_long=True)
