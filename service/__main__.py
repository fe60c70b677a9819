"""`python -m service` runs the HTTP server; `service.serve` defines its exit statuses."""

import sys

from service.serve import main

if __name__ == "__main__":
    if sys.argv[1:]:
        raise SystemExit(
            "`python -m service` is the HTTP server and takes no arguments; the commands are those of `pictoglot`."
        )
    raise SystemExit(main())
