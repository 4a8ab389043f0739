import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from gptft import api, cli
from gptft.api import load_config
from gptft.cli import generate as command
from gptft.cli.app import app
from gptft.decoding.prompts.gather import gather_prompts
from gptft.decoding.settings import check_strategies, resolve_settings
from gptft.decoding.strategies import SETTINGS, STRATEGIES
from gptft.errors import ConfigError, DataError, ModelError

SHIPPED = sorted((Path(__file__).parents[2] / "configs" / "generate").glob("*.yaml"))


@pytest.fixture
def run(tiny_model_dir):
    """Runs `gptft generate` on the tiny model with 6 new tokens and the given arguments."""

    def run(*args, stdin=None, model=tiny_model_dir):
        arguments = ["generate", str(model), "--cpu", "--max-new-tokens", "6", *args]
        return CliRunner().invoke(app, arguments, input=stdin)

    return run


def error_of(result, kind=ConfigError):
    assert isinstance(result.exception, kind), result.output
    assert result.stdout == ""
    return str(result.exception)


class TestOutput:
    def test_the_text_goes_to_stdout_and_what_is_in_force_to_stderr(self, run, tiny_model_dir):
        result = run("-p", "Буря мглою", "--top-p", "0.8", "--seed", "3")
        assert result.stdout.startswith("Буря мглою")
        assert result.stdout.endswith("\n")
        assert result.stderr.strip() == (
            f"{tiny_model_dir}, nucleus: top_p 0.8, max_new_tokens 6, seed 3"
        )

    def test_the_seed_shown_gives_the_same_text_again(self, run):
        first = run("-p", "Буря", "--temperature", "1.5")
        seed = re.search(r"seed (\d+)", first.stderr)
        assert seed
        assert run("-p", "Буря", "--temperature", "1.5", "--seed", seed[1]).stdout == first.stdout

    @pytest.mark.parametrize("at_once", ["1", "2", "9" * 30])
    def test_a_batch_of_any_size_gives_the_same_texts(self, run, at_once):
        args = ("-p", "Буря", "-p", "fox", "-p", "The", "-n", "2", "--top-k", "5", "--seed", "3")
        assert run(*args, "--batch-size", at_once).stdout == run(*args).stdout

    def test_several_texts_have_an_empty_line_between(self, run):
        result = run(
            "-p", "Буря", "-p", "fox", "-n", "2", "--top-k", "5", "--no-repeat-ngram-size", "1"
        )
        texts = json.loads(
            run(
                "-p", "Буря", "-p", "fox", "-n", "2", "--top-k", "5",
                "--no-repeat-ngram-size", "1", "--json",
                "--seed", re.search(r"seed (\d+)", result.stderr)[1],
            ).stdout
        )  # fmt: skip
        assert [text["prompt"] for text in texts] == ["Буря", "Буря", "fox", "fox"]
        written = "\n\n".join(text["text"] for text in texts) + "\n"
        assert result.stdout == written.replace("\r\n", "\n")  # as the runner reads it

    def test_json_is_a_list_of_all_there_is_to_know(self, run):
        (text,) = json.loads(run("-p", "fox", "--json", "--seed", "3", "--top-k", "4").stdout)
        assert text["text"] == text["prompt"] + text["continuation"]
        assert (text["prompt"], text["strategy"], text["seed"]) == ("fox", "top_k", 3)
        assert text["settings"]["top_k"] == 4
        assert text["settings"]["do_sample"] is True
        assert text["stopped"] in ("eos", "length")
        assert text["num_new_tokens"] <= 6

    def test_json_keeps_cyrillic_readable_and_greedy_has_no_seed(self, run):
        result = run("-p", "Буря", "--json", "--seed", "1")
        assert '"prompt": "Буря"' in result.stdout
        assert json.loads(result.stdout)[0]["seed"] is None
        assert "no seed is used" in result.stderr

    def test_streaming_writes_the_same_text(self, run):
        whole, streamed = run("-p", "Буря"), run("-p", "Буря", "--stream")
        assert whole.exit_code == streamed.exit_code == 0
        assert streamed.stdout == whole.stdout

    def test_tabs_and_long_lines_stay_as_they_are(self, run):
        prompt = "fox\tdog " + "a" * 40
        assert run("-p", prompt).stdout.startswith(prompt)


