"""The sample data: the known bytes, or nothing and the reason."""

import base64
import csv
import importlib.util
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from data import samples

TFX = Path(importlib.util.find_spec("tfx").submodule_search_locations[0])


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_taxi_trips(tmp_path):
    """All 15,002 trips with their 18 columns; 3,374 of them tipped over a fifth of the fare."""
    assert samples.make(samples.TAXI, TFX, tmp_path)
    rows = rows_of(tmp_path / "taxi" / "data.csv")
    assert len(rows) == 15_002
    assert len(rows[0]) == 18
    assert sum(float(row["tips"]) > 0.2 * float(row["fare"]) for row in rows) == 3_374


def test_penguins_are_in_the_units_of_their_columns(tmp_path):
    """The scaling in the wheel is undone: the first row and the extremes are those of the published table."""
    assert samples.make(samples.PENGUIN, TFX, tmp_path)
    rows = rows_of(tmp_path / "penguin" / "data.csv")
    assert list(rows[0].values()) == ["39.1", "18.7", "181", "3750", "0"]
    assert Counter(row["species"] for row in rows) == {"0": 146, "1": 68, "2": 120}
    masses = [int(row["body_mass_g"]) for row in rows]
    assert (min(masses), max(masses)) == (2700, 6300)
    assert all(mass % 25 == 0 for mass in masses)  # the scale's precision: nothing was lost on the way


def test_what_stands_is_left_alone_and_what_is_damaged_is_written_again(tmp_path):
    """A second call writes nothing; a file with other bytes is replaced."""
    samples.make(samples.PENGUIN, TFX, tmp_path)
    target = tmp_path / "penguin" / "data.csv"
    before = target.stat().st_mtime_ns
    assert not samples.make(samples.PENGUIN, TFX, tmp_path)
    assert target.stat().st_mtime_ns == before
    target.write_text("damaged")
    assert samples.make(samples.PENGUIN, TFX, tmp_path)
    assert len(rows_of(target)) == 334


def test_missing_source(tmp_path):
    """A wheel without the file: the path, what was expected and the remedy; nothing is written."""
    with pytest.raises(
        samples.SampleError, match=r"data\.csv: cannot be read .*expected in the locked wheel.*make setup"
    ):
        samples.make(samples.TAXI, tmp_path / "nowhere", tmp_path)
    assert not (tmp_path / "taxi").exists()


def test_other_source(tmp_path):
    """A wheel with another file: both checksums are said; nothing is written."""
    source = tmp_path / next(iter(samples.TAXI.sources))
    source.parent.mkdir(parents=True)
    source.write_text("a,b\n1,2\n")
    with pytest.raises(samples.SampleError, match=r"SHA-256 is [0-9a-f]{64}; expected cdaf0b59"):
        samples.make(samples.TAXI, tmp_path, tmp_path)
    assert not (tmp_path / "taxi").exists()


def test_other_conversion(tmp_path):
    """What a conversion gives is checked too, before anything is written."""
    with pytest.raises(samples.SampleError, match=r"penguin/data\.csv, as converted: SHA-256 is"):
        samples.make(replace(samples.PENGUIN, convert=lambda _: b"other"), TFX, tmp_path)
    assert not (tmp_path / "penguin").exists()


def test_readme_says_the_checksums():
    """The README beside the data names each file with its checksum."""
    readme = (samples.HERE / "README.md").read_text(encoding="utf-8")
    for sample in samples.SAMPLES:
        assert f"`{sample.path}`" in readme
        assert sample.sha256 in readme


def test_main(tmp_path, monkeypatch, capsys):
    """`make data` makes all of it, says what it wrote, and is silent the second time."""
    monkeypatch.setattr(samples, "make", lambda sample, tfx, make=samples.make: make(sample, tfx, tmp_path))
    assert samples.main() == 0
    assert capsys.readouterr().out == "".join(
        f"data/{name}/data.csv written\n" for name in ("taxi", "penguin", "digits")
    )
    assert samples.main() == 0
    assert capsys.readouterr().out == ""


def test_main_says_why_not(monkeypatch, capsys):
    """A failure is one line on standard error, and exit code 1."""

    def refuse(sample, tfx):
        raise samples.SampleError("the wheel is another")

    monkeypatch.setattr(samples, "make", refuse)
    assert samples.main() == 1
    assert capsys.readouterr().err == "the wheel is another\n"


def test_digits_are_images(tmp_path):
    """1,797 images of 64 bytes, from black to white; the first is a 0 with a hole in it."""
    assert samples.make(samples.DIGITS, samples.package_folder("sklearn"), tmp_path)
    rows = rows_of(tmp_path / "digits" / "data.csv")
    images = [base64.urlsafe_b64decode(row["image"] + "==") for row in rows]
    assert len(rows) == 1_797
    assert {len(image) for image in images} == {64}
    assert {min(map(min, images)), max(map(max, images))} == {0, 255}
    assert Counter(row["digit"] for row in rows).most_common()[-1] == ("8", 174)
    assert rows[0]["digit"] == "0"
    assert images[0][27] == images[0][28] == 0 < images[0][18]


def test_a_package_that_is_not_there():
    """What to do about it."""
    with pytest.raises(samples.SampleError, match=r"no_such_package is not installed .*make data"):
        samples.package_folder("no_such_package")
