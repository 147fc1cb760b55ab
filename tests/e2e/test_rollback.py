"""A drill on the small taxi pipeline: two versions, a rollback, the refusal, the history, and the way back."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving.store import VersionStore
from tests.workbench import Bench, present, satisfice, taxi_bench


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A pipeline that has pushed two versions, of two seeds."""
    made = taxi_bench(tmp_path_factory.mktemp("rollback"), rows=1200)
    made.edit(lambda raw: raw["gates"].update(satisfy=[{"metric": "auc", "min": 0.01}], optimize=None))
    made.edit(lambda raw: raw["training"].update(epochs=1))
    made.edit(lambda raw: raw["push"]["serving"].update(keep_versions=3))
    for seed in (1, 2):
        answer = made.run(f"training.seed={seed}")
        assert (answer.code, answer.json["outcome"]) == (0, "pushed"), answer.out + answer.err
    return made


@pytest.mark.slow
def test_a_drill(bench: Bench) -> None:
    """`run`, `versions`, `rollback`, `run` again (refused, exit code 3), `history --at`, `--allow`, retention."""
    store = VersionStore(bench.served)
    bad = store.manifest(2)
    assert [row["version"] for row in satisfice("versions", bench.config, "--json").json["versions"]] == [2, 1]
    assert satisfice("rollback", bench.config, "--to", "1", "--reason", "drill", "--by", "ann").code == 0
    assert store.state() == f"3:{store.manifest(1).digest}"

    refused = bench.run("training.seed=2")
    assert (refused.code, refused.json["outcome"], refused.json["push"]["outcome"]) == (3, "blocked", "rolled_back")
    assert "by ann: drill" in refused.json["push"]["reason"]
    assert refused.json["decision"]["champion_version"] == 3, "the champion follows the rollback"
    why = satisfice("why", "latest", bench.config)
    assert "blocked, nothing was pushed. The payload with digest" in why.out
    text = satisfice("run", bench.config, "--set", "training.seed=2")
    assert text.code == 3
    assert f"satisfice run --allow {bad.digest[:12]}" in text.out
    same = bench.run("training.seed=1")
    assert (same.code, same.json["outcome"], same.json["push"]["version"]) == (0, "already_served", 3)

    before = satisfice("history", bench.config, "--at", bad.published_at.isoformat(), "--json").json
    assert (before["version"], before["since"]["kind"], bool(before["since"]["run"])) == (2, "push", True)
    now = satisfice("history", bench.config, "--at", present(), "--json").json
    assert (now["version"], now["since"]["kind"], now["since"]["by"], now["since"]["why"]) == (
        3,
        "rollback",
        "ann",
        "drill",
    )

    allowed = bench.run("training.seed=2", options=("--allow", bad.digest[:12]))
    assert (allowed.code, allowed.json["push"]["version"], allowed.json["push"]["removed"]) == (0, 4, [1])
    kinds = [one["kind"] for one in satisfice("history", bench.config, "--json").json]
    assert kinds == ["push", "push", "rollback", "allow", "push"]
    assert not Path(bench.served, "1").exists()
    assert satisfice("fsck", bench.config).code == 0
    unknown = bench.run("training.seed=2", options=("--allow", "c0ffee"))
    assert (unknown.code, unknown.json["error"]) == (1, "StoreError")