class TestHowItEnded:
    ENDED = "Ended by max_new_tokens, 6, not by EOS."

    def said(self, run, *args, terminal=True, monkeypatch):
        """The lines on a stderr that is a terminal, or isn't, but for the settings in force."""
        monkeypatch.setattr(command, "stderr", lambda: SimpleNamespace(is_terminal=terminal))
        result = run("-p", "Буря", "--suppress-tokens", "0", *args)
        assert result.exit_code == 0, result.output
        return result.stderr.splitlines()[1:]

    @pytest.mark.parametrize("args", [(), ("--stream",), ("--top-p", "0.9"), ("--why",)], ids=str)
    def test_a_text_that_reached_its_length_says_so_on_a_terminal(self, run, args, monkeypatch):
        assert self.said(run, *args, monkeypatch=monkeypatch) == [self.ENDED]
        assert self.said(run, *args, terminal=False, monkeypatch=monkeypatch) == []

    def test_so_do_several_by_their_number(self, run, monkeypatch):
        args = ("-p", "fox", "-n", "2", "--top-k", "5")
        (line,) = self.said(run, *args, monkeypatch=monkeypatch)
        assert line == "4 of 4 texts were ended by max_new_tokens, 6, not by EOS."
        args = ("--strategy", "choices", "--choices", "x", "-p", "fox")
        assert self.said(run, *args, monkeypatch=monkeypatch) == []

    def test_a_limit_of_time_is_named(self, run, monkeypatch):
        (line,) = self.said(run, "--max-time", "1e-6", monkeypatch=monkeypatch)
        assert line == "Ended by max_time, 1e-06, not by EOS."

    def test_eos_or_a_stop_string_says_nothing_and_json_has_it_anyway(self, run, monkeypatch):
        args = ("--strategy", "regex", "--regex", "xy")
        assert self.said(run, *args, monkeypatch=monkeypatch) == []
        monkeypatch.setattr(command, "stderr", lambda: SimpleNamespace(is_terminal=True))
        result = run("-p", "Буря", "--suppress-tokens", "0", "--json")
        assert [row["stopped"] for row in json.loads(result.stdout)] == ["length"]
        assert self.ENDED not in result.stderr

    def test_fewer_texts_than_asked_for_are_told_everywhere(self, run, monkeypatch):
        args = ("--num-beams", "4", "-n", "4", "--allowed-words", "x", "--max-new-tokens", "1")
        said = self.said(run, *args, terminal=False, monkeypatch=monkeypatch)
        assert said == ["4 texts were asked for, and the beams found 2 that differ."]


