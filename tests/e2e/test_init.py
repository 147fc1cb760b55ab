"""`satisfice init` as a new user would use it: from a file to a pushed model with two commands."""

from __future__ import annotations

import csv
import random
from pathlib import Path
from typing import Any

import pytest

from tests.workbench import Answer, satisfice


def pushed_by(answer: Answer, folder: Path) -> Path:
    """The version that a run has pushed."""
    assert answer.code == 0, answer.out + answer.err
    assert "Traceback" not in answer.out + answer.err
    assert "Pushed version 1." in answer.out
    version = folder / "serving_models" / folder.name / "1"
    assert (version / "saved_model.pb").is_file()
    return version


@pytest.fixture(scope="module")
def cancer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with scikit-learn's breast cancer data as a CSV file."""
    from sklearn.datasets import load_breast_cancer

    folder = tmp_path_factory.mktemp("cancer")
    frame = load_breast_cancer(as_frame=True).frame
    frame.to_csv(folder / "cancer.csv", index=False)
    return folder


def test_breast_cancer(cancer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """30 columns with spaces in their names: `init`, then `run`, ends in a pushed model that is better than guessing."""
    monkeypatch.chdir(cancer)
    made = satisfice("init", "tumours", "--data", "cancer.csv", "--label", "target")
    assert (made.code, made.err) == (0, "")
    assert made.out.splitlines() == [
        "Wrote a binary pipeline for 'target':",
        "  tumours/satisfice.yaml",
        "  tumours/schema.pbtxt",
        "  tumours/tumours_model.py",
        "Next: satisfice run tumours/satisfice.yaml",
    ]
    assert satisfice("validate", "tumours/satisfice.yaml").code == 0
    pushed_by(satisfice("run", "tumours/satisfice.yaml"), cancer / "tumours")
    decision = satisfice("show", "latest", "tumours/satisfice.yaml", "--json").json["decision"]
    accuracy = next(gate for gate in decision["gates"] if gate["metric"] == "binary_accuracy")
    assert accuracy["limit"] == pytest.approx(0.627)
    assert accuracy["value"] > 0.9


SEED, ROWS = 5, 300


def trees() -> list[dict[str, Any]]:
    """Rows with texts, missing values and three classes by name, of which the first two columns tell most."""
    chance = random.Random(SEED)
    rows = []
    for number in range(ROWS):
        kind = chance.choice(["oak", 'silver "fir"', "bird's cherry"])
        bark = {"oak": "rough", 'silver "fir"': "smooth", "bird's cherry": "scaly"}[kind]
        rows.append(
            {
                "bark, seen": "" if chance.random() < 0.1 else bark,
                'height "m"': ""
                if chance.random() < 0.2
                else round(chance.gauss({"o": 20, "s": 40, "b": 8}[kind[0]], 4), 2),
                "rings": chance.randrange(10, 300),
                "found in": "" if chance.random() < 0.3 else chance.choice(["Tal", "Höhe", "Ufer"]),
                "finder": f"Ann {number}",
                "kind of tree": kind,
            }
        )
    return rows


@pytest.fixture(scope="module")
def forest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the rows above."""
    folder = tmp_path_factory.mktemp("forest")
    with (folder / "all trees.csv").open("w", newline="", encoding="utf-8") as lines:
        writer = csv.DictWriter(lines, list(trees()[0]))
        writer.writeheader()
        writer.writerows(trees())
    return folder


def test_texts_missing_values_and_three_classes(forest: Path) -> None:
    """Odd names and empty cells run through to a pushed model that answers for a row with everything missing."""
    folder = forest / "trees"
    made = satisfice("init", folder, "--data", forest / "all trees.csv", "--label", "kind of tree", "--json")
    assert (made.code, made.json["task"]) == (0, "multiclass"), made.out + made.err
    assert list(made.json["ignored"]) == ["finder"]
    version = pushed_by(satisfice("run", folder / "satisfice.yaml"), folder)
    decision = satisfice("show", "latest", folder / "satisfice.yaml", "--json").json["decision"]
    assert next(gate["value"] for gate in decision["gates"] if gate["gate"] == "gates.satisfy.0") > 0.8

    import tensorflow as tf

    served = tf.saved_model.load(str(version)).signatures["serving_examples"]
    known = tf.train.Example()
    known.features.feature["bark, seen"].bytes_list.value.append(b"rough")
    known.features.feature['height "m"'].float_list.value.append(21.0)
    known.features.feature["rings"].int64_list.value.append(100)
    bare = tf.train.Example()
    bare.features.feature["rings"].int64_list.value.append(100)
    (answers,) = served(tf.constant([known.SerializeToString(), bare.SerializeToString()])).values()
    assert answers.shape == (2, 3)
    assert tf.reduce_sum(answers, axis=1).numpy() == pytest.approx([1, 1], abs=1e-5)
    classes = ["bird's cherry", "oak", 'silver "fir"']
    assert classes[int(tf.argmax(answers[0]))] == "oak"


def test_errors_of_init(cancer: Path, forest: Path) -> None:
    """One each, with the right exit code: no such file, no such column, a folder that is not empty, a label of names."""
    data = cancer / "cancer.csv"
    cases = [
        (["new", "--data", cancer / "cancr.csv", "--label", "target"], 1, "Did you mean 'cancer.csv'?"),
        (["new", "--data", data, "--label", "tarjet"], 1, "Did you mean 'target'?"),
        ([cancer, "--data", data, "--label", "target"], 2, "is not empty"),
        (["new", "--data", forest / "all trees.csv", "--label", "finder"], 1, "has 300 different texts"),
        (["new", "--data", data, "--label", "target", "--name", "../up"], 2, "name: "),
    ]
    for arguments, code, words in cases:
        first = cancer / "new" if arguments[0] == "new" else arguments[0]
        answer = satisfice("init", first, *arguments[1:])
        assert (answer.code, answer.out) == (code, ""), arguments
        assert words in answer.err
        assert "Traceback" not in answer.err
        assert not (cancer / "new").exists()
