"""``python -m roost.cli``: the same as ``roost``."""

from roost.cli.main import main

main()
