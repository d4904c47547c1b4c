"""`python -m gateway` is the `trilane` command."""

from gateway.cli import main

if __name__ == "__main__":
    main()
