"""Resumes interrupted uploads: the journal, the locks, and the ways to find what an earlier run left."""
