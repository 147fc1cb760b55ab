"""What only TFMA on Beam can do is named."""

from __future__ import annotations

import pytest


@pytest.fixture
def plain():
    """An evaluation that fits."""
    from components.evaluation.eval_config import eval_config
    from schemas.config import GatesConfig

    gates = GatesConfig.model_validate_json('{"satisfy": [{"metric": "auc", "min": 0.5, "slice_by": ["hour"]}]}')
    return eval_config(gates, "label")


def test_our_own_configurations_fit(plain):
    """What gates mean can be done here."""
    from components.evaluator.fit import check_config

    check_config(plain)


CHANGES = {
    "cross_slicing_specs": lambda config: config.cross_slicing_specs.add(),
    "slices are given in SQL": lambda config: config.slicing_specs.add(slice_keys_sql="SELECT 1"),
    "query_key": lambda config: setattr(config.metrics_specs[0], "query_key", "q"),
    "outputs are disabled": lambda config: config.options.disabled_outputs.values.append("eval_config"),
    "not tf_generic": lambda config: setattr(config.model_specs[0], "model_type", "tf_keras"),
    "no signature_name or no label_key": lambda config: config.model_specs[1].ClearField("label_key"),
    "not transformed by signatures": lambda config: config.model_specs[0].ClearField("preprocessing_function_names"),
    "a model has example_weight_key": lambda config: setattr(config.model_specs[0], "example_weight_key", "w"),
    "a model has padding_options": lambda config: config.model_specs[0].padding_options.SetInParent(),
}


@pytest.mark.parametrize("reason", CHANGES)
def test_what_does_not_fit_is_named(plain, reason):
    """One reason at a time."""
    from components.evaluator.fit import Unsupported, check_config

    CHANGES[reason](plain)
    with pytest.raises(Unsupported, match=reason):
        check_config(plain)
