from pathlib import Path

import pytest

from gptft.api import default_config, load_config, read_config
from gptft.config.load import TEXT_RECIPE
from gptft.config.sections import Config
from gptft.config.source import dump_yaml
from gptft.errors import ConfigError
from tests.conftest import ROOT

SOURCES = "A text file, a folder, a glob, hub:NAME, or a list of them, each perhaps with a weight."


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "my.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def problems(path: Path, *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides=overrides)
    return [line.replace(str(path), "my.yaml") for line in str(caught.value).splitlines()]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "training:\n  learning_rte: 1e-3\n",
            "my.yaml:2:3  training.learning_rte is not a setting. "
            "Did you mean training.learning_rate?",
        ),
        (
            "training:\n  warmup_ratio: 0.1\n",
            "my.yaml:2:3  training.warmup_ratio is not a setting any more. "
            "Write it as a fraction in warmup_steps, such as 0.1.",
        ),
        (
            "training:\n  evaluation_strategy: epoch\n",
            "my.yaml:2:3  training.evaluation_strategy is not a setting any more. "
            "It is called eval_strategy now.",
        ),
        (
            "training:\n  lr: 1e-3\n",
            "my.yaml:2:3  training.lr is not a setting. Did you mean training.learning_rate?",
        ),
        (
            "training:\n  do_train: true\n",
            "my.yaml:2:3  training.do_train has no effect here. "
            "`gptft train` always trains; leave it out.",
        ),
        (
            "training:\n  learning_rate: '5e-5'\n",
            "my.yaml:2:3  training.learning_rate must be a number, not the text '5e-5'.",
        ),
        (
            "training:\n  max_steps: 1.5\n",
            "my.yaml:2:3  training.max_steps must be a whole number, not 1.5.",
        ),
        (
            "training:\n  max_steps: true\n",
            "my.yaml:2:3  training.max_steps must be a whole number, not true.",
        ),
        (
            "training:\n  eval_strategy: stepz\n",
            "my.yaml:2:3  training.eval_strategy can't be the text 'stepz'. Did you mean steps?",
        ),
        (
            "training:\n  per_device_train_batch_size: 0\n",
            "my.yaml:2:3  training.per_device_train_batch_size must be at least 1, not 0.",
        ),
        (
            "training:\n  num_train_epochs: .inf\n",
            "my.yaml:2:3  training.num_train_epochs must be a finite number, not inf.",
        ),
        (
            "training:\n  max_steps: 0\n",
            "my.yaml:2:3  training.max_steps 0 means no training at all. "
            "Leave it out to train by epochs.",
        ),
        (
            "training:\n  seed: 4294967296\n",
            "my.yaml:2:3  training.seed must be at most 4,294,967,295, not 4294967296.",
        ),
        (
            "training:\n  train_sampling_strategy: group_by_length\n",
            "my.yaml:2:3  training.train_sampling_strategy group_by_length has no effect here: "
            "blocks have one length. Leave it out.",
        ),
        (
            "data:\n  train: ''\n",
            "my.yaml:2:3  data.train.0.path must not be empty, not the text ''. "
            "A file, a folder, a glob, or hub:NAME[:config][:split] for a dataset.",
        ),
        (
            "training:\n  learning_rate: .nan\n",
            "my.yaml:2:3  training.learning_rate must be a finite number, not nan.",
        ),
        ("trainig:\n  seed: 1\n", "my.yaml:1:1  trainig is not a setting. Did you mean training?"),
        (
            "learning_rate: 1\n",
            "my.yaml:1:1  learning_rate is not a setting. Did you mean training.learning_rate?",
        ),
        (
            "model:\n  block_size: 1\n",
            "my.yaml:2:3  model.block_size is not a setting. Did you mean data.block_size?",
        ),
        (
            "model: pico\n",
            "my.yaml:1:1  model must be a section of `key: value` lines, not the text 'pico'.",
        ),
        (
            "training: 5\n",
            "my.yaml:1:1  training must be a mapping, not 5. Any field of "
            "transformers.TrainingArguments.",
        ),
        (
            "data:\n  train: a.txt\n  train: b.txt\n",
            "my.yaml:3:3  data.train is set twice, first in line 2. Keep one of them.",
        ),
        (
            "data:\n  train: []\n",
            "my.yaml:2:3  data.train must name something, not a list. " + SOURCES,
        ),
        (
            "data:\n  train: [a.txt, 7]\n",
            "my.yaml:2:18  data.train.1 must be a path, or a path with a weight, not 7. " + SOURCES,
        ),
        (
            "data:\n  train: a.txt\n  tail: cut\n",
            "my.yaml:3:3  data.tail must be 'keep' or 'drop', not the text 'cut'. "
            "The last, shorter block: trained on, or left out.",
        ),
        (
            "data:\n  train: a.txt\n  validation: 1.5\n",
            "my.yaml:3:3  data.validation must be a share between 0 and 1, a path, or a list of "
            "paths, not 1.5. Held out: a share of the documents (0.1), or files of their own.",
        ),
        (
            "data:\n  block_size: 64\n",
            f"my.yaml:1:1  data.train is missing. {SOURCES}",
        ),
        (
            "data:\n  train: a.txt\n  document_heading: '[IVX'\n",
            "my.yaml:3:3  data.document_heading is not a regular expression: unterminated "
            "character set at position 0.",
        ),
        (
            "data:\n  train: a.txt\n  document_separator: '%'\n  document_heading: I\n",
            "my.yaml:3:3  data.document_separator and data.document_heading can't both be given.",
        ),
        (
            "model:\n  name: pico\n  from_scratch: {model_type: gpt2}\n",
            "my.yaml:2:3  model.name and model.from_scratch can't both be given.",
        ),
        (
            "model:\n  average_with: [pico, 7]\n",
            "my.yaml:2:24  model.average_with.1 must be a name, or a name with a weight, not 7. "
            "Models of the same shape, or globs of their folders (runs/my/checkpoints/*), each "
            "perhaps with a weight: training begins at the mean of all weights.",
        ),
        (
            "model:\n  average_with: {name: runs/my, weight: 0}\n",
            "my.yaml:2:3  model.average_with.0.weight must be above 0, not 0. "
            "How much each of them counts beside model.name, which counts as 1.",
        ),
        (
            "model:\n  from_scratch: {model_type: gpt2}\n  average_with: [pico]\n",
            "my.yaml:3:3  model.average_with needs a model.name, not model.from_scratch.",
        ),
        (
            "model:\n  from_scratch: {model_type: gpt2}\n",
            "my.yaml:2:3  model.from_scratch needs tokenizer.name or tokenizer.train.",
        ),
        (
            "tokenizer:\n  train: {vocab_size: 300}\n",
            "my.yaml:2:3  tokenizer.train is for model.from_scratch; a base keeps its own "
            "tokenizer, to which tokenizer.add_tokens adds.",
        ),
        (
            "tokenizer:\n  train: {vocab_size: 100}\n",
            "my.yaml:2:11  tokenizer.train.vocab_size must be at least 257, not 100. "
            "Ids in all: 256 bytes, one EOS, and the merges.",
        ),
    ],
)
def test_each_mistake_is_one_line_with_place_and_way_out(tmp_path: Path, text: str, message: str):
    assert problems(write(tmp_path, text)) == [message]


