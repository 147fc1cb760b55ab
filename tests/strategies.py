"""Hypothesis strategies that several tests share."""

from hypothesis import strategies as st

from schemas.metrics import QUALITY

__all__ = ["configurations", "json_values", "names", "shuffled", "texts"]

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
names = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True)
_numbers = st.floats(allow_nan=False, allow_infinity=False)
_not_negative = st.floats(min_value=0, max_value=1e6)
_directed = st.sampled_from([name for name, metric in QUALITY.items() if metric.better != "neither"])
_small = st.sampled_from([name for name, metric in QUALITY.items() if metric.better == "lower"])
_any_metric = st.sampled_from(list(QUALITY))

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | _numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


def _paths(extension=""):
    """Absolute paths at which nothing is."""
    return st.lists(names, min_size=1, max_size=3).map(lambda parts: "/nowhere/" + "/".join(parts) + extension)


def _gates():
    conditions = st.one_of(
        st.fixed_dictionaries({"metric": _any_metric, "min": _numbers}),
        st.fixed_dictionaries({"metric": _any_metric, "max": _numbers}),
        st.fixed_dictionaries({"metric": _directed, "max_drop": _not_negative}),
        st.fixed_dictionaries({"metric": _small, "max_ratio_to_champion": st.floats(0.01, 100)}),
    )
    slices = st.fixed_dictionaries(
        {"slice_by": st.lists(texts, min_size=1, max_size=2)}, optional={"min_examples": st.integers(0, 1000)}
    )
    return st.builds(lambda condition, sliced: condition | sliced, conditions, st.just({}) | slices)


def _limits():
    measures = st.dictionaries(st.sampled_from(["jensen_shannon", "l_infinity"]), st.floats(0, 1), max_size=2)
    return st.dictionaries(st.just("*") | texts, measures, max_size=3)


def configurations():
    """Valid configurations as a file holds them, with only such keys as are acted on."""
    positive = st.integers(1, 2**31 - 1)
    early_stopping = st.fixed_dictionaries(
        {}, optional={"metric": names.map("val_{}".format), "patience": st.integers(0, 99)}
    )
    return st.fixed_dictionaries(
        {
            "name": names,
            "data": st.fixed_dictionaries(
                {
                    "source": st.one_of(
                        st.fixed_dictionaries(
                            {"format": st.sampled_from(["csv", "parquet"]), "path": _paths("/*.csv")}
                        ),
                        st.fixed_dictionaries(
                            {"format": st.just("arrow"), "path": _paths("/{YYYY}-{MM}-{DD}/{VERSION:2}.arrow")},
                            optional={
                                "window": st.fixed_dictionaries({"last_spans": st.one_of(positive, st.just("all"))}),
                                "span": st.dates().map(str),
                            },
                        ),
                    ),
                    "schema": _paths(".pbtxt"),
                },
                optional={
                    "splits": st.fixed_dictionaries({"train": positive, "validate": positive, "eval": positive}),
                    "validate": st.fixed_dictionaries(
                        {"anomalies": st.sampled_from(["block", "warn"])},
                        optional={
                            "drift": _limits(),
                            "on_drift": st.sampled_from(["block", "warn", "retrain"]),
                            "on_no_baseline": st.sampled_from(["block", "warn"]),
                            "skew": _limits(),
                            "on_skew": st.sampled_from(["block", "warn"]),
                            "min_examples": st.integers(0, 1000),
                        },
                    ),
                },
            ),
            "model": st.fixed_dictionaries(
                {"module": st.lists(names, min_size=1, max_size=3).map(".".join), "label": texts},
                optional={"hyperparameters": st.dictionaries(texts, json_values, max_size=3)},
            ),
            "gates": st.fixed_dictionaries(
                {"satisfy": st.lists(_gates(), min_size=1, max_size=3)},
                optional={
                    "optimize": st.fixed_dictionaries(
                        {"metric": _directed}, optional={"at_least_champion_minus": _not_negative}
                    )
                },
            ),
            "push": st.fixed_dictionaries({"serving": st.fixed_dictionaries({"base_path": _paths()})}),
        },
        optional={
            "training": st.fixed_dictionaries(
                {},
                optional={
                    "strategy": st.sampled_from(["auto", "one_device"]),
                    "global_batch_size": positive,
                    "epochs": positive,
                    "seed": st.integers(0, 2**31 - 1),
                    "early_stopping": st.none() | early_stopping,
                },
            ),
            "metadata": st.fixed_dictionaries({"sqlite": st.fixed_dictionaries({"path": _paths(".db")})}),
        },
    )


def shuffled(value):
    """The same value with the keys of every mapping in any order."""
    if isinstance(value, dict):
        return (
            st.permutations(list(value))
            .flatmap(lambda keys: st.tuples(*(st.tuples(st.just(key), shuffled(value[key])) for key in keys)))
            .map(dict)
        )
    if isinstance(value, list):
        return st.tuples(*map(shuffled, value)).map(list)
    return st.just(value)
