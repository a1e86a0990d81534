"""Who may import whom: a module imports from lower levels, or from its own folder."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# from the ground up; the longest name that fits a module is its own
LEVELS = [
    ["distill.records"],
    ["distill.artefacts", "distill.device", "distill.progress", "distill.provenance", "distill.report"],
    ["distill.encoders", "distill.losses", "distill.metrics", "distill.distributed"],
    ["distill.data", "distill.latency", "distill.refusals"],
    ["distill.teachers", "distill.search", "distill.reranking"],
    ["distill.faiss_index"],
    ["distill.data.negatives", "distill.generate"],
    ["distill.data.pairs"],
    ["distill.data.candidates"],
    ["distill.data.stored_teachers"],
    ["distill.data.datamodule"],
    ["distill.modules"],
    ["distill.callbacks"],
    ["distill.verbs"],
    ["distill.arguments"],
    ["distill.cli"],
    ["distill.__main__"],
]
LEVEL = {name: level for level, names in enumerate(LEVELS) for name in names}
# a package and the only modules that may import it
DOORS = {
    "torch.distributed": ["distill.distributed"],
    "faiss": ["distill.faiss_index", "distill.data.vector_files"],
    "jsonargparse": ["distill.arguments", "distill.cli"],
    "pytorch_lightning.cli": ["distill.arguments", "distill.cli"],
}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted((ROOT / "distill").rglob("*.py")) if path != ROOT / "distill" / "__init__.py"}


def imports(module: str) -> set[str]:
    """Dotted names a module imports anywhere in it, functions and type hints included, and those it reaches by attribute."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: a relative import in line {node.lineno}: write it out"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found.add(f"{node.value.id}.{node.attr}")  # torch.distributed.get_rank()
    return found


def imported_modules(module: str) -> set[str]:
    """Modules of this package that `module` imports."""
    names = (name if name in MODULES else name.rpartition(".")[0] for name in imports(module) if name.startswith("distill."))
    return {name for name in names if name in MODULES} - {module}


def place(module: str) -> str:
    names = [name for name in LEVEL if f"{module}.".startswith(f"{name}.")]
    assert names, f"{module} has no level: give it one in {Path(__file__).name}"
    return max(names, key=len)


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_downwards(module):
    for other in imported_modules(module):
        same_folder = place(other) == place(module)
        assert same_folder or LEVEL[place(other)] < LEVEL[place(module)], f"{module} imports {other}, which is not below it"


def test_no_module_imports_itself_by_a_detour():
    def search(module: str, path: list[str]) -> None:
        assert module not in path, " -> ".join([*path[path.index(module) :], module])
        if module not in done:
            for other in sorted(imported_modules(module)):
                search(other, [*path, module])
            done.add(module)

    done: set[str] = set()
    for module in MODULES:
        search(module, [])


@pytest.mark.parametrize("package", DOORS)
def test_only_its_door_imports(package):
    users = [module for module in MODULES if any(f"{name}.".startswith(f"{package}.") for name in imports(module))]
    assert set(users) <= set(DOORS[package])


def test_the_test_sees_imports():
    assert any(name.startswith("torch.distributed") for name in imports("distill.distributed"))
    assert "distill.records" in imported_modules("distill.artefacts")
    assert place("distill.data.datamodule") == "distill.data.datamodule"
    assert place("distill.data.store") == "distill.data"


def test_the_command_line_starts_without_heavy_packages():
    heavy = ["torch", "transformers", "pytorch_lightning", "numpy", "jsonargparse"]
    code = f"import sys, distill.cli; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert found.stdout.strip() == "[]"
