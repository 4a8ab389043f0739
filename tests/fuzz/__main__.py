"""`python -m tests.fuzz`: the command line under generated configs, runs and models.

Of each command only this is asked: it ends with 0, 1, 2 or 128 and a signal's number, without a
traceback, with no message over 2,000 characters, and changes no file but those it was to write.
"""

import argparse
import hashlib
import json
import os
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import SENTENCES
from tests.faults.__main__ import QUIET
from tests.faults.harness import fork, import_all
from tests.fuzz.cases import Case, make_case

_FOLDER = "GPTFT_FUZZ_FOLDER"
_LONGEST_MESSAGE = 2_000
_PATIENCE = 6.0  # seconds a command may take before it is asked to end
_GRACE = 20.0  # seconds that it may take to end then
_MEMORY = 12 * 2**30
_TEMPLATE = (
    "{% for m in messages %}{{ m.role }}: {% if m.role == 'assistant' %}{% generation %}"
    "{{ m.content }}{{ eos_token }}{% endgeneration %}{% else %}{{ m.content }}{{ eos_token }}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
)
_CONFIG = """\
model:
  name: model
data:
  train: texts
  block_size: 16
training:
  output_dir: runs/x
  max_steps: 2
  per_device_train_batch_size: 2
  logging_steps: 1
  save_strategy: steps
  save_steps: 1
  use_cpu: true
  report_to: none
samples:
  prompts: [Буря]
  steps: 1
generation:
  max_new_tokens: 4
"""


def main() -> int:
    """Start again without threads, in an environment of its own, and try all there."""
    args = _arguments()
    if _FOLDER in os.environ:
        return _try_all(args)
    with tempfile.TemporaryDirectory(prefix="gptft-fuzz-") as name:
        own = {_FOLDER: name, "GPTFT_CACHE": f"{name}/cache", "HOME": f"{name}/home"}
        words = [sys.executable, "-m", "tests.fuzz", *sys.argv[1:]]
        return subprocess.run(words, env={**os.environ, **QUIET, **own}).returncode


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--first", type=int, default=0, help="the number of the first case")
    parser.add_argument("--tell", action="store_true", help="show what each case said")
    parser.add_argument("--case", type=int, help="this one alone, with all that it says")
    return parser.parse_args()


def _try_all(args: argparse.Namespace) -> int:
    folder = Path(os.environ[_FOLDER])
    import_all()
    base = _make_base(folder)
    if args.case is not None:
        wrong, said = _try(args.case, base=base, folder=folder, tell=True)
        print(said, *wrong, sep="\n")
        return int(bool(wrong))
    ended = time.monotonic() + args.seconds
    number, failed = args.first, 0
    codes: Counter[tuple[str, int]] = Counter()
    while time.monotonic() < ended:
        wrong, said = _try(number, base=base, folder=folder, codes=codes)
        if args.tell:
            print(f"case {number}: {said[:600]}", flush=True)
        if wrong:
            failed += 1
            print(f"case {number}: {'; '.join(wrong)}\n{said[-3_000:]}\n", flush=True)
        number += 1
    for name in sorted({name for name, _ in codes}):
        found = [f"{code}: {n}" for (one, code), n in sorted(codes.items()) if one == name]
        print(f"{name}: exit codes {', '.join(found)}")
    print(f"{number - args.first} cases, {failed} wrong.")
    return int(failed > 0)


def _make_base(folder: Path) -> Path:
    """A folder with a config, texts, a tiny model and a finished run of it."""
    base = folder / "base"
    made = fork(lambda: _write_base(base), folder / "base.log")  # saving starts threads
    code, said = _run(Case(("train", "run.yaml"), is_long=True), base, folder / "log")
    if made.code or code:
        raise RuntimeError(f"the run that all begin with failed with {code}:\n{made.said}{said}")
    return base


def _write_base(base: Path) -> int:
    from transformers import GPT2Config, GPT2LMHeadModel

    from gptft.tokenization.tokenizer import save_tokenizer
    from gptft.tokenization.trainers import train_bpe

    (base / "texts").mkdir(parents=True)
    (base.parent / "home").mkdir()
    for number, sentence in enumerate(SENTENCES):
        text = "\n".join([sentence] * 8)
        (base / "texts" / f"{number}.txt").write_text(text, encoding="utf-8")
    tokenizer = train_bpe(iter(SENTENCES * 4), vocab_size=300, min_frequency=2)
    save_tokenizer(tokenizer, base / "model", model_max_length=256)
    config = GPT2Config(
        vocab_size=tokenizer.vocab_size, n_layer=1, n_head=2, n_embd=16, n_positions=256,
        eos_token_id=0, bos_token_id=0,
    )  # fmt: skip
    GPT2LMHeadModel(config).save_pretrained(base / "model")
    (base / "config.yaml").write_text(_CONFIG, encoding="utf-8")
    (base / "run.yaml").write_text(_CONFIG.replace("runs/x", "run"), encoding="utf-8")
    (base / "chats.jsonl").write_text("\n".join(map(_chat, SENTENCES)), encoding="utf-8")
    (base / "template.jinja").write_text(_TEMPLATE, encoding="utf-8")
    prompts = '{"prompt": "Буря"}\n{"prompt": "The cat"}\n'
    (base / "prompts.jsonl").write_text(prompts, encoding="utf-8")
    return 0


