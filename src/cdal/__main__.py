"""Entry point of `python -m cdal`."""

import sys

from cdal.cli import main

sys.exit(main())
