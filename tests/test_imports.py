"""The floors of DESIGN.md section 1: imports point down, siblings on floor 2 do not know each other."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FLOORS = (
    ("monitor.core",),
    (
        *("monitor", "monitor.clock", "monitor.ending", "monitor.errors", "monitor.metrics", "monitor.rows"),
        *("monitor.config", "monitor.layers", "monitor.tables", "monitor.secret_files"),
    ),
    ("monitor.sources", "monitor.runs", "monitor.grid", "monitor.ledger", "exporters", "dashboards"),
    ("monitor.app", "monitor.feeding", "monitor.loop", "monitor.wiring"),
    ("monitor.cli",),
)
IMPURE = {"time", "os", "io", "logging", "threading", "socket", "subprocess", "random", "datetime", "pathlib"}
EXPORTERS_MAY = ("monitor", "monitor.core", "monitor.metrics", "monitor.errors", "monitor.config", "exporters")


def _home(module: str) -> tuple[int, str]:
    """Floor and package of one of our modules: the longest entry that it belongs to."""
    homes = [
        (floor, name)
        for floor, names in enumerate(FLOORS)
        for name in names
        if module == name or (module.startswith(f"{name}.") and name != "monitor")
    ]
    return max(homes, key=lambda home: len(home[1]))


def _modules() -> Iterator[tuple[str, Path]]:
    for package in ("monitor", "exporters", "dashboards"):
        for path in sorted((ROOT / package).rglob("*.py")):
            yield ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"), path


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            yield module
            for alias in node.names:  # `from monitor import app` names a module, too
                name = f"{module}.{alias.name}"
                if (ROOT / name.replace(".", "/")).with_suffix(".py").exists() or (
                    ROOT / name.replace(".", "/")
                ).is_dir():
                    yield name


MODULES = list(_modules())


@pytest.mark.parametrize(("module", "path"), MODULES, ids=[module for module, _ in MODULES])
def test_imports_point_down(module: str, path: Path) -> None:
    """A module imports from floors below its own, or from its own package."""
    floor, package = _home(module)
    for imported in _imports(path):
        if imported.split(".")[0] not in {"monitor", "exporters", "dashboards"}:
            continue
        other_floor, other_package = _home(imported)

        assert other_floor < floor or (other_floor == floor and _may_know(package, other_package)), (
            f"{module} (floor {floor}) imports {imported} (floor {other_floor})"
        )


def _may_know(package: str, other: str) -> bool:
    """Within a floor: one's own package; the shared words know each other; the app and the feeding know the rest."""
    return (
        package == other
        or FLOORS[1].count(package) == FLOORS[1].count(other) == 1
        or package in {"monitor.app", "monitor.feeding"}
    )


@pytest.mark.parametrize(("module", "path"), [m for m in MODULES if m[0].startswith("monitor.core")])
def test_the_core_is_pure(module: str, path: Path) -> None:
    """No file of the core imports a clock, a file system, a log, a lock or a socket."""
    assert not IMPURE & {name.split(".")[0] for name in _imports(path)}, module


@pytest.mark.parametrize(("module", "path"), [m for m in MODULES if m[0].startswith("exporters")])
def test_exporters_see_snapshots_only(module: str, path: Path) -> None:
    """Exporters import only the core, the metric list, the errors and the configuration."""
    ours = [name for name in _imports(path) if name.split(".")[0] in {"monitor", "exporters", "dashboards"}]

    assert all(
        any(name == may or name.startswith(f"{may}.") for may in EXPORTERS_MAY if may != "monitor" or name == may)
        for name in ours
    ), module


def test_only_the_app_wires_exporters() -> None:
    """No other module of the monitor imports an exporter."""
    importers = {
        module for module, path in MODULES if any(name.split(".")[0] == "exporters" for name in _imports(path))
    }

    assert {module for module in importers if not module.startswith("exporters")} == {"monitor.app"}
