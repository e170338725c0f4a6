"""Sweeps: one experiment at many points, each trial a process in a sandbox of its own.

What benches build on is here, and stays as it is: `grid` (axes -> points), `trials` (points -> checked
trials), `trial` (one, with labels of your own), `run_trials` (runs what is not done yet) and the `Sweep` it
gives: two tidy tables. A bench of named settings over seeds:

    wanted = [
        trial(CONFIG, [*overrides, f"seed={seed}"], {"setting": name, "seed": seed})
        for name, overrides in SETTINGS.items()
        for seed in seeds
    ]
    sweep = run_trials(wanted, output, evaluate=True)  # resumes whatever is done in `output`
    sweep.results  # a row a trial: trial, setting, seed, outcome, valid, latency_mean_s, ...
    sweep.rounds   # a row a trial and round: trial, setting, seed, outcome, valid, round, loss, ...
"""

from experiments.sweep.grid import Point, grid, parse
from experiments.sweep.sweep import Sweep, run_trials
from experiments.sweep.trial import Trial, trial, trials

__all__ = ["Point", "Sweep", "Trial", "grid", "parse", "run_trials", "trial", "trials"]
