"""A user's module is found, checked, and refused with what is wrong in it, before anything runs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.user_module import load_user_module, locate_user_module
from schemas.errors import UserModuleError

GOOD = """
def preprocessing_fn(inputs):
    return inputs

def build_model(keras, features, hyperparameters):
    return None
"""


@pytest.fixture(autouse=True)
def clean_imports() -> Iterator[None]:
    """Takes back what a test imports and appends to the path."""
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def write(folder: Path, name: str, text: str) -> str:
    (folder / f"{name}.py").write_text(text)
    return name


def refused(name: str, folder: Path) -> str:
    with pytest.raises(UserModuleError) as caught:
        load_user_module(name, folder)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_a_module_beside_the_configuration_is_found(tmp_path: Path) -> None:
    """And described, with a fingerprint for each function."""
    module = load_user_module(write(tmp_path, "good_model_a", GOOD), tmp_path)
    assert module.preprocessing_fn == "good_model_a.preprocessing_fn"
    assert module.file == (tmp_path / "good_model_a.py").resolve()
    assert module.preprocessing_fingerprint != module.build_model_fingerprint


def test_the_folder_comes_last_on_the_path(tmp_path: Path) -> None:
    """So that it never shadows what is installed."""
    load_user_module(write(tmp_path, "good_model_b", GOOD), tmp_path)
    assert sys.path[-1] == str(tmp_path)


def test_a_missing_module_gets_the_close_match(tmp_path: Path) -> None:
    """A slip of the pen is named."""
    write(tmp_path, "good_model", GOOD)
    assert "there is no such module" in refused("good_modle", tmp_path)
    assert "did you mean 'good_model'?" in refused("good_modle", tmp_path)
    models = tmp_path / "located_package" / "models"
    models.mkdir(parents=True)
    for folder in (models, models.parent):
        write(folder, "__init__", "")
    write(models, "taxi", GOOD)
    for slip in ("located_package.models.taxy", "located_package.model.taxi", "locatd_package.models.taxi"):
        assert "did you mean 'located_package.models.taxi'?" in refused(slip, tmp_path)
    assert "did you mean 'good_model'?" in refused("good_model.inner", tmp_path)
    assert "did you mean" not in refused("located_package.models.nothing_alike", tmp_path)


def test_a_module_that_does_not_import_says_where(tmp_path: Path) -> None:
    """With its file and line, for a missing dependency too."""
    message = refused(write(tmp_path, "broken_import", "x = 1\nimport no_such_dependency\n"), tmp_path)
    assert "does not import: ModuleNotFoundError: No module named 'no_such_dependency'" in message
    assert "broken_import.py, line 2" in message


def test_a_syntax_error_says_where(tmp_path: Path) -> None:
    """With its file and line."""
    message = refused(write(tmp_path, "broken_syntax", "x = 1\ndef f(:\n"), tmp_path)
    assert "SyntaxError: invalid syntax (/" in message
    assert message.count("broken_syntax.py, line 2") == 1


def test_missing_and_wrong_functions_are_all_named(tmp_path: Path) -> None:
    """All faults of a module at once, with what was expected."""
    text = "def preprocesing_fn(inputs):\n    pass\n\ndef build_model(features):\n    pass\n"
    message = refused(write(tmp_path, "wrong_functions", text), tmp_path)
    assert "lacks the function preprocessing_fn; expected preprocessing_fn(inputs)" in message
    assert "did you mean 'preprocesing_fn'?" in message
    assert "build_model takes other arguments; expected build_model(keras, features, hyperparameters)" in message
    assert "got build_model(features)" in message


def test_something_that_is_no_function_is_refused(tmp_path: Path) -> None:
    """A constant of that name is no function."""
    assert "is not a function" in refused(write(tmp_path, "constant", GOOD + "\nbuild_model = 3\n"), tmp_path)


def test_a_name_that_an_installed_module_has_is_refused(tmp_path: Path) -> None:
    """It would be found instead of the user's, in silence."""
    message = refused(write(tmp_path, "json", GOOD), tmp_path)
    assert "'json' beside the configuration is hidden by another module of that name" in message


