"""`python -m spiceproxy`."""

from spiceproxy.cli import main

main()