def test_all_problems_come_at_once_in_the_order_of_their_lines(tmp_path: Path):
    text = (
        "model:\n  nme: pico\ntraining:\n  learning_rte: 1\n  seed: 1\n  seed: 2\n"
        "data:\n  train: a.txt\n  tail: 5\n"
    )
    lines = problems(write(tmp_path, text))
    assert [line.split("  ")[0] for line in lines] == [
        "my.yaml:2:3",
        "my.yaml:4:3",
        "my.yaml:6:3",
        "my.yaml:9:3",
    ]


def test_set_wins_over_yaml_and_yaml_over_the_default(tmp_path: Path):
    path = write(tmp_path, "data:\n  train: a.txt\n  block_size: 64\n  tail: drop\n")
    config = load_config(
        path, overrides=["data.block_size=32", "training.learning_rate=5e-5", "model.name=./pico"]
    )
    assert config.data is not None
    assert (config.data.block_size, config.data.tail, config.data.seed) == (32, "drop", 42)
    assert config.training == {"learning_rate": 5e-5}
    assert config.model.name == "./pico"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "data.tail",
            "--set data.tail: write it as section.key=value, such as --set "
            "training.learning_rate=1e-4.",
        ),
        (
            "=1",
            "--set =1: write it as section.key=value, such as --set training.learning_rate=1e-4.",
        ),
        (
            "data.tail=cut",
            "--set  data.tail must be 'keep' or 'drop', not the text 'cut'. "
            "The last, shorter block: trained on, or left out.",
        ),
        ("data.train.x=1", "--set data.train.x=1: data.train is not a section."),
        (
            "training.lerning_rate=1",
            "--set  training.lerning_rate is not a setting. Did you mean training.learning_rate?",
        ),
    ],
)
def test_a_wrong_override_is_one_line(tmp_path: Path, override: str, message: str):
    path = write(tmp_path, "data:\n  train: a.txt\n")
    assert problems(path, override) == [message]


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("none.yaml", "config file"),
        ("none.yml", "config file"),
        ("NONE.YAML", "config file"),
        ("poem.txt", "file or folder"),
        ("стихи", "file or folder"),
        ("texts/a.jsonl", "file or folder"),
        ("yaml", "file or folder"),
    ],
)
def test_what_is_missing_is_called_a_config_by_its_suffix_alone(in_tmp: Path, name: str, what: str):
    with pytest.raises(ConfigError, match=rf"^{name}: no such {what} \(looked from {in_tmp}\)\.$"):
        load_config(Path(name))


