"""Text of a grammar in llama.cpp's form, GBNF."""

from collections.abc import Iterator

from gptft.config.settings import Setting, Text
from gptft.decoding import define
from gptft.decoding.grammar_constraint import constrain_by_grammar, grammar_problems, text_or_file
from gptft.errors import ConfigError
from gptft.panics import no_panic

_LIST = 'root ::= "- " item ("\\n- " item){1,3}\nitem ::= [^-\\n]{1,40}'


def read_grammar(value: str) -> str:
    """The grammar that the setting holds, or that stands in the file it names, for llguidance.

    Raises:
        ConfigError: it can't be read, or isn't GBNF.
    """
    from llguidance import LLMatcher
    from llguidance.gbnf_to_lark import gbnf_to_lark

    text, where = text_or_file(value, setting="grammar", is_text="::=" in value)
    try:
        with no_panic():
            return LLMatcher.grammar_from_lark(gbnf_to_lark(text))
    except Exception as error:  # llguidance raises plain ones for rules that lack or come twice
        raise ConfigError(f"{where} it isn't GBNF: {error}.") from None


def _build(settings: define.Values, batch: define.BatchContext) -> define.Process:
    return constrain_by_grammar(batch, read_grammar(settings["grammar"]), setting="grammar")


def _check(settings: define.Values) -> Iterator[str]:
    return grammar_problems(settings, "grammar", lambda values: read_grammar(values["grammar"]))


METHOD = define.Method(
    group="search",
    settings=(
        Setting("grammar", Text, None, "The text fits this GBNF grammar, given itself or as a "
                "file."),
    ),
    strategies=(
        define.Strategy(
            name="grammar",
            description="Generates only what can still become text of the grammar, to its end.",
            source="No paper: GBNF of llama.cpp (grammars/README.md), parsed by llguidance.",
            takes=("grammar", *define.ASKED_SAMPLING),
            needs=("grammar",),
            draws="asked",
            asked_by=("grammar",),
            processors=(define.Processor("grammar", define.FORM + 30, _build),),
            by_beginning=True,
            check=_check,
            stand_ins=lambda prompt, base_model: {"grammar": _LIST},
        ),
    ),
)  # fmt: skip
