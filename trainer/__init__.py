"""The trainer: labelled text in, a sealed version out; no database and no server."""
