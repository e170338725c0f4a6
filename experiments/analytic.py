"""The analytic model that emulated rounds are compared with: DESIGN.md, section 7.

    r = b log2(1 + p h / (N0 b))         T_up = S / r        T_cmp = E C D / f
    E_up = p T_up                        E_cmp = kappa E C D f^2
    T_round = max_k (T_dl + T_cmp + T_up) + T_agg

It knows nothing of headers, TCP, loss or queues: what an emulated round takes beyond it is what they cost.
What it does know is that devices share an air: processor sharing stands for a scheduler of airtime. SI units.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Sequence


def snr_hz(power_w: float, gain: float, noise_w_hz: float) -> float:
    """p h / N0 in Hz: the bandwidth in which a signal is as strong as the noise.

    E.g. 0.2 W behind 120 dB and a noise of -174 dBm/Hz: 5.02e7 Hz.
    """
    return power_w * gain / noise_w_hz


def shannon_rate_bps(bandwidth_hz: float, snr_hz: float) -> float:
    """b log2(1 + s / b) with s = p h / N0: rises with b, to s / ln 2 at most."""
    if bandwidth_hz <= 0 or snr_hz <= 0:
        return 0.0
    return bandwidth_hz * math.log1p(snr_hz / bandwidth_hz) / math.log(2)


def transfer_s(size_bytes: float, rate_bps: float, propagation_s: float = 0.0) -> float:
    """S / r, and the way; infinite where nothing gets through, nothing but the way for nothing."""
    if size_bytes == 0:
        return propagation_s
    return 8 * size_bytes / rate_bps + propagation_s if rate_bps > 0 else math.inf


def computation_s(epochs: float, cycles_per_sample: float, samples: float, frequency_hz: float) -> float:
    """E C D / f."""
    return epochs * cycles_per_sample * samples / frequency_hz


def computation_j(
    kappa: float, epochs: float, cycles_per_sample: float, samples: float, frequency_hz: float
) -> float:
    """kappa E C D f^2: a power of kappa f^3 for as long as it takes."""
    return kappa * epochs * cycles_per_sample * samples * frequency_hz**2


def energy_j(power_w: float, seconds: float) -> float:
    """p T."""
    return power_w * seconds


def round_s(devices_s: Iterable[float], aggregation_s: float = 0.0) -> float:
    """max_k (T_dl + T_cmp + T_up) + T_agg."""
    return max(devices_s) + aggregation_s


def shared_air(arrivals_s: Sequence[float], airtime_s: Sequence[float]) -> list[float]:
    """When transfers end that share one air evenly in time: processor sharing (Kleinrock 1967).

    Transfer k comes at `arrivals_s[k]` and needs `airtime_s[k]` (size over its own rate, alone); while n are
    there each gets 1/n of the air. Round robin in airtime in the limit of small frames, and proportional
    fairness too where channels do not change (Viswanath, Tse and Laroia 2002).
    """
    ends = list(arrivals_s)
    order = sorted(
        (k for k in range(len(ends)) if airtime_s[k] > 0), key=lambda k: arrivals_s[k], reverse=True
    )
    now = served = 0.0  # `served`: what each who has been there all along has got so far
    active: list[tuple[float, int]] = []  # by the `served` at which each is done
    while order or active:
        due = now + (active[0][0] - served) * len(active) if active else math.inf
        if order and arrivals_s[order[-1]] <= due:
            k = order.pop()
            served += (arrivals_s[k] - now) / len(active) if active else 0.0
            now = arrivals_s[k]
            heapq.heappush(active, (served + airtime_s[k], k))
        else:
            served, k = heapq.heappop(active)
            ends[k] = now = due
    return ends
