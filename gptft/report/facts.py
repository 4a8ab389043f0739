"""A run -> the sentences and numbers of its report and its model card, in plain text.

What is said is in the words of `words/report`, in the language of the page.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gptft.data.ledger import Ledger
from gptft.models.source import BUNDLED_MODELS, hub_parts, is_hub_id, short_name
from gptft.report import verdict
from gptft.report.language import Words
from gptft.report.values import NOTHING
from gptft.runs.documents import DocumentLosses, document_losses_of
from gptft.runs.endings import EARLY, why_early
from gptft.runs.read import BeforeAfter, Point, Run, as_float, as_int, as_mapping
from gptft.runs.recital import Recital, recital_of
from gptft.runs.settings import HIDDEN, SECRETS, settings_of
from gptft.terminal.words import count, duration, short_value

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


def summary(run: Run, w: Words) -> str:
    """The run in a sentence or two: from what, on what, how long, and what came of it."""
    ledger, steps, seconds = run.ledger, run.steps, as_float(run.result.get("seconds"))
    said = _what_happened(run, w)
    if run.is_finished and steps is not None:
        said += w.say("in_steps", steps=w.count(steps, "step"))
    if ledger:
        said += _on_what(run, ledger, w)
    if not run.is_finished:
        reached = w.say("not_finished_at", step=w.whole(steps)) if steps else w.t["not_finished"]
        return f"{said}. {reached}"
    if seconds is not None:
        said += w.say("which_took", time=w.duration(duration(seconds)))
    return f"{said}. {_outcome(run, w)}".rstrip()


def _what_happened(run: Run, w: Words) -> str:
    came = origin(run)
    parameters = as_int(run.facts.get("num_parameters"))
    size = w.say("size", number=w.rounded(parameters)) if parameters else ""
    if came is None:
        return w.say("did_unknown", size=size)
    if came.kind == "new":
        return w.say("did_new", name=came.name, size=size)
    trained = as_int(run.facts.get("num_trained"))
    key = "how_adapter" if run.section("lora") else "how_frozen"
    how = w.say(key, number=w.rounded(trained)) if trained else ""
    return w.say("did_tuned_size" if size else "did_tuned", name=came.name, size=size, how=how)


def _on_what(run: Run, ledger: Ledger, w: Words) -> str:
    documents = w.count(ledger.documents - ledger.validation_documents, "of_document")
    text = w.say("text_of", documents=documents, tokens=w.rounded(ledger.train_tokens))
    if (share := _text_share(run)) is None:
        return w.say("on_text", text=text)
    seen = as_int(run.result.get("num_tokens"))
    return w.say(
        "on_seen" if seen else "on_share", seen=w.rounded(seen or 0), share=w.percent(share),
        text=text,
    )  # fmt: skip


def _text_share(run: Run) -> float | None:
    """How much of its text training saw, 1 for an epoch; None where that isn't known."""
    ledger, seen = run.ledger, as_int(run.result.get("num_tokens"))
    if ledger is not None and seen:
        return seen / max(ledger.train_tokens, 1)
    return as_float(run.metrics[-1].get("epoch")) if run.metrics else None


def _outcome(run: Run, w: Words) -> str:
    on, figures = w.t["on_held_out"], run.validation
    if figures is None:
        on, figures = w.t["on_training"], run.train
    if figures is None:
        return ""
    before, after = figures.perplexity_before, figures.perplexity_after
    if before is None or after is None:
        return ""
    if not (math.isfinite(before) and math.isfinite(after)):
        return w.say("perplexity_infinite", on=on)
    went = "fell" if after < before else "rose"
    if w.number(before) == w.number(after):
        went = "stayed"
    return w.say(f"perplexity_{went}", on=on, before=w.number(before), after=w.number(after))


def not_finite(points: Sequence[Point], w: Words) -> str:
    """A sentence where a logged loss is NaN or infinite, else nothing."""
    bad = [step for step, value in points if not math.isfinite(value)]
    if not bad:
        return ""
    return w.say(
        "not_finite", bad=w.whole(len(bad)), points=w.count(len(points), "log_step"),
        step=w.whole(bad[0]),
    )  # fmt: skip


def spread(texts: Sequence[tuple[int, str]], *, at_most: int) -> list[tuple[int, str]]:
    """Up to `at_most` of them, evenly spread, the first and last among them."""
    if len(texts) <= at_most:
        return list(texts)
    return [texts[round(i * (len(texts) - 1) / (at_most - 1))] for i in range(at_most)]


def where_tokens_went(ledger: Ledger, w: Words) -> list[tuple[str, int]]:
    """The tokens in each part of the block store, by the part's name."""
    blocks, size = w.count(ledger.num_blocks, "block"), w.whole(ledger.block_size)
    rows = [
        (w.say("blocks_of_size", blocks=blocks, size=size), ledger.num_blocks * ledger.block_size)
    ]
    if ledger.tail_tokens:
        rows.append((w.t["last_block"], ledger.tail_tokens))
    if ledger.dropped_tokens:
        rows.append((w.t["dropped"], ledger.dropped_tokens))
    if ledger.validation_documents:
        documents = w.count(ledger.validation_documents, "document")
        rows.append((w.say("held_out_rows", documents=documents), validation_tokens(ledger)))
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


