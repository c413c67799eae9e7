"""The trial of the suite: faults that it must catch, noise that it must bear. ``python -m meta_tests.trial --help``."""
