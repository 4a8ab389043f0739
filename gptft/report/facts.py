"""A run -> the sentences and numbers of its report and its model card, in plain text."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gptft.data.ledger import Ledger
from gptft.models.source import BUNDLED_MODELS, hub_parts, is_hub_id, short_name
from gptft.report import verdict
from gptft.report.values import NOTHING, number, rounded
from gptft.runs.documents import DocumentLosses, document_losses_of
from gptft.runs.endings import why_early
from gptft.runs.general import general_name
from gptft.runs.read import BeforeAfter, Point, Run, as_float, as_int, as_mapping
from gptft.runs.recital import Recital, recital_of, recites
from gptft.runs.settings import SECRETS, settings_of
from gptft.terminal.words import count, duration, percent, share_of_text, short_value

GENERAL = (
    "General text is a page that comes with gptft and that the model wasn't tuned on: where its "
    "bits a byte rise, that is what tuning cost the model elsewhere."
)
PERPLEXITY = (
    "Perplexity is e to the power of the loss: as if each next token were a choice between so many "
    "equally likely ones; 1 is certainty."
)

# Settings that say where things lay on one machine, and nothing of how the model came to be.
_LOCAL = ("output_dir", "logging_dir", "resume_from_checkpoint", "deepspeed")
# Settings that may name a file of one machine, besides those of other models: `*_model`.
_MAY_NAME_FILES = ("accelerator_config", "fsdp_config", "grammar", "json_schema")


@dataclass(frozen=True)
class Origin:
    """What a model was before the run.

    Attributes:
        kind: new, bundled with gptft, a folder on the machine, or on the hub.
        name: the model's, or the architecture's for a new one.
        revision: the one asked for on the hub, else the commit that was taken.
        adapter: what it was besides, where it was one.
    """

    kind: Literal["new", "bundled", "folder", "hub"]
    name: str
    revision: str | None = None
    adapter: "Adapter | None" = None

    @property
    def on_hub(self) -> str | None:
        """The repository that it was made of: itself, or its adapter's base."""
        if self.kind == "hub":
            return self.name
        return self.adapter.repository if self.adapter else None


@dataclass(frozen=True)
class Adapter:
    """What was merged into the base before the run.

    Attributes:
        kind: LoRA, rank 8, say.
        base: what the base is called.
        repository: the base's on the hub.
    """

    kind: str
    base: str
    repository: str | None


def origin(run: Run) -> Origin | None:
    """Where the run's base model came from; None where the config names none."""
    model = run.section("model")
    sizes = model.get("from_scratch")
    if isinstance(sizes, dict):
        return Origin("new", str(sizes.get("model_type", "GPT")))
    name = model.get("name")
    if not isinstance(name, str) or not name:
        return None
    if name in BUNDLED_MODELS:
        return Origin("bundled", name)
    adapter = _adapter(run)
    if not is_hub_id(name):
        return Origin("folder", short_name(name), adapter=adapter)
    revision = model.get("revision")
    repo, _, own = hub_parts(name)
    revision = own or revision or as_mapping(run.facts.get("fingerprint")).get("model.commit")
    return Origin("hub", repo, revision if isinstance(revision, str) else None, adapter)


def _adapter(run: Run) -> Adapter | None:
    said = as_mapping(run.facts.get("adapter"))
    kind, base = said.get("kind"), said.get("base")
    if not isinstance(kind, str) or not isinstance(base, str):
        return None
    return Adapter(kind, short_name(base), base if is_hub_id(base) else None)


def summary(run: Run) -> str:
    """The run in a sentence or two: from what, on what, how long, and what came of it."""
    ledger, steps, seconds = run.ledger, run.steps, as_float(run.result.get("seconds"))
    said = _what_happened(run)
    if run.is_finished and steps is not None:
        said += f" in {count(steps, 'step')}"
    if ledger:
        said += f" {_on_what(run, ledger)}"
    if not run.is_finished:
        reached = f": the last step logged is {steps:,}" if steps else ""
        return f"{said}. The run is not finished{reached}."
    if seconds is not None:
        said += f", which took {duration(seconds)}"
    return f"{said}. {_outcome(run)}".rstrip()


def _what_happened(run: Run) -> str:
    came = origin(run)
    parameters = as_int(run.facts.get("num_parameters"))
    size = f" of {rounded(parameters)} parameters" if parameters else ""
    if came is None:
        return f"A model{size} was trained"
    if came.kind == "new":
        return f"A new {came.name} model{size} was trained from scratch"
    trained = as_int(run.facts.get("num_trained"))
    how = f" by an adapter of {rounded(trained)} (LoRA)" if trained else ""
    if trained and not run.section("lora"):
        how = f", {rounded(trained)} of them trained and the others frozen"
    return f"{came.name}{f', a model{size},' if size else ''} was fine-tuned{how}"


