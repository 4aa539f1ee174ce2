"""Looks at the Python code of a repository: the current folder is its root."""

import ast
import fnmatch
import os

_SKIPPED = {"node_modules", "__pycache__"}
_KINDS = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)

# What one answer shows at most.
_MOST_SNIPPETS = 20
_MOST_ENTRIES = 500
_CONTEXT = 5


def _files(pattern):
    for root, folders, names in os.walk("."):
        folders[:] = sorted(f for f in folders if not f.startswith(".") and f not in _SKIPPED)
        for name in sorted(names):
            path = os.path.relpath(os.path.join(root, name))
            # ** stands for any number of folders, none too.
            if fnmatch.fnmatch(path, pattern) or fnmatch.fnmatch("./" + path, pattern.replace("**/", "*")):
                yield path


def _text(path):
    with open(path, encoding="utf-8", errors="replace") as f:
        return f.read()


def _entity(tree, name):
    """The node of a name such as Class.method."""
    for part in name.split("."):
        tree = next((n for n in tree.body if isinstance(n, _KINDS) and n.name == part), None)
        if tree is None:
            return None
    return tree


def _first(node):
    return min([node.lineno, *(d.lineno for d in node.decorator_list)])


def _numbered(path, lines, first, last):
    body = "\n".join(f"{n}|{lines[n - 1]}" for n in range(first, last + 1))
    return f"[File: {path}, lines {first} to {last}]\n{body}\n"


def get_entity_contents(entity_names: list[str]) -> str:
    """Returns the code of files, classes and functions.

    Args:
        entity_names: names such as "pkg/mod.py", "pkg/mod.py:Class" or "pkg/mod.py:Class.method".
    """
    parts = []
    for entity in entity_names:
        path, _, name = entity.partition(":")
        try:
            text = _text(path)
            node = _entity(ast.parse(text), name) if name else None
        except (OSError, SyntaxError, ValueError) as e:
            parts.append(f"ERROR: {entity} cannot be read: {e}\n")
            continue
        lines = text.splitlines()
        if name and node is None:
            parts.append(f"ERROR: {entity} not found.\n")
        elif node is None:
            parts.append(_numbered(path, lines, 1, len(lines)))
        else:
            parts.append(_numbered(path, lines, _first(node), node.end_lineno))
    return "\n".join(parts)


def _matching(path, terms, numbers):
    lines = _text(path).splitlines()
    at = {n for n in numbers if 1 <= n <= len(lines)}
    at |= {n for n, line in enumerate(lines, 1) if any(t in line for t in terms)}
    snippets, until = [], 0
    for n in sorted(at):
        if n <= until:
            continue  # It is in the snippet before.
        until = min(len(lines), n + _CONTEXT)
        snippets.append(_numbered(path, lines, max(1, n - _CONTEXT), until))
    return snippets


def search_code_snippets(
    search_terms: list[str] | None = None,
    line_nums: list[int] | None = None,
    file_path_or_pattern: str = "**/*.py",
) -> str:
    """Searches for texts in the files of the repository and returns the lines around them.

    Args:
        search_terms: the texts to search for; any of them counts.
        line_nums: lines to show; file_path_or_pattern names one file then.
        file_path_or_pattern: the files to search in.
    """
    if not search_terms and not line_nums:
        return "ERROR: search_terms or line_nums is needed."
    snippets = []
    for path in _files(file_path_or_pattern):
        try:
            snippets += _matching(path, search_terms or [], line_nums or [])
        except OSError:
            continue  # No permission: nothing can be found in it.
    if not snippets:
        return f"No matches found in {file_path_or_pattern}."
    more = len(snippets) - _MOST_SNIPPETS
    shown = "\n".join(snippets[:_MOST_SNIPPETS])
    return f"{shown}\n[{more} more matches; narrow your search]" if more > 0 else shown


def _inside(path, depth, indent):
    """What a folder or a file has in it, as lines."""
    if depth == 0:
        return
    if os.path.isdir(path):
        for name in sorted(os.listdir(path)):
            below = os.path.join(path, name)
            if name.startswith(".") or name in _SKIPPED or not (os.path.isdir(below) or name.endswith(".py")):
                continue
            yield indent + name + ("/" if os.path.isdir(below) else "")
            yield from _inside(below, depth - 1, indent + "  ")
        return
    try:
        yield from _definitions(ast.parse(_text(path)), depth, indent)
    except (OSError, SyntaxError, ValueError):
        yield indent + "(cannot be read)"


def _definitions(node, depth, indent):
    if depth == 0:
        return
    for n in node.body:
        if isinstance(n, _KINDS):
            yield f"{indent}{'class' if isinstance(n, ast.ClassDef) else 'function'} {n.name}"
            yield from _definitions(n, depth - 1, indent + "  ")


def explore_tree_structure(
    start_entities: list[str] | None = None,
    direction: str = "downstream",
    traversal_depth: int = 2,
    entity_type_filter: list[str] | None = None,
    dependency_type_filter: list[str] | None = None,
) -> str:
    """Returns folders, files, classes and functions as a tree. Only what contains what is known: not who calls or imports whom.

    Args:
        start_entities: folders and files to begin with; the repository if left out.
        direction: "downstream" alone is known.
        traversal_depth: how many levels to show; -1 for all.
        entity_type_filter: is not looked at.
        dependency_type_filter: is not looked at.
    """
    if direction != "downstream":
        return f'ERROR: direction "{direction}" is not available.'
    lines = []
    for start in start_entities or ["."]:
        if not os.path.exists(start):
            lines.append(f"ERROR: {start} not found.")
            continue
        lines.append(start)
        lines += _inside(start, traversal_depth if traversal_depth >= 0 else 1_000, "  ")
    more = len(lines) - _MOST_ENTRIES
    return "\n".join(lines[:_MOST_ENTRIES] + ([f"[{more} more entries]"] if more > 0 else []))
