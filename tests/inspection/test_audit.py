"""Each planted fault is found, where it is; a good tokenizer has none."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

from gptft.errors import ModelError
from gptft.files import as_json
from gptft.inspection.audit import Audit, audit_tokenizer
from gptft.inspection.audit_finding import Finding
from gptft.inspection.audit_view import audit_view
from gptft.inspection.chat_template import check_template
from gptft.inspection.round_trip import find_losses
from gptft.tokenization.tokenizer import TextTokenizer, save_tokenizer
from gptft.tokenization.trainers import train_bpe
from tests.conftest import ROOT, SENTENCES
from tests.framed import write_tokenizer
from tests.tokenization.test_gguf import byte_level, write

EOS = "<|endoftext|>"
CHAT = (
    "{% for message in messages %}{{ message['role'] }}: "
    "{% generation %}{{ message['content'] }}{% endgeneration %}{{ eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


class Folder:
    """A model folder whose JSON files can be changed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def edit(self, file: str, change: Callable[[Any], object]) -> None:
        path = self.path / file
        content = json.loads(path.read_text(encoding="utf-8"))
        change(content)
        path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")

    def set(self, file: str, **values: Any) -> None:
        self.edit(file, lambda content: content.update(values))

    def audit(self) -> Audit:
        return audit_tokenizer(str(self.path))


@pytest.fixture(scope="module")
def tokenizer() -> TextTokenizer:
    return train_bpe(iter(SENTENCES * 4), vocab_size=300, min_frequency=2)


@pytest.fixture
def folder(tmp_path: Path, tokenizer: TextTokenizer) -> Folder:
    """A tiny model's files, in good order."""
    path = tmp_path / "model"
    save_tokenizer(tokenizer, path, model_max_length=64)
    config = {"model_type": "gpt2", "vocab_size": 300, "n_positions": 64}
    ids = {"eos_token_id": 0, "bos_token_id": 0}
    for file, content in (("config.json", config | ids), ("generation_config.json", ids)):
        (path / file).write_text(json.dumps(content), encoding="utf-8")
    return Folder(path)


def at(audit: Audit, level: str) -> set[str]:
    return {finding.where for finding in audit.findings if finding.level == level}


def finding(audit: Audit, where: str, level: str) -> Finding:
    (found,) = [f for f in audit.findings if (f.where, f.level) == (where, level)]
    return found


def set_model(content: Any, **values: Any) -> None:
    content["model"].update(values)


def spell_eos(content: Any) -> None:
    """Teach the merges to make EOS out of its letters."""
    content["pre_tokenizer"]["use_regex"] = False
    model = content["model"]
    merges = [[EOS[:n], EOS[n]] for n in range(1, len(EOS))]
    for left, right in merges:
        model["vocab"].setdefault(left + right, len(model["vocab"]))
    model["merges"] = merges + model["merges"]


def add_again(content: Any) -> None:
    content["added_tokens"].append(content["added_tokens"][0] | {"id": 5})


def one_id_for_two(content: Any) -> None:
    vocab = content["model"]["vocab"]
    vocab["!"] = vocab["a"]


TOKENIZER, CONFIG = "tokenizer.json", "config.json"
GENERATION, SETTINGS = "generation_config.json", "tokenizer_config.json"

