"""`python -m shardkit.cli`."""

from shardkit.cli import main

if __name__ == "__main__":
    main()
