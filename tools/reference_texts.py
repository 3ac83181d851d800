"""What is told of an attribute of a class: the string that stands below it."""

import ast
import inspect

from certeusd.exits import Exit


def attribute_texts(kind: type) -> dict[str, str]:
    """Return, by attribute of a class, the string below it, on one line."""
    (body,) = (node for node in ast.parse(inspect.getsource(kind)).body)
    assert isinstance(body, ast.ClassDef), f"{kind} is a class"
    found: dict[str, str] = {}
    name = ""
    for node in body.body:
        match node:
            case ast.AnnAssign(target=ast.Name(id=name)) | ast.Assign(targets=[ast.Name(id=name)]):
                pass
            case ast.Expr(value=ast.Constant(value=str(text))) if name:
                found[name] = " ".join(text.split())
            case _:
                name = ""
    return found


def exits() -> dict[int, str]:
    """Return each code with its meaning; raises `KeyError` for one that has none."""
    texts = attribute_texts(Exit)
    return {int(code): texts[code.name] for code in Exit}
