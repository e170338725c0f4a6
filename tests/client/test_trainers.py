"""From the server's task to a trainer; a task that this device cannot do is one line that says why."""

from __future__ import annotations

import json

import pytest

from client.synthetic import SyntheticTrainer, sd15_lora_layout
from client.trainers import TaskError, build_trainer

TASK = {"trainer": "synthetic", "rank": 2, "steps": 5, "examples": 100, "seed": 0}


def build(task: object) -> object:
    text = task if isinstance(task, str) else json.dumps(task)
    return build_trainer(text, device_index=1, device_count=4)


def test_a_synthetic_task() -> None:
    trainer = build(TASK)
    assert isinstance(trainer, SyntheticTrainer)
    assert trainer.layout == sd15_lora_layout(2)
    assert trainer.examples == 100


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ({**TASK, "trainer": "quantum"}, ("unknown trainer 'quantum'", "synthetic or diffusion")),
        ({key: TASK[key] for key in TASK if key != "rank"}, ("synthetic", "rank")),
        ({key: TASK[key] for key in TASK if key != "steps"}, ("synthetic", "steps")),
        ({**TASK, "colour": "blue"}, ("synthetic", "colour")),
        ({}, ("names no trainer", "{}")),
        ("not json", ("names no trainer", "not json")),
        ("", ("names no trainer",)),
        ("3", ("names no trainer", "3")),
        ("null", ("names no trainer", "null")),
        ('["synthetic"]', ("names no trainer", "synthetic")),
    ],
)
def test_a_task_that_does_not_fit_is_one_line_naming_what_is_wrong(
    task: object, words: tuple[str, ...]
) -> None:
    with pytest.raises(TaskError) as caught:
        build(task)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)
