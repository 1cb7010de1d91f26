"""`python -m nearhit` is the `nearhit` command."""

from __future__ import annotations

import sys

from nearhit.cli import main

if __name__ == "__main__":
    sys.exit(main())
