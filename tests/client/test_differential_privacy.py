"""A device's update is clipped, its noise is Gaussian and of the right size, and nothing else goes up."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from running import INITIAL, LAYOUT, Federation

from client.differential_privacy import PrivateUpdates
from client.session import Session, SessionError
from client.synthetic import SyntheticTrainer
from proto import federation_pb2 as pb
from proto.adapter import Vector, load_adapter
from proto.events import EventLog
from proto.privacy import ClientPrivacy, PrivacyError, message, privacy_of
from proto.segments import SEGMENT_VALUES

SIZE = 3 * SEGMENT_VALUES + 100
SILENCE = EventLog(None, "dev0")


def private(update: Vector, clip_norm: float, noise: float, device: int = 0, number: int = 1) -> Vector:
    """A copy of `update` as it goes up in a cohort of four."""
    made = update.copy()
    PrivateUpdates(ClientPrivacy(clip_norm, noise, seed=7), device, SILENCE).apply(made, number, cohort=4)
    return made


@settings(max_examples=200, deadline=None)
@given(
    update=hnp.arrays(np.float32, st.integers(1, 40), elements=st.floats(-1e4, 1e4, width=32)),
    clip_norm=st.floats(1e-3, 1e3),
)
def test_no_update_is_longer_than_the_clip_norm_and_none_is_turned(update: Vector, clip_norm: float) -> None:
    clipped, norm = private(update, clip_norm, 0.0), np.linalg.norm(update.astype(np.float64))
    assert np.linalg.norm(clipped.astype(np.float64)) <= clip_norm * (1 + 1e-6)
    if norm <= clip_norm:
        np.testing.assert_array_equal(clipped, update)
    else:
        np.testing.assert_allclose(clipped, update * (clip_norm / norm), rtol=1e-6, atol=1e-30)


def test_the_whole_vector_is_clipped_as_one() -> None:
    """Not each of the segments it is worked through in."""
    clipped = private(np.ones(SIZE, np.float32), 1.0, 0.0)
    np.testing.assert_allclose(clipped, SIZE**-0.5, rtol=1e-6)


def test_the_noise_is_gaussian_and_of_the_size_that_is_said() -> None:
    """z-tests, red beyond 4: of mean, variance, kurtosis, and the share within a standard deviation."""
    clip_norm, z = 0.5, 3.0
    update = np.full(SIZE, clip_norm / SIZE**0.5, np.float32)  # Just not clipped.
    noise = private(update, clip_norm, z).astype(np.float64) - update
    unit = noise / (z * clip_norm / 2)  # Each of four devices adds half of the sum's standard deviation.
    assert abs(unit.mean()) * SIZE**0.5 < 4
    assert abs((unit**2).mean() - 1) * (SIZE / 2) ** 0.5 < 4
    assert abs((unit**4).mean() - 3) * (SIZE / 96) ** 0.5 < 4
    share = math.erf(0.5**0.5)
    assert abs((abs(unit) < 1).mean() - share) * (SIZE / (share * (1 - share))) ** 0.5 < 4


def test_the_noise_of_a_cohort_adds_up_to_what_was_asked_for() -> None:
    zeros = np.zeros(SIZE, np.float32)
    total = np.sum([private(zeros, 0.5, 3.0, device) for device in range(4)], axis=0, dtype=np.float64)
    assert abs((total**2).mean() / 1.5**2 - 1) * (SIZE / 2) ** 0.5 < 4


def test_no_noise_is_used_twice_and_the_same_seed_gives_the_same() -> None:
    """By device, round, segment; nor by what else is seeded with seed, device and round, as trainers are."""
    zeros = np.zeros(SIZE, np.float32)
    one = private(zeros, 1.0, 2.0)
    np.testing.assert_array_equal(one, private(zeros, 1.0, 2.0))
    others = [private(zeros, 1.0, 2.0, device=1), private(zeros, 1.0, 2.0, number=2)]
    others += [np.roll(one, SEGMENT_VALUES), np.random.default_rng((7, 0, 1)).standard_normal(SIZE)]
    for other in others:
        assert abs(np.corrcoef(one, other)[0, 1]) * SIZE**0.5 < 4


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_of_an_update_that_diverged_no_value_goes_up(bad: float) -> None:
    update = np.ones(SIZE, np.float32)
    update[5] = bad
    assert np.isnan(private(update, 1.0, 1.0)).all()


def test_what_is_asked_for_arrives() -> None:
    asked = ClientPrivacy(0.3, 1.1, seed=2**32 - 1)
    assert privacy_of(pb.JoinReply(privacy=message(asked))) == asked
    assert privacy_of(pb.JoinReply(privacy=message(None))) is None
    for clip_norm, noise in ((0.0, 1.0), (math.nan, 1.0), (1.0, -1.0), (1.0, math.inf)):
        with pytest.raises(PrivacyError, match=r"^(clip_norm|noise_multiplier): "):
            privacy_of(pb.JoinReply(privacy=pb.Privacy(clip_norm=clip_norm, noise_multiplier=noise)))


def test_two_rounds_of_two_private_devices_are_what_they_should_be(
    federation: Callable[..., Federation],
) -> None:
    """By hand: trained, clipped, noised, averaged. Of losses and examples the server learns nothing."""
    clip_norm, z = 0.2, 0.5
    options = ["--rounds", 2, "--clip-norm", clip_norm, "--noise-multiplier", z, "--mean", "uniform"]
    run = federation("dev0,dev1", *options, "--no-discordance", "--seed", 3)
    clients = [run.client(name) for name in ("dev0", "dev1")]
    assert [client.wait() for client in clients] == [0, 0], clients[0].complaint
    assert run.server.wait() == 0

    expected, norms = INITIAL, []
    trainers = [SyntheticTrainer(LAYOUT, device_index=i, steps=4, examples=10, seed=5) for i in (0, 1)]
    asked = ClientPrivacy(clip_norm, z, seed=3)
    for number in (1, 2):
        updates = [t.train(expected, round_number=number).vector - expected for t in trainers]
        norms += [np.linalg.norm(update) for update in updates]
        for index, update in enumerate(updates):
            PrivateUpdates(asked, index, SILENCE).apply(update, number, cohort=2)
        mean = np.mean(np.array(updates, np.float64), axis=0)
        expected = (expected + mean).astype(np.float32)
        _, adapter = load_adapter(run.checkpoints / f"round-{number:04d}.safetensors")
        np.testing.assert_allclose(adapter, expected, rtol=0, atol=2.0**-24)

    assert [event["examples"] for event in run.server.events("registered")] == [1, 1]
    assert {event["loss"] for event in run.server.events("upload_received")} == {None}
    said = [event for client in clients for event in client.events("clipped")]
    assert sorted(event["update_norm"] for event in said) == pytest.approx(sorted(norms), rel=1e-5)
    assert {(event["clipped"], event["noise_std"]) for event in said} == {(True, z * clip_norm / 2**0.5)}


def test_a_server_that_asks_for_error_feedback_too_gets_nothing() -> None:
    session = Session("nowhere:1", "dev0", SILENCE)
    session._trainer = SyntheticTrainer(LAYOUT, device_index=0, steps=1, examples=1, seed=5)
    session._private = PrivateUpdates(ClientPrivacy(1.0, 1.0), 0, SILENCE)
    start = pb.RoundStart(round=1, uplink_codec="int8", down_factors="AB", trained_factors="AB")
    start.error_feedback, start.cohort = True, 2
    with pytest.raises(SessionError, match="asks for error feedback, which no clipping bounds"):
        session._work(start, INITIAL.copy())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], "noise_multiplier go together"),
        (["--noise-multiplier", 1, "--mean", "weighted"], "mean: with weighted one device can move"),
        (["--noise-multiplier", -1], "noise_multiplier: -1; it must be 0 or more"),
        (["--noise-multiplier", 1, "--error-feedback", "on"], "--error-feedback on: what is left of earlier"),
    ],
)
def test_a_server_refuses_what_breaks_the_guarantee(
    federation: Callable[..., Federation], options: list[object], says: str
) -> None:
    run = federation("dev0", "--clip-norm", 1, "--mean", "uniform", "--no-discordance", *options)
    assert run.server.wait() == 2
    [line] = run.server.complaint.splitlines()
    assert line.startswith("server: ") and says in line