def run_facts(run: Run, w: Words) -> list[tuple[str, str]]:
    """The run itself, by name: its state, times, size and data."""
    parameters, trained = (
        as_int(run.facts.get(name)) for name in ("num_parameters", "num_trained")
    )
    state = str(run.facts.get("state", NOTHING))
    trained_name = w.t["trained_adapter" if run.section("lora") else "trained_part"]
    return [
        (w.t["state"], w.t.get(f"state_{state}", state)),
        *((w.t[name], str(run.facts.get(name, NOTHING))) for name in ("created", "finished")),
        (w.t["parameters"], w.whole(parameters) if parameters else NOTHING),
        *([(trained_name, w.whole(trained))] if trained else []),
        *how_trained(run, w),
        (w.t["block_store"], run.store or NOTHING),
    ]


def passes(run: Run, w: Words) -> str:
    """How much of its text training saw; nothing where that isn't known."""
    share = _text_share(run)
    if share is None:
        return ""
    key = "share_and_epochs" if share >= 1.05 else "share_of_text"
    return w.say(key, share=w.percent(share), epochs=w.local(f"{share:,.1f}"))


def how_trained(run: Run, w: Words) -> list[tuple[str, str]]:
    """What a run took, by name: steps, tokens, time, machine, seed."""
    result, said = run.result, []
    if run.steps:
        said.append(("steps", _steps(run, run.steps, w)))
    if tokens := as_int(result.get("num_tokens")):
        seen, over = w.whole(tokens), passes(run, w)
        said.append(
            ("tokens_seen", w.say("seen_of_text", tokens=seen, share=over) if over else seen)
        )
    if (seconds := as_float(result.get("seconds"))) is not None:
        time, rate = w.duration(duration(seconds)), as_float(result.get("tokens_per_second"))
        paced = w.say("time_and_rate", time=time, rate=w.local(f"{rate:,.0f}")) if rate else time
        said.append(("time", paced))
    said.append(("model_kept", verdict.kept_model(run, w)))
    said.append(("machine", _machine(run, w)))
    for name, key in (("trained_in", "dtype"), ("seed", "seed")):
        if (value := run.facts.get(key)) is not None:
            said.append((name, str(value)))
    if isinstance(held := run.section("lora").get("quantize"), str):
        said.append(("base_held_in", held))
    return [(w.t[name], text) for name, text in said if text]


def _steps(run: Run, steps: int, w: Words) -> str:
    """The steps of a run, and why it made fewer than were planned."""
    planned = as_int(run.result.get("planned_steps"))
    if planned is None or not why_early(run.result):
        return w.whole(steps)
    made = {"steps": w.whole(steps), "planned": w.whole(planned)}
    if run.result.get("ended") != EARLY:
        return w.say("steps_memorized", p=w.local("0.9"), **made)
    if (number := as_int(run.result.get("without_improvement"))) is None:
        return w.say("steps_early", **made)
    return w.say("steps_early_after", evaluations=w.count(number, "evaluation"), **made)


def recital(run: Run) -> Recital | None:
    """What the model recites of its training text."""
    return recital_of(run.facts)


def document_losses(run: Run) -> DocumentLosses | None:
    """The documents whose loss fell least."""
    return document_losses_of(run.facts)


def recited(found: Recital, w: Words) -> str:
    """How much of its training text a model recites, in a sentence."""
    return w.say(
        "recited_one" if len(found.texts) == 1 else "recited_many",
        texts=w.count(len(found.texts), "of_text"), after=w.whole(found.lines_after),
        lines=w.count(found.num_lines, "of_line"), before=w.whole(found.lines_before),
    )  # fmt: skip


def _machine(run: Run, w: Words) -> str:
    parts = []
    if isinstance(device := run.facts.get("device"), str) and device != "cpu":
        parts.append(device)
    if threads := as_int(run.facts.get("threads")):
        parts.append(w.count(threads, "thread"))
    if (processes := as_int(run.facts.get("world_size")) or 1) > 1:
        parts.append(w.count(processes, "process"))
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


def all_settings(run: Run, w: Words) -> list[tuple[str, str]]:
    """Every setting of the config as `section.key`; a secret's value isn't given."""
    return [
        (name, w.t["hidden"] if value == HIDDEN else short_value(value))
        for name, value in settings_of(run.facts).items()
    ]


def versions(run: Run) -> list[tuple[str, str]]:
    """The versions of gptft and of what it stands on."""
    known = run.facts.get("versions")
    rows = [("gptft", run.facts.get("gptft")), *(known.items() if isinstance(known, dict) else ())]
    return [(name, str(version)) for name, version in rows if version is not None]


def results(run: Run, w: Words) -> list[tuple[str, BeforeAfter]]:
    """The texts that were measured, by name."""
    rows = ((w.t["training_text"], run.train), (w.t["held_out_text"], run.validation))
    general = [
        (w.t.get(f"general_{language}", w.say("general_other", language=language)), figures)
        for language, figures in run.general.items()
    ]
    return [*((name, figures) for name, figures in rows if figures), *general]


def measured_on(rows: Sequence[tuple[str, BeforeAfter]], w: Words) -> str:
    """On how much of each text its figures are measured, in a sentence."""
    texts = [
        w.say("measured_one", name=name, tokens=w.count(figures.num_tokens, "on_token"))
        for name, figures in rows
        if figures.num_tokens is not None
    ]
    return w.say("measured_on", texts="".join(texts))


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
