"""``python -m myodistill``: the command line."""

from myodistill.cli.main import main

if __name__ == "__main__":
    main()
