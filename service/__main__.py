"""`python -m service` runs the HTTP server; `service.serve` defines its exit statuses."""

from service.serve import main

if __name__ == "__main__":
    raise SystemExit(main())
