"""A finished run -> model/README.md, a model card as Hugging Face has them.

It names no path of the machine and no secret, for a card is made to be published. Form:
https://huggingface.co/docs/hub/model-cards; sections after Mitchell et al. 2019, "Model Cards for
Model Reporting".
"""

import shlex
from pathlib import Path

from gptft.errors import RunError
from gptft.files import write_output
from gptft.models.model_files import ModelFiles, context_length
from gptft.models.source import is_hub_id, short_name
from gptft.report.facts import origin
from gptft.report.language import Words
from gptft.report.render import render
from gptft.runs.model_folder import ADAPTER, MODEL, model_folder
from gptft.runs.read import Run, as_int, read_run
from gptft.runs.recital import recital_of

_PLACEHOLDER = "path/to/model"  # in the examples: a card doesn't know where it will be read
_BASE_PLACEHOLDER = "path/to/base"
_PROMPT = "Once upon a time"  # in the examples, where the run has no short prompt of its own
_MAX_NEW_TOKENS = 60
_FEW_TOKENS = 10_000  # a held-out part below this is called small


def write_model_card(run_dir: Path) -> Path:
    """Write README.md beside a run's model; an earlier card is replaced.

    Returns:
        the card's path.

    Raises:
        RunError: this isn't a run, it has no model, or the card can't be written.
    """
    run = read_run(run_dir)
    model_dir = run_dir / model_folder(run.facts)
    if not model_dir.is_dir():
        raise RunError(
            f"{run_dir} has no finished model: {model_dir} is missing. Train it to the end first."
        )
    path = model_dir / "README.md"
    write_output(path, model_card(run))
    return path


def model_card(run: Run, *, model_dir: Path | None = None, scale: float = 1.0) -> str:
    """The card's text; the same for the same run.

    Args:
        run: a finished one.
        model_dir: where its adapter was merged into its base; None for the run's own model.
        scale: of the adapter in that model.
    """
    config = ModelFiles(run.name, model_dir or run.path / MODEL).config
    is_adapter = model_dir is None and model_folder(run.facts) == ADAPTER
    command, script = _examples(run, is_adapter=is_adapter)
    held_out = run.validation
    return render(
        "model_card.md.j2",
        run=run,
        w=Words.of("en", "report"),
        num_parameters=as_int(run.facts.get("num_parameters")),
        weights=_weights(run.facts.get("dtype"), config.get("dtype")),
        architecture=config.get("model_type"),
        context=context_length(config),
        vocab_size=as_int(config.get("vocab_size")),
        placeholder=_PLACEHOLDER,
        command=command,
        script=script,
        is_adapter=is_adapter,
        scale=scale,
        is_small=held_out and held_out.num_tokens and held_out.num_tokens < _FEW_TOKENS,
    )


def _weights(trained: object, saved: object) -> str:
    """The dtype of the saved weights, and of those trained where it is another."""
    if isinstance(saved, str) and isinstance(trained, str) and saved != trained:
        return f"{saved}; trained and measured in {trained}"
    return str(saved or trained or "")


def _examples(run: Run, *, is_adapter: bool) -> tuple[str, str]:
    """A command and a Python script that continue a prompt of the run."""
    recital = recital_of(run.facts)
    prompts = [sample.prompt for sample in run.samples]
    prompts += [text.prompt for text in recital.texts] if recital else []
    short = (text for text in prompts if text.isprintable() and len(text) <= 100)
    prompt = next(short, _PROMPT) or _PROMPT
    length = as_int(run.section("generation").get("max_new_tokens")) or _MAX_NEW_TOKENS
    command = f"gptft generate {_PLACEHOLDER} --prompt {shlex.quote(prompt)}"
    if is_adapter:
        return command, _adapter_script(run, prompt, length)
    script = f"""\
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{_PLACEHOLDER}")
model = AutoModelForCausalLM.from_pretrained("{_PLACEHOLDER}")
inputs = tokenizer({prompt!r}, return_tensors="pt")
output = model.generate(**inputs, max_new_tokens={length})
print(tokenizer.decode(output[0], skip_special_tokens=True))"""
    return command, script


def _adapter_script(run: Run, prompt: str, length: int) -> str:
    """As `_examples`, for an adapter, which goes onto its base."""
    came = origin(run)
    base = came.on_hub if came is not None and came.on_hub else _BASE_PLACEHOLDER
    own = run.section("tokenizer")
    grows = any(own.get(name) for name in ("name", "add_tokens", "special_tokens"))
    grown = "\nmodel.resize_token_embeddings(len(tokenizer))" if grows else ""
    return f"""\
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{_PLACEHOLDER}")
model = AutoModelForCausalLM.from_pretrained("{base}", dtype=torch.float32){grown}
model = PeftModel.from_pretrained(model, "{_PLACEHOLDER}")
inputs = tokenizer({prompt!r}, return_tensors="pt")
output = model.generate(**inputs, max_new_tokens={length})
print(tokenizer.decode(output[0], skip_special_tokens=True))"""


def merged_card(name: str, *, kind: str, base: str, scale: float, model_dir: Path) -> str:
    """The card of an adapter merged into its base, where no run says more.

    Args:
        name: the adapter's.
        kind: LoRA, rank 8, say.
        base: how the adapter names its base.
        scale: of the adapter.
        model_dir: the merged model's folder.
    """
    config = ModelFiles(name, model_dir).config
    return render(
        "merged_card.md.j2",
        name=short_name(name),
        kind=kind,
        base=base if is_hub_id(base) else short_name(base),
        on_hub=is_hub_id(base),
        scale=scale,
        architecture=config.get("model_type"),
        placeholder=_PLACEHOLDER,
    )
