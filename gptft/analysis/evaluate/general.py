"""A model -> its figures on the two short texts that come with gptft, in Russian and in English.

What they cost more after training than before is what tuning cost elsewhere.
"""

from importlib.resources import files

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from gptft.analysis.evaluate.corpus import Document
from gptft.analysis.evaluate.measure import Asked, measure_documents
from gptft.training.evaluation import Measured

LANGUAGES = ("ru", "en")


def measure_general_texts(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> dict[str, Measured]:
    """The figures of each text by its language, as `gptft eval` has them.

    A text that the tokenizer can't spell isn't among them: its bits a byte would say nothing.

    Raises:
        ModelError: the model's logits are not numbers.
        RunError: out of memory.
    """
    found = {}
    for language in LANGUAGES:
        document = Document(general_text(language), 0, 1, 1)
        scores = measure_documents(
            "the model", model, tokenizer, [document], asked=Asked(num_hardest=0),
            advance=lambda num_bytes: None,
        )  # fmt: skip
        figures = scores.figures()
        if figures.loss is not None and not scores.num_unfaithful:
            found[language] = Measured(figures.loss, figures.num_tokens, figures.num_bytes)
    return found


def general_text(language: str) -> str:
    """One of the texts; general_texts/README.md says where they are from."""
    path = files("gptft.analysis.evaluate") / "general_texts" / f"{language}.txt"
    return path.read_text(encoding="utf-8")