def _chat(sentence: str) -> str:
    """A line with a conversation about a sentence."""
    messages = [
        {"role": "user", "content": sentence[:10]},
        {"role": "assistant", "content": sentence},
    ]
    return json.dumps({"messages": messages}, ensure_ascii=False)


def _try(
    number: int,
    *,
    base: Path,
    folder: Path,
    codes: Counter[tuple[str, int]] | None = None,
    tell: bool = False,
) -> tuple[list[str], str]:
    """What is wrong with one case, and all that it said."""
    place = folder / "case"
    shutil.rmtree(place, ignore_errors=True)
    case = make_case(number, base=base, folder=place)
    if tell:
        print(f"gptft {shlex.join(case.words)}")
        print((place / "config.yaml").read_bytes().decode(errors="replace"))
    before = dict(_listing(place))
    code, said = _run(case, place, folder / "log")
    if codes is not None and code is not None:
        codes[case.words[0], code] += 1
    wrong = list(_wrong(case, code, said))
    after = dict(_listing(place))
    changed = {name for name in {*before, *after} if before.get(name) != after.get(name)}
    # A word of the command line may be the name of an output.
    named = {*case.outputs, *(word.split("=")[-1] for word in case.words)}
    strays = [name for name in sorted(changed) if not _is_below(name, named)]
    if strays:
        wrong.append(f"changed {', '.join(strays[:5])}")
    return wrong, f"gptft {shlex.join(case.words)}\n{said}"


def _is_below(name: str, outputs: set[str]) -> bool:
    own = {Path(one).parts[:1] for one in outputs if one and not one.startswith(("/", "~", ".."))}
    return Path(name).parts[:1] in own or Path(name).parts[:1] == ("runs",)


def _wrong(case: Case, code: int | None, said: str) -> Iterator[str]:
    """Broken promises."""
    if code is None:
        yield "didn't end"
    elif code < 0:
        yield f"died of {signal.Signals(-code).name}"
    elif code == 128 + signal.SIGTERM and not case.is_long:
        yield f"took over {_PATIENCE:.0f} s"
    elif code not in (0, 1, 2) and not 128 < code < 128 + 65:
        yield f"exit code {code}"
    for sign in ("Traceback (most recent call last)", "panicked at", "Fatal Python error"):
        if sign in said:
            yield sign
    if (longest := max(map(len, said.splitlines()), default=0)) > _LONGEST_MESSAGE:
        yield f"a line of {longest:,} characters"
    was_told_to_end = code == 128 + signal.SIGTERM and case.is_long
    if code not in (0, None) and not said.strip() and not was_told_to_end:
        yield "not a word"


def _listing(folder: Path) -> Iterator[tuple[str, str]]:
    """Each path below a folder, with what is there."""
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            yield name, f"-> {os.readlink(path)}"
        elif path.is_file():
            yield name, hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            yield name, "other"


def _run(case: Case, place: Path, log: Path) -> tuple[int | None, str]:
    """The exit code of a command run in a fork, None where it didn't end, and what it said."""
    errors, output = log.with_suffix(".err"), log.with_suffix(".out")
    pid = os.fork()
    if pid == 0:
        _be_command(case, place, errors, output)
    code = _wait(pid, seconds=_PATIENCE)
    if code is None:
        os.kill(pid, signal.SIGTERM)
        code = _wait(pid, seconds=_GRACE)
        if code == -signal.SIGTERM:  # it ended as the shell's 143, before it could say so
            code = 128 + signal.SIGTERM
    if code is None:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    said = errors.read_text(encoding="utf-8", errors="replace")
    out = output.read_text(encoding="utf-8", errors="replace")
    if code and not said:  # the help that stands for a missing word is a result
        said = "help\n" if out.strip() else ""
    return code, said + out if "Traceback" in out else said


def _wait(pid: int, *, seconds: float) -> int | None:
    ended = time.monotonic() + seconds
    while time.monotonic() < ended:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    return None


def _be_command(case: Case, place: Path, errors: Path, output: Path) -> None:
    """Run the command line in this process, and end it."""
    code = 70
    try:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.chdir(place)
        for number, name in ((0, Path(os.devnull)), (1, output), (2, errors)):
            flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
            os.dup2(os.open(name, flags, 0o644), number)
        from gptft.cli import main as command_line

        sys.argv[:] = ["gptft", *case.words]
        command_line()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except OSError:
                code = code or 1
        os._exit(code)


if __name__ == "__main__":
    sys.exit(main())
