"""The sizes that docs/architecture.md states hold, or a comment right above says why not.

`# long: why` stands above a function or, in a file, above everything but its docstring;
`# wide: why` above a class.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator

from tests.support.paths import ROOT
from tests.system.docs.modules import modules

FILE_LINES = 350
FUNCTION_LINES = 45
FILES_IN_A_FOLDER = 15
ATTRIBUTES = 15
BOOLEANS = 3

Function = ast.FunctionDef | ast.AsyncFunctionDef


def excused(mark: str, lines: list[str], node: Function | ast.ClassDef) -> bool:
    """Whether a reason stands in the comment above, or above the decorators."""
    above = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)]) - 1
    comment = ""
    while above and lines[above - 1].lstrip().startswith("#"):
        above -= 1
        comment = lines[above]
        if re.match(rf"\s*# {mark}: \w", comment):
            return True
    return False


def attributes(node: ast.ClassDef) -> Iterator[tuple[str, bool]]:
    """Each attribute of a class, and whether it is a boolean."""
    for field in node.body:
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            kind = ast.unparse(field.annotation)
            if not kind.startswith("ClassVar"):
                yield field.target.id, kind == "bool"
    for inner in ast.walk(node):
        if isinstance(inner, ast.Assign | ast.AnnAssign):
            boolean = isinstance(inner.value, ast.Constant) and isinstance(inner.value.value, bool)
            for target in inner.targets if isinstance(inner, ast.Assign) else (inner.target,):
                match target:
                    case ast.Attribute(value=ast.Name(id="self"), attr=name):
                        yield name, boolean


def too_large(source: str) -> list[str]:
    """What of a module is over a limit without a reason."""
    lines = source.splitlines()
    found = []
    tree = ast.parse(source)
    if len(lines) > FILE_LINES and not re.search(r'"""\n\n?# long: \w', source):
        found.append(f"the file has {len(lines)} lines")
    for node in ast.walk(tree):
        if isinstance(node, Function):
            assert node.end_lineno is not None
            length = node.end_lineno - node.lineno + 1
            if length > FUNCTION_LINES and not excused("long", lines, node):
                found.append(f"{node.name} has {length} lines")
        elif isinstance(node, ast.ClassDef) and not excused("wide", lines, node):
            of_class = dict(attributes(node))
            booleans = {name for name, boolean in attributes(node) if boolean}
            if len(of_class) > ATTRIBUTES:
                found.append(f"{node.name} has {len(of_class)} attributes")
            if len(booleans) > BOOLEANS:
                found.append(f"{node.name} has the booleans {sorted(booleans)}: is it an enum?")
    return found


def test_nothing_is_too_large_without_a_reason() -> None:
    found = {
        str(path.relative_to(ROOT)): problems
        for path, _ in modules()
        if (problems := too_large(path.read_text()))
    }
    assert found == {}


def test_no_folder_holds_too_many_files() -> None:
    folders = Counter(path.parent.relative_to(ROOT) for path, _ in modules())
    assert folders
    assert {folder for folder, files in folders.items() if files > FILES_IN_A_FOLDER} == set()


def test_a_limit_is_seen_where_it_is_passed() -> None:
    function = "async def long():\n" + "    pass\n" * 45
    assert too_large(function) == ["long has 46 lines"]
    assert too_large(f"# long: it is a table.\n# More.\n@decorated\n{function}") == []
    assert too_large("# long: it is a table.\n\n" + function) == ["long has 46 lines"]
    assert too_large(function.replace("    pass\n", "", 1)) == []
    fields = "class Wide:\n" + "".join(f"    x{n}: int\n" for n in range(16))
    assert too_large(fields) == ["Wide has 16 attributes"]
    assert too_large("# wide: one field a key.\n" + fields) == []
    states = "class States:\n    a: bool = False\n    def __init__(self):\n" + "".join(
        f"        self.{name} = {name == 'b'}\n" for name in "bcd"
    )
    assert too_large(states) == ["States has the booleans ['a', 'b', 'c', 'd']: is it an enum?"]
    assert too_large('"""Docs."""\n' + "x = 1\n" * 350) == ["the file has 351 lines"]
    assert too_large('"""Docs."""\n\n# long: data.\n' + "x = 1\n" * 350) == []