def _on_what(run: Run, ledger: Ledger) -> str:
    documents = count(ledger.documents - ledger.validation_documents, "document")
    text = f"a text of {documents} ({rounded(ledger.train_tokens)} tokens)"
    if (share := _text_share(run)) is None:
        return f"on {text}"
    seen = as_int(run.result.get("num_tokens"))
    return f"on {f'{rounded(seen)} tokens, ' if seen else ''}{percent(share)} of {text}"


def _text_share(run: Run) -> float | None:
    """How much of its text training saw, 1 for an epoch; None where that isn't known."""
    ledger, seen = run.ledger, as_int(run.result.get("num_tokens"))
    if ledger is not None and seen:
        return seen / max(ledger.train_tokens, 1)
    return as_float(run.metrics[-1].get("epoch")) if run.metrics else None


def _outcome(run: Run) -> str:
    text, figures = ("held-out text", run.validation)
    if figures is None:
        text, figures = ("its training text", run.train)
    if figures is None:
        return ""
    before, after = figures.perplexity_before, figures.perplexity_after
    if before is None or after is None:
        return ""
    if not (math.isfinite(before) and math.isfinite(after)):
        return f"On {text} its perplexity is not a finite number: something went wrong."
    if number(before) == number(after):
        return f"On {text} its perplexity stayed at {number(after)}."
    went = "fell" if after < before else "rose"
    return f"On {text} its perplexity {went} from {number(before)} to {number(after)}."


def not_finite(points: Sequence[Point]) -> str:
    """A sentence where a logged loss is NaN or infinite, else nothing."""
    bad = [step for step, value in points if not math.isfinite(value)]
    if not bad:
        return ""
    return (
        f"At {len(bad):,} of {count(len(points), 'log step')} the loss was not a finite "
        f"number, first at step {bad[0]:,}. A lower learning_rate, or bfloat16 in place of "
        "float16, usually helps."
    )


def spread(texts: Sequence[tuple[int, str]], *, at_most: int) -> list[tuple[int, str]]:
    """Up to `at_most` of them, evenly spread, the first and last among them."""
    if len(texts) <= at_most:
        return list(texts)
    return [texts[round(i * (len(texts) - 1) / (at_most - 1))] for i in range(at_most)]


def where_tokens_went(ledger: Ledger) -> list[tuple[str, int]]:
    """The tokens in each part of the block store, by the part's name."""
    blocks = f"{count(ledger.num_blocks, 'block')} × {ledger.block_size:,}"
    rows = [(blocks, ledger.num_blocks * ledger.block_size)]
    if ledger.tail_tokens:
        rows.append(("a last, shorter block", ledger.tail_tokens))
    if ledger.dropped_tokens:
        rows.append(("dropped", ledger.dropped_tokens))
    if ledger.validation_documents:
        held_out = f"held out: {count(ledger.validation_documents, 'document')}"
        rows.append((held_out, validation_tokens(ledger)))
    return rows


def account(ledger: Ledger) -> str:
    """The tokens that came in and where they went, as one sum."""
    blocks = f"{count(ledger.num_blocks, 'block')} of {ledger.block_size:,}"
    bos = f" + {ledger.num_bos:,} BOS" if ledger.num_bos else ""
    padding = f" + {ledger.all_padding:,} of padding" if ledger.all_padding else ""
    came = f"{count(ledger.tokens, 'token')} + {ledger.num_eos:,} EOS{bos}{padding}"
    return (
        f"The account: {came} = {blocks} + "
        f"{ledger.tail_tokens:,} in the last block + {ledger.dropped_tokens:,} dropped + "
        f"{validation_tokens(ledger):,} held out."
    )


def run_facts(run: Run) -> list[tuple[str, str]]:
    """The run itself, by name: its state, times, size and data."""
    parameters, trained = (
        as_int(run.facts.get(name)) for name in ("num_parameters", "num_trained")
    )
    return [
        *((name, str(run.facts.get(name, NOTHING))) for name in ("state", "created", "finished")),
        ("parameters", f"{parameters:,}" if parameters else NOTHING),
        *([(_trained_name(run), f"{trained:,}")] if trained else []),
        *how_trained(run),
        ("block store", run.store or NOTHING),
    ]


def _trained_name(run: Run) -> str:
    return "trained of an adapter" if run.section("lora") else "trained of them"


def passes(run: Run) -> str:
    """How much of its text training saw; nothing where that isn't known."""
    share = _text_share(run)
    return "" if share is None else share_of_text(share)


