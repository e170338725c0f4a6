"""Epsilon against closed forms and the library's accountants; what a configuration may ask for."""

from __future__ import annotations

import math

import dp_accounting
import pandas as pd
import pytest
from dp_accounting import pld, rdp
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments import config, privacy, record, timeline
from experiments.config import ConfigError, Experiment
from experiments.privacy import Accountant
from proto.privacy import ClientPrivacy
from tests.conftest import CONFIGS

SMOKE = CONFIGS / "smoke.yaml"
PRIVATE = [
    "privacy.clip_norm=1",
    "privacy.noise_multiplier=2",
    "aggregation.mean=uniform",
    "uplink.codec=fp32",
]
DELTA = 1e-5


def accountant(z: float = 2.0, *, sums_hide: bool = True) -> Accountant:
    return Accountant(ClientPrivacy(1.0, z), DELTA, sums_hide=sums_hide)


def delta_of(epsilon: float, z: float) -> float:
    """Of the Gaussian mechanism: Balle and Wang, arXiv 1805.06530, theorem 5, by the standard library."""

    def phi(t: float) -> float:
        return math.erfc(-t / math.sqrt(2)) / 2

    return phi(1 / (2 * z) - epsilon * z) - math.exp(epsilon) * phi(-1 / (2 * z) - epsilon * z)


@pytest.mark.parametrize("z", [0.3, 0.7, 1.0, 3.0, 20.0])
def test_one_round_is_the_gaussian_mechanism_to_the_letter(z: float) -> None:
    spent = accountant(z).close(["dev0", "dev1"], ["dev0", "dev1"])
    assert spent.noise_multiplier == z
    assert delta_of(spent.epsilon, z) == pytest.approx(DELTA, rel=1e-6)
    # Half the noise power is in one update of two.
    assert delta_of(spent.epsilon_single_update, z / 2**0.5) == pytest.approx(DELTA, rel=1e-6)


def test_a_figure_that_others_have() -> None:
    """sigma = 3.730632 gives (1, 1e-5): the usual example of the analytic Gaussian mechanism."""
    assert privacy.epsilon(3.730632**-2, 1e-5) == pytest.approx(1, abs=1e-5)


def test_rounds_compose_as_the_library_s_own_accountants_have_it() -> None:
    """With dropouts: privacy loss distributions agree to their discretisation, Renyi bounds from above."""
    ours, names = accountant(1.5), ["dev0", "dev1", "dev2", "dev3"]
    relation = dp_accounting.NeighboringRelation.REPLACE_SPECIAL
    exact, bound = pld.PLDAccountant(relation), rdp.RdpAccountant(neighboring_relation=relation)
    for finished in (4, 3, 4, 1, 2):
        spent = ours.close(names, names[:finished])
        event = dp_accounting.GaussianDpEvent(1.5 * (finished / 4) ** 0.5)
        exact.compose(event)
        bound.compose(event)
        assert spent.epsilon == pytest.approx(exact.get_epsilon(DELTA), rel=2e-3)
        assert spent.epsilon < bound.get_epsilon(DELTA) < 1.3 * spent.epsilon


@settings(max_examples=15, deadline=None)
@given(
    rounds=st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=1, max_size=6),
    z=st.floats(0.2, 10),
)
def test_epsilon_never_falls_and_one_update_is_never_better_hidden_than_a_sum(
    rounds: list[list[bool]], z: float
) -> None:
    ours, lossy, names = accountant(z), accountant(z, sums_hide=False), [f"dev{n}" for n in range(4)]
    before = 0.0
    for finished in rounds:
        summed = [name for name, is_there in zip(names, finished, strict=True) if is_there]
        spent, worse = ours.close(names, summed), lossy.close(names, summed)
        assert before <= spent.epsilon * (1 + 1e-9) and spent.epsilon <= worse.epsilon * (1 + 1e-9)
        assert worse.epsilon <= spent.epsilon_single_update * (1 + 1e-9)
        assert (spent.noise_multiplier is None) == (not summed)
        before = spent.epsilon


