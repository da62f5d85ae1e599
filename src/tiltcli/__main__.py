"""`python -m tiltcli`."""

from tiltcli.cli import main

if __name__ == "__main__":
    main()
