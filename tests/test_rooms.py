"""Imports point down the list of rooms in CONTRIBUTING.md only."""

import ast
import pathlib
import re

ROOT = pathlib.Path(__file__).parents[1]


def rooms() -> tuple[list[str], list[str]]:
    """The rooms from the top down, and the files of the ground floor below them."""
    listed = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    block = re.search(r"```\njaxattack/\n(.*?)\nconfigs/", listed, re.S)
    assert block
    named = re.findall(r"^  (\w+)/ ", block[1], re.M)
    ground = block[1].partition(f"  {named[-1]}/ ")[2]
    return named, re.findall(r"(\w+)\.py", ground)


def imported(source: pathlib.Path) -> set[str]:
    """Modules of ours that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("jaxattack"):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.startswith("jaxattack.")}
    return found


def test_imports_point_down():
    order, ground = rooms()
    package = ROOT / "jaxattack"
    assert sorted(order) == sorted(p.parent.name for p in package.glob("*/__init__.py"))
    up = [
        f"{source.relative_to(ROOT)} imports {module}"
        for place, room in enumerate(order)
        for source in (package / room).rglob("*.py")
        for module in imported(source)
        if (other := module.split(".")[1]) in order[:place] and other != room
    ]
    up += [
        f"{name}.py imports {module}"
        for name in ground
        for module in imported(package / f"{name}.py")
        if module.split(".")[1] in order
    ]
    assert not up


def test_the_formatter_decides_everywhere():
    mark = "# fmt" + ":"  # not in this file either
    for folder in ("jaxattack", "configs", "tests", "benchmarks", "examples", "docs"):
        assert not [str(p) for p in (ROOT / folder).rglob("*.py") if mark in p.read_text("utf-8")]


def test_no_constant_of_a_module_takes_the_place_of_another():
    twice = []
    for source in (ROOT / "jaxattack").rglob("*.py"):
        body = ast.parse(source.read_text(encoding="utf-8")).body
        named = [
            target.id
            for node in body
            if isinstance(node, ast.Assign | ast.AnnAssign)
            for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
            if isinstance(target, ast.Name) and target.id.isupper()
        ]
        twice += [f"{source.name}: {name}" for name in set(named) if named.count(name) > 1]
    assert not twice
