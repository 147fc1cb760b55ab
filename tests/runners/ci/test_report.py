"""The reports: what they say, that foreign text cannot break them, and what counts as worse."""

import xml.etree.ElementTree as ET

from runners.ci.report import Report, changes, marker
from schemas.decision import Decision, EdgeDecision, GateResult, Rung


def gate(name="gates.satisfy.0", condition="min", metric="auc", value=0.8, **others):
    return GateResult.model_validate(
        {
            "gate": name,
            "condition": condition,
            "metric": metric,
            "value": value,
            "limit": 0.75,
            "margin": 0.05,
            "verdict": "pass",
            "reason": "told",
            **others,
        }
    )


def decision(*gates, outcome="push"):
    return Decision(outcome=outcome, digest="d" * 64, gates=gates, reasons=("every gate passed",))


def report(**others):
    return Report(**{"pipeline": "taxi", "base": "main", "base_told": "", "sample": "5 of 9 rows", **others})


def test_the_comment():
    """Its first line is the marker by which it is found again; then what a reader looks for."""
    made = report(
        outcome="would_block",
        decision=decision(gate(verdict="fail", value=0.7, margin=-0.05), outcome="block"),
        code=tuple(f"file{number}.py" for number in range(33)),
        configuration={"training.epochs": (4, 1)},
    )
    text = made.markdown()
    assert text.startswith(marker("taxi") + "\n\n### satisfice: taxi would be blocked\n")
    assert "| verdict | metric | where | candidate | limit | margin | base | interval | n | gate |" in text
    assert "| fail | auc |" in text
    assert "- auc has to rise by 0.05, to 0.75" in text
    assert "- training.epochs: 4 → 1" in text
    assert "- and 3 more" in text
    assert text.count("file") == 30 + text.count("Changed files")
    assert made.exit_code == 3


def test_text_from_elsewhere():
    """Neither a table nor the XML is broken by what stands in a slice or a file's name."""
    made = report(
        outcome="would_push",
        decision=decision(gate(slice={"company": "a|b<!--\x00&"})),
        code=("<script>\n|.py",),
    )
    row = next(line for line in made.markdown().splitlines() if line.startswith("| pass"))
    assert row.replace("\\|", "").count("|") == 11
    assert "<script>" not in made.markdown().replace("\\<", "")
    case = ET.fromstring(made.junit()).find("testcase")
    assert case.get("name") == "auc[company=a|b<!--�&]"


def test_junit():
    """A failure for each gate that blocks, an error where the run failed."""
    suite = ET.fromstring(report(outcome="would_block", decision=decision(gate(), gate(verdict="fail"))).junit())
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("2", "1", "0")
    broken = ET.fromstring(report(outcome="failed", error="node Trainer: broke").junit())
    assert broken.find("testcase/error").get("message") == "node Trainer: broke"


def test_files_for_devices():
    """The file that is chosen, or the first that was judged, stands in the table and among the cases."""
    own = gate("gates.satisfy.1", "max", "size_mb", 2.0, payload="tflite", verdict="fail", limit=1.0, margin=-1.0)
    rung = Rung(variant="int8", digest="f" * 64, verdict="blocked", gates=(own,))
    edge = EdgeDecision(outcome="block", ladder=(rung,), reasons=("int8: size_mb fail",))
    made = report(outcome="would_push", decision=decision(gate()).model_copy(update={"edge": edge}))
    assert "| fail | size\\_mb | tflite |" in made.markdown()
    assert "- none: int8: size\\_mb fail" in made.markdown()
    assert ET.fromstring(made.junit()).get("failures") == "1"


def test_changed_data():
    """Stands in the comment beside configuration and files."""
    text = report(outcome="would_push", decision=decision(gate()), data=("data.csv holds something else",)).markdown()
    assert "Changed data:\n\n- data.csv holds something else" in text


def test_changes():
    """Also keys that only one side has, and sections that became another thing."""
    then = {"a": {"b": 1}, "c": [1], "d": None}
    assert changes(then, {"a": {"b": 1, "x": 2}, "c": [2], "d": {"e": 1}}) == {
        "a.x": (None, 2),
        "c": ([1], [2]),
        "d": (None, {"e": 1}),
    }
