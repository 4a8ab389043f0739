"""Text of GBNF grammars, on random models with every kind of vocabulary; parsers check it."""

import ast
import importlib.util
import json
import re

import pytest
import torch

from gptft.decoding.engine import generate
from gptft.decoding.loaded_model import LoadedModel
from gptft.decoding.settings import resolve_settings
from gptft.decoding.special_tokens import SpecialTokens
from gptft.errors import ConfigError
from tests.decoding.test_json_schema import loaded  # noqa: F401

SUM = """
# A sum of numbers, with brackets as deep as they go.
root ::= term (" - " term){0,2}
term ::= num | "[" root "]"
num  ::= [1-9] [0-9]{0,2}
"""
# llama.cpp's json.gbnf with strings of letters alone and at most two of everything.
JSON = r"""
root   ::= object
value  ::= object | array | string | ("true" | "null")
object ::= "{" (string ":" value ("," string ":" value)?)? "}"
array  ::= "[" (value ("," value)?)? "]"
string ::= "\"" [a-zа-я]{0,3} "\""
"""


def write(loaded, grammar, *, prompts=("a", "aa aa"), max_new_tokens=300, **given):  # noqa: F811
    settings = resolve_settings({
        "strategy": "grammar", "grammar": grammar, "max_new_tokens": max_new_tokens, "seed": 1,
        **given,
    })  # fmt: skip
    return generate(loaded, list(prompts), settings=settings)


def problem(value):
    with pytest.raises(ConfigError) as caught:
        resolve_settings({"grammar": value})
    (said,) = caught.value.problems
    assert "\n" not in said
    return said


def is_sum(text):
    return bool(re.fullmatch(r"[0-9 \-\[\]]+", text)) and bool(ast.parse(text, mode="eval"))


def is_json(text):
    return isinstance(json.loads(text), dict)


@pytest.mark.parametrize(("grammar", "fits"), [(SUM, is_sum), (JSON, is_json)], ids=["sum", "json"])
def test_text_fits_and_ends_just_where_it_is_complete(loaded, grammar, fits):  # noqa: F811
    seen, ended = set(), 0
    for seed in range(4):
        drawn = {"do_sample": True, "temperature": 3.0, "num_return_sequences": 4, "seed": seed}
        for text in write(loaded, grammar, **drawn):
            if text.stopped == "length":  # brackets within brackets, without an end
                continue
            ended += 1
            seen.add(text.continuation)
            assert fits(text.continuation)
    assert ended > 8
    assert len(seen) > 4


def test_the_likeliest_text_fits_and_a_batch_is_its_prompts_alone(loaded):  # noqa: F811
    grammar = 'root ::= ("a" | "b"){2,3} "z"'
    batch = [text.continuation for text in write(loaded, grammar)]
    alone = [write(loaded, grammar, prompts=[p])[0].continuation for p in ("a", "aa aa")]
    assert batch == alone
    assert all(re.fullmatch("[ab]{2,3}z", text) for text in batch)


def test_it_is_given_itself_or_as_a_file(loaded, tmp_path):  # noqa: F811
    path = tmp_path / "verse.gbnf"
    path.write_text('root ::= "a" | "bb"\n', encoding="utf-8")
    for given in (str(path), 'root ::= "a" | "bb"'):
        assert {text.continuation for text in write(loaded, given)} <= {"a", "bb"}


def test_settings_that_forbid_its_end_do_not_break_it(loaded):  # noqa: F811
    texts = write(loaded, 'root ::= "a" | "bb"', min_new_tokens=9)
    assert {text.continuation for text in texts} <= {"a", "bb"}


def test_one_without_an_end_is_cut_off(loaded):  # noqa: F811
    (text,) = write(loaded, "root ::= [ab] root", prompts=["a"], max_new_tokens=4)
    assert text.stopped == "length"
    assert {*text.continuation} <= {"a", "b"}
    with pytest.raises(ConfigError, match=r"^grammar: its parser fails after 1 token: .*limit"):
        write(loaded, 'root ::= "a" root', prompts=["a"])  # looked ahead without an end


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("nowhere.gbnf", "grammar: nowhere.gbnf can't be read: No such file or directory."),
        ("no\0where", "grammar: no\0where can't be read: its name holds a NUL character."),
        ("~nobody-here/x", "grammar: ~nobody-here/x can't be read: there is no such user."),
        ('x ::= "a"', "grammar: it isn't GBNF: No 'root' rule found."),
        ("root ::= nope", "grammar: it isn't GBNF: Rule 'nope' not found."),
        (
            'root ::= "a',
            "grammar: it isn't GBNF: Unexpected end of input at line 1, 'root ::= \"a'",
        ),
        ("root ::= [", "grammar: it isn't GBNF: Unexpected end of input at line 1"),
    ],
    ids=str,
)
def test_what_is_no_grammar_is_said_before_a_model_is_loaded(value, said):
    assert problem(value).startswith(said)


def test_what_no_text_can_fit_is_said_in_a_line(loaded):  # noqa: F811
    with pytest.raises(ConfigError, match=r"^grammar: no text can fit it"):
        write(loaded, 'root ::= root "a"')
    bare = LoadedModel(loaded.model, loaded.tokenizer, SpecialTokens((), 0, 0))
    with pytest.raises(ConfigError, match="grammar needs an EOS token"):
        write(bare, 'root ::= "a"')


def test_a_missing_package_is_said(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert problem('root ::= "a"').startswith("grammar needs the package llguidance. Install it")


def test_the_model_is_not_asked_for_more_than_the_grammar_leaves_open(loaded):  # noqa: F811
    """Whatever the logits are, the one text there is comes out."""
    torch.manual_seed(0)
    (text,) = write(loaded, 'root ::= "moroz"', prompts=["a"], do_sample=True, temperature=50.0)
    assert (text.continuation, text.stopped) == ("moroz", "eos")
