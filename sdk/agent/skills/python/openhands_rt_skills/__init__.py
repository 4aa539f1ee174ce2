"""Functions for agents that work in cells of Python: they look at files through a window, search, edit, and read documents.

They print what they find, and print a line that begins with ERROR where something is wrong, for it is a model that reads it. Only the
standard library is needed, but for documents: those functions say what they lack.
"""

import inspect

from .documents import parse_docx, parse_latex, parse_pdf, parse_pptx
from .editor import file_editor
from .repository import explore_tree_structure, get_entity_contents, search_code_snippets
from .search import find_file, search_dir, search_file
from .window import goto_line, open_file, scroll_down, scroll_up

__all__ = [
    "open_file",
    "goto_line",
    "scroll_down",
    "scroll_up",
    "search_dir",
    "search_file",
    "find_file",
    "parse_pdf",
    "parse_docx",
    "parse_latex",
    "parse_pptx",
    "get_entity_contents",
    "search_code_snippets",
    "explore_tree_structure",
    "file_editor",
]


def _document():
    parts = []
    for name in __all__:
        function = globals()[name]
        text = inspect.getdoc(function).replace("\n", "\n    ")
        parts.append(f"{name}{inspect.signature(function)}:\n    {text}\n\n")
    return "".join(parts)


DOCUMENTATION = _document()
