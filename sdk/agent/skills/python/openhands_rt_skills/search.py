"""Searches for text and for files."""

import os

from .window import error, view

# More files than this are too many to be told.
MOST_FILES = 100


def _files(folder):
    """The files below a folder, in order, but hidden ones."""
    for root, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            if not name.startswith("."):
                yield os.path.join(root, name)


def _matches(path, term):
    try:
        with open(path, encoding="utf-8", errors="ignore") as f:
            return [(number, line.strip()) for number, line in enumerate(f, 1) if term in line]
    except OSError:
        return []  # A socket, or no permission: nothing can be found in it.


def search_dir(search_term: str, dir_path: str = "./") -> None:
    """Searches for a text in all files of a folder and the folders below it.

    Args:
        search_term: the text to search for.
        dir_path: the folder to search in.
    """
    if not os.path.isdir(dir_path):
        error(f"Directory {dir_path} not found.")
        return
    found = [(path, matches) for path in _files(dir_path) if (matches := _matches(path, search_term))]
    if not found:
        print(f'No matches found for "{search_term}" in {dir_path}')
        return
    if len(found) > MOST_FILES:
        print(f'More than {len(found)} files matched for "{search_term}" in {dir_path}. Please narrow your search.')
        return
    count = sum(len(matches) for _, matches in found)
    print(f'[Found {count} matches for "{search_term}" in {dir_path}]')
    for path, matches in found:
        for number, line in matches:
            print(f"{path} (Line {number}): {line}")
    print(f'[End of matches for "{search_term}" in {dir_path}]')


def search_file(search_term: str, file_path: str | None = None) -> None:
    """Searches for a text in a file.

    Args:
        search_term: the text to search for.
        file_path: the file to search in; the open one if it is left out.
    """
    if file_path is None:
        file_path = view.path
    if file_path is None:
        error("No file specified or open. Use the open_file function first.")
        return
    if not os.path.isfile(file_path):
        error(f"File {file_path} not found.")
        return
    matches = _matches(file_path, search_term)
    if not matches:
        print(f'[No matches found for "{search_term}" in {file_path}]')
        return
    print(f'[Found {len(matches)} matches for "{search_term}" in {file_path}]')
    for number, line in matches:
        print(f"Line {number}: {line}")
    print(f'[End of matches for "{search_term}" in {file_path}]')


def find_file(file_name: str, dir_path: str = "./") -> None:
    """Finds the files below a folder whose names have a given part.

    Args:
        file_name: the part of the name.
        dir_path: the folder to search in.
    """
    if not os.path.isdir(dir_path):
        error(f"Directory {dir_path} not found.")
        return
    found = []
    for root, folders, names in os.walk(dir_path):
        folders.sort()
        found += [os.path.join(root, name) for name in sorted(names) if file_name in name]
    if not found:
        print(f'[No matches found for "{file_name}" in {dir_path}]')
        return
    print(f'[Found {len(found)} matches for "{file_name}" in {dir_path}]')
    for path in found:
        print(path)
    print(f'[End of matches for "{file_name}" in {dir_path}]')
