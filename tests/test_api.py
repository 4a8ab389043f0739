"""`import gptft` and its functions: each is there, and nothing is loaded before it is named."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import gptft
from gptft import api
from gptft.version import __version__

FUNCTIONS = sorted(api._HOMES)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_is_there_typed_and_documented(name: str):
    function = getattr(gptft, name)
    assert function is getattr(api, name)
    assert callable(function)
    assert function.__doc__
    assert "return" in function.__annotations__


def test_type_checkers_are_told_of_the_same_functions():
    tree = ast.parse(Path(api.__file__).read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)][:1]
    told = {alias.asname for node in block.body for alias in node.names}
    assert told == set(FUNCTIONS)
    assert gptft.__version__ == __version__


def test_a_name_that_is_none_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"'gptft\.api' has no attribute 'trian'"):
        gptft.trian  # noqa: B018


def test_functions_stay_functions_after_every_command_was_imported():
    script = (
        "import gptft, pkgutil, importlib, gptft.cli\n"
        "for module in pkgutil.iter_modules(gptft.cli.__path__):\n"
        "    importlib.import_module(f'gptft.cli.{module.name}')\n"
        f"for name in {FUNCTIONS!r}:\n"
        "    assert callable(getattr(gptft, name)), name\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_importing_gptft_loads_nothing_and_naming_a_light_function_no_torch():
    script = (
        "import sys; before = set(sys.modules); import gptft\n"
        "new = {name.split('.')[0] for name in set(sys.modules) - before}\n"
        "assert not new & {'numpy', 'pydantic', 'rich', 'typer', 'torch', 'transformers'}, new\n"
        "gptft.tokenize, gptft.prepare, gptft.check_config, gptft.list_runs, gptft.generate\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_text_is_tokenized_and_scored_as_the_commands_do(tiny_model_dir: Path):
    tokenizer = gptft.load_tokenizer(str(tiny_model_dir))
    (measured,) = gptft.tokenize("Буря мглою", [tokenizer])
    ids = [token.id for token in measured.tokens]
    assert ids == tokenizer.backend.encode("Буря мглою").ids
    scored = gptft.score(str(tiny_model_dir), "Буря мглою", use_cpu=True)
    assert [token.token.id for token in scored.tokens] == ids