FAULTS: dict[str, tuple[Callable[[Folder], object], set[str]]] = {
    "EOS missing in the vocabulary": (
        lambda f: f.set(SETTINGS, eos_token="</s>"),
        {f"{SETTINGS}:eos_token", f"{CONFIG}:eos_token_id"}
        - {f"{CONFIG}:eos_token_id"},
    ),
    "EOS as an object, missing": (
        lambda f: f.set(SETTINGS, eos_token={"content": "</s>", "lstrip": False}),
        {f"{SETTINGS}:eos_token"},
    ),
    "BOS missing": (lambda f: f.set(SETTINGS, bos_token="<s>"), {f"{SETTINGS}:bos_token"}),
    "a further token missing": (
        lambda f: f.set(SETTINGS, additional_special_tokens=["<|user|>"]),
        {f"{SETTINGS}:additional_special_tokens"},
    ),
    "EOS named nowhere": (
        lambda f: (
            f.edit(SETTINGS, lambda c: c.pop("eos_token")),
            f.edit(CONFIG, lambda c: c.pop("eos_token_id")),
        ),
        {f"{SETTINGS}:eos_token"},
    ),
    "EOS id not the config's": (
        lambda f: (f.set(CONFIG, eos_token_id=7), f.set(GENERATION, eos_token_id=7)),
        {f"{CONFIG}:eos_token_id", f"{GENERATION}:eos_token_id"},
    ),
    "EOS id not the generation config's": (
        lambda f: f.set(GENERATION, eos_token_id=[7, 8]),
        {f"{GENERATION}:eos_token_id"},
    ),
    "an EOS id of another vocabulary": (
        lambda f: f.set(CONFIG, eos_token_id=50256),
        {f"{CONFIG}:eos_token_id"},
    ),
    "an EOS id beyond what is counted with": (
        lambda f: f.set(CONFIG, eos_token_id=10**30),
        {f"{CONFIG}:eos_token_id"},
    ),
    "BOS id not the config's": (
        lambda f: (f.set(SETTINGS, bos_token=EOS), f.set(CONFIG, bos_token_id=9)),
        {f"{CONFIG}:bos_token_id"},
    ),
    "more tokens than embeddings": (
        lambda f: f.set(CONFIG, vocab_size=290),
        {f"{CONFIG}:vocab_size"},
    ),
    "longer than the model": (
        lambda f: f.set(SETTINGS, model_max_length=1024),
        {f"{SETTINGS}:model_max_length"},
    ),
    "padding nowhere": (
        lambda f: f.set(SETTINGS, padding_side="middle"),
        {f"{SETTINGS}:padding_side"},
    ),
    "no round trip": (
        lambda f: f.set(TOKENIZER, normalizer={"type": "Lowercase"}),
        {TOKENIZER},
    ),
    "no decoder": (lambda f: f.set(TOKENIZER, decoder=None), {TOKENIZER}),
    "EOS that text can forge": (
        lambda f: (f.edit(TOKENIZER, spell_eos), f.set(CONFIG, vocab_size=400)),
        {f"{TOKENIZER}:added_tokens"},
    ),
    "a template that doesn't parse": (
        lambda f: f.set(SETTINGS, chat_template="{% for message in messages %}"),
        {f"{SETTINGS}:chat_template"},
    ),
    "one template of several that doesn't run": (
        lambda f: f.set(
            SETTINGS,
            chat_template=[
                {"name": "default", "template": CHAT},
                {"name": "rag", "template": "{{ messages[9].content.a }}"},
            ],
        ),
        {f"{SETTINGS}:chat_template[rag]"},
    ),
    "a template file that leaves the answer out": (
        lambda f: (f.path / "chat_template.jinja").write_text("{{ messages[0].content }}"),
        {"chat_template.jinja"},
    ),
    "merges of tokens that aren't there": (
        lambda f: f.edit(TOKENIZER, lambda c: c["model"]["merges"].append(["q", "zzz"])),
        {f"{TOKENIZER}:model.merges", TOKENIZER},
    ),
    "merges that break the library": (
        lambda f: f.edit(TOKENIZER, lambda c: set_model(c, continuing_subword_prefix="##")),
        {f"{TOKENIZER}:model.merges", f"{TOKENIZER}:model.continuing_subword_prefix"},
    ),
    "merges dropped at random": (
        lambda f: f.edit(TOKENIZER, lambda c: set_model(c, dropout=0.1)),
        {f"{TOKENIZER}:model.dropout"},
    ),
    "a token added twice": (
        lambda f: f.edit(TOKENIZER, add_again),
        {f"{TOKENIZER}:added_tokens"},
    ),
    "two tokens of one id": (
        lambda f: f.edit(TOKENIZER, one_id_for_two),
        {f"{TOKENIZER}:model.vocab", TOKENIZER},
    ),
    "settings that aren't JSON": (
        lambda f: (f.path / SETTINGS).write_text("{,}"),
        {SETTINGS},
    ),
    "a tokenizer that isn't JSON": (
        lambda f: (f.path / TOKENIZER).write_text("{"),
        {TOKENIZER},
    ),
}  # fmt: skip