class TestPrompts:
    def test_all_of_standard_input_is_one_prompt(self, run):
        (text,) = json.loads(run("--json", stdin="Буря\nмглою\n").stdout)
        assert text["prompt"] == "Буря\nмглою"

    def test_a_file_holds_a_prompt_a_line(self, run, tmp_path):
        path = tmp_path / "prompts.txt"
        path.write_bytes("\ufeffБуря\r\n\r\nмглою\u2028небо\n".encode())
        texts = json.loads(run("--file", str(path), "-p", "fox", "--json").stdout)
        assert [t["prompt"] for t in texts] == ["fox", "Буря", "мглою\u2028небо"]

    def test_an_empty_prompt_may_be_asked_for(self, run):
        result = run("-p", "")
        assert result.exit_code == 0

    def test_no_prompt_is_an_error(self, run):
        assert "There is no prompt" in error_of(run())

    def test_a_terminal_is_not_read_from(self, monkeypatch):
        class Terminal:
            def isatty(self):
                return True

        monkeypatch.setattr(sys, "stdin", Terminal())
        with pytest.raises(ConfigError, match="There is no prompt"):
            gather_prompts([], None)
        monkeypatch.setattr(sys, "stdin", None)
        with pytest.raises(ConfigError, match="There is no prompt"):
            gather_prompts([], None)

    def test_bad_files_are_errors(self, run, tmp_path):
        assert "missing.txt can't be read: No such" in error_of(
            run("--file", str(tmp_path / "missing.txt")), DataError
        )
        assert "can't be read: Is a dir" in error_of(run("--file", str(tmp_path)), DataError)
        (tmp_path / "cut.txt").write_bytes("Мороз".encode()[:-1])
        assert "cut.txt is UTF-8 but for 1 byte, the first 0xd0 at offset 8" in error_of(
            run("--file", str(tmp_path / "cut.txt")), DataError
        )
        (tmp_path / "empty.txt").write_text("\n\n", encoding="utf-8")
        assert "every line of it is empty" in error_of(run("--file", str(tmp_path / "empty.txt")))

    def test_bytes_that_are_no_text_are_errors(self, run):
        message = error_of(run(stdin=b"ab\xff\xfe"), DataError)
        assert message.startswith("Standard input is not text in UTF-8: byte 0xff at offset 2")
        with pytest.raises(ConfigError, match="is not UTF-8 text"):
            gather_prompts(["\udcd0"], None)

    def test_one_too_long_is_an_error(self, run):
        message = error_of(run("-p", "q" * 60))
        assert "60 tokens" in message
        assert "context of 64" in message


def test_speed_is_measured_where_a_text_could_be_streamed(tiny_model_dir):
    given = {"max_new_tokens": 2}
    for extras, stream, streamed in ((["speed"], "possible", False), ([], "possible", True)):
        found = api.generate(
            str(tiny_model_dir), ["fox"], given=given, extras=extras, stream=stream, use_cpu=True
        )
        assert (found.streamed, found.speed is None) == (streamed, streamed)


