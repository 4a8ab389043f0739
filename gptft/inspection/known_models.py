"""Models that others are compared with: the GPTs, ruGPT-3 and a small one of today.

Each figure is of the model's `source`. Only parameters are counted, on models of these sizes:
papers round them, and GPT-2's says fewer than its weights have.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class KnownModel:
    """A published model.

    Attributes:
        name: as it is called.
        year: of its publication.
        parameters: in all, tied ones once.
        layers: blocks.
        width: numbers a token between blocks.
        heads: of attention.
        kv_heads: of keys and values.
        context: tokens.
        vocab_size: ids with an embedding.
        data: what it was trained on.
        source: where its figures are from.
    """

    name: str
    year: int
    parameters: int
    layers: int
    width: int
    heads: int
    kv_heads: int
    context: int
    vocab_size: int
    data: str
    source: str


_WEBTEXT = "WebText: 40 GB of pages that Reddit links to, English"
_RUSSIAN = "80 B tokens of Russian text"

# Layers, width and heads from the first named; vocabularies from config.json or code of each.
_GPT1 = "Radford et al. 2018, section 4.1; openai-gpt's config.json on the hub"
_GPT2 = (
    "Radford et al. 2019, sections 2.1 to 2.3 and table 2; openai/gpt-2, whose README.md corrects "
    "the numbers of parameters; heads and vocabulary: the config.json of gpt2, gpt2-medium, "
    "gpt2-large and gpt2-xl on the hub"
)
_GPT3 = "Brown et al. 2020, tables 2.1 and 2.2; vocabulary: GPT-2's, as in section 2.1"
_RUGPT3 = (
    "github.com/ai-forever/ru-gpts: README.md and the sizes in its scripts/; data and context: the "
    "card of ai-forever/{name} on the hub, and Zmitrovich et al. 2023 (2309.10931); vocabulary: "
    "{vocabulary}"
)
_SMOLLM2 = "Ben Allal et al. 2025 (2502.02737), and the card and config.json of SmolLM2-135M"


def _rugpt3(name: str, vocabulary: str = "its config.json") -> str:
    return _RUGPT3.format(name=name, vocabulary=vocabulary)


KNOWN_MODELS = (
    KnownModel("GPT-1", 2018, 116_534_784, 12, 768, 12, 12, 512, 40_478,
               "BooksCorpus: 7,000 books, English", _GPT1),
    KnownModel("GPT-2", 2019, 124_439_808, 12, 768, 12, 12, 1024, 50_257, _WEBTEXT, _GPT2),
    KnownModel("GPT-2 medium", 2019, 354_823_168, 24, 1024, 16, 16, 1024, 50_257, _WEBTEXT, _GPT2),
    KnownModel("GPT-2 large", 2019, 774_030_080, 36, 1280, 20, 20, 1024, 50_257, _WEBTEXT, _GPT2),
    KnownModel("GPT-2 XL", 2019, 1_557_611_200, 48, 1600, 25, 25, 1024, 50_257, _WEBTEXT, _GPT2),
    KnownModel("GPT-3", 2020, 174_604_259_328, 96, 12288, 96, 96, 2048, 50_257,
               "300 B tokens: filtered Common Crawl, WebText2, books, Wikipedia", _GPT3),
    KnownModel("ruGPT-3 small", 2020, 125_231_616, 12, 768, 12, 12, 2048, 50_264,
               f"{_RUSSIAN}, 3 epochs", _rugpt3("rugpt3small_based_on_gpt2")),
    KnownModel("ruGPT-3 medium", 2020, 355_871_744, 24, 1024, 16, 16, 2048, 50_257,
               f"{_RUSSIAN}, 3 epochs",
               _rugpt3("rugpt3medium_based_on_gpt2", "that of the large one, kept by its script")),
    KnownModel("ruGPT-3 large", 2020, 760_300_032, 24, 1536, 16, 16, 2048, 50_257,
               f"{_RUSSIAN}, 3 epochs",
               _rugpt3("rugpt3large_based_on_gpt2", "--vocab-size of the script that trained it")),
    KnownModel("ruGPT-3 XL", 2021, 1_315_737_600, 24, 2048, 16, 16, 2048, 50_264,
               f"{_RUSSIAN}, 4 epochs",
               _rugpt3("rugpt3xl", "the card of evilfreelancer/ruGPT3XL, a conversion of it")),
    KnownModel("SmolLM2-135M", 2024, 134_515_008, 30, 576, 9, 3, 8192, 49_152,
               "2,000 B tokens: English web, code, mathematics", _SMOLLM2),
)  # fmt: skip