def test_a_good_tokenizer_has_no_faults(folder: Folder) -> None:
    audit = folder.audit()
    assert not audit.has_faults, at(audit, "fault")
    assert at(audit, "warning") == {f"{SETTINGS}:pad_token", f"{TOKENIZER}:added_tokens"}
    assert audit.count("ok") > 8


def test_the_bundled_tokenizer_has_no_faults() -> None:
    audit = audit_tokenizer("pico")
    assert not audit.has_faults
    assert at(audit, "warning") == {f"{TOKENIZER}:added_tokens"}
    assert any("gives back all of" in found.what for found in audit.findings)


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found_and_no_other(folder: Folder, name: str) -> None:
    plant, places = FAULTS[name]
    plant(folder)
    audit = folder.audit()
    assert at(audit, "fault") == places
    assert audit.findings[0].level == "fault"
    assert all(f.what and f.do for f in audit.findings if f.level != "ok")


WARNINGS: dict[str, tuple[Callable[[Folder], object], str]] = {
    "padding on the right": (
        lambda f: f.set(SETTINGS, padding_side="right"),
        f"{SETTINGS}:padding_side",
    ),
    "no length": (
        lambda f: f.edit(SETTINGS, lambda c: c.pop("model_max_length")),
        f"{SETTINGS}:model_max_length",
    ),
    "a length without end": (
        lambda f: f.set(SETTINGS, model_max_length=int(1e30)),
        f"{SETTINGS}:model_max_length",
    ),
    "a short length": (
        lambda f: f.set(SETTINGS, model_max_length=32),
        f"{SETTINGS}:model_max_length",
    ),
    "decoding cleans up": (
        lambda f: f.set(SETTINGS, clean_up_tokenization_spaces=True),
        f"{SETTINGS}:clean_up_tokenization_spaces",
    ),
    "a space in front": (
        lambda f: f.edit(TOKENIZER, lambda c: c["pre_tokenizer"].update(add_prefix_space=True)),
        f"{TOKENIZER}:pre_tokenizer.add_prefix_space",
    ),
    "a space in front, for AutoTokenizer": (
        lambda f: f.set(SETTINGS, add_prefix_space=True),
        f"{SETTINGS}:add_prefix_space",
    ),
    "letters and accents joined": (
        lambda f: f.set(TOKENIZER, normalizer={"type": "NFC"}),
        f"{TOKENIZER}:normalizer",
    ),
    "texts cut": (
        lambda f: f.set(
            TOKENIZER,
            truncation={
                "direction": "Right",
                "max_length": 8,
                "strategy": "LongestFirst",
                "stride": 0,
            },
        ),
        f"{TOKENIZER}:truncation",
    ),
    "PAD id not the tokenizer's": (
        lambda f: (f.set(SETTINGS, pad_token=EOS), f.set(CONFIG, pad_token_id=3)),
        f"{CONFIG}:pad_token_id",
    ),
    "embeddings without tokens": (
        lambda f: f.set(CONFIG, vocab_size=50257),
        f"{CONFIG}:vocab_size",
    ),
    "EOS by its id alone": (
        lambda f: f.edit(SETTINGS, lambda c: c.pop("eos_token")),
        f"{SETTINGS}:eos_token",
    ),
    "a config overruled": (
        lambda f: f.set(CONFIG, eos_token_id=7),
        f"{CONFIG}:eos_token_id",
    ),
    "a template of another model": (
        lambda f: f.set(SETTINGS, chat_template=CHAT + "<|im_end|>"),
        f"{SETTINGS}:chat_template",
    ),
    "a merge twice": (
        lambda f: f.edit(TOKENIZER, lambda c: c["model"]["merges"].append(c["model"]["merges"][0])),
        f"{TOKENIZER}:model.merges",
    ),
    "files that differ": (
        lambda f: (f.path / "special_tokens_map.json").write_text('{"eos_token": "a"}'),
        f"{SETTINGS}:eos_token",
    ),
}