class TestSettings:
    @pytest.fixture
    def config(self, tmp_path, tiny_model_dir):
        path = tmp_path / "my.yaml"
        path.write_text(
            f"model:\n  name: {tiny_model_dir}\ngeneration:\n  top_k: 5\n  temperature: 0.5\n"
            "  max_new_tokens: 3\n  seed: 1\n",
            encoding="utf-8",
        )
        return str(path)

    def in_force(self, *args):
        result = CliRunner().invoke(app, ["generate", "-p", "fox", "--cpu", "--json", *args])
        assert result.exit_code == 0, result.output
        text = json.loads(result.stdout)[0]
        return {**text["settings"], "strategy": text["strategy"], "seed": text["seed"]}

    def test_default_then_yaml_then_set_then_flag(self, config):
        settings = self.in_force(
            "-c", config, "--set", "generation.temperature=0.7", "--set", "generation.seed=2",
            "--seed", "3",
        )  # fmt: skip
        assert settings["top_p"] == 1.0
        assert settings["top_k"] == 5
        assert settings["max_new_tokens"] == 3
        assert settings["temperature"] == 0.7
        assert settings["seed"] == 3
        assert settings["strategy"] == "top_k"

    def test_set_needs_no_file(self, tiny_model_dir):
        settings = self.in_force(str(tiny_model_dir), "--set", "generation.num_beams=2")
        assert settings["strategy"] == "beam"

    def test_a_neutral_value_takes_a_setting_back_and_null_says_which_one(self, run, config):
        settings = self.in_force("-c", config, "--set", "generation.top_k=0")
        assert (settings["strategy"], settings["top_k"]) == ("temperature", 0)
        message = error_of(
            run("-p", "x", "-c", config, "--set", "generation.top_k=null",
                "--set", "generation.temperature=null")
        )  # fmt: skip
        assert message.splitlines() == [
            "--set  generation.top_k must be a whole number, not null. 0 turns it off.",
            "--set  generation.temperature must be a number, not null. 1.0 turns it off.",
        ]

    def test_the_configs_own_strategies_go_by_name(self, run, tmp_path, tiny_model_dir):
        path = tmp_path / "own.yaml"
        path.write_text(
            f"model: {{name: {tiny_model_dir}}}\n"
            "generation: {num_beams: 3}\n"
            "strategies:\n  calm: {strategy: nucleus, top_p: 0.5, max_new_tokens: 4}\n",
            encoding="utf-8",
        )
        settings = self.in_force("-c", str(path), "--strategy", "calm", "--seed", "7")
        assert (settings["strategy"], settings["top_p"], settings["seed"]) == ("nucleus", 0.5, 7)
        assert settings["max_new_tokens"] == 4
        assert self.in_force("-c", str(path))["strategy"] == "beam"
        path.write_text("strategies: {calm: {strategy: greedy, top_k: 5}}\n", encoding="utf-8")
        message = error_of(run("-p", "x", "-c", str(path)))
        assert message.startswith("strategies.calm: top_k is 5, and greedy doesn't use it")

    def test_the_argument_comes_before_the_configs_model(self, run, config):
        assert run("-p", "fox", "-c", config).exit_code == 0
        message = error_of(run("-p", "fox", "-c", config, model="no/such/model"), ModelError)
        assert message.startswith("no/such/model")

    def test_a_config_of_a_new_model_needs_the_name_of_a_trained_one(self, tmp_path):
        path = tmp_path / "new.yaml"
        path.write_text(
            "model:\n  from_scratch: {model_type: gpt2}\ntokenizer:\n  name: pico\n",
            encoding="utf-8",
        )
        result = CliRunner().invoke(app, ["generate", "-p", "x", "-c", str(path)])
        assert "Say which trained one" in error_of(result)

    def test_a_revision_is_not_ignored(self, tmp_path, tiny_model_dir, monkeypatch):
        repo = tmp_path / "models--a--b"
        (repo / "refs").mkdir(parents=True)
        (repo / "refs" / "old").write_text("c0ffee", encoding="utf-8")
        shutil.copytree(tiny_model_dir, repo / "snapshots" / "c0ffee")
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
        path = tmp_path / "old.yaml"
        path.write_text("model:\n  name: a/b\n  revision: old\n", encoding="utf-8")
        args = ["generate", "-p", "x", "--max-new-tokens", "1", "-c", str(path)]
        assert CliRunner().invoke(app, args).exit_code == 0
        result = CliRunner().invoke(app, [*args, "--set", "model.revision=none"])
        assert "can't be had from the model hub" in error_of(result, ModelError)

    @pytest.mark.parametrize(
        ("args", "words"),
        [
            (["--strategy", "nuclues"], "Did you mean nucleus?"),
            (["--strategy", "greedy", "--top-k", "5"], "greedy doesn't use it"),
            (["--temperature", "0"], "temperature must be at least 1e-06"),
            (["--num-beams", "2", "--stream"], "--stream is impossible here: beam"),
            (["--json", "--stream"], "--stream is impossible here: --json"),
            (
                ["--set", "generation.top_q=1"],
                "generation.top_q is not a setting. Did you mean top_p",
            ),
            (["--set", "generation.temperature=0"], "must be at least 1e-06"),
            (["--json", "--why", "--stream"], "--stream is impossible here: --json"),
            (["--why", "--stream"], "--stream is impossible here: --why"),
            (["--window", "--stream"], "--stream is impossible here: --window"),
            (["--speed", "--stream"], "writing to a screen would be timed"),
            (["--chat"], "has no chat template"),
            (["--chat", "--template", "qa"], "both frame the prompt"),
            (["--template", "sumary"], "Did you mean summary?"),
            (["--html", "x.html"], "--html writes a page of strategies, with --compare all"),
            (["--compare", "all", "--why", "--chat"], "--why, --chat: not with --compare"),
            (["--compare", "all", "--batch-size", "4"], "--batch-size: not with --compare"),
            (["--compare", "greedy", "-p", "y"], "--compare takes one prompt, and there are 2"),
            (["--early-stopping", "maybe", "--num-beams", "2"], "must be true, false or never"),
            (["--dola-layers", "1,x"], "dola_layers must be low, high or a list of layers"),
            (["--config", "missing.yaml"], "missing.yaml: no such config file"),
        ],
    )
    def test_wrong_ones_are_errors(self, run, args, words):
        assert words in error_of(run("-p", "fox", *args))

    def test_all_of_the_help_shows_an_option_for_every_setting_that_a_line_can_hold(self):
        text = CliRunner().invoke(app, ["generate", "--help-all"]).output
        flags = set(re.findall(r"--[a-z][a-z-]+", text))
        expected = {
            f"--{name.replace('_', '-')}"
            for name, row in SETTINGS.items()
            if row.kind.name not in ("weights", "decay")
        }
        assert expected <= flags
        assert {"--template", "--chat", "--window", "--html", "--speed", "--dtype"} <= flags
        assert "--batch-size" in flags
        assert not {"--logit-bias", "--exponential-decay-length-penalty"} & flags
        plain = " ".join(text.replace("│", " ").split())
        assert "A strategy by name (gptft strategies lists them)" in plain

    @pytest.mark.parametrize("command", ["generate", "predict"])
    def test_the_help_shows_the_everyday_ones(self, command):
        text = CliRunner().invoke(app, [command, "--help"]).output
        flags = set(re.findall(r"(?<=│ )--[a-z][a-z-]+", text))
        shared = {
            "--prompt", "--strategy", "--config", "--set", "--cpu", "--json", "--max-new-tokens",
            "--stop-strings", "--num-return-sequences", "--temperature", "--top-k", "--top-p",
            "--min-p", "--seed", "--num-beams", "--repetition-penalty", "--no-repeat-ngram-size",
            "--help-all", "--help",
        }  # fmt: skip
        own = {
            "generate": {"--file", "--compare", "--why"},
            "predict": {"--steps", "--top", "--with"},
        }
        assert flags == shared | own[command]


