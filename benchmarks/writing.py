"""What the bundled model generates without a prompt: are its words words, does it repeat itself?

    python benchmarks/writing.py [--model pico] [--config YAML]
        [--corpus PATH/TO/ru-classics] [--texts 20] [--tokens 200] [--show 3]

Texts begin after EOS, nucleus 0.9 at temperature 0.8, seeds 1, 2, 3 and so on. A word is a run of
letters; it counts if the corpus has it, in any case. A word cut by the last token isn't counted.
Repetition is the share of four-token sequences that stood in the text before, beside that of
held-out text cut into chunks of as many tokens; ± is a standard error. Also prints greedy tokens a
second. Exits with 1 where a limit is missed.
"""

import argparse
import math
import re
import statistics
import sys
from pathlib import Path

from generate import through_gptft
from held_out import CONFIG, CORPUS, data_of, read_parts

from gptft.analysis.compare.diversity import seq_rep_n
from gptft.decoding.engine import generate, load_model
from gptft.decoding.loaded_model import LoadedModel
from gptft.decoding.settings import resolve_settings

_WORD = re.compile(r"[^\W\d_]+")
MIN_WORDS = 0.90
MAX_REPETITION = 1.3  # of held-out text's
MIN_SPEED = 100.0  # tokens a second
_SPEED_RUNS = 5


def words(text: str) -> list[str]:
    """The words of a text, in lower case.

    >>> words("Мороз и солнце; день чудесный!")
    ['мороз', 'и', 'солнце', 'день', 'чудесный']
    """
    return [word.lower() for word in _WORD.findall(text)]


def unprompted(loaded: LoadedModel, *, texts: int, tokens: int) -> list[str]:
    """Texts that begin after EOS, each of `tokens` tokens."""
    written = []
    for seed in range(1, texts + 1):
        settings = resolve_settings(
            {
                "strategy": "nucleus",
                "top_p": 0.9,
                "temperature": 0.8,
                "seed": seed,
                "max_new_tokens": tokens,
                "min_new_tokens": tokens,
            }
        )
        written.append(generate(loaded, [""], settings=settings)[0].text)
    return written


def repetition(loaded: LoadedModel, texts: list[str], *, tokens: int) -> tuple[float, float]:
    """The share of repeated four-token sequences in chunks of `tokens` tokens, and its error."""
    shares: list[float] = []
    for text in texts:
        ids = loaded.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        chunks = [ids[start : start + tokens] for start in range(0, len(ids), tokens)]
        found = (seq_rep_n(chunk) for chunk in chunks if len(chunk) > tokens // 2)
        shares += [share for share in found if share is not None]
    error = statistics.stdev(shares) / len(shares) ** 0.5 if len(shares) > 1 else math.nan
    return statistics.fmean(shares), error


def main() -> int:
    """Measure, print, and tell whether every limit is kept."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="pico", help="a run folder, a model folder, or pico")
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--corpus", default=CORPUS, help="where the corpus is")
    parser.add_argument("--texts", type=int, default=20)
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--show", type=int, default=3, help="texts to print")
    arguments = parser.parse_args()
    train, held_out = read_parts(data_of(arguments.config, corpus=arguments.corpus))
    known = {word for text in (*train, *held_out.values()) for word in words(text)}
    loaded = load_model(
        arguments.model, settings=resolve_settings({"strategy": "nucleus"}), use_cpu=True
    )
    texts = unprompted(loaded, texts=arguments.texts, tokens=arguments.tokens)
    for text in texts[: arguments.show]:
        print(f"{text.strip()}\n{'-' * 20}")
    said = [word for text in texts for word in words(text)[:-1]]
    invented = [word for word in said if word not in known]
    share = 1 - len(invented) / len(said)
    own, own_error = repetition(loaded, texts, tokens=arguments.tokens)
    theirs, error = repetition(loaded, list(held_out.values()), tokens=arguments.tokens)
    speed = statistics.median(
        through_gptft(loaded, "greedy", tokens=arguments.tokens) for _ in range(_SPEED_RUNS)
    )
    print(f"not in the corpus: {', '.join(invented[:12])}")
    checks = (
        (share >= MIN_WORDS, f"{share:.1%} of {len(said):,} words are words (at least 90 %)"),
        (
            own <= MAX_REPETITION * theirs,
            f"repetition {own:.4f} ± {own_error:.4f}, held-out text {theirs:.4f} ± {error:.4f}: "
            f"{own / theirs:.2f} (at most 1.3)",
        ),
        (speed >= MIN_SPEED, f"{speed:.0f} tokens a second, greedy (at least 100)"),
    )
    for kept, sentence in checks:
        print(f"{'ok' if kept else 'MISSED':7} {sentence}")
    return 0 if all(kept for kept, _ in checks) else 1


if __name__ == "__main__":
    sys.exit(main())
