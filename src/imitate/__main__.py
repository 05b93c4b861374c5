"""``python -m imitate`` is the ``imitate`` command."""

import sys

from imitate.cli import main

sys.exit(main())