def test_fewer_updates_than_were_asked_for_have_less_noise_and_cost_more() -> None:
    whole = accountant().close(["dev0", "dev1"], ["dev0", "dev1"])
    alone = accountant().close(["dev0", "dev1"], ["dev1"])
    assert alone.noise_multiplier == pytest.approx(2 / 2**0.5)
    assert alone.epsilon == alone.epsilon_single_update == whole.epsilon_single_update > whole.epsilon


def test_the_device_with_most_rounds_decides_and_others_cost_nothing() -> None:
    """No sampling is claimed to help, but who was not asked has spent nothing."""
    turns = accountant()
    first = turns.close(["dev0", "dev1"], ["dev0", "dev1"])
    second = turns.close(["dev2", "dev3"], ["dev2", "dev3"])
    assert second.epsilon == first.epsilon
    third = turns.close(["dev1", "dev2"], ["dev1", "dev2"])
    both = accountant()
    both.close(["dev1", "dev2"], ["dev1", "dev2"])
    assert third.epsilon == both.close(["dev1", "dev2"], ["dev1", "dev2"]).epsilon > second.epsilon


def test_without_noise_no_epsilon_holds_and_without_updates_none_is_spent() -> None:
    spent = accountant(0.0).close(["dev0"], ["dev0"])
    assert math.isinf(spent.epsilon) and math.isinf(spent.epsilon_single_update)
    nobody = accountant().close([], [])
    assert (nobody.noise_multiplier, nobody.epsilon, nobody.epsilon_single_update) == (None, 0, 0)


@pytest.mark.parametrize("z", [1e-1, 1e-2, 1e-4])
def test_hardly_any_noise_gives_a_large_number_and_not_a_wrong_one(z: float) -> None:
    """Between 1/(2 z^2) and zero-concentrated privacy's bound (Bun and Steinke, arXiv 1605.02065)."""
    rho = 1 / (2 * z * z)
    assert rho < privacy.epsilon(z**-2, DELTA) < rho + 2 * math.sqrt(rho * math.log(1 / DELTA))


# From events to tables, manifest and words


def events(clipped: bool = True, weight: int = 1) -> list[timeline.Event]:
    """Two devices are asked, the second is lost."""
    made = [
        ("server", "round_start", {"round": 1, "cohort": ["dev0", "dev1"]}),
        ("dev0", "clipped", {"round": 1, "update_norm": 2.5, "clipped": clipped, "noise_std": 1.4}),
        ("server", "aggregate_start", {"round": 1}),
        (
            "server",
            "round_end",
            {"round": 1, "outcomes": {"dev0": "finished", "dev1": "lost"}, "weight": weight},
        ),
    ]
    return [
        {"t": float(t), "process": who, "event": kind, **more} for t, (who, kind, more) in enumerate(made)
    ]


def told(experiment: Experiment, **what: object) -> tuple[pd.DataFrame, dict[str, object] | None]:
    rounds = timeline.build(events(**what))
    clients = record.clients_table(rounds, {})
    table = privacy.add_columns(record.rounds_table(rounds, clients), rounds, experiment)
    assert clients["update_norm"][0] == 2.5
    return table, privacy.report(table, clients, experiment)


def test_rounds_csv_and_the_manifest_say_what_was_spent_and_against_whom() -> None:
    table, report = told(config.load(SMOKE, PRIVATE))
    assert report is not None
    expected = privacy.epsilon(1 / (2**2 / 2), DELTA)  # Of two devices' noise one's is there.
    assert table["epsilon"][0] == report["epsilon"] == pytest.approx(expected)
    assert table["noise_multiplier"][0] == pytest.approx(2**0.5)
    assert (report["updates_clipped"], report["updates_looked_at"]) == (1, 1)
    first, second, third, fourth = privacy.lines(report)
    assert "clip_norm 1, noise_multiplier 2, delta 1e-05; 1 of 1 updates clipped" in first
    assert second.startswith(f"  epsilon {expected:.3f}, against who sees sums and global adapters")
    assert third.startswith("  epsilon single update") and "this run's server does" in third
    assert "the run's seed" in fourth


