"""Importing a module of common is cheap, and who imports whom goes one way only."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

COMMON = Path(__file__).resolve().parent.parent
MODULES = sorted(f"common.{path.stem}" for path in COMMON.glob("*.py") if path.stem != "__init__")

# Each takes a second or more to import; a script that does not need it must not pay for it.
HEAVY = {"torch", "matplotlib", "sentence_transformers", "transformers"}


def imports_of(module: str) -> set[str]:
    """Return every module that the source of `module` imports, also within functions."""
    tree = ast.parse((COMMON / f"{module.removeprefix('common.')}.py").read_text(encoding="utf-8"))
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} line {node.lineno}: a relative import"
            found.add(node.module)
            if node.module == "common":
                found |= {f"common.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("module", MODULES)
def test_importing_a_module_brings_in_nothing_heavy(module):
    code = (
        f"import sys, {module}\n"
        f"print(sorted({HEAVY!r} & sys.modules.keys()))\n"
        f"print({module!r} in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert result.stderr == ""
    assert result.stdout.splitlines() == ["[]", "True"]


@pytest.mark.parametrize("module", MODULES)
def test_no_module_of_common_imports_a_script(module):
    scripts = [name for name in imports_of(module) if name.startswith("step")]
    assert scripts == []


def test_common_has_no_circle():
    graph = {module: imports_of(module) & set(MODULES) for module in MODULES}
    while graph:
        free = {module for module, needed in graph.items() if not needed & graph.keys()}
        assert free, f"these import each other in a circle: {graph}"
        graph = {module: needed for module, needed in graph.items() if module not in free}


def test_the_graph_sees_imports():
    # Guards the tests above: a graph without edges has no circle either.
    assert {"common.settings", "common.vectors"} <= imports_of("common.embedding")