class TestOptions:
    """Settings as flags."""

    def in_force(self, run, *args):
        result = run("-p", "fox", "--json", "--seed", "3", *args)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)[0]["settings"]

    def test_lists_come_from_a_flag_given_again(self, run):
        settings = self.in_force(
            run, "--stop-strings", "zz", "--stop-strings", ".", "--bad-words", "fox",
            "--suppress-tokens", "5", "--suppress-tokens", "7",
        )  # fmt: skip
        assert settings["stop_strings"] == ["zz", "."]
        assert settings["bad_words"] == ["fox"]
        assert settings["suppress_tokens"] == [5, 7]

    def test_true_false_and_never_are_words(self, run):
        for word, value in (("true", True), ("false", False), ("never", "never"), ("TRUE", True),
                            ("False", False), ("fAlSe", False), ("Never", "never")):  # fmt: skip
            settings = self.in_force(run, "--num-beams", "2", "--early-stopping", word)
            assert settings["early_stopping"] == value
        for word, value in (("True", True), ("FALSE", False), ("tRuE", True)):
            setting = f"generation.early_stopping={word}"
            assert (
                self.in_force(run, "--num-beams", "2", "--set", setting)["early_stopping"] == value
            )

    def test_switches_can_be_turned_either_way(self, run):
        assert self.in_force(run, "--do-sample")["do_sample"] is True
        assert self.in_force(run, "--no-do-sample")["do_sample"] is False
        settings = self.in_force(run, "--strategy", "watermark", "--no-do-sample", "--top-p", "1")
        assert settings["do_sample"] is False

    def test_layers_are_words_or_numbers_with_commas(self, run):
        assert self.in_force(run, "--dola-layers", "high")["dola_layers"] == "high"
        assert self.in_force(run, "--dola-layers", "0,1")["dola_layers"] == [0, 1]

    def test_maps_and_decays_are_for_set(self, run):
        settings = self.in_force(
            run, "--set", "generation.logit_bias={5: 2}",
            "--set", "generation.exponential_decay_length_penalty=[1, 1.5]",
        )  # fmt: skip
        assert settings["logit_bias"] == {"5": 2.0}
        assert settings["exponential_decay_length_penalty"] == [1, 1.5]

    def test_a_neutral_flag_takes_a_setting_of_the_config_back(self, run):
        settings = self.in_force(run, "--set", "generation.top_k=5", "--top-k", "0")
        assert settings["top_k"] == 0

    def test_a_template_frames_the_prompt_and_ends_the_answer(self, run):
        result = run("-p", "Why?", "--template", "qa", "--json", "--stop-strings", "zz")
        (text,) = json.loads(result.stdout)
        assert text["prompt"] == "Q: Why?\nA:"
        assert text["settings"]["stop_strings"] == ["zz", "\nQ:"]

    def test_a_window_forgets_the_beginning(self, run):
        assert "let --window forget" in error_of(run("-p", "q" * 60))
        (text,) = json.loads(run("-p", "q" * 60, "--window", "--json").stdout)
        assert text["prompt"] == "q" * 60

    def test_what_the_model_suggests_is_told_and_not_in_force(self, run, tiny_model_dir, tmp_path):
        folder = tmp_path / "suggesting"
        shutil.copytree(tiny_model_dir, folder)
        path = folder / "generation_config.json"
        own = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps({**own, "do_sample": True, "top_k": 7}), encoding="utf-8")
        result = run("-p", "fox", model=folder)
        assert result.stdout == run("-p", "fox").stdout
        assert "suggests do_sample true, top_k 7. It is not in force" in result.stderr


