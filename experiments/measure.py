"""Several `imitate` commands in one process, so that its start is paid once. Arguments: one JSON list a command."""

import json
import sys

from imitate import cli

if __name__ == "__main__":
    sys.exit(max(cli.main(json.loads(command)) for command in sys.argv[1:]))
