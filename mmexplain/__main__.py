"""``python -m mmexplain``: the command line."""

from mmexplain.cli import main

main()
