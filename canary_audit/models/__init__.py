"""Language models behind one small interface; each back-end passes the same conformance suite."""
