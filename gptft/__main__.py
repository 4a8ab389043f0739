"""`python -m gptft`: the same command line as the `gptft` script."""

from gptft.cli import main

if __name__ == "__main__":
    main()