def test_a_module_of_the_project_is_found_from_anywhere(tmp_path: Path) -> None:
    """An installed dotted module needs no file beside the configuration."""
    assert load_user_module("pipeline.models.taxi", tmp_path).name == "pipeline.models.taxi"


# --- located, not imported ----------------------------------------------------------------------------------------------


def not_located(name: str, folder: Path) -> str:
    with pytest.raises(UserModuleError) as caught:
        locate_user_module(name, folder)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_a_located_module_is_the_one_that_would_be_imported(tmp_path: Path) -> None:
    """With the same file and the same fingerprints, for a package's module too; and nothing of it has run."""
    write(tmp_path, "located_a", GOOD + "\nraise RuntimeError('imported')\n")
    located = locate_user_module("located_a", tmp_path)
    assert "located_a" not in sys.modules
    (tmp_path / "located_a.py").write_text(GOOD)
    loaded = load_user_module("located_a", tmp_path)
    assert (located.name, located.file) == (loaded.name, loaded.file)

    (tmp_path / "located_package").mkdir()
    (tmp_path / "located_package" / "__init__.py").write_text("")
    write(tmp_path / "located_package", "model", "from located_package import parts\n" + GOOD)
    (tmp_path / "located_package" / "parts.py").write_text("WIDTH = 3\n")
    assert locate_user_module("located_package.model", tmp_path) == load_user_module("located_package.model", tmp_path)


def test_fingerprints_are_taken_anew_each_time(tmp_path: Path) -> None:
    """An edit is seen, in the function that it changes and in no other; a comment is none."""
    before = locate_user_module(write(tmp_path, "located_b", GOOD), tmp_path)
    write(tmp_path, "located_b", GOOD.replace("return None", "return 3"))
    after = locate_user_module("located_b", tmp_path)
    assert after.preprocessing_fingerprint == before.preprocessing_fingerprint
    assert after.build_model_fingerprint != before.build_model_fingerprint
    write(tmp_path, "located_b", "# a comment\n" + GOOD)
    assert locate_user_module("located_b", tmp_path) == before


def test_an_edit_of_a_module_that_it_imports_is_seen(tmp_path: Path) -> None:
    """One beside the configuration counts whole."""
    write(tmp_path, "located_parts", "WIDTH = 3\n")
    text = GOOD.replace("return None", "return located_parts.WIDTH")
    before = locate_user_module(write(tmp_path, "located_c", "import located_parts\n" + text), tmp_path)
    write(tmp_path, "located_parts", "WIDTH = 4\n")
    assert locate_user_module("located_c", tmp_path).build_model_fingerprint != before.build_model_fingerprint


def test_what_cannot_be_located_is_refused_as_when_it_is_loaded(tmp_path: Path) -> None:
    """The same words: no such module, a package that is none, a clash, a syntax error with its line."""
    write(tmp_path, "good_model", GOOD)
    assert not_located("good_modle", tmp_path) == refused("good_modle", tmp_path)
    assert "did you mean 'good_model'?" in not_located("good_modle", tmp_path)
    assert "there is no such module" in not_located("no.such.package", tmp_path)
    assert "there is no such module" in not_located("good_model.inner", tmp_path)
    write(tmp_path, "json", GOOD)
    assert "'json' beside the configuration is hidden" in not_located("json", tmp_path)
    message = not_located(write(tmp_path, "located_broken", "x = 1\ndef f(:\n"), tmp_path)
    assert "SyntaxError" in message
    assert "located_broken.py, line 2" in message


def test_a_module_without_source_is_refused(tmp_path: Path) -> None:
    """A namespace package, or one that is built into the interpreter, has no code of a user's to take a print of."""
    (tmp_path / "located_folder").mkdir()
    assert "there is no such module" in not_located("located_folder", tmp_path)
    assert "there is no such module" in not_located("sys", tmp_path)


def test_a_module_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    """A file that is no text, or holds a NUL."""
    for number, content in enumerate((b"\xff\xfe\x00", b"x = 1\x00\n")):
        (tmp_path / f"located_bytes_{number}.py").write_bytes(content)
        assert "does not import" in not_located(f"located_bytes_{number}", tmp_path)