@pytest.mark.parametrize("name", WARNINGS)
def test_what_may_go_wrong_is_a_warning(folder: Folder, name: str) -> None:
    plant, place = WARNINGS[name]
    assert place not in at(folder.audit(), "warning")
    plant(folder)
    audit = folder.audit()
    assert place in at(audit, "warning")
    assert not audit.has_faults
    assert all(f.what and f.do for f in audit.findings if f.level != "ok")


def test_what_is_in_order_is_said(folder: Folder) -> None:
    folder.set(SETTINGS, padding_side="left", chat_template=CHAT, pad_token=EOS)
    audit = folder.audit()
    assert finding(audit, f"{SETTINGS}:padding_side", "ok").what.startswith("Prompts are padded")
    assert "works" in finding(audit, f"{SETTINGS}:chat_template", "ok").what
    assert at(audit, "warning") == {f"{TOKENIZER}:added_tokens"}


def test_an_id_twice_in_the_text_of_the_file(folder: Folder) -> None:
    path = folder.path / TOKENIZER
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace('"!":', '"!":1,"!":', 1), encoding="utf-8")
    found = finding(folder.audit(), f"{TOKENIZER}:model.vocab", "fault")
    assert "twice: !" in found.what


def test_an_added_token_twice_and_under_a_wrong_id(folder: Folder) -> None:
    folder.edit(TOKENIZER, add_again)
    audit = folder.audit()
    found = [f.what for f in audit.findings if f.level == "fault"]
    assert f"Tokens are added twice: {EOS}." in found
    assert any(f"{EOS} is written as id 5, which is" in what for what in found)
    assert any("the library gives it 0" in what for what in found)


def test_the_messages_hold_the_numbers(folder: Folder) -> None:
    folder.set(CONFIG, vocab_size=298, eos_token_id=7)
    folder.edit(GENERATION, lambda c: c.pop("eos_token_id"))
    folder.set(SETTINGS, model_max_length=1024)
    audit = folder.audit()
    beyond = finding(audit, f"{CONFIG}:vocab_size", "fault").what
    assert "2 tokens have no embedding: the model knows 298 ids" in beyond
    assert "(298)" in beyond
    assert "(299)" in beyond
    assert finding(audit, f"{CONFIG}:eos_token_id", "fault").do == "Write 0."
    length = finding(audit, f"{SETTINGS}:model_max_length", "fault").what
    assert "1,024" in length
    assert "64" in length
    folder.set(CONFIG, vocab_size=299)
    beyond = finding(folder.audit(), f"{CONFIG}:vocab_size", "fault").what
    assert "1 token has no embedding: the model knows 299 ids" in beyond


def test_a_lost_text_is_shown(folder: Folder) -> None:
    folder.set(
        TOKENIZER,
        normalizer={
            "type": "Sequence",
            "normalizers": [{"type": "NFC"}, {"type": "Lowercase"}, {"type": "StripAccents"}],
        },
    )
    audit = folder.audit()
    lost = finding(audit, TOKENIZER, "fault").what
    assert "capitals" in lost
    assert "T comes back as t." in lost
    named = finding(audit, f"{TOKENIZER}:normalizer", "warning").what
    assert named == (
        "Before it encodes a text the tokenizer joins letters with their accents (NFC); makes "
        "letters lower case; takes accents off."
    )


