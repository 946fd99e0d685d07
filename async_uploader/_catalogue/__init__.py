"""Catalogues: the items of a manifest and the file of their results, for the command line and the fleet."""
