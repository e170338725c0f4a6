"""Each method against a dense computation of its definition, and against what its paper claims."""

from __future__ import annotations

import math

import numpy as np
import pytest
from dense import MODULES, dense_mean, local, lora_of, make_round, random_vector
from hypothesis import given, settings
from hypothesis import strategies as st

from server.aggregation.discordance import discordance
from server.aggregation.factors import nearest, norm, svd
from server.aggregation.fedex import mean_and_residual, residual_rank
from server.aggregation.flexlora import redistribute
from server.aggregation.flora import stack, stacked_rank
from server.aggregation.hetlora import norm_shares, pad_and_weigh
from server.aggregation.local import LocalModel

seeds = st.integers(0, 2**32 - 1)
cohorts = st.lists(st.integers(1, 40), min_size=1, max_size=5)
mixed = st.lists(st.tuples(st.integers(1, 6), st.integers(1, 40)), min_size=1, max_size=5)
frugal = settings(max_examples=25, deadline=None)


@frugal
@given(seeds, st.integers(1, 12), st.integers(1, 9), st.integers(1, 9))
def test_factors_are_taken_apart_and_cut_down_to_the_nearest(seed: int, rank: int, n: int, m: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((rank, n)), rng.standard_normal((m, rank))
    left, values, right = svd(a, b)
    np.testing.assert_allclose(left * values @ right, b @ a, atol=1e-12 * rank)
    for kept in range(1, rank + 1):
        small_a, small_b, missed = nearest(a, b, kept)
        assert small_a.shape[0] == small_b.shape[1] <= kept
        off = float(np.linalg.norm(b @ a - small_b @ small_a) ** 2)
        beyond = np.linalg.svd(b @ a, compute_uv=False)[kept:]  # Eckart and Young
        assert math.isclose(off, float((beyond**2).sum()), rel_tol=1e-6, abs_tol=1e-12 * rank)
        assert math.isclose(missed, off, rel_tol=1e-6, abs_tol=1e-12 * rank)
    assert math.isclose(norm(a, b), float(np.linalg.norm(b @ a)), rel_tol=1e-9)


@frugal
@given(seeds, mixed)
def test_flora_the_stack_is_the_mean_of_the_local_models(seed: int, devices: list[tuple[int, int]]) -> None:
    models, _ = make_round(seed, *zip(*devices, strict=True), common=False)
    for index in MODULES:
        a, b = stack(models, index)
        assert a.shape[0] == b.shape[1] == stacked_rank(models) == sum(rank for rank, _ in devices)
        np.testing.assert_allclose(b @ a, dense_mean(models, index), atol=1e-12)


@frugal
@given(seeds, st.integers(1, 3), cohorts)
def test_fedex_mean_factors_and_residual_make_the_mean_of_the_local_models(
    seed: int, rank: int, examples: list[int]
) -> None:
    models, origin = make_round(seed, [rank] * len(examples), examples, common=True)
    for index in MODULES:
        start_a, start_b = lora_of(rank).factors(origin, lora_of(rank).modules[index])
        (mean_a, mean_b), (a, b) = mean_and_residual(models, index)
        assert a.shape[0] == b.shape[1] == residual_rank(models) == (len(models) - 1) * rank
        new_a, new_b = start_a + mean_a, start_b + mean_b
        # FedAvg of each factor, by its definition ...
        for new, which in ((new_a, 0), (new_b, 1)):
            parts = [model.examples * model.factors(index)[which] for model in models]
            np.testing.assert_allclose(new, np.sum(parts, axis=0) / sum(examples), atol=1e-6)
        # ... and the residual makes it exact.
        np.testing.assert_allclose(new_b @ new_a + b @ a, dense_mean(models, index), atol=1e-5)


@frugal
@given(seeds, mixed)
def test_flexlora_is_the_best_approximation_of_the_mean_at_every_rank(
    seed: int, devices: list[tuple[int, int]]
) -> None:
    models, _ = make_round(seed, *zip(*devices, strict=True), common=True)
    largest = max(rank for rank, _ in devices)
    for index in MODULES:
        mean = dense_mean(models, index)
        left, values, right = np.linalg.svd(mean, full_matrices=False)
        a, b, lost, whole = redistribute(models, index, largest)
        for rank, _ in devices:  # Eckart and Young: nothing of that rank is closer.
            best = (left[:, :rank] * values[:rank]) @ right[:rank]
            np.testing.assert_allclose(b[:, :rank] @ a[:rank], best, atol=1e-9)
        np.testing.assert_allclose(lost, np.linalg.norm(b @ a - mean) ** 2, atol=1e-9)
        np.testing.assert_allclose(whole, np.linalg.norm(mean) ** 2, rtol=1e-9)


def test_flexlora_leaves_no_row_that_could_never_learn_again() -> None:
    """One device of rank 1 finished, the largest has rank 3: B's new columns are zero, A's rows are not."""
    models, _ = make_round(0, [1], [5], common=True)
    a, b, _, _ = redistribute(models, 0, 3)
    np.testing.assert_allclose(np.linalg.norm(a, axis=1), 1)
    np.testing.assert_allclose(b @ a, dense_mean(models, 0), atol=1e-12)


@frugal
@given(seeds, mixed)
def test_hetlora_is_the_norm_weighted_mean_of_padded_factors(
    seed: int, devices: list[tuple[int, int]]
) -> None:
    models, _ = make_round(seed, *zip(*devices, strict=True), common=True)
    largest = max(rank for rank, _ in devices)
    norms = [
        math.sqrt(sum(np.linalg.norm(b @ a) ** 2 for a, b in map(model.factors, MODULES))) for model in models
    ]
    weights = norm_shares(models)
    np.testing.assert_allclose(weights, np.array(norms) / sum(norms), rtol=1e-9)
    for index in MODULES:
        a, b = pad_and_weigh(models, weights, index, largest)
        for row in range(largest):
            parts = [
                (weight, *model.factors(index))
                for weight, model in zip(weights, models, strict=True)
                if (model.lora.rank or 0) > row
            ]
            np.testing.assert_allclose(a[row], sum(p * a_k[row] for p, a_k, _ in parts), atol=1e-12)
            np.testing.assert_allclose(b[:, row], sum(p * b_k[:, row] for p, _, b_k in parts), atol=1e-12)


@frugal
@given(seeds, mixed)
def test_discordance_is_its_definition(seed: int, devices: list[tuple[int, int]]) -> None:
    models, _ = make_round(seed, *zip(*devices, strict=True), common=True)
    largest = max(rank for rank, _ in devices)
    total = sum(model.examples for model in models)
    apart = whole = 0.0
    for index in MODULES:
        mean_a = mean_b = 0.0
        for model in models:
            a, b = model.factors(index)
            share, more = model.examples / total, largest - a.shape[0]
            mean_a = mean_a + share * np.pad(a, ((0, more), (0, 0)))
            mean_b = mean_b + share * np.pad(b, ((0, 0), (0, more)))
        mean = dense_mean(models, index)
        apart += np.linalg.norm(mean - np.matmul(mean_b, mean_a)) ** 2
        whole += np.linalg.norm(mean) ** 2
    assert math.isclose(discordance(models), math.sqrt(apart / whole), rel_tol=1e-6, abs_tol=1e-7)


@pytest.mark.parametrize("frozen", ["A", "B"])
def test_ffa_and_rolora_with_one_factor_frozen_averaging_the_other_is_exact(frozen: str) -> None:
    """The papers' claim, for FFA-LoRA's only and both of RoLoRA's phases: no discordance is left."""
    rng = np.random.default_rng(3)
    lora = lora_of(3)
    origin = random_vector(rng, lora)
    models: list[LocalModel] = []
    for number in range(4):
        change = random_vector(rng, lora)
        lora.put(change, frozen, np.zeros(lora.only(frozen).size, np.float32))  # type: ignore[arg-type]
        models.append(local(f"dev{number}", number + 1, lora, origin, change))
    assert discordance(models) < 1e-7
    for index in MODULES:
        means = [
            sum(model.examples / 10 * model.factors(index)[which] for model in models) for which in (0, 1)
        ]
        np.testing.assert_allclose(np.matmul(means[1], means[0]), dense_mean(models, index), atol=1e-12)


def test_an_adapter_that_has_not_learnt_anything_has_no_discordance() -> None:
    lora = lora_of(2)
    nothing = np.zeros(lora.layout.size, np.float32)
    models = [local("dev0", 1, lora, nothing, nothing), local("dev1", 1, lora, nothing, nothing)]
    assert math.isnan(discordance(models))
    assert norm_shares(models) == [0.5, 0.5]
