"""Training of the built-in models, and the checks that make an audit of them mean something."""
