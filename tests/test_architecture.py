"""The house rules of DESIGN.md, section 1, checked on the source: who imports whom, how long files get.

Every import counts, also inside functions and under TYPE_CHECKING.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = ("proto", "server", "client", "emulation", "experiments")

# The arrows: what each top-level package may import of ours, itself aside.
MAY_IMPORT = {
    "proto": set(),
    "server": {"proto"},
    "client": {"proto"},
    "emulation": set(),
    "experiments": {"proto", "server", "client", "emulation"},
}
HEAVY = {"torch", "diffusers", "peft", "transformers"}
LONGEST_FILE = 400

MODULES = sorted(
    path.relative_to(ROOT)
    for package in OURS
    for path in (ROOT / package).rglob("*.py")
    if not path.name.startswith("federation_pb2")
)
PACKAGES = sorted(
    {path.parent.relative_to(ROOT) for package in OURS for path in (ROOT / package).rglob("*.py")}
)


def imports(source: str) -> Iterator[tuple[str, int]]:
    """Every module that `source` imports, by full name, with its line."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            yield ("." * node.level) + (node.module or ""), node.lineno


def wrong_imports(module: Path, source: str) -> list[str]:
    """What `source`, as the file `module` of the repository, imports and may not."""
    package = module.parts[0]
    wrong = []
    for name, line in imports(source):
        top = name.split(".")[0]
        if name.startswith("."):
            wrong.append(f"{module}:{line}: relative import {name}: write it in full")
        elif top in OURS and top != package and top not in MAY_IMPORT[package]:
            wrong.append(f"{module}:{line}: {package} may not import {name}")
        elif top in HEAVY and not may_import_torch(module):
            wrong.append(f"{module}:{line}: {name} only in client/diffusion/ and experiments/evaluate.py")
    return wrong


def may_import_torch(module: Path) -> bool:
    return module.is_relative_to("client/diffusion") or module == Path("experiments/evaluate.py")


def test_there_is_something_to_check() -> None:
    assert {module.parts[0] for module in MODULES} == set(OURS)


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_arrows_point_only_as_drawn(module: Path) -> None:
    assert wrong_imports(module, (ROOT / module).read_text()) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("server/rounds.py", "from client.training import Trainer"),
        ("client/session.py", "def f():\n    import server.rounds"),
        ("proto/adapter.py", "from emulation import link"),
        ("emulation/link.py", "import proto.codecs"),
        ("emulation/link.py", "from experiments.config import Experiment"),
        ("server/service.py", "if TYPE_CHECKING:\n    import experiments"),
        ("server/aggregation/fedavg.py", "import torch"),
        ("client/synthetic.py", "def f():\n    from torch import nn"),
        ("experiments/run.py", "import peft.tuners"),
        ("proto/codecs/int8.py", "from .codec import Codec"),
    ],
)
def test_a_wrong_arrow_is_noticed(module: str, source: str) -> None:
    assert len(wrong_imports(Path(module), source)) == 1


@pytest.mark.parametrize("package", PACKAGES, ids=str)
def test_every_folder_says_what_lives_there(package: Path) -> None:
    init = ROOT / package / "__init__.py"
    assert init.exists(), f"{package} has no __init__.py"
    assert ast.get_docstring(ast.parse(init.read_text())), f"{init} has no docstring"


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_every_module_says_what_it_is(module: Path) -> None:
    assert ast.get_docstring(ast.parse((ROOT / module).read_text()))


def test_no_file_is_longer_than_one_idea() -> None:
    """One file, one idea, at most 400 lines; C, the schema and the tests too. Generated code aside."""
    sources = [*MODULES, Path("proto/federation.proto")]
    sources += [path.relative_to(ROOT) for path in (ROOT / "emulation").glob("*.[ch]")]
    sources += [path.relative_to(ROOT) for path in (ROOT / "tests").rglob("*.py")]
    long = {str(path): lines for path in sources if (lines := line_count(path)) > LONGEST_FILE}
    assert long == {}


def line_count(path: Path) -> int:
    return len((ROOT / path).read_text().splitlines())
