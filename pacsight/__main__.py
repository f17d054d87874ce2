"""``python -m pacsight``."""

from pacsight.cli import main

main()