def test_a_folder_is_no_config(tmp_path: Path):
    with pytest.raises(ConfigError, match="is a folder"):
        load_config(tmp_path)


def test_a_name_that_no_file_can_have_is_one_line(in_tmp: Path):
    name = "a" * 300
    with pytest.raises(ConfigError, match=f"^{name} can't be read: File name too long.$"):
        read_config(Path(name))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("train: a.txt, validation: {}", "data.validation must be a share between 0 and 1"),
        ("train: {{path: a.txt, weight: {}}}", "data.train.0.weight must be a number"),
    ],
)
def test_a_number_beyond_what_a_computer_holds_is_one_line(tmp_path: Path, data: str, message: str):
    huge = f"1{'0' * 400}"
    [line] = problems(write(tmp_path, f"data: {{{data.format(huge)}}}\n"))
    assert message in line


def test_an_empty_file_is_the_default_config(tmp_path: Path):
    assert load_config(write(tmp_path, "")) == Config()
    assert load_config(write(tmp_path, "training:\n")) == Config()


def test_a_text_stands_for_a_config(tmp_path: Path):
    config = default_config(text=tmp_path / "poem.txt", overrides=["data.tail=drop"])
    assert config.data is not None
    assert config.data.train_names == str(tmp_path / "poem.txt")
    assert config.data.tail == "drop"
    assert config.training == TEXT_RECIPE


def test_a_config_is_frozen():
    with pytest.raises(ValueError, match="frozen"):
        Config().model = Config().model  # type: ignore[misc]


@pytest.mark.parametrize(
    "text",
    [
        "data: {train: a.txt, validation: 0.1}\ntraining: {seed: 7}\n",
        "model: {from_scratch: {model_type: gpt2}}\ntokenizer: {train: {vocab_size: 300}}\n",
        "data: {train: a.jsonl, template: '{title}: {body}'}\n",
        "data: {train: a.jsonl, format: messages, loss_on: all, chat_template: chatml}\n",
        "data: {train: a.jsonl, format: prompt_completion}\n",
        "lora: {merge: false}\n",
        "lora: {merge: false, quantize: nf4}\n",
    ],
)
def test_a_resolved_config_loads_again(tmp_path: Path, text: str):
    config = load_config(write(tmp_path, text))
    again = tmp_path / "again.yaml"
    again.write_text(dump_yaml(config.resolved()), encoding="utf-8")
    assert load_config(again) == config


def test_a_resolved_config_holds_no_secret(tmp_path: Path):
    config = load_config(write(tmp_path, "training: {hub_token: hf_secret}\n"))
    assert config.training["hub_token"] == "hf_secret"
    assert "hf_secret" not in dump_yaml(config.resolved())


ROOMS = ("configs", "gptft/models")  # the words of pages are YAML, too
SHIPPED = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.yaml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_config_loads_and_is_headed_by_its_command(path: Path):
    load_config(path)
    head = path.read_text(encoding="utf-8").split("\n\n")[0]
    assert path.relative_to(ROOT).as_posix() in head
    assert "gptft " in head
