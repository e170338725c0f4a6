"""From the server's task to a trainer; a task that this device cannot do is one line that says why."""

from __future__ import annotations

import json

import pytest

from client.sd15 import sd15_lora_layout, sd15_unet_layout
from client.synthetic import SyntheticTrainer
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


def test_a_task_with_a_rank_for_each_device() -> None:
    trainer = build({**TASK, "rank": [1, 3, 1, 1]})
    assert trainer.layout == sd15_lora_layout(3)


def test_a_task_for_other_modules() -> None:
    trainer = build({**TASK, "target_modules": ["ff.net.2"]})
    assert trainer.layout == sd15_lora_layout(2, ["ff.net.2"])


def test_a_task_for_the_whole_unet() -> None:
    """Built without a value in memory: 3.4 GB is for whoever trains."""
    assert build({**TASK, "rank": "full"}).layout == sd15_unet_layout()


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ({**TASK, "trainer": "quantum"}, ("unknown trainer 'quantum'", "synthetic or diffusion")),
        ({key: TASK[key] for key in TASK if key != "rank"}, ("synthetic", "rank")),
        ({key: TASK[key] for key in TASK if key != "steps"}, ("synthetic", "steps")),
        ({**TASK, "colour": "blue"}, ("synthetic", "colour")),
        ({**TASK, "rank": [1, 2]}, ("rank [1, 2]", "list of 4")),
        ({**TASK, "rank": 0}, ("rank 0",)),
        ({**TASK, "rank": "half"}, ("rank half",)),
        ({**TASK, "target_modules": ["to_nowhere"]}, ("to_nowhere",)),
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