class TestCompare:
    def test_strategies_stand_side_by_side_and_on_a_page(self, run, tmp_path):
        page = tmp_path / "page.html"
        result = run("-p", "fox", "--compare", "greedy, nucleus", "--html", str(page), "--json",
                     "--seed", "3")  # fmt: skip
        assert result.exit_code == 0, result.output
        rows = json.loads(result.stdout)
        (greedy,) = json.loads(run("-p", "fox", "--json").stdout)
        assert len(rows) == 2
        assert greedy["continuation"] in json.dumps(rows, ensure_ascii=False)
        assert f"Written: {page}" in result.stderr
        assert "nucleus" in page.read_text(encoding="utf-8")

    def test_a_table_shows_each_by_name(self, run):
        result = run("-p", "fox", "--compare", "greedy,beam,top_k")
        assert result.exit_code == 0, result.output
        assert all(name in result.stdout for name in ("greedy", "beam", "top_k"))


class TestWhyAndSpeed:
    def test_why_shows_each_token_with_its_probability(self, run):
        result = run("-p", "fox", "--why")
        assert result.exit_code == 0, result.output
        (text,) = json.loads(run("-p", "fox", "--why", "--json").stdout)
        new = text["tokens"][-text["num_new_tokens"] :]
        assert len(new) == text["num_new_tokens"] > 0
        assert len(text["tokens"]) > len(new)
        assert "fox" in result.stdout

    def test_why_writes_a_page(self, run, tmp_path):
        prompts, page = tmp_path / "prompts.txt", tmp_path / "page.html"
        prompts.write_text("Буря\n", encoding="utf-8")
        words = ["--file", str(prompts), "--why", "--top-k", "5", "--lang", "en"]
        result = run(*words, "--html", str(page))
        assert result.exit_code == 0, result.output
        assert result.stderr.endswith(f"Written: {page}\n")
        assert "After settings" in page.read_text(encoding="utf-8")
        result = run("--file", str(prompts), "--why", "--html", str(prompts))
        assert "it is read by this very command" in error_of(result)

    def test_speed_goes_to_stderr_beside_the_text(self, run):
        result = run("-p", "fox", "--speed")
        assert result.stdout == run("-p", "fox").stdout
        assert len(result.stderr.strip().splitlines()) == 2
        assert "tokens" in result.stderr.splitlines()[-1]
        (text,) = json.loads(run("-p", "fox", "--speed", "--json").stdout)
        assert text["speed"]


