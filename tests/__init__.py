"""The tests are a package, so that they can share :mod:`tests.support`."""
