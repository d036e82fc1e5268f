"""`python -m foretell` is the `foretell` command."""

from foretell.cli.main import process

if __name__ == "__main__":
    process()