def test_a_lossy_codec_leaves_the_noise_of_one_update_and_says_so() -> None:
    _, report = told(config.load(SMOKE, [*PRIVATE, "uplink.codec=int8"]))
    assert report is not None
    assert report["epsilon"] == report["epsilon_single_update"]
    assert "one update's noise counts alone: int8 being lossy" in str(report["epsilon_holds_against"])
    assert "lossy" not in str(told(config.load(SMOKE, [*PRIVATE, "uplink.codec=fp32|zstd"]))[1])


def test_clipping_alone_has_no_epsilon_and_json_none() -> None:
    table, report = told(config.load(SMOKE, [*PRIVATE, "privacy.noise_multiplier=0"]), clipped=False)
    assert report is not None
    assert math.isinf(table["epsilon"][0]) and report["epsilon"] is None
    assert record.json_rows(table[["epsilon"]]) == [{"epsilon": None}]
    assert "  epsilon unbounded, against" in privacy.lines(report)[1]


def test_runs_without_privacy_claim_nothing() -> None:
    table, report = told(config.load(SMOKE))
    assert report is None and table[list(privacy.COLUMNS)].isna().all(axis=None)


def test_a_sum_in_which_a_device_counts_twice_makes_the_run_invalid() -> None:
    private, plain = config.load(SMOKE, PRIVATE), config.load(SMOKE)
    twice, once = timeline.build(events(weight=2)), timeline.build(events())
    [reason] = privacy.contradictions(twice, private)
    assert "round 1: updates of 1 devices weigh 2" in reason
    assert privacy.contradictions(once, private) == privacy.contradictions(twice, plain) == []


# What goes together


def test_what_is_left_open_is_decided_for_privacy() -> None:
    experiment = config.load(SMOKE, PRIVATE)
    assert experiment.aggregation_options.discordance is False
    assert config.load(SMOKE).aggregation_options.discordance is True
    assert Experiment.model_validate_json(experiment.model_dump_json()) == experiment


@pytest.mark.parametrize(
    "overrides",
    [
        ["aggregation.method=rolora", "aggregation.optimizer=fedadam", "aggregation.discordance=false"],
        ["aggregation.method=ffa", "uplink.codec=topk(0.1)|int4", "federation.selection=fastest"],
        ["adapter.kind=full", "downlink.delta=true", "federation.cohort=50%", "federation.close_after=50%"],
    ],
)
def test_what_leaves_the_guarantee_whole_is_allowed(overrides: list[str]) -> None:
    config.load(SMOKE, [*PRIVATE, *overrides])


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["privacy.noise_multiplier=null"], "privacy: clip_norm and noise_multiplier go together"),
        (["privacy.clip_norm=0"], "privacy.clip_norm: Input should be greater than 0"),
        (["privacy.delta=1"], "privacy.delta: Input should be less than 1"),
        (["privacy.delta=0.5"], "privacy.delta: 0.5 would let one of 4 devices be published whole"),
        (["privacy.noise_multiplier=100"], r"privacy.noise_multiplier: .* may reach 401, and sums take 128"),
        (["aggregation.mean=weighted"], "aggregation.mean: with weighted one device can move the outcome"),
        (["aggregation.mean=median"], "aggregation.mean: with median one device can move the outcome"),
        (["aggregation.method=flora"], "aggregation.method: flora makes more of updates than their sum"),
        (["aggregation.method=hetlora"], "aggregation.method: hetlora makes more of updates than their sum"),
        (["aggregation.discordance=true"], "aggregation.discordance: tells more of private updates"),
        (
            ["uplink.error_feedback=on"],
            "uplink.error_feedback: what is left of earlier updates was never clip",
        ),
        (["federation.late=next_round"], "aggregation.mean: uniform leaves a late update no smaller weight"),
        (["federation.selection=power_of_choice(4)"], "federation.selection: power_of_choice goes by losses"),
    ],
)
def test_what_breaks_the_guarantee_is_one_line_that_names_the_key(overrides: list[str], says: str) -> None:
    with pytest.raises(ConfigError, match=says) as refusal:
        config.load(CONFIGS / "cell.yaml", [*PRIVATE, *overrides])
    assert "\n" not in str(refusal.value)
