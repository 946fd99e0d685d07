"""Containers, received bytes and tokens, in memory and in the data directory."""
