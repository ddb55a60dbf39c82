"""The verbs of the command line, one idea per file; :mod:`mmexplain.cli` gathers them."""