OF_THEIR_OWN = "named"  # the example of a config's own strategies


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
class TestShippedConfigs:
    def test_resolves_to_the_strategy_it_is_named_after(self, path):
        config = load_config(path)
        check_strategies(config.strategies)
        assert bool(config.strategies) is (path.stem == OF_THEIR_OWN)
        settings = resolve_settings(config.generation)
        assert settings.strategy == (path.stem if path.stem != OF_THEIR_OWN else "greedy")

    def test_is_headed_by_commands_that_run(self, path, monkeypatch):
        monkeypatch.chdir(path.parents[2])
        lines = path.read_text(encoding="utf-8").splitlines()
        commands = [line[4:] for line in lines if line.startswith("#   gptft generate")]
        name = f"configs/generate/{path.name}"
        first = f'gptft generate pico -p "Мороз и солнце" --config {name}'
        assert commands[0].startswith(first)
        assert commands == [first] or path.stem == OF_THEIR_OWN
        for line in commands:
            args = [*shlex.split(line)[1:], "--cpu", "--max-new-tokens", "20"]
            result = CliRunner().invoke(app, args)
            assert result.exit_code == 0, result.output


def test_every_strategy_has_a_shipped_config():
    assert {path.stem for path in SHIPPED} == {*STRATEGIES, OF_THEIR_OWN}


class TestProcess:
    """What only a process of its own shows."""

    def gptft(self, *args, stdin=b""):
        return subprocess.run(
            [sys.executable, "-m", "gptft", "generate", *args],
            input=stdin,
            capture_output=True,
            check=False,
        )

    def test_a_mistake_is_one_line_and_exit_2_and_loads_no_torch(self, tmp_path):
        poisoned = tmp_path / "torch.py"
        poisoned.write_text("raise SystemExit('torch was imported')", encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-m", "gptft", "generate", "-p", "x", "--top-p", "7"],
            capture_output=True,
            check=False,
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
        )
        assert done.returncode == 2
        assert done.stdout == b""
        assert done.stderr == b"error: top_p must be at most 1, not 7.0.\n"

    def test_a_model_that_is_not_there_is_exit_2(self):
        done = self.gptft("./nowhere", "-p", "x")
        assert (done.returncode, done.stdout) == (2, b"")
        assert done.stderr.startswith(b"error: ./nowhere: no such folder")

    def test_a_piped_prompt_is_continued_and_nothing_else_is_printed(self, tiny_model_dir):
        done = self.gptft(
            str(tiny_model_dir), "--cpu", "--max-new-tokens", "3", stdin="Буря\n".encode()
        )
        assert done.returncode == 0
        assert done.stdout.decode().startswith("Буря")
        assert len(done.stderr.decode().splitlines()) == 1


def test_ctrl_c_ends_the_line_and_exits_130(tiny_model_dir, monkeypatch, capsys):
    write = command._write

    def interrupted(text):
        write(text)
        if text == "Буря":
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(command, "_write", interrupted)
    args = ["gptft", "generate", str(tiny_model_dir), "--cpu", "-p", "Буря", "--stream"]
    monkeypatch.setattr(sys, "argv", args)
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 130
    assert capsys.readouterr().out == "Буря\n"


def test_every_setting_has_a_panel_and_an_option_or_is_for_yaml_alone():
    from gptft.cli.settings_options import _PANELS, _TYPES
    from gptft.decoding.strategies import SETTINGS

    assert {row.group for row in SETTINGS.values()} <= set(_PANELS)
    assert {row.kind.name for row in SETTINGS.values()} - set(_TYPES) == {"weights", "decay"}
