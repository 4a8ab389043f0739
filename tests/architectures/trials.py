"""A tiny model's folder -> whether gptft trains it, resumes it and keeps its best weights.

Every run is the real command line in a fork; see `tests.faults.harness`.
"""

import json
import re
import shutil
import signal
from pathlib import Path

import yaml
from safetensors import safe_open

from tests.architectures import stock
from tests.architectures.models import UNLIKE, save_tiny_model
from tests.conftest import SENTENCES
from tests.faults import harness
from tests.faults.harness import Trial

_STEPS, _EVERY, _KILLED_AFTER = 6, 2, 4
_RATES = (0.2, 0.05, 0.5)  # one at which the loss rises again, or the last weights are the best
_CONFIG = f"""\
data: {{train: TEXTS/train.txt, validation: [TEXTS/validation.txt], block_size: 32}}
training:
  max_steps: {_STEPS}
  per_device_train_batch_size: 2
  learning_rate: RATE
  warmup_steps: 6
  save_strategy: steps
  save_steps: {_EVERY}
  eval_strategy: steps
  eval_steps: {_EVERY}
  load_best_model_at_end: true
  logging_steps: 1
  use_cpu: true
  seed: 7
"""


def try_architecture(model_type: str, folder: Path) -> Trial:
    """Train a tiny model; if it must be made causal, see it refused, and then that trained too."""
    tried = _try(model_type, folder / "stored", changes="")
    if changes := re.search(r"Set model\.config_overrides: ({.*?})", tried.note):
        changed = _try(model_type, folder / "changed", changes=changes[1])
        tried.note = f"refused; with `model.config_overrides: {changes[1]}`: {changed.note}"
        tried.cells = changed.cells
        tried.broken += changed.broken
    shutil.rmtree(folder, ignore_errors=True)
    return tried


def _try(model_type: str, folder: Path, *, changes: str) -> Trial:
    lab = harness.Lab(folder)
    folder.mkdir(parents=True)
    made = harness.fork(lambda: _save(model_type, folder / "base"), folder / "made.log")
    if made.code:
        why = harness.last_line(made.said)
        return Trial(model_type, [f"can't be built: {why}"], note="not built")
    _write_texts(folder)
    overrides = f", config_overrides: {changes}" if changes else ""
    base = f"model: {{name: '{folder / 'base'}'{overrides}}}\n"
    for rate in _RATES:
        shutil.rmtree(lab.reference, ignore_errors=True)
        config = _CONFIG.replace("TEXTS", str(folder)).replace("RATE", str(rate))
        lab.config.write_text(base + config, encoding="utf-8")
        ended = harness.run(lab, lab.reference)
        if ended.code:
            return _refused(model_type, lab, ended)
        if _best_step(lab.reference) != _STEPS:
            break
    alike = model_type not in UNLIKE
    differs, cells = _agreement(model_type, lab, changes)
    broken = _killed_and_resumed(lab, alike=alike) + _best_weights(lab.reference) + differs
    cells["resumed"] = "=" if alike else UNLIKE[model_type]
    return Trial(model_type, broken, note="trained", cells=cells)


def _save(model_type: str, folder: Path) -> int:
    save_tiny_model(model_type, folder)
    return 0


def _write_texts(folder: Path) -> None:
    """Letters of two alphabets: learning one makes the other worse, so that the best is early."""
    letters = "".join(filter(str.isalpha, "".join(SENTENCES)))
    russian, english = (
        "".join(c for c in letters if c.isascii() is ascii) for ascii in (False, True)
    )
    (folder / "train.txt").write_text(russian, encoding="utf-8")
    (folder / "validation.txt").write_text(english * 2, encoding="utf-8")


def _refused(model_type: str, lab: harness.Lab, ended: harness.Ended) -> Trial:
    """What a run said that did not train: one line, before anything was written, is right."""
    said = [
        line.partition("error:")[2].strip() for line in ended.said.splitlines() if "error:" in line
    ]
    why = said[0] if said else harness.last_line(ended.said)
    why = re.sub(rf"{re.escape(str(lab.config))}:\d+:\d+  ", "", why)
    why = why.replace(str(lab.folder / "base"), "base")
    reasons = ("isn't causal", "no causal language model of that type", "would be lost")
    known = any(reason in why for reason in reasons)
    right = known and len(said) == 1 and ended.code in (1, 2) and not lab.reference.exists()
    broken = [] if right else [f"exit code {ended.code}"]
    return Trial(model_type, broken, note=f"refused: {why}")


def _killed_and_resumed(lab: harness.Lab, *, alike: bool) -> list[str]:
    """How a run that is killed after a save and resumed differs from the uninterrupted one."""
    killed = lab.folder / "killed"
    ended = harness.run(lab, killed, before=lambda: harness.kill_after_save(_KILLED_AFTER))
    if ended.code != -signal.SIGKILL:
        return [f"wasn't killed: {ended.code}, {harness.last_line(ended.said)}"]
    if not alike:
        ended = harness.run(lab, killed, "--resume")
        return [harness.last_line(ended.said)] if ended.code else _best_weights(killed)
    if wrong := harness.finish(lab, killed):
        return wrong
    last = f"checkpoints/checkpoint-{_STEPS}"  # the best weights may be of an earlier step
    return _differences(killed / last, lab.reference / last)


def _best_step(run_dir: Path) -> int:
    """The step with the lowest validation loss."""
    rows = map(json.loads, (run_dir / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    losses = {row["step"]: row["eval_loss"] for row in rows if "eval_loss" in row}
    return int(min(losses, key=lambda step: losses[step]))


def _best_weights(run_dir: Path) -> list[str]:
    """How the model that was kept differs from the checkpoint with the lowest validation loss."""
    if (best := _best_step(run_dir)) == _STEPS:
        return ["the last weights are the best at every rate, so that nothing was tried"]
    return _differences(run_dir / "model", run_dir / "checkpoints" / f"checkpoint-{best}")


def _differences(folder: Path, other: Path) -> list[str]:
    """The tensors in which two model folders differ."""
    ours, theirs = _tensors(folder), _tensors(other)
    lost = ours.keys() ^ theirs.keys()
    lost |= {name for name in ours.keys() & theirs if ours[name] != theirs[name]}
    names = ", ".join(sorted(lost)[:3])
    return [f"{folder.name} differs from {other.name} in {len(lost)}: {names}"] if lost else []


def _tensors(folder: Path) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """The dtype, the shape and the bytes of each stored tensor."""
    found = {}
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="numpy") as file:
            for name in file.keys():  # noqa: SIM118 (it isn't a mapping)
                tensor = file.get_tensor(name)
                found[name] = (str(tensor.dtype), tensor.shape, tensor.tobytes())
    return found


def _agreement(model_type: str, lab: harness.Lab, changes: str) -> tuple[list[str], dict[str, str]]:
    """How gptft and stock transformers differ, and what the table says of it, by column."""
    out = lab.folder / "stock.json"

    def compare() -> int:
        fields = yaml.safe_load(changes) if changes else {}
        found = stock.differences(model_type, lab.folder / "base", lab.reference, changes=fields)
        out.write_text(json.dumps(found), encoding="utf-8")
        return 0

    ended = harness.fork(compare, lab.folder / "stock.log")
    if ended.code:
        return [f"the comparison with stock failed: {harness.last_line(ended.said)}"], {}
    found = json.loads(out.read_text(encoding="utf-8"))
    cells = dict.fromkeys(found, "=")
    if model_type in stock.NO_LOSS:
        cells["loss"] = stock.NO_LOSS[model_type]
    return [f"{column}: {why}" for column, all_ in found.items() for why in all_], cells
