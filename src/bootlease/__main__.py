"""``python -m bootlease``."""

from bootlease.cli import main

if __name__ == "__main__":
    main()
