"""Reads the text of documents. Each needs a library that is looked for when it is used."""

import importlib
import os

from .window import error


def _library(module, package):
    try:
        return importlib.import_module(module)
    except ImportError:
        error(f"Reading such files needs the package {package}. Install it with: %pip install {package}")
        return None


def _read(kind, path, module, package, read):
    if not os.path.isfile(path):
        error(f"File {path} not found.")
        return
    library = _library(module, package)
    if library is None:
        return
    print(f"[Reading {kind} file from {path}]")
    try:
        read(library)
    except Exception as e:  # Whatever a broken document makes a library do.
        error(f"The file cannot be read: {e}")


def parse_pdf(file_path: str) -> None:
    """Prints the text of a PDF file, page by page.

    Args:
        file_path: the path of the file.
    """

    def read(library):
        for number, page in enumerate(library.PdfReader(file_path).pages, 1):
            print(f"@@ Page {number} @@\n{page.extract_text()}\n")

    _read("PDF", file_path, "pypdf", "pypdf", read)


def parse_docx(file_path: str) -> None:
    """Prints the text of a DOCX file, paragraph by paragraph.

    Args:
        file_path: the path of the file.
    """

    def read(library):
        for number, paragraph in enumerate(library.Document(file_path).paragraphs, 1):
            print(f"@@ Page {number} @@\n{paragraph.text}\n")

    _read("DOCX", file_path, "docx", "python-docx", read)


def parse_latex(file_path: str) -> None:
    """Prints the text of a LaTeX file.

    Args:
        file_path: the path of the file.
    """

    def read(library):
        with open(file_path, encoding="utf-8", errors="replace") as f:
            print(library.LatexNodes2Text().latex_to_text(f.read()).strip())

    _read("LaTex", file_path, "pylatexenc.latex2text", "pylatexenc", read)


def parse_pptx(file_path: str) -> None:
    """Prints the text of a PowerPoint file, slide by slide.

    Args:
        file_path: the path of the file.
    """

    def read(library):
        for number, slide in enumerate(library.Presentation(file_path).slides, 1):
            print(f"@@ Slide {number} @@")
            for shape in slide.shapes:
                if shape.has_text_frame:
                    print(shape.text_frame.text)
            print()

    _read("PowerPoint", file_path, "pptx", "python-pptx", read)
