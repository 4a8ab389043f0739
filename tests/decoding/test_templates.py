import pytest

from gptft.decoding.prompts.templates import TEMPLATES, find_template, in_template
from gptft.decoding.stopping import cut_at
from gptft.errors import ConfigError

FRAMED = [
    ("qa", "Who wrote Onegin?", "Q: Who wrote Onegin?\nA:", ["\nQ:"]),
    ("qa", "Кто написал Онегина?", "Вопрос: Кто написал Онегина?\nОтвет:", ["\nВопрос:"]),
    ("translate", "Good day.", "English: Good day.\nRussian:", ["\n"]),
    ("translate", "Добрый день.", "Русский: Добрый день.\nАнглийский:", ["\n"]),
    ("summary", "Long.", "Long.\nTL;DR:", ["\n\n"]),
    ("summary", "Долго.", "Долго.\nTL;DR:", ["\n\n"]),
    ("dialogue", "Hello.", "A: Hello.\nB:", ["\nA:", "\nB:"]),
    ("dialogue", "Привет.", "– Привет.\n–", ["\n–"]),
]


@pytest.mark.parametrize(("name", "prompt", "text", "stops"), FRAMED)
def test_a_prompt_is_put_into_the_words_of_its_language(name, prompt, text, stops):
    assert in_template(name, [prompt]) == ([text], stops)


def test_prompts_in_two_languages_end_as_either_does():
    texts, stops = in_template("qa", ["Why?", "Почему?", "How?"])
    assert texts == ["Q: Why?\nA:", "Вопрос: Почему?\nОтвет:", "Q: How?\nA:"]
    assert stops == ["\nQ:", "\nВопрос:"]


def test_braces_in_a_prompt_stay_as_they_are():
    for prompt in ("{prompt}", "{0} {x}", "a { b } c", ""):
        assert in_template("qa", [prompt])[0] == [f"Q: {prompt}\nA:"]


@pytest.mark.parametrize("name", TEMPLATES)
class TestEach:
    def test_describes_itself_and_names_a_source(self, name):
        template = TEMPLATES[name]
        assert template.description.endswith(".")
        assert template.source.endswith(".")

    def test_takes_the_prompt_once_and_leaves_no_space_at_the_end(self, name):
        for frame in (TEMPLATES[name].english, TEMPLATES[name].russian):
            assert frame.text.count("{prompt}") == 1
            assert frame.text == frame.text.rstrip()  # a model writes its own space
            assert frame.stop_strings

    def test_what_ends_the_answer_does_not_end_it_at_once(self, name):
        for frame in (TEMPLATES[name].english, TEMPLATES[name].russian):
            assert cut_at(" An answer.", frame.stop_strings) == " An answer."
            for stop in frame.stop_strings:
                assert cut_at(f" An answer.{stop} more", frame.stop_strings) == " An answer."


def test_a_misspelt_name_is_guessed_and_a_strange_one_answered_with_all():
    with pytest.raises(
        ConfigError, match=r"--template: there is no 'sumary'. Did you mean summary"
    ):
        find_template("sumary")
    with pytest.raises(ConfigError, match="There are qa, translate, summary, dialogue"):
        in_template("x", ["y"])
