"""A project of a user of tocsin, for type checkers: all of the public API, and mistakes."""
