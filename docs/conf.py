"""The site's settings, as Sphinx reads them. ``python3 docs`` builds it.

The root of the pages is the checkout, so that a link between pages, notebooks and the files beside
the README leads to the same place on a forge and on the site.
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from qwex_jupyter._version import __version__  # noqa: E402

project = "qwex_jupyter"
author = "the qwex_jupyter authors"
copyright = f"{author}. Apache-2.0"  # noqa: A001 - its name is Sphinx's
release = __version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "extension"]
root_doc = "docs/index"
include_patterns = ["*.md", "docs/**.md", "notebooks/*.ipynb", "skills/**.md"]
# Folders that hold no page; what begins with a dot may hold a whole cluster.
exclude_patterns = [".*", "**/.*", "README.md", "qwex_jupyter", "tests", "benchmarks", "binder"]
nitpicky = True
nitpick_ignore_regex = [
    # What isn't of this package has no page here, and no other site is asked for it.
    (r"py:.*", r"(?!qwex_jupyter\b).*"),
    # What a docstring names, and what has no page, stands there as code.
    (r"py:obj", r".*"),
    # What only the manager hands to its own parts, and a type that may be any.
    (r"py:class", r"qwex_jupyter\.(manager\.run\.Manager|system\.interrupts\.Presses)"),
    (r"py:class", r"qwex_jupyter\.testing\.contract\.base\.T"),
]

# Notebooks are shown as they are saved: what is executed is executed by the tests.
nb_execution_mode = "off"
nb_merge_streams = True
# Two dashes are the beginning of an option.
smartquotes = False
# Where a heading can be linked to, by the name that a forge gives it.
myst_heading_anchors = 4

default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True}
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
maximum_signature_line_length = 88
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False

html_theme = "furo"
html_title = f"qwex_jupyter {release}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_copy_source = False
html_show_sourcelink = False
html_use_index = True
