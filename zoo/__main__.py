"""`python -m zoo`, which is `zoo`."""

from zoo.cli import main

main()
