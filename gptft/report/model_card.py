"""A finished run -> model/README.md, a model card as Hugging Face has them.

In: a run folder with a model in it. Out: YAML front matter and Markdown, the same for the same run.
Names no path of the machine and no secret, for a card is made to be published. Must not import
torch or transformers.

Form: https://huggingface.co/docs/hub/model-cards; sections after Mitchell et al. 2019, "Model Cards
for Model Reporting".
"""

import shlex
from collections.abc import Iterable
from pathlib import Path

from gptft.data.ledger import Ledger
from gptft.errors import RunError
from gptft.models.source import context_length, read_json
from gptft.report import words
from gptft.report.markdown import code, code_block, escaped, table, yaml_string
from gptft.runs.read import Run, Sample, as_int, read_run, write_whole

_PLACEHOLDER = "path/to/model"  # in the examples: a card doesn't know where it will be read
_PROMPT = "Once upon a time"  # in the examples, where the run has no short prompt of its own
_MAX_NEW_TOKENS = 60
_MAX_SAMPLES = 10  # prompts shown
_FEW_TOKENS = 10_000  # a held-out part below this is called small


def write_model_card(run_dir: Path) -> Path:
    """Write `model/README.md` of a run; an earlier card is replaced.

    Returns:
        the card's path.

    Raises:
        RunError: this isn't a run, it has no model, or the card can't be written.
    """
    run = read_run(run_dir)
    model_dir = run_dir / "model"
    if not model_dir.is_dir():
        raise RunError(
            f"{run_dir} has no finished model: {model_dir} is missing. Train it to the end first."
        )
    path = model_dir / "README.md"
    write_whole(path, model_card(run))
    return path


def model_card(run: Run) -> str:
    """The card's text."""
    sections = (
        _front_matter(run),
        f"# {escaped(run.name)}",
        escaped(words.summary(run)),
        _section("Model", _model(run)),
        _section("How to use it", _usage(run)),
        _section("Data", _data(run)),
        _section("Training", _training(run)),
        _section("Results", _results(run)),
        _section("Samples", _samples(run)),
        _section("Limits", _limits(run)),
        _section("Versions", _facts(words.versions(run))),
    )
    return "\n\n".join(section for section in sections if section) + "\n"


def _section(title: str, body: str) -> str:
    return f"## {title}\n\n{body}" if body else ""


def _list(items: Iterable[str]) -> str:
    return "\n".join(f"- {item}" for item in items)


def _facts(rows: Iterable[tuple[str, str]]) -> str:
    return _list(f"{escaped(name)}: {escaped(text)}" for name, text in rows)


def _front_matter(run: Run) -> str:
    came = words.origin(run)
    base = [f"base_model: {yaml_string(came.name)}"] if came and came.kind == "hub" else []
    lines = (
        "---",
        *base,
        "library_name: transformers",
        f"model_name: {yaml_string(run.name)}",
        "pipeline_tag: text-generation",
        "tags:",
        "- gptft",
        "---",
    )
    return "\n".join(lines)


def _model(run: Run) -> str:
    said = [_base(run)]
    if parameters := as_int(run.facts.get("num_parameters")):
        said.append(f"Parameters: {parameters:,}.")
    config = read_json(run.path / "model" / "config.json")
    trained, saved = run.facts.get("dtype"), config.get("dtype")
    if isinstance(saved, str) and isinstance(trained, str) and saved != trained:
        said.append(f"Weights: {escaped(saved)}; trained and measured in {escaped(trained)}.")
    elif isinstance(kept := saved or trained, str):
        said.append(f"Weights: {escaped(kept)}.")
    if isinstance(kind := config.get("model_type"), str):
        said.append(f"Architecture: {code(kind)}.")
    if context := context_length(config):
        said.append(f"Context: {context:,} tokens.")
    if vocab_size := as_int(config.get("vocab_size")):
        said.append(f"Vocabulary: {vocab_size:,} tokens.")
    return _list(item for item in said if item)


def _base(run: Run) -> str:
    came = words.origin(run)
    if came is None:
        return ""
    if came.kind == "new":
        return f"Base model: none, a new {code(came.name)} trained from scratch."
    if came.kind == "hub":
        at = f", revision {code(came.revision)}" if came.revision else ""
        base = f"[{escaped(came.name)}](https://huggingface.co/{came.name}){at}"
    else:
        where = "bundled with gptft" if came.kind == "bundled" else "a model folder"
        base = f"{code(came.name)}, {where}"
    changed = run.section("model").get("config_overrides")
    if isinstance(changed, dict) and changed:
        settings = (f"{code(name)} {code(words.plain(value))}" for name, value in changed.items())
        base += f"; changed in its config: {', '.join(settings)}"
    averaged = run.section("model").get("average_with")
    if isinstance(averaged, list) and averaged:
        names = ", ".join(map(_averaged, averaged))
        base += f"; training began at the mean of its weights and those of {names}"
    return f"Base model: {base}."


def _averaged(model: object) -> str:
    """A model that took part in a mean, and how much it counted where that isn't 1."""
    if not isinstance(model, dict):
        return code(words.model_name(str(model)))
    name, weight = model.get("name"), words.plain(model.get("weight"))
    return f"{code(words.model_name(str(name)))} (weight {weight})"


