"""`python -m service` serves; its exit status says how that ended."""

from service.serve import main

if __name__ == "__main__":
    raise SystemExit(main())
