"""An example of a package that adds to imitate: see README.md."""
