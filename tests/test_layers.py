"""Who may import whom: a module imports from lower levels, or from its own folder."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# from the ground up: a room imports from those before it, and from itself
ROOMS = [
    "records",
    "files",
    "losses",
    "metrics",
    "encoders",
    "texts",
    "vectors",
    "teachers",
    "generate",
    "data",
    "modules",
    "callbacks",
    "training",
    "evaluation",
    "export",
    "report",
    "run",
    "shrinking",
    "planning",
    "cli",
    "__main__",
]
LEVEL = {f"distill.{room}": level for level, room in enumerate(ROOMS)}
# a package and the only modules that may import it
DOORS = {
    "torch.distributed": ["distill.files.ranks"],
    "faiss": ["distill.vectors.import_faiss", "distill.vectors.faiss_index"],
    "jsonargparse": ["distill.cli.parser"],
    "pytorch_lightning.cli": ["distill.cli.parser", "distill.cli.train", "distill.cli.teach"],
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


def room(module: str) -> str:
    found = ".".join(module.split(".")[:2])
    assert found in LEVEL, f"{module} is in no room: give it one in {Path(__file__).name}"
    return found


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_downwards(module):
    for other in imported_modules(module):
        assert LEVEL[room(other)] <= LEVEL[room(module)], f"{module} imports {other}, which is not below it"


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


def test_every_room_is_there():
    assert {room(module) for module in MODULES} == set(LEVEL)


def test_the_test_sees_imports():
    assert any(name.startswith("torch.distributed") for name in imports("distill.files.ranks"))
    assert "distill.records" in imported_modules("distill.files.atomic")
    assert room("distill.data.datamodule") == "distill.data"


def test_the_command_line_starts_without_heavy_packages():
    heavy = ["torch", "transformers", "pytorch_lightning", "numpy", "jsonargparse"]
    code = f"import sys, distill.cli; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert found.stdout.strip() == "[]"
