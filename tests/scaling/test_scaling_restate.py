"""Runs under other conventions of N and C, and how an exponent moves with them."""

import json

import numpy as np
import pytest

from research.__main__ import main
from research.errors import UserError
from research.scaling.compare.restate import restated
from tests.scaling.planted import losses, result, valleys, write_study

SCOPES = {"attention/qkv": 3.0, "attention/scores": 2.0, "mlp/up": 4.0, "optimizer/newton": 1.0}


@pytest.fixture
def study(tmp_path):
    """Each run's optimizer costs a tenth and its scores a fifth; half of N are embeddings."""
    params, data = valleys()
    params = 2 * np.round(params / 2)
    rows = []
    budgets = np.repeat(np.logspace(17, 21, 5), 7)
    for row in zip(params, data, losses(params, data), budgets, strict=True):
        each = result(*row)
        half = int(row[0] / 2)
        groups = {"embedding": half, "mlp": half}
        each["params"] = {
            "total": 2 * half,
            "active": 2 * half,
            "non_embedding": half,
            "groups": groups,
        }
        scopes = {name: each["flops"] * share / 10 for name, share in SCOPES.items()}
        rows.append(each | {"flops_by_scope": scopes, "flops_6nd": each["flops"] / 2})
    return write_study(tmp_path / "study", rows)


@pytest.mark.parametrize(
    ("compute", "share"),
    [("ledger", 1.0), ("ledger_without_optimizer", 0.9), ("ledger_causal", 0.9), ("6nd", 0.5)],
)
def test_compute_under_each_convention(study, compute, share):
    (before,), (after,) = restated(study).values(), restated(study, compute=compute).values()
    assert after["C"] == pytest.approx(share * before["C"], rel=1e-12)
    assert (after["N"] == before["N"]).all() and compute in after.convention


def test_sizes_by_count_and_by_group(study):
    (before,) = restated(study).values()
    for size in ("non_embedding", "mlp"):
        (after,) = restated(study, size=size).values()
        assert (after["N"] == before["N"] / 2).all()
    (both,) = restated(study, size="mlp+embedding").values()
    assert (both["N"] == before["N"]).all()


def test_the_exponent_under_each_convention(study, capsys):
    assert main(["compare", str(study), "--conventions", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["exponents"]
    assert len(rows) == 7 and all(row["refused"] is None for row in rows)
    # One factor for all runs moves the coefficient alone.
    assert [row["exponent"] for row in rows] == pytest.approx([rows[0]["exponent"]] * 7, abs=1e-3)


def test_conventions_are_named_on_the_command_line(study, capsys):
    assert main(["compare", str(study), "--json", "--conventions", "mlp+embedding", "6nd"]) == 0
    rows = json.loads(capsys.readouterr().out)["exponents"]
    assert [(row["size"], row["compute"]) for row in rows[1:]] == [
        ("mlp+embedding", "ledger"),
        ("as it was", "6nd"),
    ]
    assert main(["compare", str(study), "--conventions", "mpl"]) == 2
    assert "did you mean 'mlp'" in capsys.readouterr().err


def test_what_a_result_does_not_hold_is_refused(study):
    for path in study.glob("*/result.json"):
        content = json.loads(path.read_text())
        content.pop("flops_by_scope")
        path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="has no flops_by_scope; run it again"):
        restated(study, compute="ledger_causal")
    with pytest.raises(UserError, match="no group 'mpl'.*did you mean 'mlp'"):
        restated(study, size="mpl")
    with pytest.raises(UserError, match="compute='6n'.*expected ledger"):
        restated(study, compute="6n")


def test_no_mask_is_taken_out_of_attention_that_sees_both_ways(study):
    for path in study.glob("*/result.json"):
        content = json.loads(path.read_text())
        path.write_text(json.dumps(content | {"family": "diffusion"}))
    with pytest.raises(UserError, match="sees both ways, so nothing is masked"):
        restated(study, compute="ledger_causal")
