"""`python -m defectnet`: the command line, for whoever has no script of that name on the path."""

from defectnet.cli.main import main

__all__: list[str] = []

if __name__ == "__main__":
    main()
