"""How the pages of this folder become a site: ``sphinx-build -W --keep-going -b html docs docs/_build/html``."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, ClassVar

from docutils.nodes import Element, Node, TextElement
from pygments.lexers import JsonLexer, TextLexer
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxDirective

from hierpretrain import __version__, registry

project = "HierPretrain"
author = "the HierPretrain authors"
release = version = __version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
exclude_patterns = ["_build", "**.ipynb_checkpoints"]
nitpicky = True  # a reference that leads nowhere is a warning, and -W makes that an error
default_role = "code"

# ---------------------------------------------------------------- pages
myst_heading_anchors = 3  # links to headings have the anchors that a code host gives them
nb_execution_mode = "cache"
nb_execution_timeout = 1800  # seconds a cell; the training takes three minutes on an idle machine
nb_execution_raise_on_error = True
nb_merge_streams = True
copybutton_exclude = ".linenos, .gp, .go"

# ---------------------------------------------------------------- looks
html_theme = "furo"
html_title = f"HierPretrain {version}"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False

# ---------------------------------------------------------------- docstrings
# a page shows members of our own inner base classes with the class itself; members of these bases are on their pages
_HOSTS = (
    *("BaseDataPreprocessor", "BaseException", "BaseMetric", "BaseModel", "BaseModule", "BaseOptimWrapper"),
    *("BaseTransform", "Dataset", "EmbeddingMetric", "Evaluator", "HierarchicalDataset", "Hook", "LocalBackend"),
    *("LogProcessor", "Module", "OptimWrapper", "PretrainedInit", "Sequential", "TestLoop", "object", "tuple"),
)
autodoc_default_options = {"members": True, "inherited-members": ",".join(_HOSTS), "member-order": "bysource"}
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_class_signature = "mixed"
napoleon_numpy_docstring = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100


def _resolve(app: Sphinx, env: BuildEnvironment, node: pending_xref, text: TextElement) -> Element | None:
    """Resolves a name that a docstring gives without its module, to the page where it is public.

    ``Taxonomy.save`` is on the page of :mod:`hierpretrain.taxonomy`, whichever docstring names it. What exists but has
    no page, in other packages and in our own inner modules, stays text; what does not exist is a warning.
    """
    if node.get("refdomain") != "py":
        return None
    target, domain = node["reftarget"].removeprefix("."), env.domains.python_domain
    pages = {name for name, entry in domain.objects.items() if name.endswith(f".{target}") and not entry.aliased}
    if len(pages) == 1 and node["reftype"] != "mod":
        return domain.resolve_xref(env, node["refdoc"], app.builder, node["reftype"], pages.pop(), node, text)
    modules = [name for name in sys.modules if name.split(".")[0] == "hierpretrain"]
    scopes = ["builtins", f"{node.get('py:module')}.{node.get('py:class')}", *modules]
    return text if _exists(target) or any(_exists(f"{scope}.{target}") for scope in scopes) else None


def _exists(name: str) -> bool:
    """Returns whether a dotted name is a module or something in one."""
    try:
        pkgutil.resolve_name(name)
    except (ValueError, ImportError, AttributeError):
        return False
    return True


def _returns(app: Sphinx, what: str, name: str, obj: object, options: dict[str, bool], lines: list[str]) -> None:
    """Rewrites the section ``Returns:`` as a field, since napoleon takes the text before a colon for a type."""
    for i, line in enumerate(lines):
        if line == "Returns:":
            lines[i : i + 2] = [f":returns: {lines[i + 1].strip()}"]


def _contents(app: Sphinx, docname: str, source: list[str]) -> None:
    """Adds the folder's table of contents to a ``README``, which stays free of Sphinx for readers of the repository."""
    if docname.endswith("/README") and len([*Path(app.srcdir, docname).parent.glob("*.md")]) > 1:
        source[0] += "\n```{toctree}\n:hidden:\n:glob:\n\n*\n```\n"


# without the second, inherited-members, which autodoc_default_options has, asks for all members by itself
_ALONE = ["   :no-members:", "   :no-inherited-members:"]


