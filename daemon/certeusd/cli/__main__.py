"""`python -m certeusd.cli`: the same as `certeus`."""

from certeusd.cli.main import main

if __name__ == "__main__":
    main()
