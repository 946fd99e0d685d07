"""Resumes interrupted uploads: the journal, the locks, and the search for containers of earlier runs."""
