"""What a run was: its question in a sentence, its set-up, whether it can be trusted, how to repeat it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import yaml
from markupsafe import Markup

from experiments.report import parts, words
from experiments.report.read import RunFolder

_NOT_ENDED = "the run has not ended"
_MOST_LINES = 8


def lead(run: RunFolder) -> Markup:
    """The question, and the verdict where nobody can miss it."""
    asked = Markup('<p class="question">{}</p>').format(question(run))
    return parts.join(asked, verdict(run), key_figures(run))


def question(run: RunFolder) -> str:
    """What the run asks, in one sentence."""
    scheme = run.get("training.scheme", "federated")
    full = run.get("adapter.kind", "lora") == "full"
    kind = "full" if full else "LoRA"
    subject = {
        "federated": f"a round of federated {kind} fine-tuning",
        "central": f"central {kind} fine-tuning on the devices' raw images",
        "local": f"{kind} fine-tuning on each device by itself",
    }.get(scheme, f"a round of {scheme} {kind} fine-tuning")
    what = "the whole UNet" if full else f"LoRA adapters of rank {_ranks(run)}"
    if run.get("training.trainer") == "synthetic":
        action = f"exchange synthetic updates in the layout of {what} of {model(run)}"
    else:
        action = f"train {what} of {model(run)}"
    if scheme == "federated":
        action += f" and send them up as {run.get('uplink.codec', 'fp32')}"
    who = f"{words.count(_device_count(run), 'device')} {_ways(run)}"
    return f"How long does {subject} take, and what does it put on the wire, when {who} {action}?"


def model(run: RunFolder) -> str:
    """Of what model, in words."""
    name = str(run.get("model", "bundled"))
    return {"bundled": "the bundled base", "sd15": "Stable Diffusion v1.5"}.get(name, name)


def _device_count(run: RunFolder) -> int:
    return sum(int(device.get("count", 1)) for device in run.get("network.devices", []))


def _ranks(run: RunFolder) -> str:
    default = run.get("adapter.rank", 4)
    ranks = {device.get("rank") or default for device in run.get("network.devices", [])} or {default}
    return ", ".join(str(rank) for rank in sorted(ranks))


def _ways(run: RunFolder) -> str:
    if run.get("network.channel"):
        return "on a wireless channel"
    devices = run.manifest.get("topology", {}).get("ways", {})
    access = [edge for edge in links(run) if edge.get("lower") in devices] or links(run)
    up, down = (
        words.span([edge[way].get("rate_bps") for edge in access if edge.get(way)], words.rate)
        for way in ("up", "down")
    )
    if words.NOTHING in (up, down):
        return f"in the topology {run.get('network.topology', 'cell')}"
    return f"on links of {up} up and {down} down"


def links(run: RunFolder) -> list[dict[str, Any]]:
    """The emulated links of the topology, as the manifest has them."""
    edges = run.manifest.get("topology", {}).get("edges", [])
    return [edge for edge in edges if edge.get("link")]


def verdict(run: RunFolder) -> Markup:
    """Valid or not, why, and what else to know."""
    reasons = [str(reason) for reason in run.manifest.get("invalid_reasons", [])]
    warnings = [str(warning) for warning in run.manifest.get("warnings", [])]
    boxes = []
    if run.valid:
        checks = run.manifest.get("calibration", [])
        tested = sum(check.get("passed") is not None for check in checks)
        line = f"{words.count(tested, 'calibration check')} passed, and no table contradicts physics."
        if len(checks) > tested:
            line += f" {words.count(len(checks) - tested, 'check')} had no time to be made."
        boxes.append(parts.callout("good", "Valid", [line]))
    elif reasons == [_NOT_ENDED]:
        line = "It is still running, or was killed. What there is of it is below, and nothing below counts."
        boxes.append(parts.callout("bad", "Invalid: the run has not ended", [line]))
    elif reasons == ["interrupted"]:
        boxes.append(parts.callout("bad", "Invalid: the run was interrupted", ["Nothing below counts."]))
    else:
        boxes.append(parts.callout("bad", "Invalid: these numbers cannot be trusted", _some(reasons)))
    if (extrapolated := run.column("clients", "extrapolated")) is not None and extrapolated.any():
        some = f"{int(extrapolated.sum())} of {len(extrapolated)} rows of clients.csv"
        line = f"In {some} transfers crossed in part; the rest follows from their steady rate."
        boxes.append(parts.callout("note", "Extrapolated", [line]))
    if warnings:
        boxes.append(parts.callout("note", words.count(len(warnings), "warning"), _some(warnings)))
    return parts.join(*boxes)


def _some(lines: list[str]) -> list[Markup | str]:
    """The first of many; the others at a click."""
    if len(lines) <= _MOST_LINES:
        return [*lines]
    rest = Markup("<ul>{}</ul>").format(
        Markup("").join(Markup("<li>{}</li>").format(x) for x in lines[_MOST_LINES:])
    )
    return [*lines[:_MOST_LINES], parts.fold(f"and {len(lines) - _MOST_LINES} more", rest)]


def key_figures(run: RunFolder) -> Markup:
    """The handful of numbers one looks for first; none for a run without tables."""
    if not run.ended or run.tables["rounds"].empty:
        return Markup("")
    rounds, clients = run.tables["rounds"], run.tables["clients"]
    latency_s = rounds["latency_s"].median()
    boxes = [
        (f"{words.seconds(latency_s, 2)} s", "median round latency", f"{words.count(len(rounds), 'round')}"),
    ]
    if (bound := run.column("rounds", "bound_s")) is not None:
        ratio = (rounds["latency_s"] / bound).median()
        boxes.append(
            (words.times(ratio), "of the physical bound", f"bound {words.seconds(bound.median(), 2)} s")
        )
    finished = clients[clients["outcome"] == "finished"] if "outcome" in clients else clients
    for way, name in (("up", "up"), ("down", "down")):
        payload = run.column("clients", f"payload_{way}_bytes")
        if payload is not None and len(finished):
            wire = finished.get(f"wire_{way}_bytes")
            beside = "" if wire is None else f"{words.size(wire.mean())} on the wire"
            mean = finished[f"payload_{way}_bytes"].mean()
            boxes.append((words.size(mean), f"payload {name}, a device and round", beside))
    if (epsilon := run.column("rounds", "epsilon")) is not None:
        boxes.append((words.number(epsilon.iloc[-1]), "ε spent", "differential privacy, all rounds"))
    energy = [run.column("clients", f"energy_{part}_j") for part in ("compute", "radio")]
    if any(part is not None for part in energy):
        joules = sum(part.sum() for part in energy if part is not None)
        boxes.append((f"{words.number(joules)} J", "energy by the model", "all devices, all rounds"))
    boxes += _final_loss(run)
    return parts.figures(boxes)


def _final_loss(run: RunFolder) -> Iterable[tuple[str, str, str]]:
    losses = run.tables.get("evaluation")
    if losses is None or losses.empty:
        return []
    every = losses[losses["style"] == "all"].sort_values("round")
    if len(every) < 2:
        return []
    first, last = every["loss"].iloc[0], every["loss"].iloc[-1]
    return [(f"{last:.4f}", "held-out loss at the end", f"{words.signed(last / first - 1)} from {first:.4f}")]


def setup(run: RunFolder) -> Markup:
    """The configuration, in a dozen lines."""
    machine = run.manifest.get("machine", {})
    pairs = [
        ("Scheme", _scheme(run)),
        ("Model", f"{model(run)}, {_adapter(run)}"),
        ("Local work", _work(run)),
        ("Codecs", f"{run.get('uplink.codec', 'fp32')} up, {_downlink(run)} down"),
        ("Aggregation", _aggregation(run)),
        ("Rounds", f"{run.get('rounds')} asked for, {_cohort(run)}"),
        ("Network", _network(run)),
        ("TCP", str(run.get("network.congestion_control", NOT_SAID))),
        ("Compute", _compute(run)),
        ("Emulation", _emulation(run)),
        ("Privacy", _privacy(run)),
        ("Seed", str(run.get("seed", NOT_SAID))),
        ("When", _when(run)),
        ("Machine", f"{machine.get('cores', '?')} cores, Linux {machine.get('kernel', '?')}"),
    ]
    return parts.facts((name, text) for name, text in pairs if text)


NOT_SAID = "not on record"


def _scheme(run: RunFolder) -> str:
    scheme = run.get("training.scheme", "federated")
    return {
        "federated": "federated",
        "central": "central: devices send their images once",
        "local": "local: every device for itself",
    }.get(scheme, str(scheme))


def _adapter(run: RunFolder) -> str:
    if run.get("adapter.kind") == "full":
        return "the whole UNet"
    modules = ", ".join(map(str, run.get("adapter.target_modules", [])))
    return f"LoRA of rank {_ranks(run)}" + (f" on {modules}" if modules else "")


def _work(run: RunFolder) -> str:
    if run.get("training.trainer") == "synthetic":
        return "none: synthetic updates of the right layout"
    keys = ("steps", "batch_size", "learning_rate", "data", "partition")
    steps, batch, learning_rate, data, partition = (run.get(f"training.{key}") for key in keys)
    return f"{steps} steps of batch {batch} at {learning_rate}, data {data} by {partition}"


def _downlink(run: RunFolder) -> str:
    codec = str(run.get("downlink.codec", "fp32"))
    return f"differences as {codec}" if run.get("downlink.delta") else codec


def _aggregation(run: RunFolder) -> str:
    method = run.get("aggregation.method", "fedit")
    mean, optimizer = run.get("aggregation.mean", "weighted"), run.get("aggregation.optimizer", "none")
    return f"{method}, {mean} mean" + (f", {optimizer}" if optimizer != "none" else "")


def _cohort(run: RunFolder) -> str:
    share = run.get("federation.cohort", "100%")
    return "all devices in each" if share == "100%" else f"{share} of the devices in each"


def _network(run: RunFolder) -> str:
    text = f"{run.get('network.topology', 'cell')}, {words.count(_device_count(run), 'device')} {_ways(run)}"
    sharing = run.get("network.sharing", "none")
    return text if sharing == "none" else f"{text}, airtime shared {sharing}"


def _compute(run: RunFolder) -> str:
    if profile := run.get("compute.profile"):
        return f"as the device profile {profile} has it"
    default = run.get("compute.seconds_per_step")
    steps = {device.get("seconds_per_step") or default for device in run.get("network.devices", [])}
    known = sorted(str(step) for step in steps if step)
    return f"held to {', '.join(known)} a step" if known else "measured on this machine"


def _emulation(run: RunFolder) -> str:
    backend = run.manifest.get("backend", "not built")
    dilation = float(run.get("dilation", 1.0))
    real = "in real time" if dilation == 1 else f"an emulated second lasted {dilation:g} real ones"
    return f"{backend}, {real}"


def _privacy(run: RunFolder) -> str:
    wanted = run.get("privacy")
    if not isinstance(wanted, dict):
        return ""
    return ", ".join(f"{key} {value}" for key, value in wanted.items() if value not in (None, False, {}))


def _when(run: RunFolder) -> str:
    started, ended = run.manifest.get("started"), run.manifest.get("ended")
    if not started:
        return ""
    begin = datetime.fromisoformat(started).astimezone(UTC)
    text = begin.strftime("%-d %B %Y, %H:%M UTC")
    return (
        f"{text}, {(datetime.fromisoformat(ended) - begin).total_seconds():.0f} s in all" if ended else text
    )


def reproduce(run: RunFolder) -> Markup:
    """The command, the configuration to save, and the versions it ran with."""
    config = {key: value for key, value in run.manifest["config"].items() if key != "base"}
    file = f"{run.get('name', 'run')}.yaml"
    text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=100)
    said = []
    if command := run.manifest.get("command"):
        said += [parts.paragraph("It was started as"), parts.code(str(command))]
    packages = run.manifest.get("machine", {}).get("packages", {})
    versions = [("Python", run.manifest.get("machine", {}).get("python", NOT_SAID)), *packages.items()]
    return parts.join(
        *said,
        parts.paragraph(f"Everything it was set to is in one file; with {file} saved, this runs it again:"),
        parts.code(f"fedcell run {file}"),
        parts.fold(f"{file}: the whole configuration", parts.code(text, name=file)),
        parts.fold("Versions it ran with", parts.table(["package", "version"], versions, left=2)),
    )


def manifest(run: RunFolder) -> Markup:
    """As it lies in the run's folder."""
    text = json.dumps(run.manifest, indent=2, ensure_ascii=False)
    return parts.code(text, name="manifest.json")