def test_a_vocabulary_without_a_token_for_unknown_text(tmp_path: Path) -> None:
    backend = Tokenizer(models.WordLevel({"a": 0, "b": 1}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.save(str(tmp_path / TOKENIZER))
    (what,) = [f.what for f in audit_tokenizer(str(tmp_path)).findings if f.where == TOKENIZER]
    assert "can't encode this text: WordLevel error: Missing [UNK] token" in what


def test_a_word_level_tokenizer_is_forged(tmp_path: Path) -> None:
    vocab = {"[UNK]": 0, "</s>": 1, "a": 2, "b": 3}
    backend = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.save(str(tmp_path / TOKENIZER))
    settings = {"eos_token": "</s>", "unk_token": "[UNK]"}
    (tmp_path / SETTINGS).write_text(json.dumps(settings))
    audit = audit_tokenizer(str(tmp_path))
    assert at(audit, "fault") == {TOKENIZER, f"{TOKENIZER}:added_tokens"}
    assert "</s>" in finding(audit, f"{TOKENIZER}:added_tokens", "fault").what


def test_sentencepiece_loses_its_mark_alone(tmp_path: Path) -> None:
    entries = ["<unk>", "</s>", "▁", *(f"<0x{byte:02X}>" for byte in range(256))]
    vocab = {entry: number for number, entry in enumerate(entries)}
    backend = Tokenizer(models.BPE(vocab, [], unk_token="<unk>", byte_fallback=True))
    marks = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    backend.normalizer = normalizers.Sequence(marks)
    from_mark = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    backend.decoder = decoders.Sequence([*from_mark, decoders.Strip(" ", 1, 0)])
    backend.add_special_tokens(["</s>"])
    backend.save(str(tmp_path / TOKENIZER))
    (tmp_path / SETTINGS).write_text('{"eos_token": "</s>", "unk_token": "<unk>"}')
    audit = audit_tokenizer(str(tmp_path))
    assert not audit.has_faults
    assert "▁ comes back as ·." in finding(audit, TOKENIZER, "warning").what


def test_the_texts_are_always_the_same(tokenizer: TextTokenizer) -> None:
    assert find_losses(tokenizer) == find_losses(tokenizer)
    losses, num_tried = find_losses(tokenizer)
    assert not losses
    assert num_tried > 400


@pytest.mark.parametrize(
    "source",
    [
        "{{ 'a' * 10**9 }}",
        "{{ ''.__class__.__mro__ }}",
        "{% for i in range(10**9) %}x{% endfor %}",
        "{{ raise_exception('no') }}",
        "{% include 'x' %}",
    ],
)
def test_a_template_that_means_harm_is_refused(source: str) -> None:
    check = check_template(source, special_tokens={})
    assert check.problems[0].startswith("it fails")


def test_templates_have_what_transformers_gives_them() -> None:
    source = (
        "{{ bos_token }}{%- for m in messages %}{% if loop.index > 9 %}{% break %}{% endif %}"
        "{{ m | tojson(indent=2) }}{{ '-' * 3 }}{{ strftime_now('%Y') }}<|end|>{% endfor %}"
    )
    check = check_template(source, special_tokens={"bos_token": "<s>"})
    assert check.problems == ()
    assert check.marks == ("<s>", "<|end|>")


def test_a_lone_file_and_a_folder_of_vocab_and_merges(folder: Folder, tmp_path: Path) -> None:
    assert not audit_tokenizer(str(folder.path / TOKENIZER)).has_faults
    model = json.loads((folder.path / TOKENIZER).read_text(encoding="utf-8"))["model"]
    old = tmp_path / "old"
    old.mkdir()
    (old / "vocab.json").write_text(json.dumps(model["vocab"]), encoding="utf-8")
    merges = "\n".join(" ".join(pair) for pair in model["merges"])
    (old / "merges.txt").write_text(f"#version: 0.2\n{merges}\n", encoding="utf-8")
    (old / SETTINGS).write_text(json.dumps({"eos_token": EOS}))
    assert not audit_tokenizer(str(old)).has_faults


def test_a_gguf_file_is_its_only_place(tmp_path: Path) -> None:
    content = json.loads((ROOT / "gptft/models/pico/tokenizer.json").read_text(encoding="utf-8"))
    path = write(tmp_path / "a.gguf", byte_level(content["model"]))
    audit = audit_tokenizer(str(path))
    assert not audit.has_faults
    assert {f.where.partition(":")[0] for f in audit.findings} == {"a.gguf"}
    assert at(audit, "warning") == {"a.gguf:added_tokens"}
    assert finding(audit, "a.gguf:eos_token", "ok").what == f"eos_token is {EOS}, id 0."


def test_no_model_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        audit_tokenizer(str(tmp_path))
    with pytest.raises(ModelError):
        audit_tokenizer(str(tmp_path / "none" / "such" / "model"))


GARBAGE: list[Any] = [None, 1, "x", [], {}, [1], [[]], {"a": []}, {"type": "x"}, [["a", "b", "c"]]]


def test_garbage_never_ends_in_a_traceback(folder: Folder) -> None:
    whole = json.loads((folder.path / TOKENIZER).read_text(encoding="utf-8"))
    settings = json.loads((folder.path / SETTINGS).read_text(encoding="utf-8"))
    for value in GARBAGE:
        broken = [whole | {key: value} for key in whole]
        broken += [whole | {"model": whole["model"] | {key: value}} for key in whole["model"]]
        for content in broken:
            (folder.path / TOKENIZER).write_text(json.dumps(content))
            drawn(folder.audit(), width=None)
    (folder.path / TOKENIZER).write_text(json.dumps(whole))
    names = ["eos_token", "extra_special_tokens", "model_max_length", "padding_side"]
    for value in [*GARBAGE, "\x1b[31m", "\ud800"]:
        for key in [*names, "chat_template", "add_prefix_space"]:
            (folder.path / SETTINGS).write_text(json.dumps(settings | {key: value}))
            shown = drawn(folder.audit(), width=60)
            assert "\x1b" not in shown
            shown.encode()


def drawn(audit: Audit, *, width: int | None) -> str:
    console = Console(
        file=io.StringIO(),
        width=width or 100_000,
        force_terminal=bool(width),
        color_system=None,
    )
    console.print(audit_view(audit))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_off_a_terminal_a_line_is_a_finding(folder: Folder) -> None:
    folder.set(SETTINGS, padding_side="right")
    audit = folder.audit()
    lines = drawn(audit, width=None).splitlines()
    assert len(lines) == len(audit.findings) + 1
    assert all(line.count("\t") == 3 for line in lines[:-1])
    assert lines[-1] == f"# 0 faults, 3 warnings, {audit.count('ok')} ok"


@pytest.mark.parametrize("width", [40, 100])
def test_on_a_terminal_it_fits(folder: Folder, width: int) -> None:
    folder.set(SETTINGS, eos_token="東京" * 30 + "\x1b[31m[red]", chat_template="{% for")
    shown = drawn(folder.audit(), width=width)
    assert all(cell_len(line) <= width for line in shown.splitlines())
    assert "\x1b" not in shown
    assert "fault" in shown


def test_json_holds_all(folder: Folder) -> None:
    folder.set(CONFIG, vocab_size=10)
    values = as_json(folder.audit())
    assert json.loads(json.dumps(values)) == values
    assert (values["faults"], values["findings"][0]["level"]) == (1, "fault")
    assert set(values["findings"][0]) == {"level", "what", "where", "do"}


@pytest.mark.parametrize(("template", "what"), [("</s> $A", "</s>"), (None, "nothing")])
def test_what_stands_before_a_text_where_no_bos_is_named(
    template: str | None, what: str, tmp_path: Path
) -> None:
    folder = write_tokenizer(tmp_path, template, bos_token=None)
    found = finding(audit_tokenizer(str(folder)), f"{SETTINGS}:bos_token", "ok")
    assert found.what == f"No bos_token: {what} is put in front of a text."