def how_trained(run: Run) -> list[tuple[str, str]]:
    """What a run took, by name: steps, tokens, time, machine, seed."""
    result, said = run.result, []
    if run.steps:
        said.append(("steps", f"{run.steps:,}{_why_no_more(run)}"))
    if tokens := as_int(result.get("num_tokens")):
        over = passes(run)
        said.append(("tokens seen", f"{tokens:,}" + (f": {over}" if over else "")))
    if (seconds := as_float(result.get("seconds"))) is not None:
        rate = as_float(result.get("tokens_per_second"))
        pace = f", {rate:,.0f} tokens a second" if rate else ""
        said.append(("time", duration(seconds) + pace))
    said.append(("model kept", verdict.kept_model(run)))
    said.append(("machine", _machine(run)))
    for name, key in (("weights trained in", "dtype"), ("seed", "seed")):
        if (value := run.facts.get(key)) is not None:
            said.append((name, str(value)))
    if isinstance(held := run.section("lora").get("quantize"), str):
        said.append(("base held in", held))
    return [(name, text) for name, text in said if text]


def _why_no_more(run: Run) -> str:
    """Why a run made fewer steps than were planned; nothing where it made them all."""
    planned = as_int(run.result.get("planned_steps"))
    why = why_early(run.result)
    return f" of {planned:,}: {why}" if why and planned is not None else ""


def recital(run: Run) -> Recital | None:
    """What the model recites of its training text."""
    return recital_of(run.facts)


def document_losses(run: Run) -> DocumentLosses | None:
    """The documents whose loss fell least."""
    return document_losses_of(run.facts)


def recited(found: Recital) -> str:
    """How much of its training text a model recites, in a sentence."""
    of, lines = count(len(found.texts), "text"), found.num_lines
    given = "its first line" if len(found.texts) == 1 else f"the first lines of {of}"
    return (
        f"Given {given}, the model {recites(found.lines_after, lines)} that follow, word for word; "
        f"before training it recited {found.lines_before:,}."
    )


def _machine(run: Run) -> str:
    parts = []
    if isinstance(device := run.facts.get("device"), str) and device != "cpu":
        parts.append(device)
    if threads := as_int(run.facts.get("threads")):
        parts.append(count(threads, "CPU thread"))
    if (processes := as_int(run.facts.get("world_size")) or 1) > 1:
        parts.append(f"{processes:,} processes")
    return ", ".join(parts)


def overrides(run: Run) -> list[tuple[str, str]]:
    """What was changed in the base model's config, by name."""
    changed = as_mapping(run.section("model").get("config_overrides"))
    return [(name, short_value(value)) for name, value in changed.items()]


def averaged_models(run: Run) -> list[tuple[str, str]]:
    """The models that training's first weights are the mean with, and a weight that isn't 1."""
    averaged = run.section("model").get("average_with")
    models = averaged if isinstance(averaged, list) else []
    named = [one if isinstance(one, dict) else {"name": one} for one in models]
    return [
        (short_name(str(one["name"])), short_value(one["weight"]) if "weight" in one else "")
        for one in named
    ]


def training_settings(run: Run) -> list[tuple[str, str]]:
    """The fields of `TrainingArguments` that were set, less paths and secrets."""
    return [
        (name, _without_folder(name, value))
        for name, value in run.section("training").items()
        if name not in _LOCAL and name not in SECRETS
    ]


def all_settings(run: Run) -> list[tuple[str, str]]:
    """Every setting of the config as `section.key`; a secret's value isn't given."""
    return [(name, short_value(value)) for name, value in settings_of(run.facts).items()]


def versions(run: Run) -> list[tuple[str, str]]:
    """The versions of gptft and of what it stands on."""
    known = run.facts.get("versions")
    rows = [("gptft", run.facts.get("gptft")), *(known.items() if isinstance(known, dict) else ())]
    return [(name, str(version)) for name, version in rows if version is not None]


def results(run: Run) -> list[tuple[str, BeforeAfter]]:
    """The texts that were measured, by name."""
    rows = (("training text", run.train), ("held-out text", run.validation))
    general = [(general_name(language), figures) for language, figures in run.general.items()]
    return [*((name, figures) for name, figures in rows if figures), *general]


def has_bits(rows: Sequence[tuple[str, BeforeAfter]]) -> bool:
    """Whether bits a byte are known of a text; a run of an earlier gptft knows none."""
    return any(figures.bits_per_byte_after is not None for _, figures in rows)


def validation_tokens(ledger: Ledger) -> int:
    """Tokens of the held-out part, EOS and padding included."""
    blocks = ledger.validation_blocks * ledger.block_size
    return blocks + ledger.validation_tail_tokens + ledger.validation_dropped_tokens


def decoding(run: Run) -> str:
    """How the samples were written, or nothing where that was left to the defaults."""
    settings = run.section("generation")
    return ", ".join(f"{name} {_without_folder(name, value)}" for name, value in settings.items())


def _without_folder(name: str, value: Any) -> str:
    """A setting's value in short, of a path no more than the file's name."""
    may_be_path = name in _MAY_NAME_FILES or name.endswith("_model")
    is_path = may_be_path and isinstance(value, str) and Path(value).is_absolute()
    return short_value(short_name(value) if is_path else value)