def public(package: str, modules: Sequence[str] = (), done: Collection[str] = (), closed: Collection[str] = ()) -> str:
    """Returns the text of an API page about what a package says is public, by ``__all__``.

    Args:
        package: The package.
        modules: The names of modules whose names are listed, one list for all; none: every module has a section, with
            the module's own text.
        done: The modules that are left out then, since the page has had them.
        closed: Registries whose classes are shown without members, since MMEngine alone calls those.
    """
    names = _public_names(package)
    if unknown := sorted(set(modules) - names.keys()):
        has = ", ".join(sorted(names))
        raise ValueError(f"{package} has nothing public in {', '.join(unknown)}; it has {has}")
    lines = []
    for module in modules or sorted(names.keys() - done):
        if not modules:
            lines += [f"## `{module}`", "", "```{eval-rst}", f".. automodule:: {package}.{module}", *_ALONE, "```", ""]
        lines += ["```{eval-rst}", f".. currentmodule:: {package}", ""]
        for name in names[module]:
            thing = getattr(importlib.import_module(package), name)
            lines.append(f".. auto{_kind(thing)}:: {name}")
            if any(thing in known.module_dict.values() for known in map(vars(registry).get, closed)):
                lines += _ALONE
        lines += ["```", ""]
    return "\n".join(lines)


def _public_names(package: str) -> dict[str, list[str]]:
    """Returns the public names of a package by the module where each is defined, below the package if it is there."""
    found: dict[str, list[str]] = {}
    imported = importlib.import_module(package)
    for name in imported.__all__:
        thing = getattr(imported, name)
        module = getattr(thing, "__module__", None) or next(  # a constant knows none
            known
            for known, loaded in sorted(sys.modules.items())
            if known.startswith(f"{package}.") and vars(loaded).get(name) is thing
        )
        inside = module.startswith(f"{package}.")
        found.setdefault(module.removeprefix(f"{package}.") if inside else module.rpartition(".")[2], []).append(name)
    return found


def _kind(thing: object) -> str:
    """Returns what autodoc calls a thing."""
    if inspect.isclass(thing):
        return "exception" if issubclass(thing, Exception) else "class"
    return "function" if callable(thing) else "data"


class Public(SphinxDirective):
    """What a package says is public: the names of some modules (``:modules:``), or all that the page has not had."""

    required_arguments: ClassVar = 1  # the package
    option_spec: ClassVar = {"modules": str.split, "no-members": str.split}

    def run(self) -> list[Node]:
        """Returns the nodes of the text that :func:`public` makes."""
        done = self.env.temp_data.setdefault(f"public {self.arguments[0]}", [])
        modules = self.options.get("modules", ())
        text = public(self.arguments[0], modules, done, self.options.get("no-members", ()))
        done.extend(modules)
        return self.parse_text_to_nodes(text, allow_section_headings=not modules)


class Registered(SphinxDirective):
    """A table of what one of our registries has, beside the names of its parents: each name with its first sentence."""

    required_arguments: ClassVar = 1  # the registry's name in hierpretrain.registry

    def run(self) -> list[Node]:
        """Returns the table."""
        known = getattr(registry, self.arguments[0])
        known.import_from_location()
        lines = ["| name | what it is |", "| --- | --- |"]
        for name, kind in sorted(known.module_dict.items(), key=lambda entry: entry[0].lower()):
            if kind.__module__.startswith("hierpretrain."):
                sentence = re.sub(r"[,;] see :\w+:`[^`]+`", "", inspect.getdoc(kind).splitlines()[0])
                sentence = re.sub(r":\w+:`[~.]*([^`]+)`", r"`\1`", sentence)
                lines.append(f"| `{name}` | {sentence.replace('``', '`')} |")
        return self.parse_text_to_nodes("\n".join(lines))


def setup(app: Sphinx) -> dict[str, Any]:
    """Registers what pages and docstrings need."""
    app.add_directive("public", Public)
    app.add_directive("registered", Registered)
    app.add_lexer("csv", TextLexer)
    app.add_lexer("jsonl", JsonLexer)
    app.connect("source-read", _contents)
    app.connect("missing-reference", _resolve)
    app.connect("autodoc-process-docstring", _returns, priority=400)  # before napoleon
    return {"parallel_read_safe": True}
