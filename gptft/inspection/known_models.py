"""Models that others are compared with: the GPTs, ruGPT-3 and a small one of today.

Sources: GPT-1, Radford et al. 2018, section 4.1; GPT-2, Radford et al. 2019, table 2, with the
numbers of parameters that the repository openai/gpt-2 corrected; GPT-3, Brown et al. 2020, tables
2.1 and 2.2; ruGPT-3, Zmitrovich et al. 2023 (2309.10931) and the cards of ai-forever on the hub;
SmolLM2, Ben Allal et al. 2025 (2502.02737), and its config.json on the hub. Parameters are counted
on models of these sizes.
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


_WEBTEXT = "WebText: 40 GB of pages that Reddit links to, English"
_RUSSIAN = "80 B tokens of Russian text"

KNOWN_MODELS = (
    KnownModel("GPT-1", 2018, 116_534_784, 12, 768, 12, 12, 512, 40_478,
               "BooksCorpus: 7,000 books, English"),
    KnownModel("GPT-2", 2019, 124_439_808, 12, 768, 12, 12, 1024, 50_257, _WEBTEXT),
    KnownModel("GPT-2 medium", 2019, 354_823_168, 24, 1024, 16, 16, 1024, 50_257, _WEBTEXT),
    KnownModel("GPT-2 large", 2019, 774_030_080, 36, 1280, 20, 20, 1024, 50_257, _WEBTEXT),
    KnownModel("GPT-2 XL", 2019, 1_557_611_200, 48, 1600, 25, 25, 1024, 50_257, _WEBTEXT),
    KnownModel("GPT-3", 2020, 174_604_259_328, 96, 12288, 96, 96, 2048, 50_257,
               "300 B tokens: filtered Common Crawl, WebText2, books, Wikipedia"),
    KnownModel("ruGPT-3 small", 2020, 125_231_616, 12, 768, 12, 12, 2048, 50_264,
               f"{_RUSSIAN}, 3 epochs"),
    KnownModel("ruGPT-3 medium", 2020, 355_871_744, 24, 1024, 16, 16, 2048, 50_257,
               f"{_RUSSIAN}, 3 epochs"),
    KnownModel("ruGPT-3 large", 2020, 760_300_032, 24, 1536, 16, 16, 2048, 50_257,
               f"{_RUSSIAN}, 3 epochs"),
    KnownModel("ruGPT-3 XL", 2020, 1_315_737_600, 24, 2048, 16, 16, 2048, 50_264,
               f"{_RUSSIAN}, 4 epochs"),
    KnownModel("SmolLM2-135M", 2024, 134_515_008, 30, 576, 9, 3, 8192, 49_152,
               "2,000 B tokens: English web, code, mathematics"),
)  # fmt: skip