def _usage(run: Run) -> str:
    prompts = [sample.prompt for sample in run.samples]
    prompt = next((text for text in prompts if text.isprintable() and len(text) <= 100), _PROMPT)
    length = as_int(run.section("generation").get("max_new_tokens")) or _MAX_NEW_TOKENS
    command = f"gptft generate {_PLACEHOLDER} --prompt {shlex.quote(prompt or _PROMPT)}"
    script = f"""\
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{_PLACEHOLDER}")
model = AutoModelForCausalLM.from_pretrained("{_PLACEHOLDER}")
inputs = tokenizer({prompt or _PROMPT!r}, return_tensors="pt")
output = model.generate(**inputs, max_new_tokens={length})
print(tokenizer.decode(output[0], skip_special_tokens=True))"""
    return "\n\n".join(
        (
            f"`{_PLACEHOLDER}` stands for the folder this card is in. With gptft:",
            code_block(command, language="sh"),
            "With transformers alone:",
            code_block(script, language="python"),
        )
    )


def _data(run: Run) -> str:
    said = []
    if ledger := run.ledger:
        said += [escaped(sentence) for sentence in ledger.sentences()]
        said.append(escaped(_account(ledger)))
    if run.store:
        said.append(
            f"Block store: {code(run.store)}. The same text, tokenizer and packing settings give "
            "the same hash."
        )
    return _list(said)


def _account(ledger: Ledger) -> str:
    blocks = f"{ledger.num_blocks:,} blocks of {ledger.block_size:,}"
    parts = [blocks, f"{ledger.tail_tokens:,} in the last block"]
    parts.append(f"{ledger.dropped_tokens:,} dropped")
    parts.append(f"{words.validation_tokens(ledger):,} held out")
    return f"The account: {ledger.tokens:,} tokens + {ledger.num_eos:,} EOS = {' + '.join(parts)}."


def _training(run: Run) -> str:
    settings = words.training_settings(run)
    given = _list(f"{code(name)}: {code(value)}" for name, value in settings)
    intro = "Settings that were given; the others are defaults:"
    parts = [_facts(words.how_trained(run)), *([intro, given] if settings else [])]
    return "\n\n".join(part for part in parts if part)


def _results(run: Run) -> str:
    results = words.results(run)
    if not results:
        return ""
    rows = [
        (
            name,
            words.number(figures.loss_before, decimals=3),
            words.number(figures.loss_after, decimals=3),
            words.number(figures.perplexity_before),
            words.number(figures.perplexity_after),
            f"{figures.num_tokens:,}" if figures.num_tokens is not None else words.NOTHING,
        )
        for name, figures in results
    ]
    header = ("", "loss before", "after", "perplexity before", "after", "tokens measured")
    notes = (words.PERPLEXITY, words.overfitting(run))
    return "\n\n".join([table(header, rows), *(escaped(note) for note in notes if note)])


def _samples(run: Run) -> str:
    samples = run.samples
    parts = []
    if samples and (decoding := words.decoding(run)):
        parts.append(f"Decoding: {code(decoding)}.")
    for number, sample in enumerate(samples[:_MAX_SAMPLES], start=1):
        parts += _sample(number, sample)
    if len(samples) > _MAX_SAMPLES:
        parts.append(f"{len(samples) - _MAX_SAMPLES:,} more prompts are in samples.jsonl.")
    return "\n\n".join(parts)


def _sample(number: int, sample: Sample) -> list[str]:
    (first, before), (last, after) = sample.texts[0], sample.texts[-1]
    parts = [f"### Prompt {number}", code_block(sample.prompt)]
    parts += [f"Continued before training, at step {first:,}:", _continuation(before)]
    if len(sample.texts) > 1:
        parts += [f"Continued after step {last:,}:", _continuation(after)]
    return parts


def _continuation(text: str) -> str:
    return code_block(text) if text else "*(Nothing: the model ended the text at once.)*"


def _limits(run: Run) -> str:
    said = [_memory(run)]
    ledger, held_out = run.ledger, run.validation
    if ledger and not ledger.validation_documents:
        said.append(
            "No text was held out: the figures above say how well it knows its training text, and "
            "nothing of how it does on other text."
        )
    elif held_out and held_out.num_tokens and held_out.num_tokens < _FEW_TOKENS:
        said.append(
            f"The held-out part is small, {held_out.num_tokens:,} tokens: its figures are noisy, "
            "and another draw of documents would give others."
        )
    said.append("Perplexities compare only between models with the same tokenizer.")
    came = words.origin(run)
    if came and came.kind != "new":
        said.append("What its base model can't do, gets wrong or is biased in, this one inherits.")
    said.append("It continues text. It doesn't know whether what it writes is true.")
    return _list(said)


def _memory(run: Run) -> str:
    over = words.passes(run)
    went = f"Training went over {over}. " if over else ""
    return (
        f"{went}A fine-tuned model repeats its training text, in pieces or word for word; whatever "
        "must not come out again must not go in."
    )
